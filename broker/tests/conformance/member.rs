//! A member of a consumer group that polls on a thread of its own, as an application would.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message};

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    assigned: Mutex<BTreeSet<i32>>,
    /// How often the set of partitions has changed.
    changes: Mutex<u32>,
    seen: Mutex<Vec<String>>,
}

/// Leaves the group when dropped, unless it is static.
pub(crate) struct Member {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Settings of a group member; the session time-out is the shortest that Kafka's defaults allow.
pub(crate) fn settings(brokers: &str, group: &str, strategy: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("partition.assignment.strategy", strategy)
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "500")
        .set("auto.offset.reset", "earliest")
        .set("auto.commit.interval.ms", "100");
    config
}

impl Member {
    pub(crate) fn join(config: &ClientConfig, topic: &str) -> Member {
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&[topic]).unwrap();
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || poll(&consumer, &shared)
        });
        Member { shared, thread: Some(thread) }
    }

    pub(crate) fn assigned(&self) -> BTreeSet<i32> {
        self.shared.assigned.lock().unwrap().clone()
    }

    pub(crate) fn changes(&self) -> u32 {
        *self.shared.changes.lock().unwrap()
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn poll(consumer: &BaseConsumer, shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
            shared.seen.lock().unwrap().push(value);
        }
        let list = consumer.assignment().unwrap();
        let now: BTreeSet<i32> = list.elements().iter().map(|element| element.partition()).collect();
        let mut assigned = shared.assigned.lock().unwrap();
        if *assigned != now {
            *assigned = now;
            *shared.changes.lock().unwrap() += 1;
        }
    }
}
