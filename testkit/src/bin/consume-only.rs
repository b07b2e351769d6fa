//! The limit of `cargo xtask bench`: librdkafka consumes a topic, and every record is thrown away unseen.
//!
//! ```text
//! broker ──fetch──► librdkafka's threads ──queue──► here: count, free
//! ```
//!
//! No group, no decoding, no output: whoever reads through librdkafka has all of this work to do before its own. The
//! argument `poll` takes one record a call, as rdkafka's safe interface does, instead of some thousand.
//!
//! It is a contender: see `xtask/bench/README.md` for the variables that it reads and the lines that it prints.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::bindings as ffi;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Messages that one call takes at most. More did not make it faster.
const TAKE: usize = 10_000;

/// How long one call waits for a first message.
const PATIENCE: Duration = Duration::from_millis(1000);

/// How often it says how far it is, in records.
const REPORT: u64 = 1_000_000;

fn main() {
    let (topic, wanted) = (variable("BENCH_TOPIC"), variable("BENCH_RECORDS").parse().expect("a number"));
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", variable("BENCH_BROKERS"))
        // Never used, and wanted by the client.
        .set("group.id", "consume-only")
        .set("enable.auto.commit", "false")
        // So that the queue never runs full: the client would look away for a while then.
        .set("queued.min.messages", "1000000")
        .set("queued.max.messages.kbytes", "262144")
        .set("fetch.message.max.bytes", "4194304")
        .create()
        .expect("the settings are valid");
    assign_all(&consumer, &topic);

    let mut count = Count { wanted, seen: 0 };
    if std::env::args().nth(1).as_deref() == Some("poll") {
        one_by_one(&consumer, &mut count);
    } else {
        in_batches(&consumer, &mut count);
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; cargo xtask bench sets it"))
}

/// All partitions, from their beginnings, without a group.
fn assign_all(consumer: &BaseConsumer, topic: &str) {
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("a broker answers");
    let mut partitions = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        partitions.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("an offset");
    }
    consumer.assign(&partitions).expect("the partitions exist");
}

fn in_batches(consumer: &BaseConsumer, count: &mut Count) {
    let mut messages = vec![std::ptr::null_mut(); TAKE];
    // SAFETY: the client is valid until `consumer` is dropped, and the queue is destroyed before that.
    let queue = unsafe { ffi::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
    while count.is_short() {
        // SAFETY: the queue is valid, and the buffer has room for as many messages as it says.
        let taken = unsafe {
            ffi::rd_kafka_consume_batch_queue(
                queue,
                PATIENCE.as_millis() as i32,
                messages.as_mut_ptr(),
                messages.len(),
            )
        };
        for message in &messages[..usize::try_from(taken).expect("the queue can be read")] {
            // SAFETY: it is ours since the call returned it; read once, then destroyed once.
            unsafe {
                assert_eq!((**message).err, ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
                ffi::rd_kafka_message_destroy(*message);
            }
        }
        count.add(taken as u64);
    }
    // SAFETY: destroyed once, before its client.
    unsafe { ffi::rd_kafka_queue_destroy(queue) };
}

fn one_by_one(consumer: &BaseConsumer, count: &mut Count) {
    while count.is_short() {
        if let Some(message) = consumer.poll(PATIENCE) {
            std::hint::black_box(message.expect("the topic can be read").payload_len());
            count.add(1);
        }
    }
}

/// Counts records, and prints what a contender has to print.
struct Count {
    wanted: u64,
    seen: u64,
}

impl Count {
    fn is_short(&self) -> bool {
        self.seen < self.wanted
    }

    fn add(&mut self, records: u64) {
        if records == 0 {
            return;
        }
        if self.seen == 0 {
            println!(r#"{{"event":"ready","at":{:.6}}}"#, now());
        }
        let before = self.seen;
        self.seen += records;
        if !self.is_short() || before / REPORT < self.seen / REPORT {
            println!(r#"{{"event":"committed","at":{:.6},"records":{}}}"#, now(), self.seen);
        }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs_f64()
}
