//! What bad input gets: one clear error, exit code 1 or 2, nothing left half-written.

use std::time::{Duration, Instant};

use puddle_testkit::Proxy;

use crate::sandbox::{Sandbox, command, run};

const IDS: &str = "schema = { id = \"int64\", name = \"string\" }";

/// A sandbox with a topic and a pipeline that fit together.
fn ready() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("events.ndjson", "{\"id\": 1, \"name\": \"a\"}\n");
    sandbox.puddle(&["replay", "events.ndjson"]).ok();
    sandbox.pipeline("events", IDS, None);
    sandbox
}

#[test]
fn a_missing_topic_is_named_with_the_nearest() {
    let sandbox = ready();
    sandbox
        .puddle(&["run", "events", "--set", "ingest.topics=[\"event\"]", "--until-caught-up"])
        .fails(2, &["\"event\"", "events"]);
    assert!(!sandbox.path("lake").exists());
}

/// Fault matrix 12.
#[test]
fn a_broker_that_cannot_be_reached_is_named() {
    let sandbox = ready();
    let nobody = Proxy::start(12);
    let begun = Instant::now();
    sandbox
        .puddle(&["run", "events", "--brokers", &nobody.brokers()])
        .fails(1, &[&nobody.brokers(), "puddle broker"]);
    // It tries more than once, but neither for long nor without a pause.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!((2..60).contains(&nobody.counts().refused), "{:?}", nobody.counts());
    assert!(!sandbox.path("lake").exists());
}

#[test]
fn a_wrong_column_is_named_with_the_nearest_and_needs_no_broker() {
    let sandbox = Sandbox::new();
    sandbox.pipeline("events", IDS, Some("SELECT id, nmae FROM events"));
    sandbox
        .puddle(&["run", "events", "--brokers", "127.0.0.1:1"])
        .fails(2, &["nmae", "name", "transform.sql"]);
    assert!(!sandbox.path("lake").exists());
}

#[test]
fn sql_that_depends_on_the_cut_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.pipeline("events", IDS, Some("SELECT name, count(*) AS n FROM events GROUP BY name"));
    sandbox.puddle(&["run", "events"]).fails(2, &["transform.sql"]);
}

#[test]
fn an_unknown_key_is_named_with_file_line_and_nearest() {
    let sandbox = ready();
    sandbox.pipeline("events", "formt = \"json\"", None);
    sandbox.puddle(&["run", "events"]).fails(2, &["pipeline.toml, line 4", "`formt`", "`format`"]);
}

#[test]
fn a_lake_that_cannot_be_written_is_named() {
    let sandbox = ready();
    sandbox.write("occupied", "a file");
    sandbox
        .puddle(&["run", "events", "--lake", "occupied/lake", "--until-caught-up"])
        .fails(1, &["occupied/lake", "--lake"]);
}

#[test]
fn a_run_that_fails_leaves_no_schema_behind() {
    let sandbox = ready();
    sandbox.pipeline("events", "", None);
    sandbox.write("occupied", "a file");
    sandbox
        .puddle(&["run", "events", "--lake", "occupied/lake", "--until-caught-up"])
        .fails(1, &["occupied/lake"]);
    assert!(!sandbox.path("pipelines/events/schema.json").exists());
}

#[test]
fn a_missing_sql_file_is_named_with_the_key() {
    let sandbox = ready();
    sandbox.pipeline("events", IDS, Some("SELECT 1"));
    std::fs::remove_file(sandbox.path("pipelines/events/transform.sql")).unwrap();
    sandbox.puddle(&["run", "events"]).fails(2, &["pipeline.toml", "transform.sql"]);
}

#[test]
fn a_data_set_that_does_not_exist_is_named_with_those_that_do() {
    let sandbox = ready();
    sandbox.puddle(&["replay", "flihgts"]).fails(2, &["flihgts", "nycflights13/flights"]);
}

#[test]
fn a_port_in_use_is_named() {
    let sandbox = ready();
    sandbox.puddle(&["broker", "--listen", sandbox.brokers()]).fails(1, &[sandbox.brokers()]);
    sandbox
        .puddle(&["run", "events", "--metrics", sandbox.brokers()])
        .fails(1, &[sandbox.brokers(), "--metrics"]);
}

#[test]
fn a_pipeline_that_is_not_there_is_named_with_those_that_are() {
    let sandbox = ready();
    sandbox.puddle(&["run", "pipelines/evnts"]).fails(2, &["pipelines/evnts", "pipelines/events"]);
}

/// Fault matrix 47.
#[test]
fn a_secret_that_is_not_set_is_named_and_one_that_is_set_is_never_shown() {
    let sandbox = ready();
    sandbox.pipeline(
        "events",
        &format!("{IDS}\n[ingest.client]\n\"sasl.password\" = \"${{PUDDLE_TEST_SECRET}}\"\n"),
        None,
    );
    sandbox.puddle(&["run", "events"]).fails(2, &["PUDDLE_TEST_SECRET", "sasl.password"]);

    let secret = "hunter2-hunter2";
    let ended = run(command(&sandbox.path("."))
        .args(["-vvv", "run", "events", "--until-caught-up", "--brokers", sandbox.brokers()])
        .env("PUDDLE_TEST_SECRET", secret));
    assert!(!ended.err.contains(secret) && !ended.out.contains(secret));
    assert!(ended.err.contains("events"), "it must have logged something to search in");
}

#[test]
fn a_second_writer_of_a_table_is_refused_by_name() {
    let sandbox = ready();
    sandbox.puddle(&["run", "events", "--until-caught-up"]).ok();
    sandbox.pipeline("other", &IDS.replace("schema", "start = \"earliest\"\nschema"), None);
    sandbox
        .puddle(&[
            "run",
            "other",
            "--set",
            "ingest.topics=[\"events\"]",
            "--set",
            "sink.table=events",
            "--until-caught-up",
        ])
        .fails(2, &["events", "other"]);
}

#[test]
fn a_wrong_query_names_what_there_is() {
    let sandbox = ready();
    sandbox.puddle(&["run", "events", "--until-caught-up"]).ok();
    sandbox.puddle(&["query", "SELECT * FROM evnts"]).fails(2, &["evnts", "events"]);
    sandbox.puddle(&["query", "SELECT idd FROM events"]).fails(2, &["idd", "id"]);
}
