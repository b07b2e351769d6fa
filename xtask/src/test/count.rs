//! Counting what passed and failed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::Context;

/// How many tests passed, failed and were skipped.
#[derive(Default)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Count {
    /// Counts one check that is not a cargo test.
    pub(crate) fn add(&mut self, name: &str, result: anyhow::Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                eprintln!("{name} failed: {error:#}");
                self.failed += 1;
            }
        }
    }

    /// Runs `cargo test`, shows what it prints, and counts its result lines. A run that could not be built, or that
    /// failed without a failed test, counts as one failure.
    pub(crate) fn add_cargo_test(&mut self, command: &mut Command) -> anyhow::Result<()> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
        let before = self.failed;
        for line in BufReader::new(child.stdout.take().expect("stdout is piped")).lines() {
            let line = line?;
            println!("{line}");
            if let Some((passed, failed, ignored)) = parse(&line) {
                self.passed += passed;
                self.failed += failed;
                self.skipped += ignored;
            }
        }
        if !child.wait()?.success() && self.failed == before {
            self.failed += 1;
        }
        Ok(())
    }
}

/// Reads `test result: ok. 5 passed; 0 failed; 1 ignored; ...`.
fn parse(line: &str) -> Option<(u64, u64, u64)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut numbers = counts.split("; ").map(|part| part.split(' ').next()?.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_line_is_read_and_others_are_not() {
        let line = "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(parse(line), Some((5, 2, 1)));
        assert_eq!(parse("test a::b ... ok"), None);
    }

    #[test]
    fn a_run_that_fails_without_a_failed_test_counts_as_one() {
        let mut count = Count::default();
        count.add_cargo_test(&mut Command::new("false")).unwrap();
        assert_eq!(count.failed, 1);
    }
}
