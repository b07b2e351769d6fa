//! The Delta table as its readers, its operators and its other writers see it.

mod common;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Barrier};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use common::delta::{assert_exact, config, read};
use common::faults::Faults;
use common::{OWNER, epoch, feed, files, next_offset, partition, rejected, rows, schema, span};
use puddle_sink::delta::{CHECKPOINT_EVERY, DeltaSink};
use puddle_sink::{Epoch, Error, Retried, Sink, SinkConfig, SinkKind, Span, lake};
use serde_json::Value;

fn fast() -> SinkConfig {
    SinkConfig { durable: false, ..config() }
}

fn open(lake: &Path) -> Box<dyn Sink> {
    puddle_sink::open(lake, &fast(), schema(), OWNER).unwrap()
}

fn refusal(lake: &Path, config: &SinkConfig) -> Error {
    match puddle_sink::open(lake, config, schema(), OWNER) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

fn idle(from: i64) -> Span {
    Span { from, next: from + 1, last: None, records: 1, written: 0, filtered: 1, rejected: 0 }
}

/// The actions of a version.
fn actions(lake: &Path, version: u64) -> Vec<Value> {
    let text = fs::read_to_string(lake.join(format!("t/_delta_log/{version:020}.json"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Commits what one partition holds up to `until`.
fn work(sink: &mut dyn Sink, number: i32, until: i64) -> Result<(), Error> {
    let from = next_offset(sink.progress(), number);
    sink.write(&rows(number, from, until))?;
    sink.write_rejected(&rejected(number, from, until))?;
    sink.commit(epoch(&[(number, span(from, until))])).map(|_| ())
}

#[test]
fn a_version_binds_files_and_offsets() {
    let dir = tempfile::tempdir().unwrap();
    feed(&mut *open(dir.path()), 20).unwrap();
    let created = actions(dir.path(), 0);
    let protocol = created.iter().find_map(|action| action.get("protocol")).unwrap();
    assert_eq!(protocol["minReaderVersion"], 1, "every reader must be able to read it");
    let version = actions(dir.path(), 1);
    let all = |name: &str| -> Vec<Value> {
        version.iter().filter_map(|action| action.get(name)).cloned().collect()
    };
    let mut txns: Vec<_> =
        all("txn").iter().map(|txn| (txn["appId"].to_string(), txn["version"].clone())).collect();
    txns.sort_by(|a, b| a.0.cmp(&b.0));
    let app = |number| format!("\"puddle:{OWNER}:{}:{number}\"", common::TOPIC);
    assert_eq!(txns, [(app(0), 20.into()), (app(1), 20.into())]);
    let added: u64 = all("add")
        .iter()
        .map(|add| {
            assert!(add["dataChange"].as_bool().unwrap());
            let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
            stats["numRecords"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(added, common::expected(20).len() as u64);
    assert_eq!(all("commitInfo").len(), 1);
    assert_exact(dir.path(), 20, "read back");
}

#[test]
fn hostile_values_stay_inside_the_table_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    // Blanks and the like in the lake's own path, too.
    let lake_dir = dir.path().join("a lake #1?=ü");
    let long = "x".repeat(300);
    let values =
        ["../../x", "..", "/etc/passwd", "%2e%2e/", "a\0b", "a\nb", "a=b", "~", "*", "Zürich 東京", &long];
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(values));
    let batch = RecordBatch::try_from_iter([("n", numbers), ("key", keys)]).unwrap();
    let mut sink = puddle_sink::open(&lake_dir, &fast(), batch.schema(), OWNER).unwrap();
    sink.write(&batch).unwrap();
    let records = values.len() as u64;
    let span = Span { records, written: records, filtered: 0, rejected: 0, ..span(0, values.len() as i64) };
    sink.commit(epoch(&[(0, span)])).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something left the lake");
    let table = lake::table(&lake_dir, "t").unwrap();
    let mut found: Vec<String> = table.files.iter().map(|file| file.partition[0].clone().unwrap()).collect();
    found.sort();
    let mut values = values.map(str::to_owned);
    values.sort();
    assert_eq!(found, values);
    assert_eq!(lake::check(&lake_dir, "t").unwrap(), Vec::<String>::new());
}

#[test]
fn a_table_keeps_its_kind() {
    for (first, second) in [(SinkKind::Parquet, SinkKind::Delta), (SinkKind::Delta, SinkKind::Parquet)] {
        let dir = tempfile::tempdir().unwrap();
        let of = |kind| SinkConfig { kind, ..fast() };
        feed(&mut *puddle_sink::open(dir.path(), &of(first), schema(), OWNER).unwrap(), 20).unwrap();
        let error = refusal(dir.path(), &of(second));
        assert!(matches!(error, Error::Kind { .. }) && error.is_usage(), "{error}");
        assert!(error.to_string().contains(&format!("kind = \"{first}\", not \"{second}\"")), "{error}");
        feed(&mut *puddle_sink::open(dir.path(), &of(first), schema(), OWNER).unwrap(), 30).unwrap();
    }
}

#[test]
fn other_partition_columns_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    feed(&mut *open(dir.path()), 20).unwrap();
    let error = refusal(dir.path(), &SinkConfig { partition_by: vec!["text".to_owned()], ..fast() });
    assert!(error.is_usage() && error.to_string().contains("[\"key\"], not by [\"text\"]"), "{error}");
}

#[test]
fn a_folder_that_is_no_table_of_puddle_is_refused_and_left_alone() {
    for name in ["t/key=a/theirs.parquet", "t.rejected/theirs.parquet"] {
        let dir = tempfile::tempdir().unwrap();
        let stranger = dir.path().join(name);
        fs::create_dir_all(stranger.parent().unwrap()).unwrap();
        fs::write(&stranger, "theirs").unwrap();
        let error = refusal(dir.path(), &fast());
        assert!(matches!(&error, Error::Foreign { .. }) && error.is_usage(), "{error}");
        assert_eq!(fs::read(&stranger).unwrap(), b"theirs");
    }
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("t/_delta_log");
    fs::create_dir_all(&log).unwrap();
    let theirs = [
        r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#,
        r#"{"metaData":{"id":"x","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[]}","partitionColumns":[],"configuration":{},"createdTime":1}}"#,
    ];
    fs::write(log.join("00000000000000000000.json"), theirs.join("\n")).unwrap();
    let error = refusal(dir.path(), &fast());
    assert!(matches!(&error, Error::Foreign { path } if path.ends_with("t")), "{error}");
}

#[test]
fn columns_that_delta_does_not_have_are_refused_before_the_lake_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let column: ArrayRef = Arc::new(UInt32Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("key", schema_key()), ("count", column)]).unwrap();
    let Err(error) = puddle_sink::open(&dir.path().join("lake"), &fast(), batch.schema(), OWNER) else {
        panic!("it was opened")
    };
    assert!(error.is_usage() && error.to_string().contains("\"count\""), "{error}");
    assert!(!dir.path().join("lake").exists());
}

fn schema_key() -> ArrayRef {
    Arc::new(StringArray::from(vec!["a"]))
}

#[test]
fn a_lake_that_the_kernel_cannot_name_is_refused_before_it_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let error = refusal(&dir.path().join("100%"), &fast());
    assert!(error.is_usage() && error.to_string().contains("100%"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_column_that_is_added_is_null_in_older_files() {
    let dir = tempfile::tempdir().unwrap();
    feed(&mut *open(dir.path()), 10).unwrap();
    // In the midst, as when a table without SQL ends with its metadata columns.
    let mut fields: Vec<Field> = schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.insert(1, Field::new("added", DataType::Int64, true));
    let wider = Arc::new(Schema::new(fields));
    let mut sink = puddle_sink::open(dir.path(), &fast(), wider.clone(), OWNER).unwrap();
    let batch = rows(0, 10, 20);
    let mut columns = batch.columns().to_vec();
    columns.insert(1, Arc::new(Int64Array::from(vec![7; batch.num_rows()])));
    sink.write(&RecordBatch::try_new(wider.clone(), columns).unwrap()).unwrap();
    sink.write_rejected(&rejected(0, 10, 20)).unwrap();
    sink.commit(epoch(&[(0, span(10, 20))])).unwrap();
    drop(sink);
    let table = lake::table(dir.path(), "t").unwrap();
    assert!(table.schema.field_with_name("added").unwrap().is_nullable());
    let with = table.files.iter().flat_map(|file| common::read_file(&file.path));
    assert_eq!(
        with.filter(|batch| batch.column_by_name("added").is_some()).map(|b| b.num_rows()).sum::<usize>(),
        batch.num_rows()
    );
    let schema_of = |version| {
        let actions = actions(dir.path(), version);
        actions.iter().find_map(|action| Some(action.get("metaData")?["schemaString"].to_string()))
    };
    assert!(schema_of(2).unwrap().contains("added"), "in the same version as its rows");
    assert!(matches!(refusal(dir.path(), &fast()), Error::Schema { .. }));
    drop(puddle_sink::open(dir.path(), &fast(), wider, OWNER).unwrap());
}

#[test]
fn checkpoints_keep_an_open_short_and_no_version_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path());
    feed(&mut *sink, 20).unwrap();
    let last = 20 + 2 * i64::try_from(CHECKPOINT_EVERY).unwrap();
    for offset in 20..last {
        sink.commit(epoch(&[(0, idle(offset)), (1, idle(offset))])).unwrap();
    }
    drop(sink);
    let names: Vec<String> = files(&dir.path().join("t/_delta_log"))
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let count = |end: &str| names.iter().filter(|name| name.ends_with(end)).count();
    assert_eq!(count(".checkpoint.parquet"), 2, "{names:?}");
    assert_eq!(count(".json") as u64, 2 * CHECKPOINT_EVERY + 2, "{names:?}");
    assert_eq!(lake::history(dir.path(), "t").unwrap().count() as u64, 2 * CHECKPOINT_EVERY + 1);
    // What is read from the checkpoint is what was written before it: with versions before it out of the way.
    for version in 2..=CHECKPOINT_EVERY {
        fs::remove_file(dir.path().join(format!("t/_delta_log/{version:020}.json"))).unwrap();
    }
    let sink = open(dir.path());
    assert_eq!((next_offset(sink.progress(), 0), next_offset(sink.progress(), 1)), (last, last));
    assert_eq!(sink.progress()[&partition(0)].last, span(0, 20).last);
    assert_eq!(read(dir.path()), common::expected(20));
}

#[test]
fn writers_at_the_same_time_lose_and_double_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        for number in 0..2 {
            let (dir, start) = (dir.path(), &start);
            scope.spawn(move || {
                let mut sink = open(dir);
                start.wait();
                for until in (10..=200).step_by(10) {
                    work(&mut *sink, number, until).unwrap();
                    if until % 50 == 0 {
                        sink.reload().unwrap();
                    }
                }
            });
        }
    });
    assert_exact(dir.path(), 200, "two writers");
    assert_eq!(lake::history(dir.path(), "t").unwrap().count(), 40);
}

