//! A topic that can be read again from any offset, and readers that tell what a table holds.

#![allow(dead_code, unreachable_pub)] // Each test binary uses a part.

pub mod delta;
pub mod faults;
pub mod job;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{Int64Type, SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use puddle_sink::{Epoch, Error, Sink, SinkConfig, Span, hive};
use puddle_types::{Fingerprint, Offset, Progress, TopicPartition, metadata};

pub const TOPIC: &str = "numbers";
pub const OWNER: &str = "tests";
/// Values of the partition column, hostile ones among them.
pub const VALUES: [Option<&str>; 5] = [Some("2013-01"), Some("../../x"), None, Some("a=b%2e"), Some("\n\0")];

/// What becomes of the record at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Written,
    Filtered,
    Rejected,
}

pub fn fate(offset: Offset) -> Fate {
    match offset % 7 {
        3 => Fate::Filtered,
        5 => Fate::Rejected,
        _ => Fate::Written,
    }
}

/// A number for a record that no other has.
pub fn id(partition: i32, offset: Offset) -> i64 {
    i64::from(partition) * 1_000_000 + offset
}

pub fn value(offset: Offset) -> Option<&'static str> {
    VALUES[usize::try_from(offset).unwrap() / 3 % VALUES.len()]
}

pub fn partition(number: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, number)
}

pub fn config() -> SinkConfig {
    SinkConfig { partition_by: vec!["key".to_owned()], ..SinkConfig::new("t") }
}

/// The rows of `[from, next)` that are to be written.
pub fn rows(number: i32, from: Offset, next: Offset) -> RecordBatch {
    let offsets: Vec<Offset> = (from..next).filter(|offset| fate(*offset) == Fate::Written).collect();
    rows_at(number, &offsets)
}

/// The rows of the records at these offsets.
pub fn rows_at(number: i32, offsets: &[Offset]) -> RecordBatch {
    let ids = Int64Array::from_iter_values(offsets.iter().map(|offset| id(number, *offset)));
    let keys = StringArray::from_iter(offsets.iter().map(|offset| value(*offset)));
    let texts = StringArray::from_iter_values(offsets.iter().map(|offset| format!("record {offset}")));
    let columns: [(&str, ArrayRef, bool); 3] =
        [("id", Arc::new(ids), false), ("key", Arc::new(keys), true), ("text", Arc::new(texts), true)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

pub fn schema() -> SchemaRef {
    rows(0, 0, 0).schema()
}

/// The rejected records of `[from, next)`.
pub fn rejected(number: i32, from: Offset, next: Offset) -> RecordBatch {
    let offsets: Vec<Offset> = (from..next).filter(|offset| fate(*offset) == Fate::Rejected).collect();
    rejected_at(number, &offsets)
}

/// The records at these offsets as rejected ones.
pub fn rejected_at(number: i32, offsets: &[Offset]) -> RecordBatch {
    let n = offsets.len();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![TOPIC; n])),
        Arc::new(Int32Array::from(vec![number; n])),
        Arc::new(Int64Array::from(offsets.to_vec())),
        Arc::new(TimestampMillisecondArray::from(vec![1_357_000_000_123; n]).with_timezone("UTC")),
        Arc::new(BinaryArray::from(vec![None; n])),
        Arc::new(StringArray::from(vec!["not JSON"; n])),
        Arc::new(BinaryArray::from(vec![Some(&b"{"[..]); n])),
    ];
    RecordBatch::try_new(metadata::rejected_schema(), columns).unwrap()
}

pub fn span(from: Offset, next: Offset) -> Span {
    let count = |what| (from..next).filter(|offset| fate(*offset) == what).count() as u64;
    Span {
        from,
        next,
        last: (next > from).then(|| Fingerprint {
            offset: next - 1,
            timestamp: 5,
            hash: u64::MAX - next as u64,
        }),
        records: (next - from) as u64,
        written: count(Fate::Written),
        filtered: count(Fate::Filtered),
        rejected: count(Fate::Rejected),
    }
}

pub fn epoch(spans: &[(i32, Span)]) -> Epoch {
    let partitions = spans.iter().map(|(number, span)| (partition(*number), *span)).collect();
    Epoch { partitions, ..Epoch::default() }
}

