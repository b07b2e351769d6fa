//! Two sources in one group: partitions change hands without loss and without doubles.

mod support;

use std::time::{Duration, Instant};

use puddle_ingest::{Error, Event, Source, SourceSettings};
use puddle_types::{Progress, TopicPartition};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use support::*;

against_both!(
    partitions_change_hands_after_a_commit,
    who_does_not_let_go_in_time_loses_them,
    what_a_leaver_held_goes_to_those_who_stay,
    a_group_that_refuses_us_is_an_error_with_its_reason,
);

/// The revocation that a second member of the group brings about. Events before it are added to `seen`.
fn revocation(source: &mut Source, seen: &mut Seen) -> (Vec<TopicPartition>, puddle_ingest::Ack) {
    loop {
        match next(source) {
            Event::Revoking { partitions, ack } => return (partitions, ack),
            other => seen.add(other),
        }
    }
}

fn assignment(source: &mut Source) -> Vec<TopicPartition> {
    loop {
        match next(source) {
            Event::Assigned(partitions) if !partitions.is_empty() => return partitions,
            Event::Assigned(_) => {}
            other => panic!("{other:?} before an assignment"),
        }
    }
}

fn partitions_change_hands_after_a_commit(brokers: &str) {
    let topic = topic(brokers, 4);
    (0..4).for_each(|p| fill(brokers, &topic, p, 0..100));
    let settings = settings(brokers, &topic);
    let mut first = Source::start(settings.clone(), Progress::new()).unwrap();
    let mut seen = Seen::until_ends(&mut first, 4);

    let mut second = Source::start(settings, seen.progress()).unwrap();
    let (revoked, ack) = revocation(&mut first, &mut seen);
    assert_eq!(revoked.len(), 2, "the sticky assignor moves only what must move");
    first.commit_hint(&seen.progress());
    assert!(ack.done(), "in time");
    let mut assigned = assignment(&mut second);
    assigned.sort();
    let mut sorted = revoked.clone();
    sorted.sort();
    assert_eq!(assigned, sorted);

    (0..4).for_each(|p| fill(brokers, &topic, p, 100..200));
    let of_first = Seen::until_records(&mut first, 200);
    let of_second = Seen::until_records(&mut second, 200);
    // The first had come to the ends of its two before the rebalance: nothing behind them may be skipped.
    let twice = (100..200).flat_map(|id| [id, id]).collect::<Vec<_>>();
    assert_eq!((of_first.ids(), of_second.ids()), (twice.clone(), twice));
    assert!(of_first.batches.iter().all(|batch| !revoked.contains(&batch.partition)));
    assert!(first.watermarks().keys().all(|partition| !revoked.contains(partition)));
}

fn who_does_not_let_go_in_time_loses_them(brokers: &str) {
    let topic = topic(brokers, 2);
    (0..2).for_each(|p| fill(brokers, &topic, p, 0..10));
    let mut settings = settings(brokers, &topic);
    settings.revoke_wait = Duration::from_millis(50);
    let mut first = Source::start(settings.clone(), Progress::new()).unwrap();
    let mut seen = Seen::until_ends(&mut first, 2);
    let mut second = Source::start(settings, Progress::new()).unwrap();
    let (revoked, ack) = revocation(&mut first, &mut seen);
    let lost = loop {
        match next(&mut first) {
            Event::Lost(partitions) => break partitions,
            Event::Assigned(_) | Event::EndOfPartition { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(lost, revoked);
    assert!(!ack.done(), "too late");
    assert_eq!(assignment(&mut second), revoked);
    assert_eq!(Seen::until_ends(&mut second, 1).records(), 10);
}

fn what_a_leaver_held_goes_to_those_who_stay(brokers: &str) {
    let topic = topic(brokers, 2);
    (0..2).for_each(|p| fill(brokers, &topic, p, 0..10));
    let settings = settings(brokers, &topic);
    let mut first = Source::start(settings.clone(), Progress::new()).unwrap();
    let mut seen = Seen::until_ends(&mut first, 2);
    let mut second = Source::start(settings, seen.progress()).unwrap();
    let (revoked, ack) = revocation(&mut first, &mut seen);
    first.commit_hint(&seen.progress());
    drop(ack);
    assert_eq!(assignment(&mut second), revoked);
    second.close();
    let back = loop {
        match next(&mut first) {
            Event::Assigned(partitions) if !partitions.is_empty() => break partitions,
            other => seen.add(other),
        }
    };
    assert_eq!(back, revoked, "leaving is told to the group, and not found out after the session's time");
    fill(brokers, &topic, revoked[0].partition, 10..15);
    let more = Seen::until_records(&mut first, 5);
    assert_eq!(more.ids(), (10..15).collect::<Vec<_>>());
}

fn refusal(settings: SourceSettings) -> Error {
    let mut source = Source::start(settings, Progress::new()).unwrap();
    wait(source.next()).expect("an event").expect_err("the group must refuse us")
}

fn a_group_that_refuses_us_is_an_error_with_its_reason(brokers: &str) {
    let topic = topic(brokers, 1);
    let mut short = settings(brokers, &topic);
    short.config.client = client(&[("session.timeout.ms", "10")]);
    let error = refusal(short);
    assert!(matches!(error, Error::Group { .. }) && error.is_usage(), "{error}");
    assert!(error.to_string().contains("session.timeout.ms"), "{error}");

    let settings = settings(brokers, &topic);
    let other: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", &settings.group)
        .set("partition.assignment.strategy", "range")
        .create()
        .unwrap();
    other.subscribe(&[&topic]).unwrap();
    let begin = Instant::now();
    while other.assignment().unwrap().count() == 0 {
        assert!(begin.elapsed() < DEADLINE, "the other member was not assigned anything");
        _ = other.poll(Duration::from_millis(20));
    }
    let group = settings.group.clone();
    let error = refusal(settings);
    assert!(matches!(error, Error::Group { .. }) && error.to_string().contains(&group), "{error}");
}
