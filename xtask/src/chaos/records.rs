//! The known records: number, seed and nothing else decide what a record holds and what must become of it.

use serde_json::{Value, json};

use super::random::Random;

/// The schema of `pipeline.toml` that the records are made for.
pub(super) const SCHEMA: &str = "[ingest.schema]\n\
    id = \"int64 not null\"\nk = \"string\"\nv = \"int64\"\ntext = \"string\"\nbucket = \"int64\"\ndropped = \"bool\"\n";

/// The columns that the SQL keeps of them. `twice` shows that the SQL ran, the last two where a row came from.
pub(super) const SELECT: &str = "id, k, v, v * 2 AS twice, text, bucket, _partition, _offset";

/// The SQL's condition: what must be left out.
pub(super) const WHERE: &str = "NOT dropped";

/// One record.
pub(super) struct Record {
    /// The value, as it is produced: a line of NDJSON.
    pub(super) line: Vec<u8>,
    pub(super) fate: Fate,
}

/// What must become of a record.
#[derive(Debug, PartialEq)]
pub(super) enum Fate {
    /// A row of the table, with these values.
    Written(Value),
    /// Left out by the SQL.
    Filtered,
    /// A row of the rejected table, with the line as it was.
    Rejected,
}

/// How many records have which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) written: u64,
    pub(super) filtered: u64,
    pub(super) rejected: u64,
}

impl Counts {
    pub(super) fn of(records: &[Record]) -> Self {
        let mut counts = Self::default();
        for record in records {
            match record.fate {
                Fate::Written(_) => counts.written += 1,
                Fate::Filtered => counts.filtered += 1,
                Fate::Rejected => counts.rejected += 1,
            }
        }
        counts
    }
}

/// The record with this number. Of the first ones, one has each fate, so that both tables exist early.
pub(super) fn record(seed: u64, number: u64) -> Record {
    let mut random = Random::new(seed, number);
    let lot = if number < 3 { [0, 10, 99][number as usize] } else { random.within(0..100) };
    match lot {
        0..8 => Record { line: broken(number, &mut random), fate: Fate::Rejected },
        8..20 => Record { line: whole(number, true, &mut random).0, fate: Fate::Filtered },
        _ => {
            let (line, row) = whole(number, false, &mut random);
            Record { line, fate: Fate::Written(row) }
        }
    }
}

/// A record that fits, and the row that it becomes.
fn whole(number: u64, dropped: bool, random: &mut Random) -> (Vec<u8>, Value) {
    let key = format!("k{}", random.within(0..17));
    let v = random.within(0..2_000_000) as i64 - 1_000_000;
    let text: String = (0..random.within(0..24))
        .map(|_| *random.pick(&["a", "Z", " ", "\"", "\\", "\n", "é", "水", "🦆", "null", "{"]))
        .collect();
    let bucket = random.within(0..3);
    let line = json!({"id": number, "k": key, "v": v, "text": text, "bucket": bucket, "dropped": dropped});
    let row = json!({"id": number, "k": key, "v": v, "twice": 2 * v, "text": text, "bucket": bucket});
    (line.to_string().into_bytes(), row)
}

/// A record that does not fit, in one of several ways; its number makes it the only one of its kind.
fn broken(number: u64, random: &mut Random) -> Vec<u8> {
    match random.within(0..4) {
        0 => format!(r#"{{"id": {number}, "k": "k1", "#).into_bytes(),
        1 => format!(r#"{{"id": "{number}", "k": "k2", "dropped": false}}"#).into_bytes(),
        2 => format!("record {number} is no JSON").into_bytes(),
        _ => [&[0xff, 0xfe][..], number.to_string().as_bytes()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn records_are_lines_that_repeat_and_differ_and_have_every_fate() {
        let records: Vec<Record> = (0..500).map(|number| record(1, number)).collect();
        let lines: HashSet<&[u8]> = records.iter().map(|record| &*record.line).collect();
        assert_eq!(lines.len(), records.len());
        assert!(lines.iter().all(|line| !line.is_empty() && !line.contains(&b'\n')));
        let counts = Counts::of(&records[..3]);
        assert_eq!(counts, Counts { written: 1, filtered: 1, rejected: 1 });
        assert!(Counts::of(&records).written > 300);
        assert_eq!(record(1, 17).line, records[17].line);
        assert_ne!(record(2, 17).line, records[17].line);
    }
}
