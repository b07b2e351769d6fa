//! Whole runs while the broker itself fails, or is no longer what it was.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use puddle_ingest::admin::Admin;
use puddle_pipeline::Gaps;
use puddle_testkit::{Apache, Embedded, Record, flights, produce, topics};

use crate::suite::{Bench, at_least, plain_sum, sum, topic};

const SOON: [&str; 3] = [
    "ingest.client.\"reconnect.backoff.max.ms\"=200",
    "ingest.client.\"heartbeat.interval.ms\"=200",
    "ingest.client.\"topic.metadata.refresh.interval.ms\"=300",
];

fn bench(brokers: &str, topic: &String) -> Bench {
    Bench::new(brokers, std::slice::from_ref(topic), "every = \"20ms\"").set(&SOON)
}

/// Fault matrix 11, 13. A broker that was restarted has forgotten who the members of a group are, as one has that
/// takes a group over from another.
#[test]
fn embedded_a_restarted_broker_doubles_nothing() {
    let mut broker = Embedded::start();
    let brokers = broker.brokers();
    let topic = topic(&brokers, 2);
    let bench = bench(&brokers, &topic);
    let records = flights(4_000, 11);
    let (broker, name, parts) = (&mut broker, &topic, records.chunks(1_000));
    let summary = bench.run_until(|metrics| async move {
        for (round, part) in parts.enumerate() {
            tokio::task::block_in_place(|| {
                // With records on their way, and without.
                if round % 2 == 1 {
                    broker.restart();
                }
                produce(&broker.brokers(), name, part.iter().cloned());
                if round == 2 {
                    broker.restart();
                }
            });
            at_least((round as u64 + 1) * 1_000, || metrics.records_committed()).await;
        }
    });
    assert_eq!(summary.unwrap().records, 4_000);
    bench.assert_equals_topic(&topic);
    bench.assert_exact(4_000);
}

/// Halves what the only partition of a topic holds, as a broker does that comes back without what it had not written.
fn truncate(broker: &mut Embedded, topic: &str) {
    broker.stop();
    let segments = broker.dir().join("topics").join(topic).join("0");
    let log = largest(&segments);
    let length = log.metadata().unwrap().len();
    log.set_len(length / 2).unwrap();
    drop(log);
    broker.restart();
}

fn largest(folder: &Path) -> File {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let size = |path: &PathBuf| path.metadata().unwrap().len();
    OpenOptions::new().write(true).open(paths.max_by_key(size).unwrap()).unwrap()
}

/// What a partition holds, as errors write it.
fn range(brokers: &str, topic: &str) -> String {
    let held = Admin::connect(brokers, &Default::default()).unwrap().watermarks(topic).unwrap();
    format!("{topic}-0 holds the offsets {} to {} (exclusive)", held[&0].low, held[&0].high)
}

/// Several batches, so that half of the bytes is about half of the records.
fn produce_in_batches(brokers: &str, topic: &str, records: &[Vec<u8>]) {
    records.chunks(100).for_each(|part| produce(brokers, topic, part.iter().cloned()));
}

/// Fault matrix 14.
#[test]
fn embedded_a_log_truncated_below_our_progress_stops_the_next_run_with_its_range() {
    let mut broker = Embedded::start();
    let topic = topic(&broker.brokers(), 1);
    let bench = bench(&broker.brokers(), &topic);
    let records = flights(1_000, 14);
    produce_in_batches(&broker.brokers(), &topic, &records);
    bench.catch_up().unwrap();
    truncate(&mut broker, &topic);
    let range = range(&broker.brokers(), &topic);
    for gaps in [Gaps::Refuse, Gaps::Accept] {
        let error = bench.catch_up_with(gaps).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&range) && text.contains("offset 1000 comes next"), "{range}: {text}");
        assert!(!error.is_usage());
    }
    assert_eq!(sum(&bench.lake()), plain_sum(&records), "the table must stay as it was");
}

/// Fault matrix 14.
#[test]
fn embedded_a_log_truncated_below_our_progress_stops_the_run_that_reads_it() {
    let mut broker = Embedded::start();
    let topic = topic(&broker.brokers(), 1);
    let bench = bench(&broker.brokers(), &topic);
    let records = flights(1_000, 14);
    produce_in_batches(&broker.brokers(), &topic, &records);
    let (running, name) = (&mut broker, &topic);
    let ended = bench.run_until(|metrics| async move {
        at_least(1_000, || metrics.records_committed()).await;
        tokio::task::block_in_place(|| truncate(running, name));
        tokio::time::sleep(Duration::from_secs(30)).await;
    });
    let text = ended.expect_err("the run must not go on").to_string();
    let range = range(&broker.brokers(), &topic);
    assert!(text.contains(&range) && text.contains("offset 1000 comes next"), "{range}: {text}");
    assert_eq!(sum(&bench.lake()), plain_sum(&records), "the table must stay as it was");
}

