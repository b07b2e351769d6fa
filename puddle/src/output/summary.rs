//! The end summary of runs, and the verdict of an audit.

use std::fmt::Write as _;

use puddle_pipeline::Summary;
use puddle_pipeline::verify::Report;

use super::{aligned, bytes, count, millis};

/// A line for each run under one header.
pub(crate) fn summaries(runs: &[Summary]) -> String {
    let header =
        ["table", "records", "written", "filtered", "rejected", "records/s", "p50", "p99", "files", "size"];
    let mut rows = vec![header.map(str::to_owned)];
    for run in runs {
        let latency = |pick: fn(&puddle_pipeline::Latency) -> u64| {
            run.latency.as_ref().map_or_else(|| "-".to_owned(), |latency| millis(pick(latency)))
        };
        rows.push([
            run.table.clone(),
            count(run.records),
            count(run.written),
            count(run.filtered),
            count(run.rejected),
            count(run.records_per_second as u64),
            latency(|l| l.p50_ms),
            latency(|l| l.p99_ms),
            count(run.files),
            bytes(run.bytes_written),
        ]);
    }
    let mut text = aligned(&rows);
    for run in runs.iter().filter(|run| run.rejected > 0) {
        let _ =
            writeln!(text, "  {} rejected, kept in \"{}.rejected\"; why:", count(run.rejected), run.table);
        for reason in &run.reasons {
            let _ = writeln!(text, "    {reason}");
        }
    }
    text
}

/// One line for an audit that holds, a line for each problem otherwise.
pub(crate) fn verdict(report: &Report) -> String {
    let mut text = format!(
        "{}: {} records = {} written + {} filtered + {} rejected; ",
        report.table,
        count(report.records),
        count(report.written),
        count(report.filtered),
        count(report.rejected)
    );
    if report.problems.is_empty() {
        let _ = write!(text, "each exactly once ({})", report.depth);
        if report.behind > 0 {
            let _ = write!(text, "; {} more in the topic, not committed yet", count(report.behind));
        }
        text.push('\n');
    } else {
        let _ = writeln!(text, "NOT exactly once:");
        for problem in &report.problems {
            let _ = writeln!(text, "  {problem}");
        }
    }
    let again = &report.retried;
    if again.records > 0 {
        let _ = writeln!(
            text,
            "  run again: {} rejected records, of which {} were written, {} filtered and {} rejected anew",
            count(again.records),
            count(again.written),
            count(again.filtered),
            count(again.rejected)
        );
    }
    for gap in &report.gaps {
        let _ = writeln!(
            text,
            "  given up on request: {} from {} to {} (exclusive)",
            gap.partition, gap.from, gap.next
        );
    }
    text
}
