//! Runs an Apache Kafka for a whole test run or bench: prints its `host:port` on a line and the server's process id on
//! the next, then stays until stdin closes. With the argument `production` its JVM is set up as in production.
//!
//! Exit code 3 says that Java or Maven is missing, 1 that Kafka did not start; the reason is on stderr.

use std::error::Error as _;
use std::io::Read;
use std::process::ExitCode;

use puddle_testkit::apache::{Apache, Error, Jvm};

fn main() -> ExitCode {
    let jvm = match std::env::args().nth(1).as_deref() {
        Some("production") => Jvm::Production,
        _ => Jvm::Small,
    };
    match Apache::try_start_with(jvm) {
        Ok(apache) => {
            println!("{}\n{}", apache.brokers(), apache.pid().expect("we started it"));
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            if let Some(cause) = error.source() {
                eprintln!("  because: {cause}");
            }
            ExitCode::from(if matches!(error, Error::Missing { .. }) { 3 } else { 1 })
        }
    }
}
