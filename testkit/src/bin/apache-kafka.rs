//! Runs an Apache Kafka for a whole test run: prints its `host:port` on a line, then stays until stdin closes.
//!
//! Exit code 3 says that Java or Maven is missing, 1 that Kafka did not start; the reason is on stderr.

use std::error::Error as _;
use std::io::Read;
use std::process::ExitCode;

use puddle_testkit::apache::{Apache, Error};

fn main() -> ExitCode {
    match Apache::try_start() {
        Ok(apache) => {
            println!("{}", apache.brokers());
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
