//! Two readers of the same tables: `puddle query`, and other people's tools: pyarrow, which scans the folders of a
//! Parquet table and knows nothing of its log, and `deltalake`, which reads the log of a Delta table.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

use anyhow::Context;
use serde_json::Value;

use super::TableKind;
use super::process::{Process, output, until};
use crate::python;

/// The rows of both tables, as `puddle query` sees them. What it prints is kept in `out` and `log` for a while.
pub(super) fn by_query(puddle: &Path, lake: &Path, out: &Path, log: &Path) -> anyhow::Result<Vec<Value>> {
    let mut rows = Vec::new();
    for sql in ["SELECT * FROM chaos", r#"SELECT _partition, _offset, _value, _reason FROM "chaos.rejected""#]
    {
        let mut query = Command::new(puddle);
        query.args(["query", sql, "--format", "json", "--lake"]).arg(lake);
        rows.extend(lines(&output("puddle query", &mut query, out, log)?)?);
    }
    Ok(rows)
}

/// A Python that stays for many questions, since it takes longer to start than to answer.
pub(super) struct Scanner {
    process: Process,
    questions: ChildStdin,
    answer: PathBuf,
}

impl Scanner {
    /// Starts it; it keeps its log and its answers in `folder`, which must be there.
    pub(super) fn start(python: &Path, folder: &Path) -> anyhow::Result<Self> {
        let mut command = python::script(python, "xtask/tests/chaos.py");
        let log = folder.join("scanner.log");
        let mut process = Process::start("the scanner", command.stdin(Stdio::piped()), &log, None)?;
        let questions = process.stdin().context("stdin is piped")?;
        Ok(Self { process, questions, answer: folder.join("answer.ndjson") })
    }

    /// The rows of both tables, as a reader of such tables sees them.
    pub(super) fn rows(&mut self, kind: TableKind, lake: &Path) -> anyhow::Result<Vec<Value>> {
        let question = match kind {
            TableKind::Parquet => "scan",
            TableKind::Delta => "scan-delta",
        };
        lines(&self.ask(question, lake)?)
    }

    /// Damages the table: one row is in a second file too, and another one is in none.
    pub(super) fn plant(&mut self, kind: TableKind, lake: &Path) -> anyhow::Result<()> {
        let request = match kind {
            TableKind::Parquet => "plant",
            TableKind::Delta => "plant-delta",
        };
        self.ask(request, lake).map(drop)
    }

    fn ask(&mut self, what: &str, lake: &Path) -> anyhow::Result<String> {
        writeln!(self.questions, "{what}\t{}\t{}", lake.display(), self.answer.display())?;
        // The answer is written elsewhere and then moved here, so it is whole when it is there.
        until("the scanner to answer", || {
            self.process.must_run()?;
            Ok(self.answer.is_file())
        })?;
        let text = std::fs::read_to_string(&self.answer)?;
        std::fs::remove_file(&self.answer)?;
        Ok(text)
    }
}

fn lines(text: &str) -> anyhow::Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))).collect()
}
