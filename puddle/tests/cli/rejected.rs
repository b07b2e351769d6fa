//! Rejected records: looked at, and run again after the schema or the SQL was mended.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::sandbox::{Ended, Sandbox, command, json};

/// A sandbox whose topic has these lines, in one partition, and whose table has what fits of them.
fn with_rejected(lines: &str, schema: &str, sql: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.pipeline("events", schema, Some(sql));
    sandbox.write("events.ndjson", lines);
    sandbox.puddle(&["replay", "events.ndjson", "--partitions", "1"]).ok();
    sandbox.puddle(&["run", "events", "--until-caught-up"]).ok();
    sandbox
}

const SQL: &str = "SELECT id, _partition, _offset FROM events";
const STRICT: &str = "schema = { id = \"int64 not null\" }";
const MENDED: &str = "schema = { id = \"int64\" }";

/// The numbers of the JSON that a command printed.
fn numbers<const N: usize>(ended: Ended, keys: [&str; N]) -> [u64; N] {
    let json = json(&ended.ok());
    keys.map(|key| json[key].as_u64().unwrap_or_else(|| panic!("{key} of {json}")))
}

const COUNTS: [&str; 4] = ["records", "written", "filtered", "rejected"];

#[test]
fn misfits_are_listed_mended_and_come_back() {
    let lines = "{\"id\": 1}\n{\"id\": null}\n{\"id\": 3}\n{}\n{\"id\": \"\\u001b[31mred\"}\n";
    let sandbox = with_rejected(lines, STRICT, SQL);

    let listed = sandbox.puddle(&["rejected", "events"]).ok();
    for part in [
        "events.rejected: 3 rejected records",
        "field `id`: missing, expected int64 not null",
        "events-0",
        "{\"id\": \"\\\\u001b[31mred\"}",
        "puddle rejected events --retry",
    ] {
        assert!(listed.contains(part), "{part:?} is not in:\n{listed}");
    }
    assert!(!listed.contains('\u{1b}'), "{listed:?}");
    let one = sandbox.puddle(&["rejected", "events", "--offset", "3"]).ok();
    assert!(one.contains("events-0 at offset 3") && one.contains("value   {}"), "{one}");
    let found = json(&sandbox.puddle(&["rejected", "events", "--reason", "missing", "--json"]).ok());
    assert_eq!((&found["records"], &found["selected"]), (&3.into(), &1.into()));
    let record = &found["shown"][0];
    assert_eq!(
        (&record["topic"], &record["offset"], &record["value"]),
        (&"events".into(), &3.into(), &"{}".into())
    );

    // Nothing is mended yet.
    let nothing = sandbox.puddle(&["rejected", "events", "--retry"]).ok();
    assert!(nothing.contains("3 still do not fit") && nothing.contains("expected int64"), "{nothing}");

    sandbox.pipeline("events", MENDED, Some(SQL));
    let back = sandbox.puddle(&["rejected", "events", "--retry"]).ok();
    assert!(back.contains("3 rejected records run again: 2 are in the table now"), "{back}");
    assert!(back.contains("1 still do not fit") && !back.contains('\u{1b}'), "{back:?}");
    let again = sandbox.puddle(&["rejected", "events", "--retry", "--json"]);
    assert_eq!(numbers(again, COUNTS), [1, 0, 0, 1], "only what is left");

    let ids =
        sandbox.puddle(&["query", "SELECT _offset, id FROM events ORDER BY _offset", "--format", "csv"]);
    assert_eq!(ids.ok(), "_offset,id\n0,1\n1,\n2,3\n3,\n");
    let verified = sandbox.puddle(&["verify", "events"]).ok();
    assert!(
        verified.contains("5 records = 4 written + 0 filtered + 1 rejected; each exactly once"),
        "{verified}"
    );
    assert!(verified.contains("run again: 3 rejected records, of which 2 were written"), "{verified}");
    let report = json(&sandbox.puddle(&["verify", "events", "--json"]).ok());
    assert_eq!((&report["retried"]["records"], &report["retried"]["rejected"]), (&3.into(), &1.into()));
    assert_eq!(report["partitions"][0]["retried"]["written"], 2);

    // A run goes on where it was.
    sandbox.write("events.ndjson", "{\"id\": 6}\n");
    sandbox.puddle(&["replay", "events.ndjson"]).ok();
    let run = sandbox.puddle(&["run", "events", "--until-caught-up", "--json"]);
    assert_eq!(numbers(run, COUNTS), [1, 1, 0, 0]);
    assert_eq!(numbers(sandbox.puddle(&["verify", "events", "--json"]), COUNTS), [6, 5, 0, 1]);
}

