//! Looking at a cluster, and reading without a group.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use puddle_ingest::admin::{Admin, CONNECT_PATIENCE};
use puddle_ingest::reader::{Range, Reader, sample};
use puddle_ingest::{Error, Watermarks};
use puddle_testkit::{Record, produce, unique};
use puddle_types::TopicPartition;
use support::*;

against_both!(
    topics_are_made_listed_and_deleted,
    wrong_topics_are_named_with_the_nearest,
    a_group_that_never_was_has_no_offsets,
    ranges_are_read_and_nothing_else,
    samples_are_the_first_records,
);

fn admin(brokers: &str) -> Admin {
    Admin::connect(brokers, &Default::default()).unwrap()
}

fn topics_are_made_listed_and_deleted(brokers: &str) {
    let (admin, name) = (admin(brokers), unique("made"));
    admin.create_topic(&name, 3).unwrap();
    fill(brokers, &name, 1, 0..5);
    let listed = admin.topics().unwrap();
    assert!(listed.iter().map(|topic| &topic.name).is_sorted());
    assert!(listed.iter().all(|topic| !topic.name.starts_with("__")));
    let made = listed.iter().find(|topic| topic.name == name).unwrap();
    let held: Vec<_> = made.partitions.iter().map(|(p, w)| (*p, w.low, w.high)).collect();
    assert_eq!((held, made.offsets()), (vec![(0, 0, 0), (1, 0, 5), (2, 0, 0)], 5));
    assert_eq!(admin.watermarks(&name).unwrap()[&1], Watermarks { low: 0, high: 5 });

    let error = admin.create_topic(&name, 1).unwrap_err();
    assert!(matches!(error, Error::TopicExists { .. }) && error.is_usage(), "{error}");
    admin.delete_topic(&name).unwrap();
    assert!(admin.topics().unwrap().iter().all(|topic| topic.name != name));
    assert!(matches!(admin.delete_topic(&name), Err(Error::UnknownTopic { .. })));
}

fn wrong_topics_are_named_with_the_nearest(brokers: &str) {
    let (admin, name) = (admin(brokers), unique("flights"));
    admin.create_topic(&name, 1).unwrap();
    let error = admin.watermarks(&format!("{name}x")).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains(&format!("did you mean {name:?}?")), "{error}");
    assert!(matches!(admin.create_topic("a b", 1), Err(Error::TopicName { .. })));
}

fn a_group_that_never_was_has_no_offsets(brokers: &str) {
    let topic = topic(brokers, 2);
    assert_eq!(admin(brokers).group_offsets(&unique("nobody"), &[&topic]).unwrap(), BTreeMap::new());
}

fn ranges_are_read_and_nothing_else(brokers: &str) {
    let topic = topic(brokers, 3);
    (0..3).for_each(|p| fill(brokers, &topic, p, 0..20_000));
    let ranges = [(0, 0, 20_000), (1, 5, 19_001), (2, 7, 7)];
    let range = |(p, from, next): (i32, i64, i64)| Range::new(TopicPartition::new(&*topic, p), from, next);
    for values in [true, false] {
        let ranges = ranges.map(range).to_vec();
        let mut reader = Reader::open(brokers, &Default::default(), ranges).unwrap();
        if !values {
            reader = reader.offsets_only();
        }
        let mut at: BTreeMap<i32, i64> = [(0, 0), (1, 5)].into();
        while let Some(batch) = reader.next().unwrap() {
            let expected = at.get_mut(&batch.partition.partition).unwrap();
            assert_eq!(batch.from, *expected, "in order, without a gap");
            for (i, record) in batch.records().enumerate() {
                assert_eq!(record.offset, *expected + i as i64);
                let value = format!("{{\"id\":{}}}", record.offset);
                assert_eq!(record.value, values.then_some(value.as_bytes()));
            }
            *expected = batch.next;
        }
        assert_eq!(at, [(0, 20_000), (1, 19_001)].into());
    }
}

fn samples_are_the_first_records(brokers: &str) {
    let topic = topic(brokers, 2);
    assert_eq!(sample(brokers, &Default::default(), &topic, 10).unwrap().len(), 0);
    (0..2).for_each(|p| fill(brokers, &topic, p, 0..50));
    produce(brokers, &topic, [Record::new("last").to(0)]);
    let count = |limit| -> usize {
        sample(brokers, &Default::default(), &topic, limit).unwrap().iter().map(|batch| batch.len()).sum()
    };
    assert_eq!((count(10), count(1000)), (10, 101));
}

/// Fault matrix 12.
#[test]
fn an_unreachable_broker_is_an_error_within_seconds() {
    let begin = Instant::now();
    let error = Admin::connect("127.0.0.1:1", &Default::default()).err().unwrap();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(begin.elapsed() < CONNECT_PATIENCE + Duration::from_secs(1));
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1") && text.contains("puddle broker"), "{text}");
}
