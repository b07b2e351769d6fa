//! Kafka to batches: a consumer on its own thread, decoding on a second one.
//!
//! ```text
//!          poll thread                     decode thread                the pipeline
//! broker ─► MessageQueue ─► RawBatch ──►  Decoder ─► Batch ──►  Source::next().await
//!           group, checks   per partition                            │  commit_hint, rewind
//!                ▲                                                   │
//!                └───── budget: bytes read and not taken yet ◄───────┘
//! ```
//!
//! All that the pipeline hears comes in one order: a partition is [`Assigned`](Event::Assigned) before its first batch,
//! and [`Revoking`](Event::Revoking) comes after its last. The batches of a partition follow one another without a
//! gap: each begins where the one before it ends.
//!
//! **Generations.** Every assignment of a partition, and every [`rewind`](Source::rewind), begins a generation. What was
//! read in a generation that has ended is thrown away, here where it is still under way, and by the pipeline
//! (on [`Lost`](Event::Lost)) where it was handed over.
//!
//! **Back-pressure.** When the budget is spent, the records queue is left alone and librdkafka stops fetching at its own
//! bounds, while the group is still served; nobody rebalances because a disk is slow.

mod budget;
mod check;
mod decode;
mod held;
mod poll;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use puddle_types::{Batch, Offset, Progress, TopicPartition};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::mpsc::UnboundedReceiver;

use self::budget::Budget;
use self::decode::{Delivery, Envelope, decode};
use self::poll::{Command, Poller};
use self::shared::Shared;
use crate::client::{self, Context, lock};
use crate::config::IngestConfig;
use crate::error::{Error, reason};
use crate::json::Decoder;
use crate::schema::SchemaDecl;

/// How many bytes may be read and not yet taken by [`Source::next`]: about 50,000 records of 300 bytes, which the
/// decoder takes a twentieth of a second for. Twice as much was measured to be no faster.
pub const DEFAULT_BUDGET_BYTES: usize = 16 << 20;

/// How long a revoked partition waits for [`Ack::done`]: long enough to write and commit an epoch, and a fraction
/// of the five minutes after which the group gives us up (`max.poll.interval.ms`).
pub const DEFAULT_REVOKE_WAIT: Duration = Duration::from_secs(20);

/// How long [`Source::start`] waits for the first answer of a broker.
pub const START_PATIENCE: Duration = Duration::from_secs(10);

/// librdkafka's own bounds: what it fetches ahead, and what one answer may carry, compressed, in all and of one
/// partition. JSON shrinks to a fifth or less, so an answer unpacks to some 10 MB. The defaults (64, 50 and 1 MB) were
/// measured to be no faster.
const FETCH_BOUNDS: [(&str, &str); 4] = [
    ("queued.max.messages.kbytes", "8192"),
    ("queued.min.messages", "20000"),
    ("fetch.max.bytes", "2097152"),
    ("fetch.message.max.bytes", "262144"),
];

/// Other settings of the consumer that a user may change.
const TUNING: [(&str, &str); 3] = [
    // Partitions that are added while we run are read within this time; the default is five minutes.
    ("topic.metadata.refresh.interval.ms", "10000"),
    // After an end of partition, how soon new records are asked for again.
    ("fetch.queue.backoff.ms", "20"),
    ("fetch.wait.max.ms", "100"),
];

/// Settings of the consumer that nobody may change: exactly-once stands on them.
const PINNED: [(&str, &str); 8] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("isolation.level", "read_committed"),
    ("check.crcs", "true"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    ("group.protocol", "classic"),
];

/// What a [`Source`] reads, and how.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Addresses of brokers, `host:port`, separated by commas.
    pub brokers: String,
    /// The consumer group, unless `config` names one.
    pub group: String,
    /// The `[ingest]` table.
    pub config: IngestConfig,
    /// The fields of a record; those of `config`, or what was inferred and pinned.
    pub schema: SchemaDecl,
    /// How many bytes may be read and not taken yet; [`DEFAULT_BUDGET_BYTES`].
    pub budget_bytes: usize,
    /// How long a revoked partition waits for [`Ack::done`]; [`DEFAULT_REVOKE_WAIT`].
    pub revoke_wait: Duration,
}

impl SourceSettings {
    /// These settings, with the default bounds.
    pub fn new(
        brokers: impl Into<String>,
        group: impl Into<String>,
        config: IngestConfig,
        schema: SchemaDecl,
    ) -> Self {
        Self {
            brokers: brokers.into(),
            group: group.into(),
            config,
            schema,
            budget_bytes: DEFAULT_BUDGET_BYTES,
            revoke_wait: DEFAULT_REVOKE_WAIT,
        }
    }

