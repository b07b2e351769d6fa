//! What the rejected records are: how many for which reason, and the newest of them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMillisecondType;
use puddle_sink::config::REJECTED_SUFFIX;
use puddle_sink::lake;
use puddle_types::{Offset, TopicPartition, metadata};
use serde::{Serialize, Serializer};

use super::file::{Rows, origins};
use crate::{Error, Pipeline};

/// At most this many kinds of reasons are told apart; SQL may make up a new one for each record.
const MAX_REASONS: usize = 1_000;
/// How often to begin anew when a retry takes files away below our hands. Each time takes it at least a commit.
const READ_ATTEMPTS: usize = 5;

/// Which rejected records to look at.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only those whose reason has this text in it, in any case.
    pub reason: Option<String>,
    /// Only those of the partition with this number.
    pub partition: Option<i32>,
    /// Only those at this offset.
    pub offset: Option<Offset>,
    /// How many to show.
    pub limit: usize,
    /// How many bytes of each key and value to keep; what is longer is cut.
    pub bytes: usize,
}

/// The rejected records of a table.
#[derive(Clone, Debug, Serialize)]
pub struct Listing {
    /// The pipeline's name.
    pub pipeline: String,
    /// The name of the table of rejected records.
    pub table: String,
    /// Records in it.
    pub records: u64,
    /// Of these, selected.
    pub selected: u64,
    /// Why, for the selected ones: the most frequent kind first. Values in reasons are left out, so that records with the
    /// same fault count together.
    pub reasons: Vec<Reason>,
    /// How many of the selected ones have one of the reasons beyond the first 1,000 kinds.
    pub other_reasons: u64,
    /// The partitions that the selected ones came from.
    pub partitions: Vec<Partition>,
    /// The newest of the selected ones, by timestamp.
    pub shown: Vec<Record>,
}

/// A kind of reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The reason, with `…` for values.
    pub reason: String,
    /// Records rejected for it.
    pub records: u64,
}

/// Rejected records of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// The partition.
    #[serde(flatten)]
    pub partition: TopicPartition,
    /// Its rejected records.
    pub records: u64,
}

/// A rejected record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Where it came from.
    #[serde(flatten)]
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp, in milliseconds since 1970 (UTC).
    pub timestamp_ms: Option<i64>,
    /// Why it was rejected.
    pub reason: String,
    /// Its key, if it has one.
    pub key: Option<Bytes>,
    /// Its value; none for a tombstone, or where the reason says that it is gone.
    pub value: Option<Bytes>,
}

/// Raw bytes, perhaps cut. In JSON a string if they are UTF-8, and `{"hex": "7bff"}` if not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// The first bytes.
    pub head: Vec<u8>,
    /// How many there are in all.
    pub length: usize,
}

/// Lists the rejected records of a pipeline's table. Takes no lock: a run may be writing them.
///
/// # Errors
/// A lake or a file that cannot be read.
pub fn list(pipeline: &Pipeline, lake: &Path, selection: &Selection) -> Result<Listing, Error> {
    let table = format!("{}{REJECTED_SUFFIX}", pipeline.sink.table);
    let found = list_files(selection, || lake::table(lake, &table).map(|table| table.files))?;
    Ok(Listing { pipeline: pipeline.name.clone(), table, ..found })
}

/// Lists the records of files that may be taken away meanwhile; then they are asked for again.
pub(super) fn list_files(
    selection: &Selection,
    mut files: impl FnMut() -> Result<Vec<lake::TableFile>, puddle_sink::Error>,
) -> Result<Listing, Error> {
    let mut attempt = 1;
    loop {
        let files = files()?;
        match Lister::new(selection).read(files.iter().map(|file| file.path.clone()).collect()) {
            Err(Error::Read { source, .. })
                if source.kind() == ErrorKind::NotFound && attempt < READ_ATTEMPTS =>
            {
                attempt += 1;
            }
            Err(error) => return Err(error),
            Ok(found) => return Ok(Listing { records: files.iter().map(|file| file.rows).sum(), ..found }),
        }
    }
}

