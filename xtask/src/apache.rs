//! One Apache Kafka for a whole test run, or for the bench.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, ensure};

use crate::tools::{cargo, run};

/// The exit code with which the test kit's `apache-kafka` says that Java or Maven is missing.
const MISSING: i32 = 3;

/// A Kafka that ends when this is dropped, or with this process.
pub(crate) struct Apache {
    address: String,
    server: u32,
    child: Child,
    /// The child stays for as long as this is open.
    stdin: Option<ChildStdin>,
}

impl Apache {
    /// Starts it; the inner error says what is missing and how to get it.
    pub(crate) fn start() -> anyhow::Result<Result<Self, String>> {
        Self::start_with(&[])
    }

    /// As [`start`](Self::start), on a JVM that is set up as in production.
    pub(crate) fn start_for_production() -> anyhow::Result<Result<Self, String>> {
        Self::start_with(&["production"])
    }

    fn start_with(arguments: &[&str]) -> anyhow::Result<Result<Self, String>> {
        run(cargo().args(["build", "--locked", "--package", "puddle-testkit", "--bin", "apache-kafka"]))?;
        let binary = std::env::current_exe()?.with_file_name("apache-kafka");
        let mut child = Command::new(&binary)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let (mut address, mut server) = (String::new(), String::new());
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        stdout.read_line(&mut address)?;
        stdout.read_line(&mut server)?;
        if address.trim().is_empty() {
            let status = child.wait()?;
            ensure!(status.code() == Some(MISSING), "Apache Kafka did not start ({status})");
            return Ok(Err(
                "Java or Maven is missing: sudo apt-get install -y default-jdk-headless maven".into()
            ));
        }
        let stdin = child.stdin.take();
        let server = server.trim().parse().context("it prints the server's process id")?;
        Ok(Ok(Self { address: address.trim().to_owned(), server, child, stdin }))
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The process id of the server itself.
    pub(crate) fn server(&self) -> u32 {
        self.server
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Nothing is left to do when it cannot be waited for.
        let _ = self.child.wait();
    }
}
