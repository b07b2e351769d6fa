//! Rejected records of a table that was filled without a broker: what comes back, and what stays.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::Int64Type;
use puddle_ingest::format::Decoder;
use puddle_ingest::raw::RawBatch;
use puddle_sink::{Epoch, Retried, Span, lake};
use puddle_types::{Offset, Progress, TopicPartition, metadata};

use super::*;
use crate::{Error, Pipeline, ask, prepare};

const STRICT: &str = "schema = { id = \"int64 not null\" }";
const MENDED: &str = "schema = { id = \"int64\", name = \"string\" }";

/// A pipeline folder with a lake in it.
struct Bench {
    folder: tempfile::TempDir,
    kind: &'static str,
}

/// One for each kind of table.
fn benches() -> [Bench; 2] {
    [Bench::new("parquet"), Bench::new("delta")]
}

impl Bench {
    fn new(kind: &'static str) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), kind }
    }

    fn lake(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    /// The pipeline with this schema, SQL and rows of a commit.
    fn pipeline(&self, schema: &str, sql: &str, rows: u64) -> Pipeline {
        let kind = self.kind;
        let text = format!(
            "name = \"p\"\n[ingest]\ntopics = [\"t\"]\n{schema}\n[transform]\nsql = \"t.sql\"\n[sink]\ntable = \
             \"t\"\nkind = \"{kind}\"\ndurable = false\n[commit]\nrows = {rows}\n"
        );
        std::fs::write(self.folder.path().join("pipeline.toml"), text).unwrap();
        std::fs::write(self.folder.path().join("t.sql"), sql).unwrap();
        Pipeline::load(self.folder.path(), &[], &[]).unwrap()
    }

    /// Commits these values of partition 0 and 1, in turn, as a run would; SQL that fails is for a broker to test.
    fn run(&self, pipeline: &Pipeline, values: &[Option<&[u8]>]) {
        let (mut transform, schema) = prepare::without_broker(pipeline).unwrap();
        let mut decoder = Decoder::new(&pipeline.ingest, &schema).unwrap();
        let columns = transform.output_schema();
        let mut sink = puddle_sink::open(&self.lake(), &pipeline.sink, columns, &pipeline.name).unwrap();
        let mut partitions = BTreeMap::new();
        for number in 0..2 {
            let partition = TopicPartition::new("t", number);
            let from = sink.progress().get(&partition).map_or(0, |position| position.next);
            let mut raw = RawBatch::new(partition.clone(), 0, from);
            for (i, value) in values.iter().skip(number as usize).step_by(2).enumerate() {
                raw.push(from + i as Offset, Some(1_357_000_000_000 + i as i64), Some(b"key"), *value);
            }
            let batch = decoder.decode(&raw).unwrap();
            let rows = transform.apply(&batch.rows).unwrap();
            sink.write(&rows).unwrap();
            sink.write_rejected(&batch.rejected).unwrap();
            let (written, rejected) = (rows.num_rows() as u64, batch.rejected.num_rows() as u64);
            let records = raw.len() as u64;
            let filtered = records - written - rejected;
            let span = Span { from, next: raw.next, last: batch.last, records, written, filtered, rejected };
            partitions.insert(partition, span);
        }
        sink.commit(Epoch { partitions, ..Epoch::default() }).unwrap();
    }

    fn retry(&self, pipeline: &Pipeline) -> Result<Outcome, Error> {
        self.retry_watched(pipeline, Arc::default())
    }

    fn retry_watched(&self, pipeline: &Pipeline, watch: Arc<Watch>) -> Result<Outcome, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(retry(pipeline, &self.lake(), watch))
    }

    fn list(&self, pipeline: &Pipeline, selection: Selection) -> Listing {
        list(pipeline, &self.lake(), &Selection { limit: 100, bytes: 100, ..selection }).unwrap()
    }

    /// Partition and offset of each record in a table, sorted; each must be there once.
    fn places(&self, table: &str) -> Vec<(i64, i64)> {
        let sql =
            format!("SELECT CAST(_partition AS BIGINT) AS p, _offset AS o FROM \"{table}\" ORDER BY p, o");
        let rows = ask(&self.lake(), &sql).unwrap();
        let column = |batch: &RecordBatch, i| batch.column(i).as_primitive::<Int64Type>().values().to_vec();
        let places: Vec<_> =
            rows.iter().flat_map(|batch| column(batch, 0).into_iter().zip(column(batch, 1))).collect();
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{table} has a record twice: {places:?}");
        places
    }

