//! Progress that does not fit the topic any more stops a source, by name; offsets that are not contiguous do not.

mod support;

use puddle_ingest::admin::Admin;
use puddle_ingest::{Error, Event, Source};
use puddle_testkit::{Apache, produce, topics};
use puddle_types::{Offset, Position, Progress, TopicPartition};
use support::*;

against_both!(
    progress_beyond_the_end_is_a_gap,
    a_topic_made_again_is_noticed_by_its_records,
    a_topic_made_again_with_the_same_record_is_the_same,
    a_partition_that_is_gone_is_named,
    an_empty_topic_without_progress_is_fine,
);

/// Progress of partition 0.
fn at(topic: &str, next: Offset) -> Progress {
    [(TopicPartition::new(topic, 0), Position { next, last: None })].into()
}

fn make_again(brokers: &str, topic: &str, partitions: i32) {
    let admin = Admin::connect(brokers, &Default::default()).unwrap();
    admin.delete_topic(topic).unwrap();
    admin.create_topic(topic, partitions).unwrap();
}

/// Fault matrix 14.
fn progress_beyond_the_end_is_a_gap(brokers: &str) {
    let topic = topic(brokers, 1);
    fill(brokers, &topic, 0, 0..10);
    let settings = settings(brokers, &topic);
    Source::start(settings.clone(), at(&topic, 10)).unwrap().close();
    let error = start_error(settings, at(&topic, 11));
    assert!(matches!(error, Error::Gap { expected: 11, low: 0, high: 10, .. }), "{error}");
    assert!(error.to_string().contains(&format!("{topic}-0")) && !error.is_usage(), "{error}");
}

/// Fault matrix 16.
#[test]
fn apache_progress_below_the_oldest_record_is_a_gap() {
    let Some(apache) = Apache::shared() else { return };
    let brokers = apache.brokers();
    let topic = topic(brokers, 1);
    fill(brokers, &topic, 0, 0..10);
    topics::delete_records(brokers, &topic, 0, 4);
    let settings = settings(brokers, &topic);
    let error = start_error(settings.clone(), at(&topic, 3));
    assert!(matches!(error, Error::Gap { expected: 3, low: 4, high: 10, .. }), "{error}");
    // The last committed record is gone, the next one is there: nothing is missing.
    let mut source = Source::start(settings, at(&topic, 4)).unwrap();
    assert_eq!(Seen::until_ends(&mut source, 1).ids(), (4..10).collect::<Vec<_>>());
}

/// Fault matrix 16.
#[test]
fn apache_records_that_go_while_a_source_waits_are_a_gap() {
    let Some(apache) = Apache::shared() else { return };
    let brokers = apache.brokers();
    let topic = topic(brokers, 1);
    fill(brokers, &topic, 0, 0..10);
    let mut source = Source::start(settings(brokers, &topic), Progress::new()).unwrap();
    let progress = Seen::until_ends(&mut source, 1).progress();
    source.pause();
    fill(brokers, &topic, 0, 10..20);
    topics::delete_records(brokers, &topic, 0, 15);
    source.rewind(progress);
    let error = loop {
        match wait(source.next()).expect("the source ended without a word") {
            Ok(event) => assert!(!matches!(event, Event::Batch(_)), "it went on behind the gap: {event:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Gap { expected: 10, low: 15, high: 20, .. }), "{error}");
}

/// Fault matrix 15.
fn a_topic_made_again_is_noticed_by_its_records(brokers: &str) {
    let topic = topic(brokers, 2);
    (0..2).for_each(|p| fill(brokers, &topic, p, 0..10));
    let settings = settings(brokers, &topic);
    let mut source = Source::start(settings.clone(), Progress::new()).unwrap();
    let progress = Seen::until_ends(&mut source, 2).progress();
    source.close();
    Source::start(settings.clone(), progress.clone()).unwrap().close();

    make_again(brokers, &topic, 2);
    // As many records in the one partition and more in the other: the offsets alone do not give it away.
    fill(brokers, &topic, 0, 100..110);
    fill(brokers, &topic, 1, 100..120);
    let error = start_error(settings, progress);
    assert!(matches!(error, Error::Recreated { offset: 9, low: 0, .. }), "{error}");
    assert!(error.to_string().contains(&topic), "{error}");
}

fn a_topic_made_again_with_the_same_record_is_the_same(brokers: &str) {
    let topic = topic(brokers, 1);
    let record = || numbered(7).to(0).at(1_700_000_000_000);
    produce(brokers, &topic, [record()]);
    let settings = settings(brokers, &topic);
    let mut source = Source::start(settings.clone(), Progress::new()).unwrap();
    let progress = Seen::until_ends(&mut source, 1).progress();
    source.close();
    make_again(brokers, &topic, 1);
    produce(brokers, &topic, [record()]);
    Source::start(settings, progress).unwrap().close();
}

/// Fault matrix 15.
fn a_partition_that_is_gone_is_named(brokers: &str) {
    let topic = topic(brokers, 1);
    let progress = [(TopicPartition::new(&*topic, 3), Position { next: 5, last: None })].into();
    let error = start_error(settings(brokers, &topic), progress);
    assert!(matches!(error, Error::MissingPartition { .. }), "{error}");
    assert!(error.to_string().contains(&format!("{topic}-3")), "{error}");
}

fn an_empty_topic_without_progress_is_fine(brokers: &str) {
    let topic = topic(brokers, 2);
    let mut source = Source::start(settings(brokers, &topic), Progress::new()).unwrap();
    let seen = Seen::until_ends(&mut source, 2);
    assert_eq!((seen.records(), seen.ends.values().sum::<i64>()), (0, 0));
}