    fn client_config(&self) -> Result<ClientConfig, Error> {
        let mut config = self.config.client.config(&self.brokers)?;
        for (key, value) in FETCH_BOUNDS.iter().chain(&TUNING) {
            if config.get(key).is_none() {
                config.set(*key, *value);
            }
        }
        PINNED.iter().for_each(|(key, value)| _ = config.set(*key, *value));
        config.set("group.id", self.config.group.as_ref().unwrap_or(&self.group));
        Ok(config)
    }
}

/// What happens to the partitions that are ours.
#[derive(Debug)]
pub enum Event {
    /// Records, decoded.
    Batch(Batch),
    /// Everything that a partition held has been handed over.
    EndOfPartition {
        /// Which partition.
        partition: TopicPartition,
        /// Where it goes on. Control records may lie between the last record and here.
        next: Offset,
    },
    /// These partitions are ours from now on.
    Assigned(Vec<TopicPartition>),
    /// These partitions are about to be given to another member, once what came of them is committed.
    Revoking {
        /// Which partitions.
        partitions: Vec<TopicPartition>,
        /// To be told when they may go.
        ack: Ack,
    },
    /// These partitions are gone. What came of them and is not committed must be thrown away: their new owner
    /// reads it again.
    Lost(Vec<TopicPartition>),
}

/// Lets revoked partitions go, by [`done`](Self::done) or by being dropped.
pub struct Ack {
    sender: Option<SyncSender<()>>,
}

impl Ack {
    /// What came of the partitions is committed, or was thrown away: they may go.
    ///
    /// Returns whether they had waited: `false` means that the time was up and that they are [`Lost`](Event::Lost).
    pub fn done(mut self) -> bool {
        self.sender.take().is_some_and(|sender| sender.send(()).is_ok())
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ack")
    }
}

/// The offsets that a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The oldest offset.
    pub low: Offset,
    /// The exclusive end.
    pub high: Offset,
}

/// The records of some topics, as batches, read by a member of a consumer group.
#[derive(Debug)]
pub struct Source {
    events: UnboundedReceiver<Delivery>,
    commands: mpsc::Sender<Command>,
    shared: Arc<Mutex<Shared>>,
    budget: Arc<Budget>,
    threads: Vec<JoinHandle<()>>,
}

impl Source {
    /// Connects, checks that the topics exist and that `progress` still fits what they hold, and joins the group.
    /// Partitions in `progress` go on from there, others begin as [`IngestConfig::start`] says.
    ///
    /// Blocks, for [`START_PATIENCE`] at most when no broker answers.
    ///
    /// # Errors
    /// What [`IngestConfig::validate`] finds; [`Error::Unreachable`], [`Error::Authentication`], [`Error::UnknownTopic`];
    /// [`Error::Gap`], [`Error::Recreated`] and [`Error::MissingPartition`] when `progress` does not fit.
    pub fn start(settings: SourceSettings, progress: Progress) -> Result<Source, Error> {
        settings.config.validate()?;
        let consumer: BaseConsumer<Context> = client::create(&settings.client_config()?, Context::default())?;
        let known = find_partitions(&consumer, &settings)?;
        let progress =
            progress.into_iter().filter(|(p, _)| settings.config.topics.contains(&p.topic.to_string()));
        let progress: Progress = progress.collect();
        check::check(&consumer, &settings, &known, &progress)?;

        let topics: Vec<&str> = settings.config.topics.iter().map(String::as_str).collect();
        consumer.context().take_rebalances();
        consumer.subscribe(&topics).map_err(|error| Error::kafka("subscribe to the topics", &error))?;

        let shared = Arc::new(Mutex::new(Shared::new(progress, known)));
        let budget = Arc::new(Budget::new(settings.budget_bytes));
        let (commands, command_receiver) = mpsc::channel();
        let (raw_sender, raw_receiver) = mpsc::channel::<Envelope>();
        let (event_sender, events) = tokio::sync::mpsc::unbounded_channel();
        let decoder = Decoder::new(&settings.schema, settings.config.unknown_fields);
        let poller = Poller::new(
            Arc::new(consumer),
            settings,
            Arc::clone(&shared),
            Arc::clone(&budget),
            command_receiver,
            raw_sender,
        );
        let threads = vec![
            spawn("puddle-poll", move || poller.run())?,
            spawn("puddle-decode", move || decode(decoder, raw_receiver, event_sender))?,
        ];
        Ok(Source { events, commands, shared, budget, threads })
    }

