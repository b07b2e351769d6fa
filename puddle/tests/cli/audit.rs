//! What `puddle verify` finds.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::sandbox::{Sandbox, command, json};

/// A sandbox with a table of 20 records from one partition, in two commits, and the table's first file.
fn audited() -> (Sandbox, std::path::PathBuf) {
    let sandbox = Sandbox::new();
    let lines = |ids: std::ops::Range<u32>| ids.map(|id| format!("{{\"id\": {id}}}\n")).collect::<String>();
    sandbox.pipeline("events", "schema = { id = \"int64\" }", None);
    for ids in [0..10, 10..20] {
        sandbox.write("events.ndjson", &lines(ids));
        sandbox.puddle(&["replay", "events.ndjson", "--partitions", "1"]).ok();
        sandbox.puddle(&["run", "events", "--until-caught-up"]).ok();
    }
    sandbox.puddle(&["verify", "events"]).ok();
    let file = sandbox.path("lake/events/events-00000000000000000001-0.parquet");
    assert!(file.is_file());
    (sandbox, file)
}

#[track_caller]
fn found_out(sandbox: &Sandbox, what: &str) {
    let ended = sandbox.puddle(&["verify", "events"]);
    assert_eq!(ended.code, 1, "{}{}", ended.out, ended.err);
    assert!(format!("{}{}", ended.out, ended.err).contains(what), "{}{}", ended.out, ended.err);
}

#[test]
fn an_audit_finds_a_file_that_was_taken_away() {
    let (sandbox, file) = audited();
    std::fs::remove_file(file).unwrap();
    found_out(&sandbox, "No such file");
}

#[test]
fn an_audit_finds_a_byte_that_was_changed() {
    let (sandbox, file) = audited();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    found_out(&sandbox, "does not hold the bytes that were committed");
}

#[test]
fn an_audit_finds_a_file_that_no_commit_names() {
    let (sandbox, file) = audited();
    std::fs::copy(&file, file.with_file_name("extra.parquet")).unwrap();
    found_out(&sandbox, "no commit names this file");
}

#[test]
fn an_audit_finds_that_the_newest_commit_was_taken_away() {
    let (sandbox, _) = audited();
    std::fs::remove_file(sandbox.path("lake/.puddle/events/log/00000000000000000002.json")).unwrap();
    found_out(&sandbox, "epoch 2 was committed");
}

/// Fault matrix 15.
#[test]
fn an_audit_finds_that_the_topic_was_made_again() {
    let (sandbox, _) = audited();
    sandbox.puddle(&["topics", "delete", "events"]).ok();
    sandbox.write("events.ndjson", &"{\"id\": 7}\n".repeat(30));
    sandbox.puddle(&["replay", "events.ndjson", "--partitions", "1"]).ok();
    found_out(&sandbox, "the topic was made again");
}

#[test]
fn an_audit_counts_what_is_still_to_come_in_partitions_that_the_log_does_not_know() {
    let sandbox = Sandbox::new();
    sandbox.pipeline("events", "schema = { id = \"int64\" }", None);
    sandbox.write("events.ndjson", "{\"id\": 1}\n");
    sandbox.puddle(&["replay", "events.ndjson", "--partitions", "8"]).ok();
    sandbox.puddle(&["run", "events", "--until-caught-up"]).ok();
    sandbox.write("events.ndjson", &"{\"id\": 2}\n".repeat(4_000));
    sandbox.puddle(&["replay", "events.ndjson"]).ok();
    let report = json(&sandbox.puddle(&["verify", "events", "--json"]).ok());
    assert_eq!((&report["records"], &report["behind"]), (&1.into(), &4_000.into()));
}

#[test]
fn an_audit_while_the_pipeline_runs_is_as_good_as_one_at_rest() {
    const RECORDS: u64 = 6_000;
    let sandbox = Sandbox::new();
    sandbox.pipeline("events", "schema = { id = \"int64\" }", None);
    sandbox.write("events.ndjson", &"{\"id\": 1}\n{\"id\": \"x\"}\n".repeat(RECORDS as usize / 2));
    sandbox.puddle(&["topics", "create", "events", "--partitions", "2"]).ok();
    let start = |args: &[&str]| {
        let mut command = command(&sandbox.path("."));
        command.env("PUDDLE_BROKERS", sandbox.brokers()).args(args);
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let _run = start(&["run", "events", "--set", "commit.rows=100", "--set", "commit.every=\"20ms\""]);
    let _replay = start(&["replay", "events.ndjson", "--rate", "2000"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = BTreeSet::new();
    while !seen.contains(&RECORDS) {
        assert!(Instant::now() < deadline, "{seen:?}");
        let ended = sandbox.puddle(&["verify", "events", "--json"]);
        // Before the first commit.
        if ended.code != 0 && ended.err.contains("there is no table") {
            continue;
        }
        let report = json(&ended.ok());
        assert_eq!(report["depth"], "offsets");
        seen.insert(report["records"].as_u64().unwrap());
    }
    assert!(seen.len() > 2, "it was over before it was looked at: {seen:?}");
}

/// A process that ends with the test, however that ends.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
