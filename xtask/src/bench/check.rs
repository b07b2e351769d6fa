//! Whether a contender's table holds what it must.

use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::topic::DATA;
use crate::python;
use crate::tools::root;

#[derive(Deserialize)]
struct Report {
    /// What is wrong, in words.
    wrong: Vec<String>,
}

/// Reads the table with Python and compares its rows and sums with those of the data set. Returns what is wrong.
///
/// # Errors
/// When the script itself fails.
pub(super) fn check(interpreter: &Path, table: &Path, records: u64) -> anyhow::Result<Vec<String>> {
    let mut script = python::script(interpreter, "xtask/bench/check.py");
    script.arg(root().join(DATA)).arg(records.to_string()).arg(table);
    let output = script.output().context("cannot run Python")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "xtask/bench/check.py failed: {}", super::install::tail(&said, 3));
    let report: Report = serde_json::from_slice(&output.stdout).context("check.py prints JSON")?;
    Ok(report.wrong)
}
