//! Reading: whole, from where it was told, within its bounds.

mod support;

use std::time::{Duration, Instant};

use puddle_ingest::admin::Admin;
use puddle_ingest::{Error, Event, Source, Start};
use puddle_testkit::{Embedded, Record, produce, topics, unique};
use puddle_types::{Position, Progress, TopicPartition};
use support::*;

against_both!(
    reads_everything_in_order,
    resumes_from_progress_and_not_from_the_group,
    starts_at_the_end_when_told_so,
    rejected_records_come_with_the_others,
    waits_within_its_budget_and_stays_in_the_group,
    a_rewind_begins_anew,
    hints_are_committed_to_the_group,
    new_partitions_are_read_from_their_start,
    a_topic_deleted_while_running_is_an_error,
    an_unknown_topic_is_named,
    several_topics_end_each_on_their_own,
);

fn reads_everything_in_order(brokers: &str) {
    let topic = topic(brokers, 3);
    (0..3).for_each(|p| fill(brokers, &topic, p, p as usize * 1000..(p as usize + 1) * 1000));
    let mut source = Source::start(settings(brokers, &topic), Progress::new()).unwrap();
    let seen = Seen::until_ends(&mut source, 3);
    assert_eq!(seen.ids(), (0..3000).collect::<Vec<_>>());
    seen.assert_whole(|_| 0);
    assert!(seen.ends.values().all(|next| *next == 1000), "{:?}", seen.ends);
    let watermarks = source.watermarks();
    assert!(watermarks.len() == 3 && watermarks.values().all(|w| (w.low, w.high) == (0, 1000)));
    assert_eq!(source.bytes_waiting(), 0);

    fill(brokers, &topic, 1, 3000..3010);
    let more = Seen::until_ends(&mut source, 1);
    assert_eq!(more.ids(), (3000..3010).collect::<Vec<_>>());
    more.assert_whole(|_| 1000);
    source.close();
}

fn resumes_from_progress_and_not_from_the_group(brokers: &str) {
    let topic = topic(brokers, 2);
    (0..2).for_each(|p| fill(brokers, &topic, p, 0..100));
    let settings = settings(brokers, &topic);
    let mut source = Source::start(settings.clone(), Progress::new()).unwrap();
    let first = Seen::until_ends(&mut source, 2);
    // The group hears more than the table has: it must not matter.
    source.commit_hint(&first.progress());
    source.close();

    (0..2).for_each(|p| fill(brokers, &topic, p, 100..150));
    let mut progress = first.progress();
    let back = TopicPartition::new(&*topic, 1);
    progress.remove(&back);
    let mut source = Source::start(settings, progress).unwrap();
    let second = Seen::until_ends(&mut source, 2);
    second.assert_whole(|partition| if *partition == back { 0 } else { 100 });
    assert_eq!(second.records(), 50 + 150);
}

fn starts_at_the_end_when_told_so(brokers: &str) {
    let topic = topic(brokers, 1);
    fill(brokers, &topic, 0, 0..100);
    let mut settings = settings(brokers, &topic);
    settings.config.start = Start::Latest;
    let mut source = Source::start(settings, Progress::new()).unwrap();
    let before = Seen::until_ends(&mut source, 1);
    assert_eq!((before.records(), before.ends.values().next()), (0, Some(&100)));
    fill(brokers, &topic, 0, 100..110);
    let after = Seen::until_ends(&mut source, 1);
    assert_eq!(after.ids(), (100..110).collect::<Vec<_>>());
    // A rewind goes to where the partition began, not to the end of today.
    source.rewind(Progress::new());
    let again = Seen::until_ends(&mut source, 1);
    assert_eq!(again.ids(), (100..110).collect::<Vec<_>>());
}

fn rejected_records_come_with_the_others(brokers: &str) {
    let topic = topic(brokers, 1);
    let records = [
        Record::new("{\"id\":1}"),
        Record::new("not json"),
        Record::tombstone("k"),
        Record::new("{\"id\":2}"),
    ];
    produce(brokers, &topic, records.map(|record| record.to(0)));
    let mut source = Source::start(settings(brokers, &topic), Progress::new()).unwrap();
    let seen = Seen::until_ends(&mut source, 1);
    assert_eq!(seen.ids(), [1, 2]);
    let rejected: usize = seen.batches.iter().map(|batch| batch.rejected.num_rows()).sum();
    assert_eq!((rejected, seen.ends.values().next()), (2, Some(&4)));
}

