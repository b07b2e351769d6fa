//! Records: made, produced, and read back.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

const DEADLINE: Duration = Duration::from_secs(60);

/// A record to produce, or one that was read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// `None` lets the producer choose by the key, or spread records without one.
    pub partition: Option<i32>,
    /// Known only of records that were read back.
    pub offset: Option<i64>,
    /// Milliseconds since 1970; `None` is the time of producing.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

impl Record {
    /// A record with a value and nothing else.
    pub fn new(value: impl Into<Vec<u8>>) -> Record {
        Record { value: Some(value.into()), ..Record::default() }
    }

    /// A record with a key and no value.
    pub fn tombstone(key: impl Into<Vec<u8>>) -> Record {
        Record { key: Some(key.into()), ..Record::default() }
    }

    /// With that key.
    pub fn key(self, key: impl Into<Vec<u8>>) -> Record {
        Record { key: Some(key.into()), ..self }
    }

    /// To that partition.
    pub fn to(self, partition: i32) -> Record {
        Record { partition: Some(partition), ..self }
    }

    /// With that timestamp, in milliseconds since 1970.
    pub fn at(self, timestamp: i64) -> Record {
        Record { timestamp: Some(timestamp), ..self }
    }
}

impl<V: Into<Vec<u8>>> From<V> for Record {
    fn from(value: V) -> Record {
        Record::new(value)
    }
}

/// Produces records in order and returns when the broker has acknowledged all of them.
///
/// # Panics
/// When a record is refused, or not acknowledged within 60 s.
pub fn produce<R: Into<Record>>(brokers: &str, topic: &str, records: impl IntoIterator<Item = R>) {
    produce_with(brokers, topic, records, &[]);
}

/// As [`produce`], with producer settings such as `("compression.type", "zstd")`.
///
/// # Panics
/// As [`produce`].
pub fn produce_with<R: Into<Record>>(
    brokers: &str,
    topic: &str,
    records: impl IntoIterator<Item = R>,
    settings: &[(&str, &str)],
) {
    let failure = FirstFailure::default();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("linger.ms", "5");
    settings.iter().for_each(|(key, value)| _ = config.set(*key, *value));
    let producer: BaseProducer<FirstFailure> = config
        .create_with_context(failure.clone())
        .unwrap_or_else(|error| panic!("cannot create a producer: {error}"));
    for record in records {
        send(&producer, topic, &record.into());
    }
    producer.flush(DEADLINE).unwrap_or_else(|error| panic!("cannot produce to {topic}: {error}"));
    if let Some(error) = failure.0.lock().unwrap().take() {
        panic!("cannot produce to {topic}: {error}");
    }
}

fn send(producer: &BaseProducer<FirstFailure>, topic: &str, record: &Record) {
    let started = Instant::now();
    let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
    message.partition = record.partition;
    message.timestamp = record.timestamp;
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    while let Err((error, unsent)) = producer.send(message) {
        let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
        assert!(is_full && started.elapsed() < DEADLINE, "cannot produce to {topic}: {error}");
        producer.poll(Duration::from_millis(10));
        message = unsent;
    }
}

#[derive(Clone, Default)]
struct FirstFailure(Arc<Mutex<Option<KafkaError>>>);

impl ClientContext for FirstFailure {}

impl ProducerContext for FirstFailure {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap().get_or_insert_with(|| error.clone());
        }
    }
}

