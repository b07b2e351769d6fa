//! Producing and reading records.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use puddle_testkit::records::produce_with;
use puddle_testkit::topics::create;
use puddle_testkit::{Record, consume_all, produce, unique};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::eventually;

const TIMEOUT: Duration = Duration::from_secs(20);

fn consumer(brokers: &str, settings: &[(&str, &str)]) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", unique("reader")).set("check.crcs", "true");
    settings.iter().for_each(|(key, value)| _ = config.set(*key, *value));
    config.create().unwrap()
}

fn assign(consumer: &BaseConsumer, topic: &str, offset: Offset) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, offset).unwrap();
    consumer.assign(&list).unwrap();
}

pub(crate) fn every_compression_is_kept(brokers: &str) {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = unique(codec);
        create(brokers, &topic, 1);
        let values: Vec<String> =
            (0..2_000).map(|n| format!("{codec} record {n} {}", "x".repeat(50))).collect();
        produce_with(brokers, &topic, values.iter().map(String::as_str), &[("compression.type", codec)]);
        let read = consume_all(brokers, &topic);
        let read: Vec<&[u8]> = read.iter().map(|record| record.value.as_deref().unwrap()).collect();
        assert!(read == values.iter().map(String::as_bytes).collect::<Vec<_>>(), "{codec}");
    }
}

pub(crate) fn records_keep_key_timestamp_and_headers(brokers: &str) {
    let topic = unique("kept");
    create(brokers, &topic, 2);
    produce(
        brokers,
        &topic,
        [Record::new("v").key("k").to(1).at(1_234), Record::tombstone("gone").to(1).at(99)],
    );
    let read = consume_all(brokers, &topic);
    let expected = |offset, record: Record| Record { offset: Some(offset), ..record };
    assert_eq!(
        read,
        [
            expected(0, Record::new("v").key("k").to(1).at(1_234)),
            expected(1, Record::tombstone("gone").to(1).at(99)),
        ]
    );

    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let headers = OwnedHeaders::new().insert(Header { key: "trace", value: Some("17") });
    producer.send(BaseRecord::<str, str>::to(&topic).partition(0).payload("h").headers(headers)).unwrap();
    producer.flush(TIMEOUT).unwrap();
    let consumer = consumer(brokers, &[]);
    assign(&consumer, &topic, Offset::Beginning);
    let message = consumer.poll(TIMEOUT).expect("a record").unwrap();
    let header = message.headers().unwrap().get(0);
    assert_eq!((header.key, header.value), ("trace", Some(&b"17"[..])));
}

pub(crate) fn an_idempotent_producer_stores_each_record_once(brokers: &str) {
    let topic = unique("idempotent");
    create(brokers, &topic, 3);
    let values: Vec<String> = (0..5_000).map(|n| n.to_string()).collect();
    let settings = [("enable.idempotence", "true"), ("batch.num.messages", "50")];
    produce_with(
        brokers,
        &topic,
        values.iter().map(|value| Record::new(value.as_str()).key(value.as_str())),
        &settings,
    );
    let read = consume_all(brokers, &topic);
    let distinct: HashSet<_> = read.iter().map(|record| record.value.clone()).collect();
    assert_eq!((read.len(), distinct.len()), (5_000, 5_000));
}

pub(crate) fn a_waiting_reader_is_woken_by_a_record(brokers: &str) {
    let topic = unique("waiting");
    create(brokers, &topic, 1);
    // Were it not woken, it would see the record when its wait is over, after 10 s.
    let consumer = consumer(brokers, &[("fetch.wait.max.ms", "10000"), ("socket.timeout.ms", "20000")]);
    assign(&consumer, &topic, Offset::Beginning);
    produce(brokers, &topic, ["first"]);
    consumer.poll(TIMEOUT).expect("a record").unwrap();
    assert!(consumer.poll(Duration::from_millis(500)).is_none(), "it waits for a second one");
    produce(brokers, &topic, ["second"]);
    let produced = Instant::now();
    let message = consumer.poll(TIMEOUT).expect("a record").unwrap();
    assert_eq!(message.payload(), Some(&b"second"[..]));
    assert!(produced.elapsed() < Duration::from_secs(2), "after {:?}", produced.elapsed());
}

pub(crate) fn offsets_are_found_by_time(brokers: &str) {
    let topic = unique("times");
    create(brokers, &topic, 1);
    let records = (0..1_000).map(|n| Record::new(format!("{n}")).to(0).at(1_000_000 + n * 10));
    produce_with(brokers, &topic, records, &[("batch.num.messages", "70"), ("compression.type", "lz4")]);
    let consumer = consumer(brokers, &[]);
    assert_eq!(consumer.fetch_watermarks(&topic, 0, TIMEOUT).unwrap(), (0, 1_000));
    let at = |time| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Offset(time)).unwrap();
        let found = consumer.offsets_for_times(list, TIMEOUT).unwrap();
        found.elements()[0].offset()
    };
    assert_eq!(at(0), Offset::Offset(0));
    assert_eq!(at(1_000_000), Offset::Offset(0));
    assert_eq!(at(1_005_001), Offset::Offset(501));
    assert_eq!(at(1_009_990), Offset::Offset(999));
    assert_eq!(at(1_009_991), Offset::End);
}

pub(crate) fn reading_beyond_the_end_is_an_error(brokers: &str) {
    let topic = unique("beyond");
    create(brokers, &topic, 1);
    produce(brokers, &topic, ["only"]);
    let consumer = consumer(brokers, &[("auto.offset.reset", "error")]);
    assign(&consumer, &topic, Offset::Offset(50));
    eventually("an error", || match consumer.poll(Duration::from_millis(100)) {
        Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => true,
        Some(other) => panic!("{other:?}"),
        None => false,
    });
}

pub(crate) fn a_batch_that_is_too_large_is_refused(brokers: &str) {
    let topic = unique("large");
    create(brokers, &topic, 1);
    let producer: BaseProducer<Outcome> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("message.max.bytes", "5000000")
        .create_with_context(Outcome::default())
        .unwrap();
    let payload = vec![b'x'; 2_000_000];
    producer.send(BaseRecord::<(), _>::to(&topic).payload(&payload)).map_err(|(error, _)| error).unwrap();
    producer.flush(TIMEOUT).unwrap();
    let outcome = producer.context().0.lock().unwrap().take();
    assert_eq!(outcome, Some(Some(RDKafkaErrorCode::MessageSizeTooLarge)));
    // The connection goes on being served.
    produce(brokers, &topic, ["small"]);
    assert_eq!(consume_all(brokers, &topic).len(), 1);
}

/// What became of the last record: an error code, if any.
#[derive(Default)]
struct Outcome(std::sync::Mutex<Option<Option<RDKafkaErrorCode>>>);

impl rdkafka::ClientContext for Outcome {}

impl rdkafka::producer::ProducerContext for Outcome {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::message::DeliveryResult<'_>, (): ()) {
        let code = result.as_ref().err().and_then(|(error, _)| error.rdkafka_error_code());
        *self.0.lock().unwrap() = Some(code);
    }
}
