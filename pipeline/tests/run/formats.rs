//! Each format through a whole run: rows, rejected records, and records that are run again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use puddle_pipeline::rejected::{Outcome, Watch, retry};
use puddle_pipeline::{Error, ask};
use puddle_testkit::registry::Fault;
use puddle_testkit::{Embedded, Record, SchemaRegistry, produce, topics, unique};

use crate::suite::Bench;

/// A topic of one partition on a broker of its own.
struct Topic {
    broker: Embedded,
    name: String,
}

impl Topic {
    fn new<R: Into<Record>>(records: impl IntoIterator<Item = R>) -> Self {
        let broker = Embedded::start();
        let name = unique("formats");
        topics::create(&broker.brokers(), &name, 1);
        produce(&broker.brokers(), &name, records);
        Self { broker, name }
    }

    /// A pipeline for the topic, with these lines in its `[ingest]` table, and this SQL, or every column.
    fn bench(&self, ingest: &str, sql: Option<&str>) -> Bench {
        let bench = Bench::new(&self.broker.brokers(), std::slice::from_ref(&self.name), "rows = 1000");
        let file = bench.folder.path().join("pipeline.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("schema = ")).collect();
        let mut text = kept.join("\n").replace("[ingest]\n", &format!("[ingest]\n{ingest}\n"));
        match sql {
            Some(sql) => {
                let sql = sql.replace("STREAM", &self.name);
                std::fs::write(bench.folder.path().join("t.sql"), sql).unwrap();
            }
            None => text = text.replace("[transform]\nsql = \"t.sql\"\n", ""),
        }
        std::fs::write(file, text).unwrap();
        bench.set(&[])
    }
}

/// A column as text, and `-` for null.
fn column(lake: &Path, sql: &str) -> Vec<String> {
    let mut values = Vec::new();
    for batch in ask(lake, sql).unwrap() {
        let text = cast(batch.column(0), &DataType::Utf8).unwrap();
        values.extend(text.as_string::<i32>().iter().map(|value| value.unwrap_or("-").to_owned()));
    }
    values
}

fn run_again(bench: &Bench) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(retry(&bench.pipeline, &bench.lake(), Arc::new(Watch::default()))).unwrap()
}

#[test]
fn embedded_reads_lines_of_csv_and_runs_rejected_ones_again() {
    let topic = Topic::new(["EWR,5,\"a,b\"", "JFK,x,", "LGA,7,\r\n", "SFO"]);
    let bench =
        topic.bench("format = 'csv'\nschema = { origin = 'string', n = 'int64', note = 'string' }", None);
    let summary = bench.catch_up().unwrap();
    assert_eq!((summary.written, summary.rejected), (2, 2));
    assert_eq!(column(&bench.lake(), "SELECT note FROM t ORDER BY _offset"), ["a,b", "-"]);
    let reasons = column(&bench.lake(), "SELECT _reason FROM \"t.rejected\" ORDER BY _offset");
    assert_eq!(reasons, ["field `n`: expected int64, found string \"x\"", "1 of 3 fields"]);
    bench.assert_exact(4);

    let bench = bench.set(&["ingest.csv={null=\"x\"}"]);
    let outcome = run_again(&bench);
    assert_eq!((outcome.written, outcome.rejected), (1, 1));
    assert_eq!(column(&bench.lake(), "SELECT n FROM t ORDER BY _offset"), ["5", "-", "7"]);
    bench.assert_exact(4);
}

#[test]
fn embedded_keeps_bytes_as_they_are() {
    let records = [Record::new(*b"\xff\x00"), Record::tombstone("k"), Record::new(""), Record::new("12")];
    let topic = Topic::new(records);
    let bench = topic.bench("format = 'bytes'", None);
    assert_eq!(bench.catch_up().unwrap().written, 4);
    let rows = ask(&bench.lake(), "SELECT value, _key FROM t ORDER BY _offset").unwrap();
    let values = cast(rows[0].column(0), &DataType::Binary).unwrap();
    let expected: [Option<&[u8]>; 4] = [Some(b"\xff\x00"), None, Some(b""), Some(b"12")];
    assert_eq!(values.as_binary::<i32>().iter().collect::<Vec<_>>(), expected);
    assert!(!bench.folder.path().join("schema.json").exists());
    bench.assert_exact(4);
}

