//! The poll thread: serves the group, fills batches, and carries out what the pipeline asks for.

use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use puddle_types::{Progress, TopicPartition};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use tracing::{debug, info, warn};

use super::budget::Budget;
use super::decode::Envelope;
use super::held::{Held, Partitions};
use super::reading::{End, Reading};
use super::rebalance::Putoff;
use super::shared::Shared;
use super::spare::Spare;
use super::{Outage, SourceSettings, Watermarks};
use crate::client::{self, Context, lock};
use crate::error::{Error, reason};
use crate::queue::{ItemError, MessageQueue};
use crate::raw::RawBatch;
use crate::reader::is_damage;
use crate::watermarks;

/// How long one look at the records queue waits. It bounds how late a command or a rebalance is noticed, and how
/// long a single record waits for company.
const POLL: Duration = Duration::from_millis(20);

/// How often watermarks are copied, and a broker that is gone is looked for.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// How long a probe for a broker that is gone may hold up the loop.
const PROBE: Duration = Duration::from_millis(500);

/// How long a rewind may take to reach all partitions.
const SEEK_PATIENCE: Duration = Duration::from_secs(30);

/// What the pipeline asks for.
#[derive(Debug)]
pub(super) enum Command {
    Commit(Progress),
    /// All generations up to `ended` have ended; where to go on is in [`Shared`].
    Rewind {
        ended: u64,
    },
    /// Nothing is to be read until a rewind.
    Pause,
    Close,
}

pub(super) struct Poller {
    // Dropped before the consumer that it belongs to.
    pub(super) queue: MessageQueue,
    pub(super) consumer: Arc<BaseConsumer<Context>>,
    pub(super) settings: SourceSettings,
    pub(super) shared: Arc<Mutex<Shared>>,
    pub(super) budget: Arc<Budget>,
    spare: Arc<Spare>,
    commands: Receiver<Command>,
    out: Sender<Envelope>,
    pub(super) partitions: Partitions,
    /// An assignment that cannot be taken over yet.
    pub(super) put_off: Option<Putoff>,
    paused: bool,
    brokers_gone: bool,
    kept_house: Instant,
}

/// Why the loop ends.
pub(super) enum Stop {
    /// The pipeline wants no more.
    Closed,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

impl Poller {
    pub(super) fn new(
        consumer: Arc<BaseConsumer<Context>>,
        settings: SourceSettings,
        shared: Arc<Mutex<Shared>>,
        budget: Arc<Budget>,
        spare: Arc<Spare>,
        commands: Receiver<Command>,
        out: Sender<Envelope>,
    ) -> Self {
        Self {
            queue: MessageQueue::new(Arc::clone(&consumer)),
            consumer,
            settings,
            shared,
            budget,
            spare,
            commands,
            out,
            partitions: Partitions::default(),
            put_off: None,
            paused: false,
            brokers_gone: false,
            kept_house: Instant::now(),
        }
    }

    /// Runs until the source is closed or something fails; being dropped then leaves the group.
    pub(super) fn run(mut self) {
        loop {
            match self.turn() {
                Ok(()) => {}
                Err(Stop::Closed) => return,
                Err(Stop::Failed(error)) => {
                    let _ = self.out.send(Envelope::Failed(error));
                    return;
                }
            }
        }
    }

    fn turn(&mut self) -> Result<(), Stop> {
        self.obey()?;
        self.serve_group()?;
        self.rebalance()?;
        if self.paused {
            std::thread::sleep(POLL);
        } else if self.budget.wait(POLL) {
            self.read()?;
            // However many partitions there are, there is always enough on its way to the pipeline for the budget to
            // come back.
            let fullest = self.partitions.take_fullest(self.settings.budget_bytes / 2);
            fullest.into_iter().try_for_each(|batch| self.send(Envelope::Batch(batch)))?;
        }
        let now = Instant::now();
        self.hand_on(|held| held.is_due(now))?;
        if now.duration_since(self.kept_house) >= HOUSEKEEPING {
            self.keep_house();
            self.kept_house = now;
        }
        Ok(())
    }