struct Lister<'a> {
    selection: &'a Selection,
    reason: Option<String>,
    selected: u64,
    reasons: BTreeMap<String, u64>,
    other_reasons: u64,
    partitions: BTreeMap<TopicPartition, u64>,
    newest: Vec<Place>,
}

/// A record and where it is; the newest orders last.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    timestamp: Option<i64>,
    offset: Offset,
    partition: TopicPartition,
    file: usize,
    row: usize,
}

impl<'a> Lister<'a> {
    fn new(selection: &'a Selection) -> Self {
        Self {
            selection,
            reason: selection.reason.as_ref().map(|reason| reason.to_lowercase()),
            selected: 0,
            reasons: BTreeMap::new(),
            other_reasons: 0,
            partitions: BTreeMap::new(),
            newest: Vec::new(),
        }
    }

    /// Reads everything but keys and values, and then those of the records that are shown.
    fn read(mut self, files: Vec<PathBuf>) -> Result<Listing, Error> {
        let columns =
            [metadata::TOPIC, metadata::PARTITION, metadata::OFFSET, metadata::TIMESTAMP, metadata::REASON];
        for (number, path) in files.iter().enumerate() {
            let mut first = 0;
            for batch in Rows::open(path, &columns, None)? {
                let batch = batch?;
                self.count(&batch, number, first);
                first += batch.num_rows();
            }
        }
        self.keep_newest();
        let shown = self.show(&files)?;
        let mut reasons: Vec<Reason> =
            self.reasons.into_iter().map(|(reason, records)| Reason { reason, records }).collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.records));
        let partitions =
            self.partitions.into_iter().map(|(partition, records)| Partition { partition, records });
        Ok(Listing {
            pipeline: String::new(),
            table: String::new(),
            records: 0,
            selected: self.selected,
            reasons,
            other_reasons: self.other_reasons,
            partitions: partitions.collect(),
            shown,
        })
    }

    /// Counts the rows of a file from row `first` on.
    fn count(&mut self, batch: &RecordBatch, file: usize, first: usize) {
        let reasons = batch.column_by_name(metadata::REASON).expect("it was read").as_string::<i32>();
        let timestamps = batch.column_by_name(metadata::TIMESTAMP).expect("it was read");
        let timestamps = timestamps.as_primitive::<TimestampMillisecondType>();
        let Selection { partition: number, offset: at, limit, .. } = *self.selection;
        for (row, (partition, offset)) in origins(batch).into_iter().enumerate() {
            let reason = reasons.value(row);
            let other = number.is_some_and(|number| number != partition.partition)
                || at.is_some_and(|at| at != offset)
                || self.reason.as_ref().is_some_and(|wanted| !reason.to_lowercase().contains(wanted));
            if other {
                continue;
            }
            self.selected += 1;
            let kind = kind(reason);
            if self.reasons.len() < MAX_REASONS || self.reasons.contains_key(&kind) {
                *self.reasons.entry(kind).or_default() += 1;
            } else {
                self.other_reasons += 1;
            }
            *self.partitions.entry(partition.clone()).or_default() += 1;
            let timestamp = (!timestamps.is_null(row)).then(|| timestamps.value(row));
            self.newest.push(Place { timestamp, offset, partition, file, row: first + row });
        }
        if self.newest.len() > 2 * limit + 10_000 {
            self.keep_newest();
        }
    }

    fn keep_newest(&mut self) {
        self.newest.sort_unstable_by(|a, b| b.cmp(a));
        self.newest.truncate(self.selection.limit);
    }

    /// The newest records, whole.
    fn show(&self, files: &[PathBuf]) -> Result<Vec<Record>, Error> {
        let mut shown: Vec<Option<Record>> = vec![None; self.newest.len()];
        let mut wanted: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        for (place, at) in self.newest.iter().enumerate() {
            wanted.entry(at.file).or_default().push((at.row, place));
        }
        for (file, mut rows) in wanted {
            rows.sort_unstable();
            let ranges: Vec<Range<usize>> = rows.iter().map(|(row, _)| *row..row + 1).collect();
            let mut places = rows.iter().map(|(_, place)| *place);
            let columns = [metadata::KEY, metadata::REASON, metadata::VALUE];
            for batch in Rows::open(&files[file], &columns, Some(ranges))? {
                let batch = batch?;
                for (row, place) in (0..batch.num_rows()).zip(&mut places) {
                    shown[place] = Some(self.record(&batch, row, &self.newest[place]));
                }
            }
        }
        Ok(shown.into_iter().flatten().collect())
    }

    fn record(&self, batch: &RecordBatch, row: usize, at: &Place) -> Record {
        let bytes = |column| {
            let column = batch.column_by_name(column).expect("it was read").as_binary::<i32>();
            (!column.is_null(row)).then(|| {
                let value = column.value(row);
                Bytes { head: value[..value.len().min(self.selection.bytes)].to_vec(), length: value.len() }
            })
        };
        let reasons = batch.column_by_name(metadata::REASON).expect("it was read").as_string::<i32>();
        Record {
            partition: at.partition.clone(),
            offset: at.offset,
            timestamp_ms: at.timestamp,
            reason: reasons.value(row).to_owned(),
            key: bytes(metadata::KEY),
            value: bytes(metadata::VALUE),
        }
    }
}