/// A tombstone has no value that could be gone.
#[test]
fn embedded_rejects_by_sql_what_bytes_it_fails_on() {
    let topic = Topic::new([Record::new("12"), Record::tombstone("k"), Record::new("x")]);
    let sql = "SELECT CAST(COALESCE(line, 'none') AS BIGINT) AS n, _partition, _offset FROM \"STREAM\"";
    let bench = topic.bench("format = 'bytes'\nschema = { line = 'string' }", Some(sql));
    let summary = bench.catch_up().unwrap();
    assert_eq!((summary.written, summary.rejected), (1, 2));
    let reasons = column(&bench.lake(), "SELECT _reason FROM \"t.rejected\"");
    assert!(reasons.iter().all(|reason| !reason.contains("no longer in the topic")), "{reasons:?}");
    bench.assert_exact(3);
}

/// A record of the fields `n: long` and, in the second version, `note: string`.
fn framed(id: u32, n: u8, note: Option<&str>) -> Vec<u8> {
    let note = note.map(|note| [&[2 * note.len() as u8], note.as_bytes()].concat());
    [&[0][..], &id.to_be_bytes(), &[2 * n], &note.unwrap_or_default()].concat()
}

const FIRST: &str = r#"{"type":"record","name":"R","fields":[{"name":"n","type":"long"}]}"#;
const SECOND: &str =
    r#"{"type":"record","name":"R","fields":[{"name":"n","type":"long"},{"name":"note","type":"string"}]}"#;

fn avro(registry: &SchemaRegistry) -> String {
    format!("format = 'avro'\nregistry = {{ url = '{}' }}", registry.url())
}

#[test]
fn embedded_reads_avro_by_the_registry_and_what_it_did_not_know_again() {
    let registry = SchemaRegistry::start();
    let unknown = framed(3, 4, None);
    let records = [framed(1, 1, None), framed(2, 2, Some("x")), unknown, b"{}".to_vec()];
    let topic = Topic::new(records);
    let subject = format!("{}-value", topic.name);
    registry.register(&subject, FIRST);
    let bench = topic.bench(&avro(&registry), None);
    registry.register("other", SECOND);
    let summary = bench.catch_up().unwrap();
    assert_eq!((summary.written, summary.rejected), (2, 2));
    let pinned = std::fs::read_to_string(bench.folder.path().join("schema.json")).unwrap();
    assert_eq!(serde_json::from_str::<BTreeMap<String, String>>(&pinned).unwrap()["n"], "int64");
    assert_eq!(column(&bench.lake(), "SELECT n FROM t ORDER BY _offset"), ["1", "2"]);
    bench.assert_exact(4);

    registry.register(&subject, FIRST);
    let outcome = run_again(&bench);
    assert_eq!((outcome.written, outcome.rejected), (1, 1));
    assert_eq!(column(&bench.lake(), "SELECT n FROM t ORDER BY _offset"), ["1", "2", "4"]);
    bench.assert_exact(4);
}

#[test]
fn embedded_waits_for_a_registry_and_loses_nothing_when_it_stays_away() {
    let registry = SchemaRegistry::start();
    let topic = Topic::new([framed(1, 1, None), framed(2, 2, None)]);
    let subject = format!("{}-value", topic.name);
    registry.register("other", FIRST);
    registry.register("other", FIRST);
    let bench = topic.bench(&format!("{}\nschema = {{ n = 'int64' }}", avro(&registry)), None);
    registry.register(&subject, FIRST);
    // The question for the newest schema at the start is answered, and that for the first id is not.
    registry.fail_after(1, Fault::Status(401), 1);
    let error = bench.catch_up().unwrap_err();
    assert!(!error.is_usage() && error.to_string().contains(&registry.url()), "{error}");
    assert!(matches!(error, Error::Ingest(puddle_ingest::Error::Registry { .. })), "{error:?}");

    registry.fail_after(1, Fault::Status(503), 2);
    let summary = bench.catch_up().unwrap();
    assert_eq!((summary.written, summary.rejected), (2, 0));
    assert_eq!(column(&bench.lake(), "SELECT n FROM t ORDER BY _offset"), ["1", "2"]);
    bench.assert_exact(2);
}