pub fn next_offset(progress: &Progress, number: i32) -> Offset {
    progress.get(&partition(number)).map_or(0, |position| position.next)
}

/// Writes and commits what both partitions hold from the sink's progress up to `until`, in two batches each.
pub fn feed(sink: &mut dyn Sink, until: Offset) -> Result<(), Error> {
    let mut spans = Vec::new();
    for number in 0..2 {
        let from = next_offset(sink.progress(), number);
        let middle = from + (until - from) / 2;
        for (from, next) in [(from, middle), (middle, until)] {
            sink.write(&rows(number, from, next))?;
            sink.write_rejected(&rejected(number, from, next))?;
        }
        spans.push((number, span(from, until)));
    }
    sink.commit(epoch(&spans)).map(|_| ())
}

/// All files below a folder.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

pub fn read_file(path: &Path) -> Vec<RecordBatch> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    reader.map(Result::unwrap).collect()
}

/// Everything that a plain scan of the table sees, sorted: ids with the value that their folder stands for.
pub fn scan(lake: &Path) -> Vec<(i64, Option<String>)> {
    let mut found = Vec::new();
    for path in files(&lake.join("t")) {
        let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        let (column, value) = hive::decode(folder).unwrap();
        assert_eq!(column, "key");
        for batch in read_file(&path) {
            let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>();
            found.extend(ids.values().iter().map(|id| (*id, value.clone())));
        }
    }
    found.sort();
    found
}

/// The offsets in the table of rejected records, as ids, sorted.
pub fn scan_rejected(lake: &Path) -> Vec<i64> {
    let mut found = Vec::new();
    for path in files(&lake.join("t.rejected")) {
        for batch in read_file(&path) {
            let partitions = batch.column_by_name(metadata::PARTITION).unwrap();
            let partitions = partitions.as_primitive::<arrow::datatypes::Int32Type>();
            let offsets = batch.column_by_name(metadata::OFFSET).unwrap().as_primitive::<Int64Type>();
            found.extend((0..batch.num_rows()).map(|row| id(partitions.value(row), offsets.value(row))));
        }
    }
    found.sort_unstable();
    found
}

/// What a plain scan must see when both partitions are in the table up to `until`.
pub fn expected(until: Offset) -> Vec<(i64, Option<String>)> {
    let of = |number| {
        (0..until)
            .filter(|offset| fate(*offset) == Fate::Written)
            .map(move |offset| (id(number, offset), value(offset)))
    };
    let mut all: Vec<_> = of(0).chain(of(1)).map(|(id, value)| (id, value.map(str::to_owned))).collect();
    all.sort();
    all
}

pub fn expected_rejected(until: Offset) -> Vec<i64> {
    let of = |number| (0..until).filter(|o| fate(*o) == Fate::Rejected).map(move |offset| id(number, offset));
    of(0).chain(of(1)).collect()
}

/// Checks that a lake holds every record up to `until` exactly once: by a plain scan, by the log's list of files,
/// and by the spans of its history.
pub fn assert_exact(lake: &Path, until: Offset, context: &str) {
    assert_eq!(scan(lake), expected(until), "{context}: rows of a plain scan");
    assert_eq!(scan_rejected(lake), expected_rejected(until), "{context}: rejected records");
    let table = puddle_sink::lake::table(lake, "t").unwrap();
    let mut listed: Vec<PathBuf> = table.files.into_iter().map(|file| file.path).collect();
    listed.sort();
    assert_eq!(listed, files(&lake.join("t")), "{context}: files in the log");
    let mut ends: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    for commit in puddle_sink::lake::history(lake, "t").unwrap() {
        for moved in commit.unwrap().partitions {
            let end = ends.entry(moved.partition).or_default();
            assert_eq!(moved.span.from, *end, "{context}: history");
            *end = moved.span.next;
        }
    }
    assert_eq!(ends.into_values().collect::<Vec<_>>(), [until, until], "{context}: history");
    let mut halves = files(&lake.join(".puddle/t/log"));
    halves.retain(|path| path.to_string_lossy().ends_with(".tmp"));
    assert_eq!(halves, Vec::<PathBuf>::new(), "{context}: half-written log files");
    assert_eq!(files(&lake.join(".puddle/t/staging")), Vec::<PathBuf>::new(), "{context}: staging");
}