/// Fault matrix 22.
#[test]
fn a_writer_that_slept_through_anothers_commits_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut zombie = open(dir.path());
    zombie.write(&rows(0, 0, 10)).unwrap();
    zombie.write_rejected(&rejected(0, 0, 10)).unwrap();
    let mut heir = open(dir.path());
    for until in [20, 40, 60] {
        feed(&mut *heir, until).unwrap();
    }
    let error = zombie.commit(epoch(&[(0, span(0, 10))])).unwrap_err();
    assert!(matches!(error, Error::Stale { from: 0, found: 60, .. }), "{error}");
    zombie.abort().unwrap();
    drop((zombie, heir));
    assert_exact(dir.path(), 60, "the zombie's rows");
    assert_eq!(
        files(&dir.path().join("t")).iter().filter(|path| path.extension().unwrap() == "parquet").count(),
        lake::table(dir.path(), "t").unwrap().files.len(),
        "the zombie's files are still there"
    );
}

#[test]
fn a_version_that_another_tool_cleaned_away_is_not_taken_for_free() {
    let dir = tempfile::tempdir().unwrap();
    let mut behind = open(dir.path());
    feed(&mut *behind, 20).unwrap();
    let mut ahead = open(dir.path());
    for offset in 20..20 + i64::try_from(CHECKPOINT_EVERY).unwrap() {
        ahead.commit(epoch(&[(0, idle(offset))])).unwrap();
    }
    let path = |version: u64| dir.path().join(format!("t/_delta_log/{version:020}.json"));
    for version in 0..5 {
        fs::remove_file(path(version)).unwrap();
    }
    work(&mut *behind, 1, 40).unwrap_err();
    assert!(!path(2).exists(), "two versions of one number");
    assert_eq!(lake::progress(dir.path(), "t").unwrap()[&partition(1)].next, 20);
}

