//! The Parquet table as its readers and its operators see it.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, StringArray, StringViewArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, TimeUnit};
use common::faults::{Fault, Faults};
use common::{OWNER, assert_exact, config, epoch, feed, files, partition, schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use puddle_sink::parquet::ParquetSink;
use puddle_sink::{Error, Sink, SinkConfig, Span, hive, lake};

fn fast() -> SinkConfig {
    SinkConfig { durable: false, ..config() }
}

fn open(lake: &Path, config: &SinkConfig) -> Result<Box<dyn Sink>, Error> {
    puddle_sink::open(lake, config, schema(), OWNER)
}

fn refusal(result: Result<Box<dyn Sink>, Error>) -> Error {
    match result {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

/// Commits rows as offsets that go on from the sink's progress.
fn commit(sink: &mut dyn Sink, rows: &[RecordBatch]) -> puddle_sink::Committed {
    let from = common::next_offset(sink.progress(), 0);
    let mut count = 0;
    for rows in rows {
        sink.write(rows).unwrap();
        count += rows.num_rows() as u64;
    }
    let next = from + i64::try_from(count).unwrap();
    let span = Span { from, next, last: None, records: count, written: count, filtered: 0, rejected: 0 };
    sink.commit(epoch(&[(0, span)])).unwrap()
}

/// Rows with the keys and a number.
fn keyed(keys: impl IntoIterator<Item = String>) -> RecordBatch {
    let keys = StringArray::from_iter_values(keys);
    let numbers = Int64Array::from_iter_values(0..keys.len() as i64);
    let columns: [(&str, ArrayRef); 2] = [("n", Arc::new(numbers)), ("key", Arc::new(keys))];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Fault matrix 45.
#[test]
fn hostile_values_stay_inside_the_table_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let lake_dir = dir.path().join("lake");
    let mut values: Vec<String> = [
        "../../x",
        "..",
        ".",
        "/etc/passwd",
        "%2e%2e/",
        "a\0b",
        "a\nb",
        "a=b",
        "\u{202e}",
        "~",
        "*",
        hive::NULL,
    ]
    .map(str::to_owned)
    .to_vec();
    values.extend([String::new(), "x".repeat(300), format!("{}y", "x".repeat(299))]);
    let rows = keyed(values.clone());
    let mut sink = puddle_sink::open(&lake_dir, &fast(), rows.schema(), OWNER).unwrap();
    assert_eq!(commit(&mut *sink, &[rows]).files, values.len());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something left the lake");
    let table = lake::table(&lake_dir, "t").unwrap();
    assert_eq!(files(&lake_dir.join("t")).len(), values.len());
    let mut found = Vec::new();
    for file in &table.files {
        let parent = file.path.parent().unwrap();
        assert_eq!(parent.parent(), Some(table.root.as_path()), "{}", file.path.display());
        let (_, decoded) = hive::decode(parent.file_name().unwrap().to_str().unwrap()).unwrap();
        let exact = file.partition[0].clone().unwrap();
        if !exact.is_empty() && exact.len() < 250 {
            assert_eq!(decoded.as_ref(), Some(&exact));
        }
        found.push(exact);
    }
    found.sort();
    values.sort();
    assert_eq!(found, values);
}

#[test]
fn files_are_zstd_with_plain_types_and_without_the_partition_columns() {
    let dir = tempfile::tempdir().unwrap();
    let columns: [(&str, ArrayRef); 4] = [
        ("key", Arc::new(StringViewArray::from(vec!["a", "a"]))),
        ("view", Arc::new(StringViewArray::from(vec!["a long string that is not inlined", "b"]))),
        ("time", Arc::new(TimestampNanosecondArray::from(vec![1_001, 2_999]).with_timezone("+01:00"))),
        ("local", Arc::new(TimestampNanosecondArray::from(vec![1_001, 2_999]))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let mut sink = puddle_sink::open(dir.path(), &fast(), rows.schema(), OWNER).unwrap();
    commit(&mut *sink, &[rows]);
    let table = lake::table(dir.path(), "t").unwrap();
    let file = fs::File::open(&table.files[0].path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let fields: Vec<_> = reader
        .schema()
        .fields()
        .iter()
        .map(|field| (field.name().as_str(), field.data_type().clone()))
        .collect();
    let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    assert_eq!(fields, [("view", DataType::Utf8), ("time", micros(Some("UTC"))), ("local", micros(None))]);
    let group = reader.metadata().row_group(0);
    assert!(group.columns().iter().all(|column| matches!(column.compression(), Compression::ZSTD(_))));
    assert_eq!(table.schema.fields().len(), 4);
    assert_eq!(table.partition_by[0].name(), "key");
    assert_eq!((table.rows, table.bytes), (2, fs::metadata(&table.files[0].path).unwrap().len()));
}

#[test]
fn many_partitions_stay_within_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let config = SinkConfig { buffer_bytes: 256 << 10, max_open_partitions: 16, ..fast() };
    let batch = |number: usize| keyed((0..2100).map(|row| format!("{}", (row * 7 + number) % 300)));
    let batches: Vec<RecordBatch> = (0..30).map(batch).collect();
    let faults = Faults::none();
    let mut sink = ParquetSink::open(dir.path(), &config, batches[0].schema(), OWNER, faults.arc()).unwrap();
    let committed = commit(&mut sink, &batches);
    assert_eq!(committed.rows, 63_000);
    let (mut open, mut most) = (0, 0);
    for operation in faults.operations().iter().filter(|operation| operation.ends_with(".parquet")) {
        open += i32::from(operation.starts_with("create ")) - i32::from(operation.starts_with("sync "));
        most = most.max(open);
    }
    assert_eq!((open, most), (0, 16), "files left open, and most at a time");
    let table = lake::table(dir.path(), "t").unwrap();
    assert!(table.files.len() > 300, "no file was finished early: the limits were never reached");
    let mut rows = std::collections::BTreeMap::new();
    for file in &table.files {
        let read: usize = common::read_file(&file.path).iter().map(RecordBatch::num_rows).sum();
        assert_eq!(read as u64, file.rows);
        *rows.entry(file.partition[0].clone().unwrap()).or_insert(0) += read;
    }
    assert_eq!(rows.len(), 300);
    assert!(rows.values().all(|rows| *rows == 210), "{rows:?}");
}

#[test]
fn row_groups_end_where_asked() {
    let dir = tempfile::tempdir().unwrap();
    let config = SinkConfig { row_group_rows: 1000, partition_by: Vec::new(), ..fast() };
    let batch = keyed((0..2500).map(|row| row.to_string()));
    let mut sink = puddle_sink::open(dir.path(), &config, batch.schema(), OWNER).unwrap();
    let small: Vec<RecordBatch> = (0..250).map(|piece| batch.slice(piece * 10, 10)).collect();
    assert_eq!(commit(&mut *sink, &small).files, 1);
    let file = fs::File::open(&files(&dir.path().join("t"))[0]).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let groups: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups.iter().sum::<i64>(), 2500);
    assert!(groups.iter().all(|rows| *rows <= 1000) && groups.len() <= 4, "{groups:?}");
    let read = arrow::compute::concat_batches(
        &batch.schema(),
        &reader.build().unwrap().map(Result::unwrap).collect::<Vec<_>>(),
    );
    assert_eq!(read.unwrap(), batch, "the rows or their order changed");
}

#[test]
fn a_folder_that_no_log_knows_is_refused_and_left_alone() {
    for table in ["t", "t.rejected"] {
        let dir = tempfile::tempdir().unwrap();
        let stranger = dir.path().join(table).join("key=a/somebody-elses.parquet");
        fs::create_dir_all(stranger.parent().unwrap()).unwrap();
        fs::write(&stranger, "theirs").unwrap();
        let error = refusal(open(dir.path(), &fast()));
        assert!(
            matches!(&error, Error::Foreign { path } if path.ends_with(table)) && error.is_usage(),
            "{error}"
        );
        assert_eq!(fs::read(&stranger).unwrap(), b"theirs");
    }
}

#[test]
fn a_table_that_lost_its_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    feed(&mut *open(dir.path(), &fast()).unwrap(), 20).unwrap();
    fs::remove_dir_all(dir.path().join("t")).unwrap();
    let error = refusal(open(dir.path(), &fast()));
    assert!(matches!(error, Error::Gone { .. }), "{error}");
}

#[test]
fn other_partition_columns_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    feed(&mut *open(dir.path(), &fast()).unwrap(), 20).unwrap();
    let error = refusal(open(dir.path(), &SinkConfig { partition_by: vec!["text".to_owned()], ..fast() }));
    assert!(error.is_usage() && error.to_string().contains("[\"key\"], not by [\"text\"]"), "{error}");
}

/// Fault matrix 34.
#[test]
fn a_lake_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lake");
    fs::write(&path, "a file, no folder").unwrap();
    let error = refusal(open(&path, &fast()));
    assert!(matches!(&error, Error::Io { path: named, .. } if named.starts_with(&path)), "{error}");
    assert!(!error.is_usage());
}

/// Fault matrix 25.
#[test]
fn a_second_writer_is_told_who_the_first_is() {
    let dir = tempfile::tempdir().unwrap();
    let sink = open(dir.path(), &fast()).unwrap();
    let error = refusal(puddle_sink::open(dir.path(), &fast(), schema(), "other"));
    let process = format!("(process {})", std::process::id());
    assert!(matches!(&error, Error::Locked { .. }), "{error}");
    assert!(error.to_string().contains(OWNER) && error.to_string().contains(&process), "{error}");
    drop(sink);
    open(dir.path(), &fast()).unwrap();
}

#[test]
fn an_entry_that_another_writer_made_is_a_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path(), &fast()).unwrap();
    feed(&mut *sink, 20).unwrap();
    let log = dir.path().join(".puddle/t/log");
    fs::write(log.join("00000000000000000002.json"), "theirs").unwrap();
    let error = feed(&mut *sink, 40).unwrap_err();
    assert!(matches!(error, Error::Conflict { epoch: 2, .. }) && error.needs_reopen(), "{error}");
    assert_eq!(fs::read(log.join("00000000000000000002.json")).unwrap(), b"theirs");
    assert_eq!(common::scan(dir.path()), common::expected(20));
}

