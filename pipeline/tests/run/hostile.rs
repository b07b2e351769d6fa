//! Names and values that would break out of a path or of SQL, through a whole run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::DataType;
use puddle_pipeline::ask;
use puddle_sink::hive;
use puddle_testkit::{Embedded, produce, topics, unique};

use crate::suite::Bench;

/// A pipeline for a topic, with this schema, and this SQL in place of every column.
fn bench(broker: &Embedded, topic: &str, schema: &str, sql: Option<&str>, overrides: &[&str]) -> Bench {
    let bench = Bench::new(&broker.brokers(), &[topic.to_owned()], "rows = 1000");
    let file = bench.folder.path().join("pipeline.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("schema = ")).collect();
    let mut text = kept.join("\n");
    match sql {
        Some(sql) => std::fs::write(bench.folder.path().join("t.sql"), sql).unwrap(),
        None => text = text.replace("[transform]\nsql = \"t.sql\"\n", ""),
    }
    std::fs::write(file, format!("{text}\n[ingest.schema]\n{schema}\n")).unwrap();
    bench.set(overrides)
}

fn column(lake: &Path, sql: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    for batch in ask(lake, sql).unwrap() {
        let text = arrow::compute::cast(batch.column(0), &DataType::Utf8).unwrap();
        values.extend(text.as_string::<i32>().iter().map(|value| value.map(str::to_owned)));
    }
    values
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Fault matrix 45.
#[test]
fn embedded_hostile_partition_values_stay_inside_the_table() {
    let broker = Embedded::start();
    let topic = unique("hostile");
    topics::create(&broker.brokers(), &topic, 1);
    let mut values: Vec<String> = [
        "../../x",
        "..",
        ".",
        "/etc/passwd",
        "%2e%2e%2f",
        "a\0b",
        "a\nb",
        "a=b",
        "\u{202e}",
        "C:\\x",
        "~",
        "*",
    ]
    .map(str::to_owned)
    .to_vec();
    values.extend(["x".repeat(300), format!("{}y", "x".repeat(299)), "ü".repeat(300)]);
    let record = |value: &String| serde_json::json!({ "key": value }).to_string();
    produce(&broker.brokers(), &topic, values.iter().map(record));
    let bench = bench(&broker, &topic, "key = \"string\"", None, &["sink.partition_by=[\"key\"]"]);
    let before: BTreeSet<PathBuf> = files(bench.folder.path()).into_iter().collect();
    assert_eq!(bench.catch_up().unwrap().written, values.len() as u64);

    let lake = bench.lake();
    let mut data = 0;
    for file in files(bench.folder.path()).into_iter().filter(|file| !before.contains(file)) {
        let inside =
            file.strip_prefix(&lake).unwrap_or_else(|_| panic!("{} is not in the lake", file.display()));
        let parts: Vec<&str> = inside.iter().map(|part| part.to_str().unwrap()).collect();
        match parts[..] {
            [".puddle", "t", ..] => {}
            ["t", folder, _] => {
                assert!(folder.starts_with("key=") && folder.len() <= 255, "{folder:?}");
                data += 1;
            }
            _ => panic!("{inside:?} is neither data nor log of the table"),
        }
    }
    assert_eq!(data, values.len(), "each value has a folder of its own");
    // What does not fit a folder's name reads shortened; the commit log has it whole.
    let shown = |value: &String| hive::decode(&hive::encode("key", Some(value))).unwrap().1.unwrap();
    let mut values: Vec<String> = values.iter().map(shown).collect();
    values.sort();
    let read = column(&lake, "SELECT key FROM t");
    let mut read: Vec<String> = read.into_iter().map(Option::unwrap).collect();
    read.sort();
    assert_eq!(read, values);
    bench.assert_exact(values.len() as u64);
}

/// Names that SQL would take for something else.
const ODD: [&str; 6] = ["a\"b", "c`d", "e;DROP TABLE t", "f'g", "h--i", "SELECT"];

fn odd_schema() -> String {
    ODD.map(|name| format!("{name:?} = \"string\"")).join("\n")
}

/// Fault matrix 46.
#[test]
fn embedded_names_with_quotes_backticks_and_semicolons_are_names() {
    let broker = Embedded::start();
    // All that Kafka allows in a topic's name.
    let topic = unique("od-d.to_pic");
    topics::create(&broker.brokers(), &topic, 1);
    let object: serde_json::Map<String, serde_json::Value> =
        ODD.iter().enumerate().map(|(i, name)| ((*name).to_owned(), format!("value {i}").into())).collect();
    produce(&broker.brokers(), &topic, [serde_json::Value::Object(object).to_string()]);
    let quoted = ODD.map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
    let sql = format!("SELECT {}, _partition, _offset FROM \"{topic}\"", quoted.join(", "));
    for (sql, overrides) in [
        (None, &[][..]),
        (Some(&*sql), &[]),
        (Some(&*sql), &["sink.partition_by=[\"c`d\", \"e;DROP TABLE t\"]"]),
    ] {
        let bench = bench(&broker, &topic, &odd_schema(), sql, overrides);
        assert_eq!(bench.catch_up().unwrap().written, 1, "{sql:?}");
        for (i, name) in quoted.iter().enumerate() {
            let read = column(&bench.lake(), &format!("SELECT {name} FROM t"));
            assert_eq!(read, [Some(format!("value {i}"))], "{name} of {sql:?}");
        }
        bench.assert_exact(1);
    }
}

/// Fault matrix 46.
#[test]
fn names_that_are_none_are_refused_before_anything_is_asked() {
    let broker = Embedded::start();
    let load = |key: &str, value: &str| {
        let bench = Bench::new(&broker.brokers(), &["t".to_owned()], "rows = 1000");
        let wrong = format!("{key}={value}");
        puddle_pipeline::Pipeline::load(bench.folder.path(), &[wrong], &[]).unwrap_err()
    };
    for name in ["a;b", "a`b", "a'b", "a/b", "a b", "^a"] {
        for (key, value) in [
            ("ingest.topics", format!("[\"{name}\"]")),
            ("sink.table", format!("\"{name}\"")),
            ("name", format!("\"{name}\"")),
        ] {
            let error = load(key, &value);
            assert!(error.is_usage() && error.to_string().contains(name), "{key}: {error}");
        }
    }
}
