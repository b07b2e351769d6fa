//! Rejected records for people. Everything that comes from data is escaped: a record must not command a terminal.

use std::fmt::Write as _;

use arrow::temporal_conversions::timestamp_ms_to_datetime;
use puddle_pipeline::rejected::{Bytes, Listing, Outcome, Record};

use super::{aligned, count};

/// The widest that a reason and a value get in the table.
const REASON_WIDTH: usize = 60;
const VALUE_WIDTH: usize = 48;
/// Kinds of reasons and partitions that are listed at the top.
const REASONS_SHOWN: usize = 10;
const PARTITIONS_SHOWN: usize = 10;

/// How many for which reason, the newest as a table, and what to do next.
pub(crate) fn rejected(listing: &Listing) -> String {
    let mut text = String::new();
    let of = if listing.selected < listing.records {
        format!("{} of {} rejected records", count(listing.selected), count(listing.records))
    } else {
        format!("{} rejected records", count(listing.records))
    };
    let _ = writeln!(text, "{}: {of}", listing.table);
    if listing.selected == 0 {
        return text;
    }

    let mut rows = vec![["records", "why"].map(str::to_owned)];
    let shown = listing.reasons.iter().take(REASONS_SHOWN);
    rows.extend(shown.map(|reason| [count(reason.records), cut(&escape(reason.reason.as_bytes()), 100)]));
    let rest: u64 = listing.reasons.iter().skip(REASONS_SHOWN).map(|reason| reason.records).sum();
    if rest + listing.other_reasons > 0 {
        rows.push([count(rest + listing.other_reasons), "(other reasons)".to_owned()]);
    }
    text.push('\n');
    text.push_str(&table(&rows, [Side::Right, Side::Left]));
    if listing.partitions.len() > 1 {
        let mut rows = vec![["partition", "records"].map(str::to_owned)];
        let shown = listing.partitions.iter().take(PARTITIONS_SHOWN);
        rows.extend(shown.map(|at| [escape(at.partition.to_string().as_bytes()), count(at.records)]));
        text.push('\n');
        text.push_str(&aligned(&rows));
        let more = listing.partitions.len().saturating_sub(PARTITIONS_SHOWN);
        if more > 0 {
            let _ = writeln!(text, "  and {} more partitions", count(more as u64));
        }
    }

    if !listing.shown.is_empty() {
        let newest = count(listing.shown.len() as u64);
        let _ = match (listing.shown.len() as u64) < listing.selected {
            true => writeln!(text, "\nThe newest {newest} (--limit shows more):"),
            false => writeln!(text, "\nThe newest first:"),
        };
        let mut rows = vec![["partition", "offset", "time", "reason", "value"].map(str::to_owned)];
        rows.extend(listing.shown.iter().map(|record| {
            [
                escape(record.partition.to_string().as_bytes()),
                record.offset.to_string(),
                time(record),
                cut(&escape(record.reason.as_bytes()), REASON_WIDTH),
                cut(&value(record.value.as_ref()), VALUE_WIDTH),
            ]
        }));
        text.push_str(&table(&rows, [Side::Left, Side::Right, Side::Left, Side::Left, Side::Left]));
    }
    let name = &listing.pipeline;
    let _ = writeln!(
        text,
        "\nOne of them whole:                   puddle rejected {name} --partition P --offset O\n\
         After mending the schema or the SQL:  puddle rejected {name} --retry"
    );
    text
}

/// The shown records, each with all that there is.
pub(crate) fn rejected_whole(listing: &Listing) -> String {
    if listing.shown.is_empty() {
        return format!("{}: no such rejected record\n", listing.table);
    }
    let mut text = String::new();
    for record in &listing.shown {
        let _ = writeln!(
            text,
            "{} at offset {}\n  time    {}\n  reason  {}\n  key     {}\n  value   {}",
            escape(record.partition.to_string().as_bytes()),
            record.offset,
            time(record),
            escape(record.reason.as_bytes()),
            value(record.key.as_ref()),
            value(record.value.as_ref()),
        );
    }
    text
}

