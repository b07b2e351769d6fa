//! What people and machines see: numbers, errors, JSON, closed pipes.

mod chart;
mod progress;
mod rejected;
mod rows;
mod summary;

use std::io::{self, IsTerminal, Write};

pub(crate) use chart::bars;
pub(crate) use progress::Progress;
pub(crate) use rejected::{rejected, rejected_whole, retried};
pub(crate) use rows::{print_rows, table};
pub(crate) use summary::{summaries, verdict};

/// Asked for something wrong, in the words of the command line itself.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Whether someone reads standard error as it comes.
pub(crate) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Prints text as it is.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

/// Prints one value as one line of JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Prints an error with what caused it, once each.
pub(crate) fn print_error(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str("\n  because: ");
            text.push_str(&cause);
        }
    }
    // Nothing can be done when standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether the reader of our output went away, as `head` does.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}

/// Whether the user asked for something wrong (exit code 2) rather than something failing (exit code 1).
pub(crate) fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Usage>()
            || cause.downcast_ref::<puddle_pipeline::Error>().is_some_and(puddle_pipeline::Error::is_usage)
            || cause.downcast_ref::<puddle_ingest::Error>().is_some_and(puddle_ingest::Error::is_usage)
            || cause.downcast_ref::<puddle_transform::Error>().is_some_and(puddle_transform::Error::is_usage)
            || cause.downcast_ref::<puddle_broker::Error>().is_some_and(puddle_broker::Error::is_usage)
            || cause.downcast_ref::<puddle_sink::Error>().is_some_and(puddle_sink::Error::is_usage)
    })
}

/// Rows of text as lines of columns: the first column to the left, numbers to the right.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
            text.push_str("  ");
            text.push_str(&if i == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
        }
        text.push('\n');
    }
    text
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with a decimal unit, as `8.3 MB`.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// Milliseconds with a fitting unit, as `340 ms` or `2.1 s`.
pub(crate) fn millis(n: u64) -> String {
    if n < 1_000 { format!("{n} ms") } else { format!("{:.1} s", n as f64 / 1e3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [0, 999, 1_000, 336_776, 1_234_567].map(count),
            ["0", "999", "1,000", "336,776", "1,234,567"]
        );
        assert_eq!([999, 8_300, 12_345_678].map(bytes), ["999 B", "8.3 kB", "12.3 MB"]);
        assert_eq!([999, 2_100].map(millis), ["999 ms", "2.1 s"]);
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_failure() {
        let closed = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_closed_pipe(&anyhow::Error::new(closed).context("printing")));
        assert!(!is_closed_pipe(&anyhow::anyhow!("other")));
    }
}
