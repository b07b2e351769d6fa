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
mod events;
mod held;
mod poll;
mod reading;
mod rebalance;
mod settings;
mod shared;
mod spare;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use puddle_types::{Batch, Offset, Progress, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::mpsc::UnboundedReceiver;

use self::budget::Budget;
use self::decode::{Delivery, Envelope, decode};
pub use self::events::{Events, Origin};
use self::poll::{Command, Poller};
pub use self::settings::{
    DEFAULT_BUDGET_BYTES, DEFAULT_REVOKE_WAIT, FreshProgress, START_PATIENCE, SourceSettings,
};
use self::shared::Shared;
use self::spare::Spare;
use crate::client::{self, Context, lock};
use crate::error::Error;
use crate::format::Decoder;

/// How long closing waits for the group to let us go. An orderly leave takes milliseconds; it spares the group the wait
/// for our session's end, and nothing else depends on it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

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

/// A time without any broker.
#[derive(Clone, Debug)]
pub struct Outage {
    /// Since when it is known.
    pub since: Instant,
    /// What the client said last; empty when it said nothing.
    pub reason: String,
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
    /// What [`IngestConfig::validate`] and [`Decoder::new`] find; [`Error::Unreachable`], [`Error::Authentication`],
    /// [`Error::UnknownTopic`];
    /// [`Error::Gap`], [`Error::Recreated`] and [`Error::MissingPartition`] when `progress` does not fit.
    pub fn start(settings: SourceSettings, progress: Progress) -> Result<Source, Error> {
        settings.config.validate()?;
        let decoder = Decoder::new(&settings.config, &settings.schema)?;
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
        let spare = Arc::new(Spare::default());
        let (commands, command_receiver) = mpsc::channel();
        let (raw_sender, raw_receiver) = mpsc::channel::<Envelope>();
        let (event_sender, events) = tokio::sync::mpsc::unbounded_channel();
        let poller = Poller::new(
            Arc::new(consumer),
            settings,
            Arc::clone(&shared),
            Arc::clone(&budget),
            Arc::clone(&spare),
            command_receiver,
            raw_sender,
        );
        let threads = vec![
            spawn("puddle-poll", move || poller.run())?,
            spawn("puddle-decode", move || decode(decoder, raw_receiver, &spare, event_sender))?,
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

    /// Reads nothing more until the next [`rewind`](Self::rewind), and throws all batches away that were not taken yet.
    /// The group is still served: assignments and revocations go on as ever.
    pub fn pause(&self) {
        lock(&self.shared).end_all();
        let _ = self.commands.send(Command::Pause);
    }

    /// Since when no broker answers, if so.
    pub fn outage(&self) -> Option<Outage> {
        lock(&self.shared).outage.clone()
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

    /// Waits for the threads, and goes down with the one that panicked. One that does not end in time is left behind:
    /// librdkafka drops requests to a group that has just ended without an answer, and would wait for it without end.
    fn join(&mut self) {
        let end = Instant::now() + CLOSE_PATIENCE;
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !thread.is_finished() {
                tracing::debug!("the Kafka client does not end; the group gives it up when its session ends");
                continue;
            }
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

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread
        .spawn(run)
        .map_err(|error| Error::Kafka { doing: "start a thread".into(), reason: error.to_string() })
}