    /// The next event; `None` after an error. Cancel-safe: an event is either returned or still to come.
    ///
    /// # Errors
    /// What ends the source: a gap, a deleted topic, a damaged record, a group that throws us out. A broker that is
    /// gone is none of these; it is waited for.
    ///
    /// # Panics
    /// When one of the source's threads did.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        loop {
            let Some(delivery) = self.events.recv().await else {
                self.join();
                return None;
            };
            self.budget.give_back(delivery.cost);
            let stale = delivery.origin.is_some_and(|(partition, generation)| {
                !lock(&self.shared).is_current(&partition, generation)
            });
            if !stale {
                return Some(delivery.event);
            }
        }
    }

    /// Tells the group, for the eyes of lag tools, what was committed, and notes it as where partitions go on
    /// when they come back after a rebalance. Does not wait; a failure is logged and harms nothing.
    pub fn commit_hint(&self, progress: &Progress) {
        lock(&self.shared).progress.extend(progress.iter().map(|(p, position)| (p.clone(), *position)));
        let _ = self.commands.send(Command::Commit(progress.clone()));
    }

    /// Begins anew from `progress`: all events that were not taken yet are thrown away, and the partitions that are
    /// ours are read again from there. Partitions not in it begin where they once began.
    pub fn rewind(&self, progress: Progress) {
        let ended = lock(&self.shared).rewind(progress);
        let _ = self.commands.send(Command::Rewind { ended });
    }

    /// The offsets that the partitions that are ours hold, as far as known from what was fetched last.
    pub fn watermarks(&self) -> BTreeMap<TopicPartition, Watermarks> {
        lock(&self.shared).watermarks.clone()
    }

    /// Bytes that were read and not taken yet.
    pub fn bytes_waiting(&self) -> usize {
        self.budget.spent()
    }

    /// Leaves the group and ends the threads. Blocks until the broker has heard of it; dropping does the same.
    pub fn close(self) {}

    /// Waits for the threads, and goes down with the one that panicked.
    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join()
                && !std::thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Close);
        // Frees the acks that wait in the channel, and with them the poll thread.
        self.events.close();
        while self.events.try_recv().is_ok() {}
        self.join();
    }
}

fn find_partitions(
    consumer: &BaseConsumer<Context>,
    settings: &SourceSettings,
) -> Result<BTreeSet<TopicPartition>, Error> {
    let metadata = client::metadata(consumer, &settings.brokers, START_PATIENCE)?;
    let mut known = BTreeSet::new();
    for topic in &settings.config.topics {
        let name: Arc<str> = topic.as_str().into();
        let partitions = client::partitions_of(&metadata, topic, &settings.brokers)?;
        known.extend(partitions.into_iter().map(|p| TopicPartition::new(Arc::clone(&name), p)));
    }
    Ok(known)
}

/// The watermarks of a partition. Waits while its leader is being elected, as just after its creation.
fn fetch_watermarks(
    consumer: &BaseConsumer<Context>,
    partition: &TopicPartition,
) -> Result<Watermarks, Error> {
    let asked = consumer.fetch_watermarks(&partition.topic, partition.partition, client::REQUEST_TIMEOUT);
    let (low, high) = asked.map_err(|error| Error::Kafka {
        doing: format!("ask for the offsets that {partition} holds"),
        reason: reason(&error),
    })?;
    Ok(Watermarks { low, high })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread
        .spawn(run)
        .map_err(|error| Error::Kafka { doing: "start a thread".into(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ClientSettings;
    use crate::schema::{FieldDecl, Kind, ValueDecl};

    fn settings(client: &[(&str, &str)]) -> SourceSettings {
        let mut config: IngestConfig = toml::from_str("topics = ['flights']").unwrap();
        config.client =
            ClientSettings::new(client.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect());
        let value = ValueDecl::nullable(Kind::Int64);
        let schema = SchemaDecl::new(vec![FieldDecl { name: "id".into(), value }]).unwrap();
        SourceSettings::new("127.0.0.1:1", "puddle-flights", config, schema)
    }

    #[test]
    fn what_exactly_once_stands_on_is_set_whatever_the_user_sets() {
        let config = settings(&[("fetch.wait.max.ms", "7")]).client_config().unwrap();
        for (key, value) in PINNED {
            assert_eq!(config.get(key), Some(value));
        }
        assert_eq!(config.get("fetch.wait.max.ms"), Some("7"));
        assert_eq!(config.get("group.id"), Some("puddle-flights"));
    }

    #[test]
    fn what_is_pinned_is_refused_by_name() {
        for (key, _) in PINNED {
            let error = settings(&[(key, "x")]).client_config().unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn librdkafka_accepts_the_settings() {
        settings(&[]).client_config().unwrap().create_native_config().unwrap();
    }

    #[test]
    fn a_setting_that_librdkafka_does_not_accept_is_named_without_its_value() {
        let config = settings(&[("session.timeout.ms", "hunter2")]).client_config().unwrap();
        let made: Result<BaseConsumer<Context>, Error> = client::create(&config, Context::default());
        let Err(error) = made else { panic!("accepted") };
        assert!(error.is_usage(), "{error}");
        assert!(error.to_string().contains("session.timeout.ms"), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