/// A reason without the values in it: cited text and numbers become `…`. Digits in names such as `int64` stay.
fn kind(reason: &str) -> String {
    let mut kind = String::with_capacity(reason.len());
    let mut characters = reason.chars().peekable();
    let mut before = ' ';
    while let Some(c) = characters.next() {
        if c == '"' {
            kind.push_str("\"…\"");
            // A value that was cut has no end; then the rest of the reason is the value.
            while let Some(inner) = characters.next() {
                match inner {
                    '\\' => _ = characters.next(),
                    '"' => break,
                    _ => {}
                }
            }
        } else if c.is_ascii_digit() && !before.is_alphanumeric() && before != '_' {
            kind.push('…');
            while characters.next_if(|next| next.is_ascii_digit() || *next == '.').is_some() {}
        } else {
            kind.push(c);
        }
        before = c;
    }
    kind
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Hex {
            hex: String,
        }
        match std::str::from_utf8(&self.head) {
            Ok(text) => to.serialize_str(text),
            Err(_) => Hex { hex: self.head.iter().map(|byte| format!("{byte:02x}")).collect() }.serialize(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_with_the_same_fault_count_together() {
        for (reason, expected) in [
            (
                "field `id`: expected int64, found string \"x 7\"",
                "field `id`: expected int64, found string \"…\"",
            ),
            (
                "field `a[12].b2`: expected int32, found integer -12",
                "field `a[…].b2`: expected int32, found integer -…",
            ),
            ("not JSON: expected value at line 1 column 17", "not JSON: expected value at line … column …"),
            ("found string \"a \\\" b\", sorry", "found string \"…\", sorry"),
            ("found string \"cut...", "found string \"…\""),
            ("found number 1.5", "found number …"),
            ("", ""),
        ] {
            assert_eq!(kind(reason), expected);
        }
    }

    #[test]
    fn bytes_are_text_in_json_where_they_are_text() {
        let json =
            |head: &[u8]| serde_json::to_string(&Bytes { head: head.to_vec(), length: head.len() }).unwrap();
        assert_eq!(json("{\"ä\"}".as_bytes()), r#""{\"ä\"}""#);
        assert_eq!(json(b"{\xff\x00"), r#"{"hex":"7bff00"}"#);
    }
}
