//! The producer: bounded memory, nothing lost or doubled by retries, acknowledgements and failures counted.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tracing::{info, warn};

use super::Replay;
use crate::client::{self, Context, lock};
use crate::error::{Error, reason};

/// Settings of the producer that a user may change.
const TUNING: [(&str, &str); 7] = [
    ("compression.type", "lz4"),
    ("linger.ms", "20"),
    ("queue.buffering.max.kbytes", "16384"),
    ("queue.buffering.max.messages", "200000"),
    // As much as the queue holds: the broker decides what is too large.
    (LARGEST, "16000000"),
    // How long a record may wait for a broker that is gone; the default of five minutes looks like a hang.
    ("message.timeout.ms", "60000"),
    // What the Java clients do: the same key goes to the same partition, whoever produces.
    ("partitioner", "murmur2_random"),
];

/// The client's own bound on a record.
const LARGEST: &str = "message.max.bytes";

/// The size of a batch before compression, as far as the topic takes such batches.
const BATCH_BYTES: u64 = 1_000_000;

/// How long records may wait without an answer of a broker before somebody is told.
const QUIET: Duration = Duration::from_secs(5);

/// When a replay is cancelled: how long a broker may take to show that it is there, and then how long to acknowledge
/// what is under way.
const PROBE: Duration = Duration::from_millis(500);
const GRACE: Duration = Duration::from_secs(5);

/// Sends records to one topic.
pub(super) struct Sender<'r> {
    producer: BaseProducer<Deliveries>,
    replay: &'r Replay,
    sent: u64,
    silence: Silence,
    /// In words: the largest record that the topic takes, and that the client takes.
    limits: [String; 2],
}

/// Counts what the broker took, and what it did not take.
#[derive(Default)]
struct Deliveries {
    inner: Context,
    outcome: Mutex<Outcome>,
}

/// What became of the records so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Records that the broker acknowledged.
    pub(super) records: u64,
    /// The size of their keys and values.
    pub(super) bytes: u64,
    failed: u64,
    first: Option<Failure>,
}

#[derive(Clone, Debug)]
struct Failure {
    /// The record's number, from 1.
    record: u64,
    size: u64,
    reason: String,
    /// The limit that it is beyond, in words.
    beyond: Option<Limit>,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    Topic,
    Client,
}

impl<'r> Sender<'r> {
    /// A producer for a topic that takes batches of so many bytes, as far as that is known.
    pub(super) fn new(replay: &'r Replay, max_message_bytes: Option<u64>) -> Result<Self, Error> {
        let mut config = replay.client.config(&replay.brokers)?;
        // A batch that is too large fails with all of its records, however small they are.
        let batch = max_message_bytes.unwrap_or(BATCH_BYTES).clamp(1, BATCH_BYTES).to_string();
        for (key, value) in TUNING.iter().copied().chain([("batch.size", batch.as_str())]) {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        }
        config.set("enable.idempotence", "true");
        let limits = limits(&config, max_message_bytes);
        let producer = client::create(&config, Deliveries::default())?;
        Ok(Self { producer, replay, sent: 0, silence: Silence::new(), limits })
    }

    /// Sends a record; when the queue is full, once there is room again. `cancelled` is asked several times a second
    /// meanwhile; then it gives up and returns `false`.
    pub(super) fn send(
        &mut self,
        key: Option<&[u8]>,
        value: &[u8],
        cancelled: &mut impl FnMut() -> bool,
    ) -> Result<bool, Error> {
        let number = usize::try_from(self.sent + 1).unwrap_or(usize::MAX);
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&self.replay.topic, number).payload(value);
        record.key = key;
        loop {
            let (error, back) = match self.producer.send(record) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(true);
                }
                Err(refused) => refused,
            };
            match error.rdkafka_error_code() {
                // A queue that is full and empty is smaller than the record.
                Some(RDKafkaErrorCode::QueueFull) if self.producer.in_flight_count() > 0 => {
                    self.serve(Duration::from_millis(100));
                    self.check(cancelled)?;
                    if cancelled() {
                        return Ok(false);
                    }
                    record = back;
                }
                Some(RDKafkaErrorCode::QueueFull | RDKafkaErrorCode::MessageSizeTooLarge) => {
                    self.sent += 1;
                    let size = (value.len() + key.map_or(0, <[u8]>::len)) as u64;
                    let reason = reason(&error);
                    let failure = Failure { record: self.sent, size, reason, beyond: Some(Limit::Client) };
                    lock(&self.producer.context().outcome).fail(failure);
                    return self.check(cancelled).map(|()| true);
                }
                _ => return Err(Error::kafka(self.doing(), &error)),
            }
        }
    }

    /// Serves acknowledgements for up to so long, or until there are some.
    pub(super) fn serve(&mut self, patience: Duration) {
        self.producer.poll(patience);
        let answered = {
            let outcome = lock(&self.producer.context().outcome);
            outcome.records + outcome.failed
        };
        match self.silence.look(answered, self.producer.in_flight_count() > 0, Instant::now()) {
            Some(Change::Quiet) => warn!(
                "no broker at {} has acknowledged a record for {} s; trying until one does, or message.timeout.ms is over",
                self.replay.brokers,
                QUIET.as_secs()
            ),
            Some(Change::Answers) => info!("a broker at {} answers again", self.replay.brokers),
            None => {}
        }
    }

    /// Whether the broker has taken everything so far. If it has not, everything else that was sent is delivered
    /// before this fails.
    pub(super) fn check(&mut self, cancelled: &mut impl FnMut() -> bool) -> Result<(), Error> {
        self.serve(Duration::ZERO);
        if lock(&self.producer.context().outcome).failed == 0 {
            return Ok(());
        }
        self.finish(cancelled).map(|_| ())
    }

    /// Waits until all records are acknowledged or given up (`message.timeout.ms`), but when `cancelled` only for a
    /// broker that is there. Returns what was acknowledged.
    pub(super) fn finish(&mut self, cancelled: &mut impl FnMut() -> bool) -> Result<Outcome, Error> {
        let mut until = None;
        while self.producer.in_flight_count() > 0 {
            if cancelled() && Instant::now() >= *until.get_or_insert_with(|| self.grace()) {
                break;
            }
            match self.producer.flush(Duration::from_millis(100)) {
                Ok(()) | Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) => {}
                Err(error) => return Err(Error::kafka(self.doing(), &error)),
            }
            self.serve(Duration::ZERO);
        }
        let outcome = lock(&self.producer.context().outcome).clone();
        match &outcome.first {
            Some(failure) => Err(self.error(failure, &outcome)),
            None => Ok(outcome),
        }
    }

    /// How long a cancelled replay goes on.
    fn grace(&self) -> Instant {
        let answer = self.producer.client().fetch_metadata(Some(&self.replay.topic), PROBE);
        Instant::now() + if answer.is_ok() { GRACE } else { Duration::ZERO }
    }

    /// Records handed to the producer.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    fn doing(&self) -> String {
        format!("produce to {}", self.replay.topic)
    }

    fn error(&self, failure: &Failure, outcome: &Outcome) -> Error {
        let topic = self.replay.topic.clone();
        let Some(limit) = failure.beyond else {
            let reason = failure.reason.clone();
            return Error::Delivery { topic, failed: outcome.failed, sent: self.sent, reason };
        };
        let [topics, clients] = &self.limits;
        let limit = match limit {
            Limit::Topic => topics,
            Limit::Client => clients,
        };
        let Failure { record, size, .. } = *failure;
        Error::RecordTooLarge { topic, record, size, limit: limit.clone(), delivered: outcome.records }
    }
}

