//! Data sets into topics.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use puddle_ingest::Error;
use puddle_ingest::replay::{Dataset, Pace, Replay, ReplayProgress};
use puddle_testkit::{Embedded, consume_all, unique};
use support::*;

against_both!(
    ndjson_arrives_byte_for_byte,
    a_key_decides_the_partition,
    rows_and_repeat_count_as_told,
    a_rate_takes_its_time_and_can_be_cancelled,
    an_existing_topic_keeps_its_partitions,
    a_record_that_is_too_large_is_named_and_those_before_it_arrive,
    impossible_numbers_of_partitions_are_usage_errors,
);

fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn run(replay: &Replay, path: &Path) -> puddle_ingest::replay::ReplaySummary {
    replay.run(&Dataset::open(path).unwrap(), |_| {}, &AtomicBool::new(false)).unwrap()
}

fn ndjson_arrives_byte_for_byte(brokers: &str) {
    let lines =
        ["{\"a\": 1 ,\"b\":[1,{\"c\":null}]}", "not json at all", "{\"a\":1,\"a\":2}", "\u{1f600} \\u0000"];
    let (_dir, path) = file("odd.ndjson", &lines.join("\n"));
    let mut replay = Replay::new(brokers, unique("odd"));
    replay.partitions = 1;
    let summary = run(&replay, &path);
    let bytes: usize = lines.iter().map(|line| line.len()).sum();
    assert_eq!((summary.records, summary.bytes, summary.created), (4, bytes as u64, true));
    let values: Vec<_> = consume_all(brokers, &replay.topic).into_iter().map(|r| r.value.unwrap()).collect();
    assert_eq!(values, lines.map(|line| line.as_bytes().to_vec()));
}

fn a_key_decides_the_partition(brokers: &str) {
    let rows: String = (0..500).map(|i| format!("{},{}\n", i, ["UA", "AA", "B6", "DL", ""][i % 5])).collect();
    let (_dir, path) = file("a.csv", &format!("id,carrier\n{rows}"));
    let mut replay = Replay::new(brokers, unique("keyed"));
    (replay.key, replay.partitions) = (Some("carrier".into()), 4);
    run(&replay, &path);
    let records = consume_all(brokers, &replay.topic);
    assert_eq!(records.len(), 500);
    let mut partitions: BTreeMap<Vec<u8>, Vec<i32>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.key.is_some()) {
        partitions.entry(record.key.clone().unwrap()).or_default().push(record.partition.unwrap());
    }
    assert_eq!(
        partitions.keys().map(|key| str::from_utf8(key).unwrap()).collect::<Vec<_>>(),
        ["AA", "B6", "DL", "UA"]
    );
    assert!(partitions.values().all(|found| found.len() == 100 && found.iter().all(|p| *p == found[0])));
    assert_eq!(records.iter().filter(|record| record.key.is_none()).count(), 100);
}

fn rows_and_repeat_count_as_told(brokers: &str) {
    let (_dir, path) = file("a.ndjson", &"{\"id\":1}\n".repeat(100));
    let mut replay = Replay::new(brokers, unique("repeated"));
    (replay.rows, replay.repeat) = (Some(30), 3);
    assert_eq!(run(&replay, &path).records, 90);
    assert_eq!(consume_all(brokers, &replay.topic).len(), 90);
    replay.rows = Some(1000);
    assert_eq!(run(&replay, &path).records, 300);
}

fn a_rate_takes_its_time_and_can_be_cancelled(brokers: &str) {
    let (_dir, path) = file("a.ndjson", &"{\"id\":1}\n".repeat(1000));
    let mut replay = Replay::new(brokers, unique("paced"));
    (replay.rows, replay.pace) = (Some(21), Pace::Rate(50.0));
    let summary = run(&replay, &path);
    assert_eq!((summary.records, summary.cancelled), (21, false));
    assert!(summary.elapsed >= Duration::from_millis(400), "{:?}", summary.elapsed);

    (replay.rows, replay.pace) = (None, Pace::Rate(100.0));
    let (cancel, dataset) = (AtomicBool::new(false), Dataset::open(&path).unwrap());
    let summary =
        replay.run(&dataset, |so_far| cancel.store(so_far.records >= 5, Ordering::Relaxed), &cancel).unwrap();
    assert!(summary.cancelled && (5..900).contains(&summary.records), "{summary:?}");
    assert_eq!(consume_all(brokers, &replay.topic).len() as u64, 21 + summary.records);
}

fn an_existing_topic_keeps_its_partitions(brokers: &str) {
    let (_dir, path) = file("a.ndjson", "{}\n");
    let mut replay = Replay::new(brokers, topic(brokers, 2));
    replay.partitions = 7;
    assert!(!run(&replay, &path).created);
    let admin = puddle_ingest::admin::Admin::connect(brokers, &Default::default()).unwrap();
    assert_eq!(admin.watermarks(&replay.topic).unwrap().len(), 2);
}

