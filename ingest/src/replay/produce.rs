//! The producer: bounded memory, nothing lost or doubled by retries, failures counted.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::Replay;
use crate::client::{self, Context, lock};
use crate::error::{Error, reason};

/// Settings of the producer that a user may change.
const TUNING: [(&str, &str); 7] = [
    ("compression.type", "lz4"),
    ("linger.ms", "20"),
    ("batch.size", "1000000"),
    ("queue.buffering.max.kbytes", "16384"),
    ("queue.buffering.max.messages", "200000"),
    // How long a record may wait for a broker that is gone; the default of five minutes looks like a hang.
    ("message.timeout.ms", "60000"),
    // What the Java clients do: the same key goes to the same partition, whoever produces.
    ("partitioner", "murmur2_random"),
];

/// Sends records to one topic.
pub(super) struct Sender<'r> {
    producer: BaseProducer<Deliveries>,
    topic: &'r str,
    sent: u64,
}

/// Counts what the broker did not take.
#[derive(Default)]
struct Deliveries {
    inner: Context,
    failures: Mutex<Failures>,
}

#[derive(Clone, Default)]
struct Failures {
    count: u64,
    first: String,
}

impl<'r> Sender<'r> {
    pub(super) fn new(replay: &'r Replay) -> Result<Self, Error> {
        let mut config = replay.client.config(&replay.brokers)?;
        for (key, value) in TUNING {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        }
        config.set("enable.idempotence", "true");
        let producer = client::create(&config, Deliveries::default())?;
        Ok(Self { producer, topic: &replay.topic, sent: 0 })
    }

    /// Sends a record; when the queue is full, once there is room again. Gives up waiting when `cancelled`.
    pub(super) fn send(
        &mut self,
        key: Option<&[u8]>,
        value: &[u8],
        cancelled: impl Fn() -> bool,
    ) -> Result<(), Error> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(self.topic).payload(value);
        record.key = key;
        loop {
            match self.producer.send(record) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err((error, back)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    self.serve(Duration::from_millis(100));
                    self.check()?;
                    if cancelled() {
                        return Ok(());
                    }
                    record = back;
                }
                Err((error, _)) => {
                    return Err(Error::kafka(format!("produce to {}", self.topic), &error));
                }
            }
        }
    }

    /// Serves acknowledgements for up to so long, or until there are some.
    pub(super) fn serve(&self, patience: Duration) {
        self.producer.poll(patience);
    }

    /// Whether the broker has taken everything so far.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.serve(Duration::ZERO);
        let Failures { count, first } = lock(&self.producer.context().failures).clone();
        match count {
            0 => Ok(()),
            failed => {
                let topic = self.topic.to_owned();
                Err(Error::Delivery { topic, failed, sent: self.sent, reason: first })
            }
        }
    }

    /// Waits until all records are acknowledged or given up (`message.timeout.ms`).
    pub(super) fn finish(&self, mut meanwhile: impl FnMut()) -> Result<(), Error> {
        while self.producer.in_flight_count() > 0 {
            match self.producer.flush(Duration::from_millis(100)) {
                Ok(()) | Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) => meanwhile(),
                Err(error) => return Err(Error::kafka(format!("produce to {}", self.topic), &error)),
            }
        }
        self.check()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client::on_log(level, facility, text);
    }

    fn error(&self, error: KafkaError, text: &str) {
        self.inner.on_error(&error, text);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut failures = lock(&self.failures);
            failures.count += 1;
            if failures.count == 1 {
                failures.first = reason(error);
            }
        }
    }
}