    /// Does what the pipeline asked for meanwhile.
    pub(super) fn obey(&mut self) -> Result<(), Stop> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Commit(progress)) => self.commit(&progress),
                Ok(Command::Rewind { ended }) => self.rewind(ended)?,
                Ok(Command::Pause) => self.pause(),
                Ok(Command::Close) | Err(TryRecvError::Disconnected) => return Err(Stop::Closed),
                Err(TryRecvError::Empty) => return Ok(()),
            }
        }
    }

    /// Serves what does not come with a partition: rebalances, errors, log lines. It also tells the group that we
    /// are alive.
    fn serve_group(&mut self) -> Result<(), Stop> {
        // An event that is consumed by a callback returns `None` like no event does: look more than once.
        for _ in 0..8 {
            if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
                self.group_error(&error)?;
            }
        }
        Ok(())
    }

    fn group_error(&self, error: &KafkaError) -> Result<(), Stop> {
        let doing = || format!("stay in the group {:?}", self.consumer_group());
        match error {
            KafkaError::MessageConsumptionFatal(code) => {
                // The event says only that the client is of no more use; the client says why.
                let (code, reason) =
                    self.consumer.client().fatal_error().unwrap_or_else(|| (*code, code.to_string()));
                Err(match code {
                    RDKafkaErrorCode::FencedInstanceId => {
                        let (group, member) = (self.consumer_group().to_owned(), self.settings.member());
                        Error::Fenced { group, member }
                    }
                    _ => Error::Kafka { doing: doing(), reason },
                }
                .into())
            }
            KafkaError::MessageConsumption(code) => match code {
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                    self.confirm_topics()
                }
                RDKafkaErrorCode::Authentication => {
                    let (brokers, reason) =
                        (self.settings.brokers.clone(), self.consumer.context().last_reason());
                    Err(Error::Authentication { brokers, reason }.into())
                }
                RDKafkaErrorCode::TopicAuthorizationFailed => {
                    Err(Error::Kafka { doing: doing(), reason: code.to_string() }.into())
                }
                // librdkafka would ask again without end, and hear the same.
                RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::GroupMaxSizeReached
                | RDKafkaErrorCode::InconsistentGroupProtocol
                | RDKafkaErrorCode::InvalidGroupId
                | RDKafkaErrorCode::InvalidSessionTimeout => {
                    let group = self.consumer_group().to_owned();
                    Err(Error::Group { group, reason: code.to_string(), code: *code }.into())
                }
                RDKafkaErrorCode::PollExceeded => {
                    warn!("the group took our partitions away, because we were silent for too long");
                    Ok(())
                }
                other => {
                    debug!("librdkafka tries again after: {other}");
                    Ok(())
                }
            },
            _ => Ok(()),
        }
    }

    /// A broker may deny a topic for a moment, as while a new leader is elected: only one that is missing from the
    /// cluster's metadata is gone.
    pub(super) fn confirm_topics(&self) -> Result<(), Stop> {
        let brokers = &self.settings.brokers;
        let Ok(metadata) = self.consumer.fetch_metadata(None, client::REQUEST_TIMEOUT) else { return Ok(()) };
        for topic in &self.settings.config.topics {
            client::partitions_of(&metadata, topic, brokers)?;
        }
        Ok(())
    }

    fn pause(&mut self) {
        self.paused = true;
        for held in self.partitions.iter_mut() {
            discard(&self.budget, held.take());
        }
    }

    /// Goes back to the committed offsets, with all partitions that did not begin after the rewind was asked for.
    fn rewind(&mut self, ended: u64) -> Result<(), Stop> {
        self.paused = false;
        let mut list = TopicPartitionList::new();
        {
            let mut shared = lock(&self.shared);
            let generation = shared.new_generation();
            for held in self.partitions.iter_mut().filter(|held| held.generation <= ended) {
                let next = shared.position(&held.partition).unwrap_or(held.next);
                discard(&self.budget, held.restart(generation, next));
                let TopicPartition { topic, partition } = &held.partition;
                list.add_partition_offset(topic, *partition, KafkaOffset::Offset(next))
                    .map_err(|error| Error::kafka(format!("go back to offset {next}"), &error))?;
            }
        }
        self.seek(list)
    }

    fn seek(&mut self, mut list: TopicPartitionList) -> Result<(), Stop> {
        let begin = Instant::now();
        while list.count() > 0 {
            let asked = self.consumer.seek_partitions(list.clone(), client::REQUEST_TIMEOUT);
            let answer = asked.map_err(|error| Error::kafka("go back to the committed offsets", &error))?;
            // A partition that is just being started or stopped cannot be sought yet.
            let mut again = TopicPartitionList::new();
            for element in answer.elements() {
                if let Err(error) = element.error() {
                    if begin.elapsed() >= SEEK_PATIENCE {
                        let partition = self.partition(element.topic(), element.partition());
                        return Err(Error::kafka(format!("go back in {partition}"), &error).into());
                    }
                    again
                        .add_partition_offset(element.topic(), element.partition(), element.offset())
                        .map_err(|error| Error::kafka("go back to the committed offsets", &error))?;
                }
            }
            if again.count() > 0 {
                self.serve_group()?;
                std::thread::sleep(POLL);
            }
            list = again;
        }
        Ok(())
    }

    fn commit(&self, progress: &Progress) {
        let mut list = TopicPartitionList::new();
        for (partition, position) in progress.iter().filter(|(p, _)| self.partitions.contains(p)) {
            let offset = KafkaOffset::Offset(position.next);
            let _ = list.add_partition_offset(&partition.topic, partition.partition, offset);
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, CommitMode::Async)
        {
            debug!("the group's offsets, a hint for lag tools, were not committed: {}", reason(&error));
        }
    }

    fn read(&mut self) -> Result<(), Stop> {
        let mut reading = Reading::new(&mut self.partitions, &self.budget, &self.spare, &self.out);
        self.queue.serve(POLL, &mut reading);
        match reading.end.take() {
            None => {}
            Some(End::Closed) => return Err(Stop::Closed),
            Some(End::Error(place, error)) => {
                drop(reading);
                let partition = &self.partitions.at(place).partition;
                record_error(&self.consumer, partition, error)?;
            }
        }
        Ok(())
    }

    /// Hands on the batches being filled of some partitions.
    pub(super) fn hand_on(&mut self, which: impl Fn(&Held) -> bool) -> Result<(), Stop> {
        let due: Vec<RawBatch> =
            self.partitions.iter_mut().filter(|held| which(held)).filter_map(Held::take).collect();
        due.into_iter().try_for_each(|batch| self.send(Envelope::Batch(batch)))
    }

    pub(super) fn send(&self, envelope: Envelope) -> Result<(), Stop> {
        self.out.send(envelope).map_err(|_| Stop::Closed)
    }

    fn keep_house(&mut self) {
        let known = |p: &TopicPartition| {
            self.queue.watermarks(p).map(|(low, high)| (p.clone(), Watermarks { low, high }))
        };
        let fresh: Vec<_> = self.partitions.iter().filter_map(|held| known(&held.partition)).collect();
        lock(&self.shared).watermarks.extend(fresh);
        self.look_for_brokers();
    }

    /// Says once that no broker is there, and once that one is back. librdkafka reports only the former, and as soon
    /// as an idle connection is closed; so a question decides.
    fn look_for_brokers(&mut self) {
        if !self.consumer.context().take_all_down() && !self.brokers_gone {
            return;
        }
        let topic = self.settings.config.topics.first().map(String::as_str);
        let gone = self.consumer.fetch_metadata(topic, PROBE).is_err();
        let brokers = &self.settings.brokers;
        match (self.brokers_gone, gone) {
            (false, true) => {
                warn!("no broker answers at {brokers} any more; trying until one does");
                let reason = self.consumer.context().last_reason();
                lock(&self.shared).outage = Some(Outage { since: Instant::now(), reason });
            }
            (true, false) => {
                info!("a broker answers at {brokers} again");
                lock(&self.shared).outage = None;
            }
            _ => {}
        }
        self.brokers_gone = gone;
    }

    /// A partition, sharing its topic's name with the others of the topic.
    pub(super) fn partition(&self, topic: &str, partition: i32) -> TopicPartition {
        let named = self.partitions.iter().map(|held| &held.partition.topic).find(|name| &***name == topic);
        TopicPartition::new(named.map_or_else(|| topic.into(), Arc::clone), partition)
    }

    fn consumer_group(&self) -> &str {
        self.settings.config.group.as_ref().unwrap_or(&self.settings.group)
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        // The consumer, dropped next, waits until the group has let it go.
        self.leave();
    }
}

/// Turns a partition's error into ours, unless librdkafka tries again by itself.
fn record_error(
    consumer: &BaseConsumer<Context>,
    partition: &TopicPartition,
    ItemError { code, offset: expected, text }: ItemError,
) -> Result<(), Stop> {
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET {
        let asked = watermarks::ask(consumer, std::slice::from_ref(partition));
        let held = asked.map_err(|(partition, error)| watermarks::untold(&partition, &error))?;
        let Watermarks { low, high } = held[0];
        return Err(Error::Gap { partition: partition.clone(), expected, low, high }.into());
    }
    if is_damage(code) {
        let doing = format!("read {partition} at offset {expected}");
        return Err(Error::Kafka { doing, reason: text }.into());
    }
    debug!("{partition} at offset {expected}: {text}");
    Ok(())
}

/// Gives back what a batch that nobody will see took.
pub(super) fn discard(budget: &Budget, batch: Option<RawBatch>) {
    budget.give_back(batch.map_or(0, |batch| batch.memory()));
}