fn limits(config: &ClientConfig, max_message_bytes: Option<u64>) -> [String; 2] {
    let topic = max_message_bytes.map_or_else(String::new, |bytes| format!(", of {bytes} bytes,"));
    let of = |key| config.get(key).unwrap_or_default();
    [
        format!(
            "the limit of the broker or of the topic{topic} after compression; raise message.max.bytes of the broker, \
             or max.message.bytes of the topic"
        ),
        format!(
            "the client's limit; its settings are {LARGEST} = {} and queue.buffering.max.kbytes = {}",
            of(LARGEST),
            of("queue.buffering.max.kbytes")
        ),
    ]
}

impl Outcome {
    fn fail(&mut self, failure: Failure) {
        self.failed += 1;
        // A record that is too large says more than those that failed with it.
        if self.first.as_ref().is_none_or(|first| first.beyond.is_none() && failure.beyond.is_some()) {
            self.first = Some(failure);
        }
    }
}

/// Notices when records wait and nobody answers.
#[derive(Debug)]
struct Silence {
    answered: u64,
    since: Instant,
    told: bool,
}

#[derive(Debug, PartialEq)]
enum Change {
    Quiet,
    Answers,
}

impl Silence {
    fn new() -> Self {
        Self { answered: 0, since: Instant::now(), told: false }
    }

    /// What there is to tell: `answered` records have been answered for so far, others are `waiting` or not.
    fn look(&mut self, answered: u64, waiting: bool, now: Instant) -> Option<Change> {
        if answered != self.answered || !waiting {
            (self.answered, self.since) = (answered, now);
            return std::mem::take(&mut self.told).then_some(Change::Answers);
        }
        if self.told || now.duration_since(self.since) < QUIET {
            return None;
        }
        self.told = true;
        Some(Change::Quiet)
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
    /// The record's number, from 1.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let size = |value: usize, key: usize| (value + key) as u64;
        let mut outcome = lock(&self.outcome);
        match result {
            Ok(record) => {
                outcome.records += 1;
                outcome.bytes += size(record.payload_len(), record.key_len());
            }
            Err((error, record)) => {
                let too_large = error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge);
                outcome.fail(Failure {
                    record: number as u64,
                    size: size(record.payload_len(), record.key_len()),
                    reason: reason(error),
                    beyond: too_large.then_some(Limit::Topic),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_once_and_so_is_its_end() {
        let begin = Instant::now();
        let mut silence = Silence { answered: 0, since: begin, told: false };
        let mut look = |answered, waiting, seconds| {
            silence.look(answered, waiting, begin + Duration::from_secs(seconds))
        };
        assert_eq!(look(0, false, 60), None, "nothing waits");
        assert_eq!(look(0, true, 64), None);
        assert_eq!(look(3, true, 66), None, "records were acknowledged");
        assert_eq!(look(3, true, 70), None);
        assert_eq!(look(3, true, 71), Some(Change::Quiet));
        assert_eq!(look(3, true, 90), None);
        assert_eq!(look(4, true, 91), Some(Change::Answers));
        assert_eq!(look(4, true, 97), Some(Change::Quiet));
    }
}
