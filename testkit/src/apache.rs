//! A real Apache Kafka for tests: the third rung, against which Puddle is finally measured.
//!
//! ```text
//! artifacts   kafka/pom.xml ──Maven, once──► cache folder with the jars ──► classpath
//! server      classpath ──► one JVM: broker and controller (KRaft), loopback, temporary folder
//! Apache      the server of this test, of this process, or one that runs already
//! ```
//!
//! The jars stay in a cache folder outside the checkout, so that only the first run needs the network.
//! Without Java or Maven these tests are skipped, loudly; where `CI` is `true` a skip is a failure.

mod artifacts;
mod server;

use std::borrow::Borrow;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use server::Server;

use crate::{Proxy, topics};

/// Environment variable with the `host:port` of a Kafka that [`Apache::shared`] uses instead of starting one.
///
/// The binary `apache-kafka` of this crate starts such a Kafka for a whole test run.
pub const ADDRESS_VARIABLE: &str = "PUDDLE_APACHE_KAFKA";

/// Who may come to [`Apache::sasl_brokers`].
pub const USER: &str = "puddle";

/// The password of [`USER`].
pub const PASSWORD: &str = "a-password-for-tests";

/// An Apache Kafka that runs: single node, empty at first, topics are not created automatically.
#[derive(Debug)]
pub struct Apache {
    brokers: String,
    /// `None` where somebody else started it.
    server: Option<Server>,
}

impl Apache {
    /// Starts a Kafka for one test, stopped when dropped.
    ///
    /// Prefer [`Apache::shared`], which costs a start only once; this one is for tests that stop their broker.
    ///
    /// # Panics
    /// When Kafka is there but does not start, and where `CI` is `true` also when it is not there.
    pub fn start() -> Option<Apache> {
        skip_if_missing(Apache::try_start())
    }

    /// Starts a Kafka for one test that sends the clients of a proxy through it again; those of
    /// [`brokers`](Apache::brokers) come to it directly.
    ///
    /// # Panics
    /// As [`Apache::start`].
    pub fn behind(proxy: &Proxy) -> Option<Apache> {
        let kafka = skip_if_missing(Apache::try_start_behind(Some(proxy)))?;
        proxy.lead_to(kafka.server.as_ref().expect("we started it").behind_proxy());
        Some(kafka)
    }

    /// The Kafka that the tests of this process share: the one at [`ADDRESS_VARIABLE`] if that is set, else one
    /// that is started by the first call and ends with the process, however that ends.
    ///
    /// # Panics
    /// As [`Apache::start`].
    pub fn shared() -> Option<&'static Apache> {
        static SHARED: OnceLock<Result<Apache, Error>> = OnceLock::new();
        let start = || match std::env::var(ADDRESS_VARIABLE) {
            Ok(brokers) if !brokers.is_empty() => Ok(Apache { brokers, server: None }),
            _ => Apache::try_start(),
        };
        // Each test that is skipped says so, not only the first.
        skip_if_missing(SHARED.get_or_init(start).as_ref())
    }

    /// As [`Apache::start`], for callers that want the reason instead of a skip.
    ///
    /// # Errors
    /// [`Error::Missing`] without Java or Maven; any other when Kafka could not be fetched or started.
    pub fn try_start() -> Result<Apache, Error> {
        Apache::try_start_with(Jvm::Small)
    }

    /// As [`Apache::try_start`], on a JVM with these settings.
    ///
    /// # Errors
    /// As [`Apache::try_start`].
    pub fn try_start_with(jvm: Jvm) -> Result<Apache, Error> {
        let server = Server::start(&artifacts::classpath()?, jvm, None)?;
        Ok(Apache { brokers: server.brokers(), server: Some(server) })
    }

    fn try_start_behind(proxy: Option<&Proxy>) -> Result<Apache, Error> {
        let server = Server::start(&artifacts::classpath()?, Jvm::Small, proxy.map(Proxy::address))?;
        Ok(Apache { brokers: server.brokers(), server: Some(server) })
    }

    /// The address for `bootstrap.servers`.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The address for clients that say who they are, by SASL/PLAIN without TLS: [`USER`] with [`PASSWORD`].
    ///
    /// # Panics
    /// When somebody else started this Kafka, without such an address.
    pub fn sasl_brokers(&self) -> String {
        let listeners = topics::broker_setting(&self.brokers, "advertised.listeners");
        let address = listeners.split(',').find_map(|listener| listener.strip_prefix("SASL://"));
        address.unwrap_or_else(|| panic!("{} has no listener named SASL", self.brokers)).to_owned()
    }

    /// The server's process id; `None` where somebody else started it.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }
}

/// How the JVM of a Kafka is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jvm {
    /// For tests, a short life on two cores: a small heap, the plain collector, no second compiler.
    Small,
    /// As Kafka's own `kafka-server-start.sh` and `kafka-run-class.sh` set it up: a heap of 1 GB, G1, both compilers.
    Production,
}

impl Jvm {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Small => &["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
            Self::Production => &[
                "-Xmx1G",
                "-Xms1G",
                "-server",
                "-XX:+UseG1GC",
                "-XX:MaxGCPauseMillis=20",
                "-XX:InitiatingHeapOccupancyPercent=35",
                "-XX:+ExplicitGCInvokesConcurrent",
                "-Djava.awt.headless=true",
            ],
        }
    }
}

/// The class path of Kafka's server and tools, to run for example `org.apache.kafka.tools.TopicCommand` with
/// `java -cp`. `None`, after a loud word, without Java or Maven.
///
/// # Panics
/// As [`Apache::start`].
pub fn classpath() -> Option<String> {
    skip_if_missing(artifacts::classpath())
}

/// Why there is no Apache Kafka.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program that this machine does not have.
    #[error("{program} is not installed; try: {install}")]
    Missing {
        /// The program's name.
        program: &'static str,
        /// The command that installs it on Debian and Ubuntu.
        install: &'static str,
    },
    /// Neither `PUDDLE_CACHE`, `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("no folder to keep Kafka's jars in; set PUDDLE_CACHE to one")]
    NoCache,
    /// A file or process operation.
    #[error("cannot {action}")]
    Io {
        /// What was tried, with the path.
        action: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Maven could not fetch the jars.
    #[error("Maven could not fetch Kafka's jars (is the network there?):\n{output}")]
    Fetch {
        /// What Maven printed.
        output: String,
    },
    /// The server ended early, or did not answer in time.
    #[error("Apache Kafka did not start: {reason}\n{log}")]
    Start {
        /// What was seen.
        reason: String,
        /// The end of its log.
        log: String,
    },
}

fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { action: action.into(), source }
}

fn skip_if_missing<T>(result: Result<T, impl Borrow<Error>>) -> Option<T> {
    let error = match result {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    match error.borrow() {
        missing @ Error::Missing { .. } => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "a skip is a failure in CI: {missing}");
            let test = std::thread::current().name().unwrap_or("?").to_owned();
            // Not `eprintln!`: the test harness would swallow it together with the passing test's output.
            let _ = writeln!(std::io::stderr(), "SKIPPED (Apache Kafka): {test}: {missing}");
            None
        }
        error => panic!("{}", chain(error)),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The first program of that name on `PATH`.
fn find_program(name: &'static str, install: &'static str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .ok_or(Error::Missing { program: name, install })
}