/// Fault matrix 16.
#[test]
fn embedded_retention_that_passes_us_stops_the_next_run_until_the_gap_is_accepted() {
    let broker = Embedded::start_with(|config| {
        config.segment_bytes = 20_000;
        config.retention_bytes = Some(100_000);
        config.retention_check = Duration::from_millis(20);
    });
    let topic = topic(&broker.brokers(), 1);
    let bench = bench(&broker.brokers(), &topic);
    let records = flights(2_100, 16);
    produce(&broker.brokers(), &topic, records[..100].iter().cloned());
    bench.catch_up().unwrap();
    produce_in_batches(&broker.brokers(), &topic, &records[100..]);
    let low = oldest_offset_that_stays(&broker.brokers(), &topic);
    assert!(low > 100, "retention did not pass us");

    let error = bench.catch_up().unwrap_err().to_string();
    let range = range(&broker.brokers(), &topic);
    assert!(error.contains(&range) && error.contains("offset 100 comes next"), "{range}: {error}");
    assert!(error.contains("--accept-gap"), "{error}");
    assert_eq!(sum(&bench.lake()), plain_sum(&records[..100]), "the table must stay as it was");

    let accepted = bench.catch_up_with(Gaps::Accept).unwrap();
    assert_eq!(accepted.records, 2_100 - low as u64);
    let kept: Vec<Vec<u8>> = records[..100].iter().chain(&records[low as usize..]).cloned().collect();
    assert_eq!(sum(&bench.lake()), plain_sum(&kept));
    let [gap] = bench.audit().gaps.try_into().unwrap();
    assert_eq!((gap.from, gap.next), (100, low));
}

/// Waits until retention has removed what it will.
fn oldest_offset_that_stays(brokers: &str, topic: &str) -> i64 {
    let admin = Admin::connect(brokers, &Default::default()).unwrap();
    let low = || admin.watermarks(topic).unwrap()[&0].low;
    let (begun, mut seen, mut since) = (Instant::now(), low(), Instant::now());
    while seen == 0 || since.elapsed() < Duration::from_millis(200) {
        assert!(begun.elapsed() < Duration::from_secs(30), "retention removed nothing");
        if low() != seen {
            (seen, since) = (low(), Instant::now());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    seen
}

/// Fault matrix 19.
#[test]
fn embedded_partitions_added_while_it_runs_are_read_from_their_start() {
    partitions_added_while_it_runs_are_read_from_their_start(&Embedded::start().brokers());
}

/// Fault matrix 19.
#[test]
fn apache_partitions_added_while_it_runs_are_read_from_their_start() {
    if let Some(kafka) = Apache::shared() {
        partitions_added_while_it_runs_are_read_from_their_start(kafka.brokers());
    }
}

fn partitions_added_while_it_runs_are_read_from_their_start(brokers: &str) {
    let topic = topic(brokers, 1);
    // Even where a run is told to begin at the end, what is added later is new from its first record.
    let bench = bench(brokers, &topic).set(&[&SOON[..], &["ingest.start=latest"]].concat());
    let records = flights(900, 19);
    produce(brokers, &topic, records[..300].iter().cloned());
    let name = &topic;
    let summary = bench.run_until(|metrics| {
        let records = &records;
        async move {
            let fill = |range: std::ops::Range<usize>| {
                tokio::task::block_in_place(|| produce(brokers, name, records[range].iter().cloned()));
            };
            // Whatever lies before the run's beginning stays out; only one record more tells that it has begun.
            let mut sent = 300;
            while metrics.records_committed() == 0 {
                fill(sent..sent + 1);
                sent += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let before = metrics.records_committed();
            tokio::task::block_in_place(|| topics::add_partitions(brokers, name, 3));
            let more = records[600..].iter().enumerate();
            let spread = more.map(|(i, record)| Record::new(record.clone()).to(1 + i as i32 % 2));
            tokio::task::block_in_place(|| produce(brokers, name, spread));
            at_least(before + 300, || metrics.records_committed()).await;
        }
    });
    let report = bench.audit();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.records, summary.unwrap().records);
    let added: Vec<_> = report.partitions[1..].iter().map(|p| (p.from, p.next, p.records)).collect();
    assert_eq!(added, [(0, 150, 150), (0, 150, 150)]);
}