fn a_record_that_is_too_large_is_named_and_those_before_it_arrive(brokers: &str) {
    let text = |bytes: usize| {
        // Digits of a simple generator, which no compression makes small enough.
        let mut state = 1u64;
        let digit = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b' ' + (state >> 33) as u8 % 90).to_string().replace(['"', '\\'], "_")
        };
        (0..bytes).map(digit).collect::<String>()
    };
    for (bytes, limit) in [(2_000_000, "1048588"), (20_000_000, "message.max.bytes = 16000000")] {
        let (_dir, path) = file("a.ndjson", &format!("{{}}\n{{}}\n{{}}\n\"{}\"\n{{}}\n", text(bytes)));
        let mut replay = Replay::new(brokers, unique("large"));
        replay.partitions = 1;
        let error = replay.run(&Dataset::open(&path).unwrap(), |_| {}, &AtomicBool::new(false)).unwrap_err();
        let Error::RecordTooLarge { record: 4, size, delivered, .. } = &error else { panic!("{error}") };
        assert_eq!(*size, bytes as u64 + 2);
        assert!(error.to_string().contains(limit), "{error}");
        assert!(*delivered >= 3, "{error}");
        assert_eq!(consume_all(brokers, &replay.topic).len() as u64, *delivered);
    }
}

fn impossible_numbers_of_partitions_are_usage_errors(brokers: &str) {
    let (_dir, path) = file("a.ndjson", "{}\n");
    for partitions in [0, -1, 100_001] {
        let mut replay = Replay::new(brokers, unique("partitions"));
        replay.partitions = partitions;
        let error = replay.run(&Dataset::open(&path).unwrap(), |_| {}, &AtomicBool::new(false)).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("at least 1"), "{error}");
        assert!(error.to_string().contains(&partitions.to_string()), "{error}");
    }
}

#[test]
fn more_partitions_than_the_broker_allows_are_a_usage_error() {
    let broker = Embedded::start_with(|config| config.max_partitions = 10);
    let (_dir, path) = file("a.ndjson", "{}\n");
    let mut replay = Replay::new(broker.brokers(), unique("partitions"));
    replay.partitions = 11;
    let error = replay.run(&Dataset::open(&path).unwrap(), |_| {}, &AtomicBool::new(false)).unwrap_err();
    assert!(error.is_usage() && matches!(error, Error::Partitions { partitions: 11, .. }), "{error}");
}

/// Replays without end into a broker that stops at once, and cancels when `when` says so of the records sent before
/// and now.
fn cancelled_without_a_broker(pace: Pace, when: impl Fn(u64, u64) -> bool) {
    let mut broker = Embedded::start();
    let (_dir, path) = file("a.ndjson", &"{\"id\":1}\n".repeat(10_000));
    let mut replay = Replay::new(broker.brokers(), unique("cancelled"));
    (replay.repeat, replay.pace) = (u32::MAX, pace);
    let cancel = AtomicBool::new(false);
    let (mut before, mut begin) = (None, None);
    let tell = |so_far: &ReplayProgress| {
        broker.stop();
        if begin.is_none() && before.is_some_and(|before| when(before, so_far.records)) {
            begin = Some(Instant::now());
            cancel.store(true, Ordering::Relaxed);
        }
        before = Some(so_far.records);
    };
    let summary = replay.run(&Dataset::open(&path).unwrap(), tell, &cancel).unwrap();
    let took = begin.expect("it was cancelled").elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(summary.cancelled && summary.unacknowledged > 0, "{summary:?}");
    broker.restart();
    let arrived = consume_all(&broker.brokers(), &replay.topic).len() as u64;
    assert!((summary.records..=summary.records + summary.unacknowledged).contains(&arrived), "{summary:?}");
}

#[test]
fn a_cancelled_replay_does_not_wait_for_acknowledgements_of_a_broker_that_is_gone() {
    cancelled_without_a_broker(Pace::Rate(1000.0), |before, now| now > before);
}

#[test]
fn a_cancelled_replay_does_not_wait_for_room_when_the_broker_is_gone() {
    cancelled_without_a_broker(Pace::AsFastAsPossible, |before, now| now == before);
}

#[test]
fn wrong_columns_and_paces_are_errors_before_a_broker_is_asked() {
    let (_dir, path) = file("a.ndjson", "{\"carrier\":\"UA\"}\n");
    let dataset = Dataset::open(&path).unwrap();
    let refused = |change: &dyn Fn(&mut Replay)| {
        let mut replay = Replay::new("127.0.0.1:1", "t");
        change(&mut replay);
        let error = replay.run(&dataset, |_| {}, &AtomicBool::new(false)).unwrap_err();
        assert!(error.is_usage(), "{error}");
        error
    };
    let error = refused(&|replay| replay.key = Some("carier".into()));
    assert!(matches!(error, Error::UnknownColumn { nearest: Some(_), .. }), "{error}");
    refused(&|replay| replay.pace = Pace::EventTime { column: "at".into(), multiple: 1.0 });
    refused(&|replay| replay.pace = Pace::Rate(0.0));
    refused(&|replay| replay.topic = "a/b".into());
}

#[test]
fn flights_become_the_rows_that_they_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/nycflights13/flights.parquet");
    let dataset = Dataset::open(&path).unwrap();
    assert_eq!(dataset.rows(), Some(336_776));
    assert!(dataset.columns().iter().any(|column| column == "time_hour"));
}
