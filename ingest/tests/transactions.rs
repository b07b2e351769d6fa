//! Offsets that no reader ever gets: control records, aborted transactions, compacted records.

mod support;

use puddle_ingest::reader::{Range, Reader};
use puddle_ingest::{Error, Source};
use puddle_testkit::{Apache, produce, topics, unique};
use puddle_types::{Progress, TopicPartition};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use support::*;

/// A transaction with these ids in partition 0, committed or aborted.
fn transaction(producer: &BaseProducer, topic: &str, ids: std::ops::Range<usize>, commit: bool) {
    producer.begin_transaction().unwrap();
    for id in ids {
        let value = numbered(id).value.unwrap();
        let record: BaseRecord<'_, (), _> = BaseRecord::to(topic).partition(0).payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
    match commit {
        true => producer.commit_transaction(DEADLINE).unwrap(),
        false => producer.abort_transaction(DEADLINE).unwrap(),
    }
}

fn transactional(brokers: &str) -> BaseProducer {
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("transactional.id", unique("transactions"));
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(DEADLINE).unwrap();
    producer
}

/// Fault matrix 17.
#[test]
fn apache_aborted_transactions_are_invisible_and_their_offsets_accounted_for() {
    let Some(apache) = Apache::shared() else { return };
    let (brokers, topic) = (apache.brokers(), topic(apache.brokers(), 1));
    let producer = transactional(brokers);
    transaction(&producer, &topic, 0..5, true); // offsets 0 to 4, control record at 5
    transaction(&producer, &topic, 100..110, false); // 6 to 15, control record at 16
    transaction(&producer, &topic, 5..8, true); // 17 to 19, control record at 20

    let settings = settings(brokers, &topic);
    let mut source = Source::start(settings.clone(), Progress::new()).unwrap();
    let seen = Seen::until_ends(&mut source, 1);
    source.close();
    assert_eq!(seen.ids(), (0..8).collect::<Vec<_>>());
    assert_eq!(seen.ends.values().collect::<Vec<_>>(), [&21], "beyond the control record");
    seen.assert_whole(|_| 0);
    assert_eq!(seen.batches.last().unwrap().last.unwrap().offset, 19);

    transaction(&producer, &topic, 200..210, false); // 21 to 30, control record at 31
    let mut source = Source::start(settings, seen.progress()).unwrap();
    let nothing = Seen::until_ends(&mut source, 1);
    assert_eq!((nothing.records(), nothing.ends.values().next()), (0, Some(&32)));

    let partition = TopicPartition::new(&*topic, 0);
    let mut reader = Reader::open(brokers, &Default::default(), vec![Range::new(partition, 0, 32)]).unwrap();
    let (mut offsets, mut end) = (Vec::new(), 0);
    while let Some(batch) = reader.next().unwrap() {
        assert_eq!(batch.from, end);
        offsets.extend(batch.records().map(|record| record.offset));
        end = batch.next;
    }
    assert_eq!((offsets, end), (vec![0, 1, 2, 3, 4, 17, 18, 19], 32));
}

/// Fault matrix 17.
#[test]
fn apache_an_open_transaction_holds_back_what_follows_until_it_ends() {
    let Some(apache) = Apache::shared() else { return };
    let (brokers, topic) = (apache.brokers(), topic(apache.brokers(), 1));
    let producer = transactional(brokers);
    producer.begin_transaction().unwrap();
    let record: BaseRecord<'_, (), _> = BaseRecord::to(&topic).partition(0).payload("{\"id\":1}");
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(DEADLINE).unwrap();
    fill(brokers, &topic, 0, 2..4);
    let mut source = Source::start(settings(brokers, &topic), Progress::new()).unwrap();
    let before = Seen::until_ends(&mut source, 1);
    assert_eq!((before.records(), before.ends.values().next()), (0, Some(&0)));
    producer.commit_transaction(DEADLINE).unwrap();
    let after = Seen::until_ends(&mut source, 1);
    assert_eq!((after.ids(), after.ends.values().next()), (vec![1, 2, 3], Some(&4)));
}

/// Fault matrix 18.
#[test]
fn apache_gaps_left_by_compaction_do_not_stall() {
    let Some(apache) = Apache::shared() else { return };
    let (brokers, topic) = (apache.brokers(), unique("compacted"));
    let eager = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("segment.ms", "100"),
        ("max.compaction.lag.ms", "100"),
        ("min.compaction.lag.ms", "0"),
    ];
    topics::create_with(brokers, &topic, 1, &eager);
    produce(brokers, &topic, (0..100).map(|id| numbered(id).key("same").to(0)));
    // Only closed segments are compacted, and a segment is closed by a record some time later.
    let partition = TopicPartition::new(&*topic, 0);
    let begin = std::time::Instant::now();
    let compacted = |high| {
        let ranges = vec![Range::new(partition.clone(), 0, high)];
        let mut reader = Reader::open(brokers, &Default::default(), ranges).unwrap();
        let first = reader.next().unwrap().unwrap();
        first.records().next().is_some_and(|record| record.offset > 0)
    };
    let high = (101..)
        .find(|high| {
            produce(brokers, &topic, [numbered(100).key("other").to(0)]);
            assert!(begin.elapsed() < DEADLINE, "the broker compacted nothing");
            compacted(*high)
        })
        .unwrap();

    let settings = settings(brokers, &topic);
    let mut source = Source::start(settings.clone(), Progress::new()).unwrap();
    let seen = Seen::until_ends(&mut source, 1);
    source.close();
    seen.assert_whole(|_| 0);
    assert_eq!(seen.ends[&partition], high);
    let ids = seen.ids();
    assert!(ids.contains(&99) && ids.contains(&100) && !ids.contains(&0), "{ids:?}");
    // Progress whose last record was compacted away since cannot be compared, and is no reason to stop.
    let mut progress = seen.progress();
    let position = progress.get_mut(&partition).unwrap();
    position.last = Some(puddle_types::Fingerprint { offset: 0, timestamp: 1, hash: 1 });
    Source::start(settings, progress).unwrap().close();
}

#[test]
fn apache_a_range_beyond_the_end_is_a_gap() {
    let Some(apache) = Apache::shared() else { return };
    let (brokers, topic) = (apache.brokers(), topic(apache.brokers(), 1));
    fill(brokers, &topic, 0, 0..10);
    let ranges = vec![Range::new(TopicPartition::new(&*topic, 0), 0, 20)];
    let mut reader = Reader::open(brokers, &Default::default(), ranges).unwrap();
    let error = loop {
        match reader.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the range was read beyond the end"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Gap { high: 10, .. }), "{error}");
}