#[test]
fn records_that_the_sql_failed_on_come_back_when_the_sql_is_mended() {
    let sql = "SELECT CAST(code AS BIGINT) AS code, _partition, _offset FROM events WHERE code <> 'drop'";
    let lines = "{\"code\": \"1\"}\n{\"code\": \"two\"}\n{\"code\": \"3\"}\n{\"code\": \"x-drop\"}\n";
    let schema = "schema = { code = \"string\" }";
    let sandbox = with_rejected(lines, schema, sql);
    let listing = json(&sandbox.puddle(&["rejected", "events", "--json"]).ok());
    assert_eq!(listing["records"], 2, "{listing}");
    assert_eq!(listing["shown"][1]["value"], "{\"code\": \"two\"}");

    let mended =
        "SELECT TRY_CAST(code AS BIGINT) AS code, _partition, _offset FROM events WHERE code <> 'x-drop'";
    sandbox.pipeline("events", schema, Some(mended));
    let back = sandbox.puddle(&["rejected", "events", "--retry", "--json"]);
    assert_eq!(numbers(back, COUNTS), [2, 1, 1, 0]);
    assert_eq!(numbers(sandbox.puddle(&["verify", "events", "--json"]), COUNTS), [4, 3, 1, 0]);
    let empty = sandbox.puddle(&["rejected", "events"]).ok();
    assert_eq!(empty, "events.rejected: 0 rejected records\n");
}

#[test]
fn a_pinned_schema_can_be_mended_in_its_file() {
    let sandbox = with_rejected("{\"id\": 1}\n", "", SQL);
    sandbox.write("events.ndjson", "{\"id\": 2, \"name\": \"b\"}\n{\"id\": \"3\"}\n");
    sandbox.puddle(&["replay", "events.ndjson"]).ok();
    sandbox.puddle(&["run", "events", "--until-caught-up"]).ok();
    assert_eq!(numbers(sandbox.puddle(&["rejected", "events", "--json"]), ["records"]), [1]);
    let pinned = sandbox.path("pipelines/events/schema.json");
    let text = std::fs::read_to_string(&pinned).unwrap();
    std::fs::write(&pinned, text.replace("int64", "json")).unwrap();
    let sql = "SELECT CAST(REPLACE(id, '\"', '') AS BIGINT) AS id, _partition, _offset FROM events";
    sandbox.write("pipelines/events/transform.sql", sql);
    let back = sandbox.puddle(&["rejected", "events", "--retry", "--json"]);
    assert_eq!(numbers(back, COUNTS), [1, 1, 0, 0]);
    let ids = sandbox.puddle(&["query", "SELECT id FROM events ORDER BY id", "--format", "csv"]).ok();
    assert_eq!(ids, "id\n1\n2\n3\n");
}

#[test]
fn what_cannot_be_done_is_said() {
    let sandbox = Sandbox::new();
    sandbox.pipeline("events", STRICT, Some(SQL));
    for args in [&["rejected", "events"][..], &["rejected", "events", "--retry"]] {
        sandbox.puddle(args).fails(2, &["there is no table \"events"]);
    }
    assert!(!sandbox.path("lake").exists());
    sandbox.puddle(&["rejected", "nothing"]).fails(2, &["no pipeline"]);
    let both = sandbox.puddle(&["rejected", "events", "--retry", "--offset", "3"]);
    assert_eq!(both.code, 2, "{}", both.err);
    assert!(both.err.contains("--retry") && both.err.contains("cannot be used with"), "{}", both.err);
    let help = sandbox.puddle(&["rejected", "--help"]).ok();
    assert!(help.contains("puddle rejected pipelines/flights --retry"), "{help}");
}