#[test]
fn nobody_sweeps_what_another_is_writing() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let tiny = SinkConfig { buffer_bytes: 1, ..fast() };
    let mut writer = DeltaSink::open(dir.path(), &tiny, schema(), OWNER, faults.arc()).unwrap();
    writer.write(&rows(0, 0, 20)).unwrap();
    writer.write_rejected(&rejected(0, 0, 20)).unwrap();
    let staged = files(&dir.path().join(".puddle/t/staging"));
    assert!(!staged.is_empty());
    let mut other = open(dir.path());
    other.reload().unwrap();
    assert_eq!(files(&dir.path().join(".puddle/t/staging")), staged);
    writer.commit(epoch(&[(0, span(0, 20))])).unwrap();
    work(&mut *other, 1, 20).unwrap();
    // One that ended leaves what it staged to whoever comes next.
    writer.write(&rows(0, 20, 40)).unwrap();
    drop(writer);
    assert!(!files(&dir.path().join(".puddle/t/staging")).is_empty());
    other.reload().unwrap();
    assert!(files(&dir.path().join(".puddle/t/staging")).is_empty());
    drop(other);
    assert_exact(dir.path(), 20, "after the sweep");
}

#[test]
fn a_file_is_run_again_by_one_writer_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut sinks = [open(dir.path()), open(dir.path())];
    feed(&mut *sinks[0], 20).unwrap();
    sinks[1].reload().unwrap();
    let there = lake::table(dir.path(), "t.rejected").unwrap().files;
    let paths = [there[0].path.clone()];
    let records = there[0].rows;
    let again = Retried { records, written: 0, filtered: records, rejected: 0 };
    let retry = || Epoch { retried: [(partition(0), again)].into(), ..Epoch::default() };
    for sink in &mut sinks {
        sink.retry(&paths).unwrap();
    }
    sinks[0].commit(retry()).unwrap();
    let error = sinks[1].commit(retry()).unwrap_err();
    assert!(matches!(&error, Error::NotRejected { path, .. } if *path == paths[0]), "{error}");
    sinks[1].abort().unwrap();
    assert!(matches!(sinks[1].retry(&paths), Err(Error::NotRejected { .. })));
    assert_eq!(lake::table(dir.path(), "t.rejected").unwrap().rows, 0);
    assert!(!paths[0].exists());
    feed(&mut *sinks[1], 40).unwrap();
    assert_eq!(lake::check(dir.path(), "t").unwrap(), Vec::<String>::new());
}