#[test]
fn a_writer_that_fell_far_behind_cannot_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut behind = open(dir.path(), &fast()).unwrap();
    feed(&mut *behind, 20).unwrap();
    // Without its lock's file, as on a file system that has no locks.
    fs::remove_file(dir.path().join(".puddle/t/lock")).unwrap();
    let mut ahead = open(dir.path(), &fast()).unwrap();
    for next in 21..=320 {
        let span =
            Span { from: next - 1, next, last: None, records: 1, written: 0, filtered: 1, rejected: 0 };
        ahead.commit(epoch(&[(0, span), (1, span)])).unwrap();
    }
    assert!(!dir.path().join(".puddle/t/log/00000000000000000002.json").exists(), "not bundled yet");
    let error = feed(&mut *behind, 40).unwrap_err();
    assert!(matches!(error, Error::Conflict { epoch: 2, .. }), "{error}");
    assert_eq!(common::scan(dir.path()), common::expected(20));
}

#[test]
fn a_reader_sees_an_epoch_whole_or_not_at_all() {
    let (scratch, faults) = (tempfile::tempdir().unwrap(), Faults::none());
    let run = |dir: &Path, faults: &Faults| {
        let mut sink = ParquetSink::open(dir, &config(), schema(), OWNER, faults.arc())?;
        feed(&mut sink, 20)?;
        feed(&mut sink, 40)
    };
    run(scratch.path(), &faults).unwrap();
    let epochs = |dir: &Path| lake::table(dir, "t").map(|table| (table.epoch, table.rows, table.files));
    assert_eq!(epochs(scratch.path()).unwrap().0, 2);
    let whole = [0, 20, 40].map(|until| common::expected(until).len() as u64);
    let mut seen = Vec::new();
    for number in 0..faults.operations().len() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), &Faults::at(number, Fault::Cut)).unwrap_err();
        let Ok((epoch, rows, files)) = epochs(dir.path()) else { continue };
        assert!(files.iter().all(|file| file.path.exists()), "cut at {number}: a file is not there");
        assert_eq!(rows, whole[epoch as usize], "cut at {number}: half an epoch");
        seen.push(epoch);
    }
    assert!(seen.is_sorted() && seen.contains(&0) && seen.contains(&1) && seen.ends_with(&[2]), "{seen:?}");
}

