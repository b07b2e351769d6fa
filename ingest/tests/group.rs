//! Two sources in one group: partitions change hands without loss and without doubles.

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use puddle_ingest::{Error, Event, FreshProgress, Source, SourceSettings};
use puddle_testkit::unique;
use puddle_types::{Progress, TopicPartition};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use support::*;

against_both!(
    partitions_change_hands_after_a_commit,
    who_does_not_let_go_in_time_loses_them,
    what_a_leaver_held_goes_to_those_who_stay,
    a_group_that_refuses_us_is_an_error_with_its_reason,
    a_partition_goes_on_from_what_another_member_committed_meanwhile,
    a_member_with_a_fixed_name_leaves_at_once_where_others_can_go_on,
    of_two_members_with_one_fixed_name_the_earlier_is_told,
    a_paused_source_reads_nothing_and_still_lets_partitions_go,
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
    let back = assignment_after(&mut first, &mut seen);
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

/// Settings of a member that shares a table with others, named `member`; what the table has is in the second value.
fn sharing(brokers: &str, topic: &str, group: &str, member: &str, table: &Table) -> SourceSettings {
    let mut settings = settings(brokers, topic);
    settings.group = group.to_owned();
    settings.config.client = client(&[("group.instance.id", member)]);
    let table = Arc::clone(table);
    settings.sharing = Some(FreshProgress::new(move || Ok(table.lock().unwrap().clone())));
    settings
}

type Table = Arc<Mutex<Progress>>;

fn a_partition_goes_on_from_what_another_member_committed_meanwhile(brokers: &str) {
    let (topic, group, table) = (topic(brokers, 2), unique("group"), Table::default());
    (0..2).for_each(|p| fill(brokers, &topic, p, 0..100));
    let mut first = Source::start(sharing(brokers, &topic, &group, "a", &table), Progress::new()).unwrap();
    let mut seen = Seen::until_ends(&mut first, 2);

    // It begins when nothing is committed, and is given a partition of which everything is.
    let mut second = Source::start(sharing(brokers, &topic, &group, "b", &table), Progress::new()).unwrap();
    let (revoked, ack) = revocation(&mut first, &mut seen);
    *table.lock().unwrap() = seen.progress();
    assert!(ack.done());
    assert_eq!(assignment(&mut second), revoked);
    let nothing = Seen::until_ends(&mut second, 1);
    assert_eq!(
        (nothing.records(), &nothing.ends[&revoked[0]]),
        (0, &100),
        "committed records were read again"
    );
    fill(brokers, &topic, revoked[0].partition, 100..110);
    assert_eq!(Seen::until_records(&mut second, 10).ids(), (100..110).collect::<Vec<_>>());
}

fn a_member_with_a_fixed_name_leaves_at_once_where_others_can_go_on(brokers: &str) {
    let (topic, group, table) = (topic(brokers, 2), unique("group"), Table::default());
    let mut first = Source::start(sharing(brokers, &topic, &group, "a", &table), Progress::new()).unwrap();
    let mut seen = Seen::until_ends(&mut first, 2);
    let mut second = Source::start(sharing(brokers, &topic, &group, "b", &table), Progress::new()).unwrap();
    let (revoked, ack) = revocation(&mut first, &mut seen);
    drop(ack);
    assert_eq!(assignment(&mut second), revoked);
    let begin = Instant::now();
    second.close();
    assert_eq!(assignment_after(&mut first, &mut seen), revoked);
    assert!(begin.elapsed() < Duration::from_secs(30), "the session of 45 s was waited for");
}

/// The next assignment of anything; events before it are added to `seen`.
fn assignment_after(source: &mut Source, seen: &mut Seen) -> Vec<TopicPartition> {
    loop {
        match next(source) {
            Event::Assigned(partitions) if !partitions.is_empty() => return partitions,
            other => seen.add(other),
        }
    }
}

/// Fault matrix 23.
fn of_two_members_with_one_fixed_name_the_earlier_is_told(brokers: &str) {
    let (topic, group, table) = (topic(brokers, 1), unique("group"), Table::default());
    let mut first = Source::start(sharing(brokers, &topic, &group, "a", &table), Progress::new()).unwrap();
    Seen::until_ends(&mut first, 1);
    let mut second = Source::start(sharing(brokers, &topic, &group, "a", &table), Progress::new()).unwrap();
    Seen::until_ends(&mut second, 1);
    let error = loop {
        match wait(first.next()).expect("an event") {
            Ok(
                Event::Revoking { .. } | Event::Lost(_) | Event::Assigned(_) | Event::EndOfPartition { .. },
            ) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Fenced { .. }) && !error.is_usage(), "{error}");
    let text = error.to_string();
    assert!(text.contains(&group) && text.contains("\"a\""), "{text}");
    drop(first);
    fill(brokers, &topic, 0, 0..5);
    assert_eq!(Seen::until_records(&mut second, 5).records(), 5, "the later one must go on");
}

fn a_paused_source_reads_nothing_and_still_lets_partitions_go(brokers: &str) {
    let (topic, group, table) = (topic(brokers, 2), unique("group"), Table::default());
    (0..2).for_each(|p| fill(brokers, &topic, p, 0..10));
    let mut first = Source::start(sharing(brokers, &topic, &group, "a", &table), Progress::new()).unwrap();
    Seen::until_ends(&mut first, 2);
    first.pause();
    (0..2).for_each(|p| fill(brokers, &topic, p, 10..20));
    let mut second = Source::start(sharing(brokers, &topic, &group, "b", &table), Progress::new()).unwrap();
    let mut seen = Seen::default();
    let (revoked, ack) = revocation(&mut first, &mut seen);
    assert_eq!((seen.records(), seen.ends.len()), (0, 0), "something came from a paused source");
    assert!(ack.done(), "in time");
    assert_eq!(assignment(&mut second), revoked);
    assert_eq!(Seen::until_records(&mut second, 20).records(), 20);

    first.rewind(Progress::new());
    let kept = Seen::until_records(&mut first, 20);
    assert_eq!(kept.ids(), (0..20).collect::<Vec<_>>());
    assert!(kept.batches.iter().all(|batch| !revoked.contains(&batch.partition)));
}