    fn progress(&self) -> Progress {
        lake::progress(&self.lake(), "t").unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        lake::table(&self.lake(), "t.rejected").unwrap().files.into_iter().map(|file| file.path).collect()
    }
}

const SQL: &str = "SELECT id, _partition, _offset FROM t WHERE id IS NULL OR id < 100";

fn lines(lines: &[&'static str]) -> Vec<Option<&'static [u8]>> {
    lines.iter().map(|line| Some(line.as_bytes())).collect()
}

fn outcome(records: u64, written: u64, filtered: u64, rejected: u64) -> [u64; 4] {
    [records, written, filtered, rejected]
}

fn counts(outcome: &Outcome) -> [u64; 4] {
    [outcome.records, outcome.written, outcome.filtered, outcome.rejected]
}

#[test]
fn what_fits_comes_back_what_is_left_out_is_counted_and_what_does_not_fit_stays() {
    for bench in benches() {
        let strict = bench.pipeline(STRICT, SQL, 1_000);
        bench.run(
            &strict,
            &lines(&[r#"{"id":1}"#, "{}", r#"{"id":null}"#, "nonsense", r#"{"id":500}"#, r#"{"id":"x"}"#]),
        );
        assert_eq!(bench.places("t"), [(0, 0)]);
        assert_eq!(bench.places("t.rejected"), [(0, 1), (1, 0), (1, 1), (1, 2)]);
        let progress = bench.progress();

        // Nothing is mended yet: nothing happens.
        let files = bench.files();
        let nothing = bench.retry(&strict).unwrap();
        assert_eq!((counts(&nothing), nothing.commits), (outcome(4, 0, 0, 4), 0));
        assert_eq!((bench.files(), bench.progress()), (files, progress.clone()));

        let mended = bench.pipeline(
            MENDED,
            "SELECT id, _partition, _offset FROM t WHERE _offset > 0 OR id > 0",
            1_000,
        );
        let first = bench.retry(&mended).unwrap();
        assert_eq!((counts(&first), first.commits), (outcome(4, 1, 1, 2), 1));
        assert_eq!(first.reasons.len(), 2, "{first:?}");
        assert_eq!(bench.places("t"), [(0, 0), (0, 1)]);
        assert_eq!(bench.places("t.rejected"), [(1, 1), (1, 2)]);
        assert_eq!(bench.progress(), progress, "offsets do not move");
        let second = bench.retry(&mended).unwrap();
        assert_eq!((counts(&second), second.commits), (outcome(2, 0, 0, 2), 0), "only what is left");
        assert_eq!(lake::check(&bench.lake(), "t").unwrap(), Vec::<String>::new());
    }
}

#[test]
fn records_come_back_by_a_schema_with_another_column() {
    for bench in benches() {
        bench.run(
            &bench.pipeline(STRICT, "SELECT id, _partition, _offset FROM t", 9),
            &lines(&[r#"{"name":"a"}"#; 4]),
        );
        let mended = bench.pipeline(MENDED, "SELECT id, name, _partition, _offset FROM t", 9);
        assert_eq!(counts(&bench.retry(&mended).unwrap()), outcome(4, 4, 0, 0));
        let rows = ask(&bench.lake(), "SELECT count(name) AS n FROM t WHERE id IS NULL").unwrap();
        assert_eq!(arrow::util::display::array_value_to_string(rows[0].column(0), 0).unwrap(), "4");
    }
}

#[test]
fn raw_values_keys_and_times_are_those_that_came() {
    for bench in benches() {
        let strict = bench.pipeline(STRICT, SQL, 9);
        let hostile: &[u8] = b"\x1b[31m\xff{";
        bench.run(&strict, &[Some(b"{}"), None, Some(hostile), Some(b"")]);
        // What does not fit is rewritten beside what does.
        let mended = bench.pipeline(MENDED, SQL, 9);
        assert_eq!(counts(&bench.retry(&mended).unwrap()), outcome(4, 1, 0, 3));
        let left = bench.list(&mended, Selection::default());
        let of = |number, offset| {
            let found = left.shown.iter().find(|r| (r.partition.partition, r.offset) == (number, offset));
            found.unwrap_or_else(|| panic!("{number}, {offset}: {left:?}")).clone()
        };
        assert_eq!(of(0, 1).value.unwrap().head, hostile);
        assert_eq!(of(1, 1).value.unwrap().head, b"", "empty is not none");
        let tombstone = of(1, 0);
        assert_eq!((tombstone.value, &*tombstone.reason), (None, "tombstone: the record has no value"));
        assert_eq!(of(0, 1).timestamp_ms, Some(1_357_000_000_001));
        assert_eq!(of(0, 1).key.unwrap().head, b"key");
    }
}

#[test]
fn a_record_that_the_sql_fails_on_keeps_its_value_and_one_whose_value_is_gone_its_reason() {
    for bench in benches() {
        let schema = "schema = { id = \"string\" }";
        let failing = "SELECT CAST(id AS BIGINT) AS id, _partition, _offset FROM t";
        let pipeline = bench.pipeline(schema, failing, 9);
        bench.run(&pipeline, &lines(&[r#"{"id":"1"}"#, r#"{"id":"2"}"#]));
        // Two records that the SQL failed on, as a run stores them; the value of the second was gone when it looked.
        let values = BinaryArray::from(vec![Some(&br#"{"id":"seven"}"#[..]), None]);
        let batch = RecordBatch::try_new(
            Arc::new(arrow::datatypes::Schema::new(metadata::fields())),
            vec![
                Arc::new(StringArray::from(vec!["t"; 2])) as ArrayRef,
                Arc::new(Int32Array::from(vec![0; 2])),
                Arc::new(Int64Array::from(vec![1, 2])),
                Arc::new(TimestampMillisecondArray::from(vec![5; 2]).with_timezone("UTC")),
                Arc::new(BinaryArray::from(vec![None; 2])),
            ],
        );
        let failed = [0, 1].map(|row| puddle_transform::Rejected { row, reason: "cast failed".to_owned() });
        let rejected = by_sql::rejected_rows(&batch.unwrap(), &failed, &values, |i| {
            arrow::array::Array::is_null(&values, i)
        });
        let (transform, _) = prepare::without_broker(&pipeline).unwrap();
        let mut sink =
            puddle_sink::open(&bench.lake(), &pipeline.sink, transform.output_schema(), "p").unwrap();
        sink.write_rejected(&rejected).unwrap();
        let span = Span { from: 1, next: 3, last: None, records: 2, written: 0, filtered: 0, rejected: 2 };
        let partitions = BTreeMap::from([(TopicPartition::new("t", 0), span)]);
        sink.commit(Epoch { partitions, ..Epoch::default() }).unwrap();
        drop(sink);

        assert_eq!(counts(&bench.retry(&pipeline).unwrap()), outcome(2, 0, 0, 2));
        let forgiving = bench.pipeline(schema, &failing.replace("CAST", "TRY_CAST"), 9);
        let back = bench.retry(&forgiving).unwrap();
        assert_eq!((counts(&back), back.commits), (outcome(2, 1, 0, 1), 1));
        assert_eq!(bench.places("t"), [(0, 0), (0, 1), (1, 0)]);
        let left = bench.list(&forgiving, Selection::default());
        assert_eq!(left.shown.len(), 1);
        assert_eq!(left.shown[0].value, None);
        assert_eq!(left.shown[0].reason, "cast failed; its value is no longer in the topic");
    }
}

#[test]
fn a_record_that_the_sql_fails_on_again_is_kept_whole() {
    for bench in benches() {
        let sql = "SELECT CAST(id AS BIGINT) AS id, _partition, _offset FROM t";
        let values = lines(&[r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":"x"}"#, r#"{"id":"4"}"#]);
        bench.run(&bench.pipeline("schema = { id = \"int64\" }", sql, 9), &values);
        let mended = bench.pipeline(
            "schema = { id = \"json\" }",
            &sql.replace("(id AS", "(REPLACE(id, '\"', '') AS"),
            9,
        );
        assert_eq!(counts(&bench.retry(&mended).unwrap()), outcome(2, 1, 0, 1));
        let left = bench.list(&mended, Selection::default());
        assert_eq!(left.shown[0].value.as_ref().unwrap().head, br#"{"id":"x"}"#);
        assert!(!left.shown[0].reason.contains("expected int64"), "a new reason: {left:?}");
    }
}

#[test]
fn many_files_come_back_in_portions() {
    for bench in benches() {
        let strict = bench.pipeline(STRICT, SQL, 1_000);
        for _ in 0..7 {
            bench.run(&strict, &lines(&["{}"; 10]));
        }
        let mended = bench.pipeline(MENDED, SQL, 20);
        let stopped = Arc::new(Watch::default());
        stopped.stop.store(true, Ordering::Relaxed);
        let outcome_of_none = bench.retry_watched(&mended, stopped).unwrap();
        assert_eq!((counts(&outcome_of_none), outcome_of_none.left), (outcome(0, 0, 0, 0), 70));
        let watch = Arc::new(Watch::default());
        let all = bench.retry_watched(&mended, watch.clone()).unwrap();
        assert_eq!((counts(&all), all.commits), (outcome(70, 70, 0, 0), 4), "two files a commit");
        assert_eq!((watch.whole.load(Ordering::Relaxed), watch.done.load(Ordering::Relaxed)), (70, 70));
        assert_eq!((bench.places("t").len(), bench.files().len()), (70, 0));
        assert_eq!(counts(&bench.retry(&mended).unwrap()), outcome(0, 0, 0, 0));
    }
}

#[test]
fn a_retry_needs_a_schema_a_table_and_a_table_that_nobody_writes() {
    let bench = Bench::new("parquet");
    let unknown = bench.pipeline("", SQL, 9);
    let error = bench.retry(&unknown).unwrap_err();
    assert!(matches!(error, Error::NoSchema { .. }) && error.is_usage(), "{error}");
    let strict = bench.pipeline(STRICT, SQL, 9);
    let error = bench.retry(&strict).unwrap_err();
    assert!(matches!(error, Error::Sink(puddle_sink::Error::NoTable { .. })) && error.is_usage(), "{error}");
    assert!(!bench.lake().exists(), "a refused retry makes no table");
    bench.run(&strict, &lines(&["{}"]));
    let (transform, _) = prepare::without_broker(&strict).unwrap();
    let sink = puddle_sink::open(&bench.lake(), &strict.sink, transform.output_schema(), "p").unwrap();
    let error = bench.retry(&strict).unwrap_err().to_string();
    assert!(error.contains("stop the run first") && error.contains("\"p\""), "{error}");
    assert_eq!(bench.list(&strict, Selection::default()).records, 1, "listing needs no lock");
    drop(sink);
    bench.retry(&strict).unwrap();
}

#[test]
fn a_listing_counts_and_shows_what_was_asked_for() {
    for bench in benches() {
        let strict = bench.pipeline(STRICT, SQL, 9);
        bench.run(&strict, &lines(&[r#"{"id":"x"}"#, "{}", r#"{"id":"yy"}"#, "nonsense"]));
        bench.run(&strict, &lines(&[r#"{"id":1}"#, r#"{"id":"\u001b[31m"}"#]));
        let all = bench.list(&strict, Selection::default());
        assert_eq!((all.records, all.selected, all.shown.len(), &*all.table), (5, 5, 5, "t.rejected"));
        assert_eq!((all.reasons[0].records, all.reasons.len()), (3, 3), "{all:?}");
        let numbers: Vec<(i32, u64)> =
            all.partitions.iter().map(|p| (p.partition.partition, p.records)).collect();
        assert_eq!(numbers, [(0, 2), (1, 3)]);
        // By timestamp: those of the second commit began anew, and so did each partition.
        let times: Vec<Option<i64>> = all.shown.iter().map(|record| record.timestamp_ms).collect();
        assert!(times.windows(2).all(|pair| pair[0] >= pair[1]), "{times:?}");

        let selected = |selection| {
            let found = bench.list(&strict, selection);
            let places: Vec<_> = found.shown.iter().map(|r| (r.partition.partition, r.offset)).collect();
            (found.records, found.selected, places)
        };
        let by_reason =
            Selection { reason: Some("EXPECTED int64, found".to_owned()), ..Selection::default() };
        assert_eq!(selected(by_reason).1, 0, "the reason says `int64 not null`");
        let by_reason = Selection { reason: Some("NOT json".to_owned()), ..Selection::default() };
        assert_eq!(selected(by_reason), (5, 1, vec![(1, 1)]));
        let at = Selection { partition: Some(0), offset: Some(1), ..Selection::default() };
        assert_eq!(selected(at), (5, 1, vec![(0, 1)]));
        let two =
            list(&strict, &bench.lake(), &Selection { limit: 2, bytes: 3, ..Selection::default() }).unwrap();
        assert_eq!((two.selected, two.shown.len()), (5, 2));
        let value = two.shown[0].value.as_ref().unwrap();
        assert!(value.head.len() == 3 && value.length > 3, "{value:?}");
    }
}

#[test]
fn a_retry_of_a_large_table_has_each_record_once() {
    for bench in benches() {
        let strict = bench.pipeline(STRICT, SQL, 100_000);
        // More than one chunk of records and of rows read at once, and every third fits when it is mended.
        let values: Vec<Option<&[u8]>> =
            (0..40_000).map(|i| Some(if i % 3 == 0 { &b"{}"[..] } else { &b"nonsense"[..] })).collect();
        bench.run(&strict, &values);
        let mended = bench.pipeline(MENDED, SQL, 100_000);
        assert_eq!(counts(&bench.retry(&mended).unwrap()), outcome(40_000, 13_334, 0, 26_666));
        assert_eq!((bench.places("t").len(), bench.places("t.rejected").len()), (13_334, 26_666));
        let sum: Retried =
            lake::history(&bench.lake(), "t").unwrap().fold(Retried::default(), |mut sum, commit| {
                for again in commit.unwrap().retried {
                    sum.records += again.retried.records;
                    sum.written += again.retried.written;
                }
                sum
            });
        assert_eq!((sum.records, sum.written), (40_000, 13_334));
    }
}

#[test]
fn a_listing_begins_anew_when_a_retry_takes_its_files_away() {
    let bench = Bench::new("parquet");
    bench.run(&bench.pipeline(STRICT, SQL, 9), &lines(&["{}"; 4]));
    let mut attempts = 0;
    let mut files = |times: u32| {
        attempts += 1;
        let mut files = lake::table(&bench.lake(), "t.rejected")?.files;
        if attempts <= times {
            files[0].path.set_extension("gone");
        }
        Ok(files)
    };
    assert_eq!(list::list_files(&Selection::default(), || files(2)).unwrap().selected, 4);
    let error = list::list_files(&Selection::default(), || files(u32::MAX)).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "it does not try for ever: {error}");
}

#[test]
fn two_retries_at_a_time_of_a_table_with_several_writers_have_each_record_once() {
    let bench = Bench::new("delta");
    let strict = bench.pipeline(STRICT, SQL, 1_000);
    for _ in 0..8 {
        bench.run(&strict, &lines(&["{}", "nonsense", "{}", "{}"]));
    }
    let mended = bench.pipeline(MENDED, SQL, 5);
    let outcomes = std::thread::scope(|scope| {
        let retries = [(), ()].map(|()| scope.spawn(|| bench.retry(&mended).unwrap()));
        retries.map(|retry| retry.join().unwrap())
    });
    // What one of them could not do, as the other did it, neither counts.
    assert_eq!(outcomes.iter().map(|outcome| outcome.written).sum::<u64>(), 24, "{outcomes:?}");
    assert_eq!((bench.places("t").len(), bench.places("t.rejected").len()), (24, 8));
    assert_eq!(counts(&bench.retry(&mended).unwrap()), outcome(8, 0, 0, 8));
}

#[test]
fn a_file_that_is_gone_for_no_reason_is_an_error() {
    let bench = Bench::new("parquet");
    let strict = bench.pipeline(STRICT, SQL, 9);
    bench.run(&strict, &lines(&["{}"; 2]));
    std::fs::remove_file(&bench.files()[0]).unwrap();
    let error = bench.retry(&bench.pipeline(MENDED, SQL, 9)).unwrap_err();
    assert!(matches!(&error, Error::Read { .. }), "{error}");
}