/// Fault matrix 25, of a retry.
#[test]
fn a_retry_beside_a_run_is_refused_by_name() {
    let sandbox = with_rejected("{}\n{\"id\": 2}\n", STRICT, SQL);
    let mut run = command(sandbox.path("").as_path())
        .env("PUDDLE_BROKERS", sandbox.brokers())
        .args(["run", "events"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let ended = sandbox.puddle(&["rejected", "events", "--retry"]);
        if ended.code != 0 {
            ended.fails(1, &["stop the run first", "\"events\"", &run.id().to_string()]);
            break;
        }
        assert!(Instant::now() < deadline, "the run does not begin");
    }
    // Looking needs no stop.
    assert_eq!(numbers(sandbox.puddle(&["rejected", "events", "--json"]), ["records"]), [1]);
    run.kill().unwrap();
    run.wait().unwrap();
    sandbox.pipeline("events", MENDED, Some(SQL));
    assert_eq!(numbers(sandbox.puddle(&["rejected", "events", "--retry", "--json"]), COUNTS), [1, 1, 0, 0]);
}

/// Fault matrix 1, 4, 5, of a retry: killed between and within its commits, and run again.
#[test]
fn a_retry_that_is_killed_again_and_again_has_each_record_once() {
    const RECORDS: u64 = 600;
    let lines: String = (0..RECORDS).map(|i| if i % 5 == 0 { "nonsense\n" } else { "{}\n" }).collect();
    let sandbox = Sandbox::new();
    sandbox.pipeline("events", STRICT, Some(SQL));
    // A file of rejected records for each part of the topic, since a run commits when it ends.
    let lines: Vec<&str> = lines.split_inclusive('\n').collect();
    for part in lines.chunks(lines.len() / 20) {
        sandbox.write("events.ndjson", &part.concat());
        sandbox.puddle(&["replay", "events.ndjson", "--partitions", "1"]).ok();
        sandbox.puddle(&["run", "events", "--until-caught-up"]).ok();
    }
    sandbox.pipeline("events", MENDED, Some(SQL));
    let log = sandbox.path("lake/.puddle/events/log");
    let newest = || entries(&log).into_iter().max().unwrap();
    let mut kills = 0;
    loop {
        let before = newest();
        let mut retry = command(sandbox.path("").as_path())
            .args(["rejected", "events", "--retry", "--set", "commit.rows=1"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Each try gets two or three commits further; where in a commit it is struck differs.
        let deadline = Instant::now() + Duration::from_secs(30);
        while newest() < before.saturating_add(2 + kills % 2) && retry.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the retry does nothing");
        }
        if retry.try_wait().unwrap().is_some() {
            break;
        }
        retry.kill().unwrap();
        retry.wait().unwrap();
        kills += 1;
        // At any moment all are somewhere, and in one place by the log.
        let [records, written, _, rejected] =
            numbers(sandbox.puddle(&["verify", "events", "--json"]), COUNTS);
        assert_eq!((records, written + rejected), (RECORDS, RECORDS));
    }
    assert!(kills >= 3, "it was killed {kills} times only");
    let left = RECORDS / 5;
    assert_eq!(
        numbers(sandbox.puddle(&["rejected", "events", "--retry", "--json"]), COUNTS),
        [left, 0, 0, left]
    );
    assert_eq!(
        numbers(sandbox.puddle(&["verify", "events", "--json"]), COUNTS),
        [RECORDS, RECORDS - left, 0, left]
    );
}

/// The numbers of the entries of a log.
fn entries(log: &PathBuf) -> Vec<u64> {
    let names =
        std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect()
}