#[test]
fn a_lake_tells_its_tables() {
    let dir = tempfile::tempdir().unwrap();
    assert!(lake::tables(&dir.path().join("nothing")).unwrap().is_empty());
    assert!(matches!(lake::table(dir.path(), "t"), Err(Error::NoTable { .. })));
    assert!(lake::table(dir.path(), "../t").unwrap_err().is_usage());
    feed(&mut *open(dir.path(), &fast()).unwrap(), 20).unwrap();
    let other = SinkConfig { table: "a".to_owned(), ..fast() };
    let mut writer = open(dir.path(), &other).unwrap();
    let written = Span { records: 1, written: 1, filtered: 0, rejected: 0, ..common::span(0, 1) };
    writer.write(&common::rows(0, 0, 1)).unwrap();
    writer.commit(epoch(&[(3, written)])).unwrap();
    let tables = lake::tables(dir.path()).unwrap();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["a", "a.rejected", "t", "t.rejected"]);
    assert_eq!(
        lake::table(dir.path(), "t.rejected").unwrap().rows,
        common::expected_rejected(20).len() as u64
    );
    // The writer of "a" still has it open.
    assert_eq!(lake::progress(dir.path(), "a").unwrap()[&partition(3)].next, 1);
    assert_exact(dir.path(), 20, "beside another table");
}

#[test]
fn a_removed_table_can_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let sink = open(dir.path(), &fast()).unwrap();
    assert!(matches!(puddle_sink::parquet::remove(dir.path(), "t"), Err(Error::Locked { .. })));
    drop(sink);
    feed(&mut *open(dir.path(), &fast()).unwrap(), 20).unwrap();
    puddle_sink::parquet::remove(dir.path(), "t").unwrap();
    assert!(files(dir.path()).is_empty());
    feed(&mut *open(dir.path(), &fast()).unwrap(), 30).unwrap();
    assert_exact(dir.path(), 30, "anew");
}
