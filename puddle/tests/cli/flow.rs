//! From a file of JSON to rows, with what is odd and what is broken.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use crate::sandbox::{Sandbox, command, get, json};

const EVENTS: &str = r#"{"id": 1, "who": {"name": "Ann", "tags": ["a", "b"]}, "at": "2013-01-01T10:00:00Z", "n": 1.5}
{"id": 2, "who": {"name": "Bo", "tags": []}, "at": "2013-01-02T10:00:00Z", "n": 2}
{"id": 3, "who": null, "at": null, "n": null, "extra": true}
{"id": "four", "who": {"name": "Di"}}
not json at all
{"id": 5, "who": {"name": "Ed", "tags": ["c"]}, "n": 1e3}
"#;

#[test]
fn other_peoples_json_becomes_rows_and_what_does_not_fit_is_kept() {
    let sandbox = Sandbox::new();
    sandbox.write("events.ndjson", EVENTS);
    let schema = "schema = { id = \"int64 not null\", who = { name = \"string\", tags = [\"string\"] }, at = \"timestamp\", n = \"float64\" }";
    sandbox.pipeline("events", schema, None);
    sandbox.puddle(&["replay", "events.ndjson", "--partitions", "2"]).ok();

    let summary = json(&sandbox.puddle(&["run", "events", "--until-caught-up", "--json"]).ok());
    assert_eq!(
        (&summary["records"], &summary["written"], &summary["rejected"]),
        (&6.into(), &4.into(), &2.into())
    );
    assert_eq!(summary["reasons"].as_array().unwrap().len(), 2, "{summary}");

    let rows = sandbox.puddle(&["query", "SELECT id, n FROM events ORDER BY id", "--format", "csv"]).ok();
    assert_eq!(rows, "id,n\n1,1.5\n2,2.0\n3,\n5,1000.0\n");
    let rejected = sandbox
        .puddle(&[
            "query",
            "SELECT _reason, CAST(_value AS VARCHAR) AS value FROM \"events.rejected\"",
            "--json",
        ])
        .ok();
    assert!(rejected.contains("not json at all") && rejected.contains("expected int64"), "{rejected}");

    let report = json(&sandbox.puddle(&["verify", "events", "--json"]).ok());
    assert_eq!((&report["problems"], &report["depth"]), (&json("[]"), &"offsets".into()));
}

#[test]
fn a_second_run_resumes_where_the_log_says() {
    let sandbox = Sandbox::new();
    sandbox.write("events.ndjson", "{\"id\": 1}\n{\"id\": 2}\n");
    sandbox.pipeline(
        "events",
        "",
        Some("SELECT id * 10 AS ten, _partition, _offset FROM events WHERE id <> 2"),
    );
    for round in 1..=3 {
        sandbox.puddle(&["replay", "events.ndjson"]).ok();
        let summary = json(&sandbox.puddle(&["run", "events", "--until-caught-up", "--json"]).ok());
        assert_eq!((&summary["records"], &summary["filtered"]), (&2.into(), &1.into()), "round {round}");
    }
    assert_eq!(
        sandbox.puddle(&["query", "SELECT count(*) AS n FROM events", "--format", "csv"]).ok(),
        "n\n3\n"
    );
    sandbox.puddle(&["verify", "events"]).ok();
    let lag = json(&sandbox.puddle(&["lag", "events", "--json"]).ok());
    assert!(lag.as_array().unwrap().iter().all(|partition| partition["lag"] == 0), "{lag}");
    // The inferred schema was pinned by the first run.
    assert!(sandbox.path("pipelines/events/schema.json").is_file());
}

#[test]
fn a_table_without_sql_gains_a_field() {
    let sandbox = Sandbox::new();
    sandbox.pipeline("events", "", None);
    for record in ["{\"id\": 1}\n", "{\"id\": 2, \"new\": \"x\"}\n"] {
        sandbox.write("events.ndjson", record);
        sandbox.puddle(&["replay", "events.ndjson", "--partitions", "1"]).ok();
        let _ = std::fs::remove_file(sandbox.path("pipelines/events/schema.json"));
        sandbox.puddle(&["run", "events", "--until-caught-up"]).ok();
    }
    let rows = sandbox.puddle(&["query", "SELECT id, new FROM events ORDER BY id", "--format", "csv"]).ok();
    assert_eq!(rows, "id,new\n1,\n2,x\n");
    sandbox.puddle(&["verify", "events"]).ok();
}

#[test]
fn csv_shows_nested_values_and_bytes_as_text() {
    let sandbox = Sandbox::new();
    sandbox.write("events.ndjson", "{\"who\": {\"name\": \"Ann\"}, \"tags\": [1, 2]}\n[]\n");
    sandbox.pipeline("events", "schema = { who = { name = \"string\" }, tags = [\"int64\"] }", None);
    sandbox.puddle(&["replay", "events.ndjson", "--partitions", "1"]).ok();
    sandbox.puddle(&["run", "events", "--until-caught-up"]).ok();
    let rows = sandbox.puddle(&["query", "SELECT who, tags FROM events", "--format", "csv"]).ok();
    assert_eq!(rows, "who,tags\n{name: Ann},\"[1, 2]\"\n");
    let rows = sandbox.puddle(&["query", "SELECT _value FROM \"events.rejected\"", "--format", "csv"]).ok();
    assert_eq!(rows, "_value\n[]\n");
}