/// Everything that a reader of committed records finds in a topic, ordered by partition and offset.
///
/// # Panics
/// When the topic does not exist, or its ends are not reached within 60 s.
pub fn consume_all(brokers: &str, topic: &str) -> Vec<Record> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "testkit")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .expect("the client's settings are valid");
    let mut open = assign_all(&consumer, topic);

    let started = Instant::now();
    let mut records = Vec::new();
    while !open.is_empty() {
        assert!(started.elapsed() < DEADLINE, "{topic}: no end of partitions {open:?} after {DEADLINE:?}");
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => records.push(Record {
                partition: Some(message.partition()),
                offset: Some(message.offset()),
                timestamp: message.timestamp().to_millis(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
            }),
            Some(Err(KafkaError::PartitionEOF(partition))) => _ = open.remove(&partition),
            Some(Err(error)) => panic!("cannot read {topic}: {error}"),
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// Assigns every partition from its first offset; returns their numbers.
fn assign_all(consumer: &BaseConsumer, topic: &str) -> BTreeSet<i32> {
    let metadata = consumer
        .fetch_metadata(Some(topic), DEADLINE)
        .unwrap_or_else(|error| panic!("cannot describe {topic}: {error}"));
    let partitions: BTreeSet<i32> = metadata.topics()[0].partitions().iter().map(|p| p.id()).collect();
    assert!(!partitions.is_empty(), "there is no topic {topic}");
    let mut assignment = TopicPartitionList::new();
    for &partition in &partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("the offset is valid");
    }
    consumer.assign(&assignment).unwrap_or_else(|error| panic!("cannot read {topic}: {error}"));
    partitions
}

/// `count` JSON objects in the shape of the flights table: one in forty cancelled, with nulls; the same ones for
/// the same seed.
pub fn flights(count: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut random = SplitMix64(seed);
    (0..count).map(|_| flight(&mut random).into_bytes()).collect()
}

fn flight(random: &mut SplitMix64) -> String {
    let (month, day) = (1 + random.below(12), 1 + random.below(28));
    let (hour, minute) = (5 + random.below(18), random.below(60));
    let carrier = ["9E", "AA", "B6", "DL", "EV", "MQ", "UA", "US", "WN"][random.below(9) as usize];
    let origin = ["EWR", "JFK", "LGA"][random.below(3) as usize];
    let dest = ["ATL", "BOS", "IAH", "LAX", "MIA", "ORD", "SFO", "SJU"][random.below(8) as usize];
    let (flight, distance) = (1 + random.below(6000), 94 + random.below(2500));
    let tail = random.below(900);
    // A quadratic spread: most flights leave about on time, few leave very late.
    let delay = (random.below(20) * random.below(20)) as i64 - 15;
    let clock = |minutes: i64| (minutes.rem_euclid(1440) / 60) * 100 + minutes.rem_euclid(1440) % 60;
    let scheduled = (hour * 60 + minute) as i64;
    let air_time = (distance / 8 + 20) as i64;
    let actual = if random.below(40) == 0 {
        r#""dep_time":null,"dep_delay":null,"arr_time":null,"arr_delay":null,"air_time":null"#.to_owned()
    } else {
        format!(
            r#""dep_time":{},"dep_delay":{delay},"arr_time":{},"arr_delay":{},"air_time":{air_time}"#,
            clock(scheduled + delay),
            clock(scheduled + delay + air_time),
            delay - 5,
        )
    };
    format!(
        r#"{{"year":2013,"month":{month},"day":{day},"sched_dep_time":{},"sched_arr_time":{},{actual},"carrier":"{carrier}","flight":{flight},"tailnum":"N{tail:03}{carrier}","origin":"{origin}","dest":"{dest}","distance":{distance},"hour":{hour},"minute":{minute},"time_hour":"2013-{month:02}-{day:02}T{hour:02}:00:00Z"}}"#,
        clock(scheduled),
        clock(scheduled + air_time),
    )
}

/// The generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
#[derive(Debug, Default)]
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::flights;

    #[test]
    fn flights_are_the_same_for_the_same_seed() {
        assert_eq!(flights(50, 7), flights(50, 7));
        assert_ne!(flights(50, 7), flights(50, 8));
    }

    #[test]
    fn some_flights_are_cancelled() {
        let cancelled = |record: &&Vec<u8>| String::from_utf8_lossy(record).contains(r#""dep_time":null"#);
        let count = flights(1000, 1).iter().filter(cancelled).count();
        assert!((10..60).contains(&count), "{count}");
    }
}