/// Fault matrix 36.
#[test]
fn a_version_that_is_torn_or_garbage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path());
    feed(&mut *sink, 20).unwrap();
    feed(&mut *sink, 40).unwrap();
    drop(sink);
    let before = files(dir.path());
    for version in [1, 2] {
        let path = dir.path().join(format!("t/_delta_log/{version:020}.json"));
        let whole = fs::read_to_string(&path).unwrap();
        let mut damaged: Vec<Vec<u8>> =
            vec![whole.as_bytes()[..whole.len() / 2].to_vec(), b"garbage".to_vec()];
        damaged.extend([Vec::new(), vec![0xff; 40], whole.replace("written", "writtem").into_bytes()]);
        let lines: Vec<&str> = whole.lines().collect();
        let without = |gone: &str| {
            let line = lines.iter().rposition(|line| line.starts_with(gone)).unwrap();
            let kept = lines.iter().enumerate().filter(|(number, _)| *number != line);
            kept.map(|(_, line)| format!("{line}\n")).collect::<String>().into_bytes()
        };
        damaged.extend([without("{\"add\""), without("{\"txn\"")]);
        for (case, content) in damaged.iter().enumerate() {
            fs::write(&path, content).unwrap();
            let error = refusal(dir.path(), &fast());
            let is_named = matches!(&error, Error::Corrupt { path: named, .. } if *named == path);
            assert!(is_named, "version {version}, case {case}: {error}");
            if version == 2 {
                assert!(lake::table(dir.path(), "t").is_err() && lake::progress(dir.path(), "t").is_err());
            }
            assert_eq!(files(dir.path()).len(), before.len(), "data was touched");
        }
        fs::write(&path, &whole).unwrap();
    }
    drop(open(dir.path()));
    assert_exact(dir.path(), 40, "restored");
}

#[test]
fn a_committed_file_that_is_gone_or_changed_is_told() {
    let dir = tempfile::tempdir().unwrap();
    feed(&mut *open(dir.path()), 20).unwrap();
    let path = lake::table(dir.path(), "t").unwrap().files[0].path.clone();
    let mut content = fs::read(&path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&path, &content).unwrap();
    let told = lake::check(dir.path(), "t").unwrap();
    assert!(told.len() == 1 && told[0].contains("does not hold the bytes"), "{told:?}");
    fs::remove_file(&path).unwrap();
    let told = lake::check(dir.path(), "t").unwrap();
    assert!(told.len() == 1 && told[0].contains(&path.display().to_string()), "{told:?}");
}