#[test]
fn a_record_on_which_the_sql_fails_is_rejected_with_its_raw_value() {
    let sandbox = Sandbox::new();
    sandbox.write("events.ndjson", "{\"n\": \"1\"}\n{\"n\": \"x\"}\n{\"n\": \"3\"}\n");
    sandbox.pipeline(
        "events",
        "schema = { n = \"string\" }",
        Some("SELECT CAST(n AS BIGINT) AS n FROM events"),
    );
    sandbox.puddle(&["replay", "events.ndjson", "--partitions", "1"]).ok();
    let summary = json(&sandbox.puddle(&["run", "events", "--until-caught-up", "--json"]).ok());
    assert_eq!((&summary["written"], &summary["rejected"]), (&2.into(), &1.into()), "{summary}");
    let rejected = sandbox
        .puddle(&["query", "SELECT CAST(_value AS VARCHAR) AS v, _offset FROM \"events.rejected\"", "--json"])
        .ok();
    assert_eq!(json(&rejected), serde_json::json!({"v": "{\"n\": \"x\"}", "_offset": 1}));
}

#[test]
fn metrics_are_served_while_it_runs_and_a_signal_ends_it_cleanly() {
    let sandbox = Sandbox::new();
    sandbox.write("events.ndjson", "{\"id\": 1}\n{\"id\": 2}\n");
    sandbox.pipeline("events", "", None);
    sandbox.puddle(&["replay", "events.ndjson"]).ok();
    let mut child = command(&sandbox.path("."))
        .env("PUDDLE_BROKERS", sandbox.brokers())
        .args(["run", "events", "--metrics", "127.0.0.1:0", "--set", "commit.every=50ms", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines.by_ref().find_map(|line| {
        line.unwrap()
            .strip_prefix("metrics on http://")
            .map(|rest| rest.trim_end_matches("/metrics").to_owned())
    });
    let address = address.expect("the address of the metrics page");
    // Standard error must be read on, or the child could block on it.
    let rest = std::thread::spawn(move || lines.for_each(drop));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let page = loop {
        let page = get(&address);
        if page.contains("puddle_records_committed_total{pipeline=\"events\"} 2") {
            break page;
        }
        assert!(std::time::Instant::now() < deadline, "{page}");
        std::thread::yield_now();
    };
    assert!(page.contains("puddle_latency_p99_seconds"), "{page}");
    let killed =
        std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(child.wait().unwrap().success());
    rest.join().unwrap();
    assert_eq!(json(&out)["written"], 2);
}

/// A sandbox with 100 records, and a run that has committed them and goes on.
fn running() -> (Sandbox, Child) {
    let sandbox = Sandbox::new();
    sandbox.write("events.ndjson", &"{\"id\": 1}\n".repeat(100));
    sandbox.pipeline("events", "schema = { id = \"int64\" }", None);
    sandbox.puddle(&["replay", "events.ndjson"]).ok();
    let mut run = command(&sandbox.path("."))
        .env("PUDDLE_BROKERS", sandbox.brokers())
        .args(["run", "events", "--set", "commit.every=50ms"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !sandbox.puddle(&["verify", "events"]).out.contains("100 records") {
        assert!(run.try_wait().unwrap().is_none(), "the run ended");
    }
    (sandbox, run)
}

#[test]
fn a_second_run_of_a_pipeline_takes_over_and_the_first_is_told() {
    let (sandbox, mut first) = running();
    let summary = sandbox.puddle(&["run", "events", "--lake", "other", "--until-caught-up", "--json"]).ok();
    assert_eq!(json(&summary)["written"], 100);
    let mut err = String::new();
    first.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(1), "{err}");
    assert!(err.contains("puddle-events"), "{err}");
}

#[test]
fn a_run_after_a_kill_begins_at_once() {
    let (sandbox, mut killed) = running();
    killed.kill().unwrap();
    killed.wait().unwrap();
    sandbox.puddle(&["replay", "events.ndjson"]).ok();
    let begun = std::time::Instant::now();
    let summary = sandbox.puddle(&["run", "events", "--until-caught-up", "--json"]).ok();
    assert_eq!(json(&summary)["written"], 100);
    // Kafka forgets a member that was killed after 45 s; waiting for that would be noticed.
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let sandbox = Sandbox::new();
    sandbox.write("events.ndjson", &"{\"id\": 1}\n".repeat(50_000));
    sandbox.pipeline("events", "", None);
    sandbox.puddle(&["replay", "events.ndjson"]).ok();
    sandbox.puddle(&["run", "events", "--until-caught-up"]).ok();
    for format in ["csv", "json"] {
        let mut child = command(&sandbox.path("."))
            .args(["query", "SELECT * FROM events", "--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert!(child.wait().unwrap().success(), "{format}: {err}");
        assert_eq!(err, "");
    }
}

#[test]
fn the_demo_works_twice_and_spares_what_it_did_not_make() {
    let folder = tempfile::Builder::new().prefix("puddle demo ").tempdir().unwrap();
    for round in 1..=2 {
        let ended = crate::sandbox::run(command(folder.path()).args(["demo", "--rows", "3000", "--json"]));
        let report = json(&ended.ok());
        for (i, table) in ["flights", "weather"].iter().enumerate() {
            assert_eq!(report["runs"][i]["written"], 3000, "{table}, round {round}: {report}");
            assert_eq!(report["audits"][i]["problems"], json("[]"), "{table}, round {round}");
        }
    }
    // A lake of somebody else's with a table of that name.
    std::fs::remove_file(folder.path().join(".puddle/demo.json")).unwrap();
    let ended = crate::sandbox::run(command(folder.path()).args(["demo", "--rows", "10"]));
    ended.fails(1, &["the demo did not make"]);
}