/// What a retry did, and what to do next.
pub(crate) fn retried(outcome: &Outcome) -> String {
    let Outcome { table, pipeline, records, written, filtered, rejected, .. } = outcome;
    let mut text = format!(
        "{table}: {} rejected records run again: {} are in the table now, {} were left out by the SQL, {} still do \
         not fit\n",
        count(*records),
        count(*written),
        count(*filtered),
        count(*rejected)
    );
    if outcome.left > 0 {
        let _ = writeln!(text, "  stopped before {} more; run it again", count(outcome.left));
    }
    if *rejected > 0 {
        text.push_str("  still for reasons such as:\n");
        for reason in &outcome.reasons {
            let _ = writeln!(text, "    {}", escape(reason.as_bytes()));
        }
        let _ = writeln!(text, "  see:  puddle rejected {pipeline}");
    }
    text
}

#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

/// Rows of text as aligned columns, without spaces at the ends of lines.
fn table<const N: usize>(rows: &[[String; N]], sides: [Side; N]) -> String {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), side) in row.iter().zip(widths).zip(sides) {
            line.push_str("  ");
            line.push_str(&match side {
                Side::Left => format!("{cell:<width$}"),
                Side::Right => format!("{cell:>width$}"),
            });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn time(record: &Record) -> String {
    match record.timestamp_ms {
        None => "-".to_owned(),
        // A producer may send any number.
        Some(ms) => timestamp_ms_to_datetime(ms)
            .map_or_else(|| format!("{ms} ms"), |time| time.format("%Y-%m-%d %H:%M:%S").to_string()),
    }
}

fn value(bytes: Option<&Bytes>) -> String {
    match bytes {
        None => "(none)".to_owned(),
        Some(bytes) if bytes.length == 0 => "(empty)".to_owned(),
        Some(bytes) => {
            let mut text = escape(&bytes.head);
            if bytes.head.len() < bytes.length {
                text.push('…');
            }
            text
        }
    }
}

/// Text that can be printed anywhere: control characters, line ends, marks that turn or hide text, and bytes that are not
/// UTF-8 become escapes.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\'' => text.push(c),
                c => text.extend(c.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The text, cut to so many characters.
fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text.chars().take(width - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use puddle_types::TopicPartition;

    use super::*;

    #[test]
    fn nothing_in_a_record_commands_a_terminal() {
        let hostile = "\u{1b}[31mred\u{9b}2J \u{202e}rtl\u{200b} \r\n\t\0 \u{7f} a\"b'c ä 数 \\".as_bytes();
        let text = escape(hostile);
        let ok = |c: char| c == ' ' || !(c.is_control() || "\u{202e}\u{200b}\u{9b}".contains(c));
        assert!(text.chars().all(ok), "{text}");
        assert!(text.contains("a\"b'c ä 数 \\\\") && text.starts_with("\\u{1b}[31mred"), "{text}");
        assert_eq!(escape(b"a\xff\xfe\x80b"), "a\\xff\\xfe\\x80b");

        let bytes = |bytes: &[u8]| Some(Bytes { head: bytes.to_vec(), length: bytes.len() });
        let record = Record {
            partition: TopicPartition::new("t\u{1b}]0;", 3),
            offset: 7,
            timestamp_ms: Some(i64::MAX),
            reason: "found \"\u{1b}[2J\"".to_owned(),
            key: bytes(b"\x07"),
            value: bytes(hostile),
        };
        let listing = Listing {
            pipeline: "p".to_owned(),
            table: "t.rejected".to_owned(),
            records: 1,
            selected: 1,
            reasons: vec![puddle_pipeline::rejected::Reason { reason: "\u{1b}[0m".to_owned(), records: 1 }],
            other_reasons: 0,
            partitions: vec![],
            shown: vec![record],
        };
        let outcome = Outcome { rejected: 1, reasons: vec!["\u{1b}c".to_owned()], ..Outcome::default() };
        for text in [rejected(&listing), rejected_whole(&listing), retried(&outcome)] {
            assert!(text.chars().all(|c| c == '\n' || ok(c)), "{text}");
        }
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }
}
