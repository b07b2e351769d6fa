//! One Apache Kafka for a whole test run.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, ensure};

use crate::tools::{cargo, run};

/// The exit code with which the test kit's `apache-kafka` says that Java or Maven is missing.
const MISSING: i32 = 3;

/// A Kafka that ends when this is dropped, or with this process.
pub(crate) struct Apache {
    address: String,
    child: Child,
    /// The child stays for as long as this is open.
    stdin: Option<ChildStdin>,
}

impl Apache {
    /// Starts it; the inner error says what is missing and how to get it.
    pub(crate) fn start() -> anyhow::Result<Result<Self, String>> {
        run(cargo().args(["build", "--locked", "--package", "puddle-testkit", "--bin", "apache-kafka"]))?;
        let binary = std::env::current_exe()?.with_file_name("apache-kafka");
        let mut child = Command::new(&binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut address)?;
        if address.trim().is_empty() {
            let status = child.wait()?;
            ensure!(status.code() == Some(MISSING), "Apache Kafka did not start ({status})");
            return Ok(Err(
                "Java or Maven is missing: sudo apt-get install -y default-jdk-headless maven".into()
            ));
        }
        let stdin = child.stdin.take();
        Ok(Ok(Self { address: address.trim().to_owned(), child, stdin }))
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Nothing is left to do when it cannot be waited for.
        let _ = self.child.wait();
    }
}