fn waits_within_its_budget_and_stays_in_the_group(brokers: &str) {
    const BUDGET: usize = 1 << 20;
    /// What one call to librdkafka may add beyond the budget: 1024 records of 10 kB.
    const SLACK: usize = 11 << 20;
    let topic = topic(brokers, 4);
    let padding = "x".repeat(10_000);
    let record =
        |id: usize| Record::new(format!("{{\"id\":{id},\"pad\":\"{padding}\"}}")).to((id % 4) as i32);
    produce(brokers, &topic, (0..4000).map(record));

    let mut settings = settings(brokers, &topic);
    settings.budget_bytes = BUDGET;
    // The shortest that Kafka accepts: a source that stopped polling would be thrown out.
    settings.config.client = client(&[("session.timeout.ms", "6000"), ("max.poll.interval.ms", "6000")]);
    let mut source = Source::start(settings, Progress::new()).unwrap();
    let begin = Instant::now();
    let (mut most, mut least_later) = (0, usize::MAX);
    while begin.elapsed() < Duration::from_secs(8) {
        let waiting = source.bytes_waiting();
        most = most.max(waiting);
        if most >= BUDGET {
            least_later = least_later.min(waiting);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(most >= BUDGET, "the budget was never used: {most}");
    assert!(most <= BUDGET + SLACK, "the budget was not kept: {most}");
    assert!(least_later >= BUDGET, "something was thrown away meanwhile");
    // `Seen` fails when a partition was lost or revoked meanwhile.
    let seen = Seen::until_ends(&mut source, 4);
    assert_eq!(seen.ids(), (0..4000).collect::<Vec<_>>());
    seen.assert_whole(|_| 0);
    assert_eq!(seen.batches.iter().map(|batch| batch.generation).max(), Some(4), "assigned once each");
}

fn a_rewind_begins_anew(brokers: &str) {
    const BUDGET: usize = 1 << 20;
    const COUNT: usize = 40_000;
    let topic = topic(brokers, 2);
    (0..2).for_each(|p| fill(brokers, &topic, p, 0..COUNT));
    let mut settings = settings(brokers, &topic);
    settings.budget_bytes = BUDGET;
    let mut source = Source::start(settings, Progress::new()).unwrap();
    let Event::Assigned(_) = next(&mut source) else { panic!("an assignment comes first") };
    let Event::Batch(first) = next(&mut source) else { panic!("a batch comes next") };
    // Much is on its way to us, and much is still to come.
    let begin = Instant::now();
    while source.bytes_waiting() < BUDGET {
        assert!(begin.elapsed() < DEADLINE, "only {} bytes wait", source.bytes_waiting());
        std::thread::sleep(Duration::from_millis(1));
    }
    source.rewind([(first.partition.clone(), Position { next: 7, last: None })].into());
    let seen = Seen::until_ends(&mut source, 2);
    seen.assert_whole(|partition| if *partition == first.partition { 7 } else { 0 });
    assert_eq!(seen.records(), COUNT - 7 + COUNT);
    assert!(seen.batches.iter().all(|batch| batch.generation > first.generation));

    // At the end, too, where nothing new is fetched: the end must be told again.
    source.rewind(seen.progress());
    let nothing = Seen::until_ends(&mut source, 2);
    assert_eq!(nothing.records(), 0);
}

fn hints_are_committed_to_the_group(brokers: &str) {
    let topic = topic(brokers, 2);
    (0..2).for_each(|p| fill(brokers, &topic, p, 0..30 + p as usize));
    let settings = settings(brokers, &topic);
    let group = settings.group.clone();
    let mut source = Source::start(settings, Progress::new()).unwrap();
    let seen = Seen::until_ends(&mut source, 2);
    source.commit_hint(&seen.progress());
    source.close();
    let admin = Admin::connect(brokers, &Default::default()).unwrap();
    let offsets = admin.group_offsets(&group, &[&topic]).unwrap();
    assert_eq!(offsets.into_values().collect::<Vec<_>>(), [30, 31]);
}

/// Fault matrix 19.
fn new_partitions_are_read_from_their_start(brokers: &str) {
    let topic = topic(brokers, 1);
    fill(brokers, &topic, 0, 0..10);
    let mut settings = settings(brokers, &topic);
    settings.config.start = Start::Latest;
    settings.config.client = client(&[("topic.metadata.refresh.interval.ms", "300")]);
    let mut source = Source::start(settings, Progress::new()).unwrap();
    assert_eq!(Seen::until_ends(&mut source, 1).records(), 0);
    add_partitions(brokers, &topic, 2);
    fill(brokers, &topic, 1, 10..20);
    let added = TopicPartition::new(&*topic, 1);
    let mut seen = Seen::default();
    while seen.ends.get(&added) != Some(&10) {
        seen.add(next(&mut source));
    }
    assert_eq!(seen.ids(), (10..20).collect::<Vec<_>>());
}

/// Fault matrix 15.
fn a_topic_deleted_while_running_is_an_error(brokers: &str) {
    let topic = topic(brokers, 1);
    fill(brokers, &topic, 0, 0..10);
    let mut settings = settings(brokers, &topic);
    settings.config.client = client(&[("topic.metadata.refresh.interval.ms", "300")]);
    let mut source = Source::start(settings, Progress::new()).unwrap();
    Seen::until_ends(&mut source, 1);
    topics::delete(brokers, &topic);
    let error = loop {
        match wait(source.next()) {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("the source ended without a reason"),
        }
    };
    assert!(matches!(error, Error::UnknownTopic { .. }), "{error}");
    assert!(wait(source.next()).is_none());
}

fn an_unknown_topic_is_named(brokers: &str) {
    let topic = topic(brokers, 1);
    let wrong = format!("{topic}s");
    let error = start_error(settings(brokers, &wrong), Progress::new());
    assert!(error.is_usage(), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("{wrong:?}")) && text.contains(&format!("{topic:?}")), "{text}");
}

fn several_topics_end_each_on_their_own(brokers: &str) {
    let (full, empty) = (topic(brokers, 1), topic(brokers, 1));
    fill(brokers, &full, 0, 0..5000);
    let mut settings = settings(brokers, &full);
    settings.config.topics.push(empty.clone());
    let mut source = Source::start(settings, Progress::new()).unwrap();
    let seen = Seen::until_ends(&mut source, 2);
    assert_eq!(seen.ends[&TopicPartition::new(&*empty, 0)], 0);
    assert_eq!(seen.ends[&TopicPartition::new(&*full, 0)], 5000);
    assert_eq!(seen.records(), 5000);
}

/// Fault matrix 11.
#[test]
fn embedded_a_broker_that_goes_and_comes_back_is_waited_for() {
    let mut broker = Embedded::start();
    let brokers = broker.brokers();
    let topic = topic(&brokers, 2);
    (0..2).for_each(|p| fill(&brokers, &topic, p, 0..100));
    let mut source = Source::start(settings(&brokers, &topic), Progress::new()).unwrap();
    let before = Seen::until_ends(&mut source, 2);
    source.commit_hint(&before.progress());
    broker.restart();
    (0..2).for_each(|p| fill(&brokers, &topic, p, 100..200));
    let mut after = Seen::default();
    while after.records() < 200 {
        match next(&mut source) {
            // A broker may have forgotten its groups; the partitions come back and go on from the commit.
            Event::Lost(_) => after = Seen::default(),
            other => after.add(other),
        }
    }
    let twice = (100..200).flat_map(|id| [id, id]).collect::<Vec<_>>();
    assert_eq!(after.ids(), twice);
}

/// Fault matrix 12.
#[test]
fn an_unreachable_broker_is_an_error_in_time() {
    let begin = Instant::now();
    let error = start_error(settings("127.0.0.1:1", &unique("none")), Progress::new());
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    assert!(!error.is_usage());
    assert!(begin.elapsed() < puddle_ingest::START_PATIENCE + Duration::from_secs(2));
}
