//! Topics and groups: what a cluster has, and making and deleting topics.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use puddle_types::{Offset, TopicPartition};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use crate::Watermarks;
use crate::client::{self, ClientSettings, Context, REQUEST_TIMEOUT};
use crate::config::check_topic_name;
use crate::error::Error;
use crate::watermarks;

/// How long [`Admin::connect`] waits for the first answer of a broker.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How long a topic may take to appear everywhere after it was created, or to disappear.
const SETTLE: Duration = Duration::from_secs(10);

/// A connection for looking at a cluster and for making and deleting topics. Its functions block.
pub struct Admin {
    consumer: BaseConsumer<Context>,
    config: ClientConfig,
    brokers: String,
}

/// A topic, as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// For each partition, the offsets that it holds.
    pub partitions: BTreeMap<i32, Watermarks>,
}

impl Topic {
    /// How many offsets the topic holds: with compaction or transactions, somewhat more than it has records.
    pub fn offsets(&self) -> u64 {
        self.partitions.values().map(|w| w.high.saturating_sub(w.low).max(0).unsigned_abs()).sum()
    }
}

impl Admin {
    /// Connects, waiting up to [`CONNECT_PATIENCE`] for an answer.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Authentication`], [`Error::Setting`].
    pub fn connect(brokers: &str, settings: &ClientSettings) -> Result<Admin, Error> {
        let config = settings.config(brokers)?;
        let consumer = client::create(&config, Context::default())?;
        client::metadata(&consumer, brokers, CONNECT_PATIENCE)?;
        Ok(Admin { consumer, config, brokers: brokers.to_owned() })
    }

    /// All topics, sorted by name; those that the cluster keeps for itself are left out.
    ///
    /// # Errors
    /// [`Error::Unreachable`] and whatever a broker refuses.
    pub fn topics(&self) -> Result<Vec<Topic>, Error> {
        let metadata = self.metadata()?;
        let visible =
            metadata.topics().iter().filter(|t| t.error().is_none() && !client::is_internal(t.name()));
        let mut topics = visible
            .map(|t| {
                let partitions = t.partitions().iter().map(|p| p.id());
                let partitions = held(&self.consumer, t.name(), partitions)?;
                Ok(Topic { name: t.name().to_owned(), partitions })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// The partitions of a topic and the offsets that each holds, open transactions included.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], which offers the nearest name.
    pub fn watermarks(&self, topic: &str) -> Result<BTreeMap<i32, Watermarks>, Error> {
        held(&self.consumer, topic, self.partitions(topic)?)
    }

    /// As [`watermarks`](Self::watermarks), but without what belongs to transactions that are still open: the offsets
    /// that a reader of committed records can reach now.
    ///
    /// # Errors
    /// As [`watermarks`](Self::watermarks).
    pub fn stable_watermarks(&self, topic: &str) -> Result<BTreeMap<i32, Watermarks>, Error> {
        let mut config = self.config.clone();
        config.set("isolation.level", "read_committed");
        let consumer: BaseConsumer<Context> = client::create(&config, Context::default())?;
        held(&consumer, topic, self.partitions(topic)?)
    }

    /// The offsets that a group has committed for partitions of these topics, if it has for any.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`]; [`Error::Kafka`] when the group's coordinator does not answer.
    pub fn group_offsets(
        &self,
        group: &str,
        topics: &[&str],
    ) -> Result<BTreeMap<TopicPartition, Offset>, Error> {
        let metadata = self.metadata()?;
        let mut list = TopicPartitionList::new();
        for topic in topics {
            for partition in client::partitions_of(&metadata, topic, &self.brokers)? {
                list.add_partition(topic, partition);
            }
        }
        let mut config = self.config.clone();
        config.set("group.id", group);
        let consumer: BaseConsumer<Context> = client::create(&config, Context::default())?;
        let committed = committed(&consumer, &list)
            .map_err(|error| Error::kafka(format!("ask for the offsets of the group {group:?}"), &error))?;
        let offset = |e: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match e.offset() {
            KafkaOffset::Offset(offset) => Some((TopicPartition::new(e.topic(), e.partition()), offset)),
            _ => None,
        };
        Ok(committed.elements().iter().filter_map(offset).collect())
    }

    /// Creates a topic, and returns when it can be written to.
    ///
    /// # Errors
    /// [`Error::TopicExists`], [`Error::TopicName`], [`Error::Partitions`], and whatever else the broker refuses.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), Error> {
        check_topic_name(name)?;
        check_partitions(name, partitions)?;
        // -1: as the broker is configured.
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        let (admin, options) = self.admin()?;
        let results = block_on(admin.create_topics([&topic], &options));
        if let Ok([Err((_, RDKafkaErrorCode::InvalidPartitions))]) = results.as_deref() {
            let reason = "the broker does not allow so many; a few for each reader are enough".to_owned();
            return Err(Error::Partitions { topic: name.to_owned(), partitions, reason });
        }
        self.outcome(name, "create", results)?;
        self.settle(name, |metadata| {
            let topic = metadata.topics().iter().find(|t| t.name() == name && t.error().is_none());
            topic.is_some_and(|t| {
                t.partitions().len() == partitions as usize && t.partitions().iter().all(|p| p.leader() >= 0)
            })
        })
    }

    /// Deletes a topic with all its records, and returns when it is gone.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], and whatever the broker refuses.
    pub fn delete_topic(&self, name: &str) -> Result<(), Error> {
        self.partitions(name)?;
        let (admin, options) = self.admin()?;
        let results = block_on(admin.delete_topics(&[name], &options));
        self.outcome(name, "delete", results)?;
        self.settle(name, |metadata| {
            !metadata.topics().iter().any(|t| t.name() == name && t.error().is_none())
        })
    }

    /// What a topic's setting is, if the cluster tells: it may be forbidden to us.
    pub(crate) fn topic_setting(&self, topic: &str, name: &str) -> Option<String> {
        let (admin, options) = self.admin().ok()?;
        let asked = [ResourceSpecifier::Topic(topic)];
        let answer = block_on(admin.describe_configs(&asked, &options)).ok()?;
        answer.into_iter().next()?.ok()?.get(name)?.value.clone()
    }

    fn admin(&self) -> Result<(AdminClient<Context>, AdminOptions), Error> {
        let admin = client::create(&self.config, Context::default())?;
        let timeout = Some(REQUEST_TIMEOUT);
        Ok((admin, AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)))
    }

    fn outcome(
        &self,
        topic: &str,
        verb: &str,
        results: KafkaResult<Vec<rdkafka::admin::TopicResult>>,
    ) -> Result<(), Error> {
        let doing = || format!("{verb} the topic {topic:?}");
        let results = results.map_err(|error| Error::kafka(doing(), &error))?;
        match results.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                Err(Error::TopicExists { topic: topic.to_owned() })
            }
            Some(Err((_, code))) => Err(Error::Kafka { doing: doing(), reason: code.to_string() }),
            _ => Ok(()),
        }
    }

    /// Waits until the cluster's metadata shows what was done; a cluster answers before all its brokers know.
    fn settle(&self, topic: &str, done: impl Fn(&Metadata) -> bool) -> Result<(), Error> {
        let begin = Instant::now();
        while !done(&self.metadata()?) {
            if begin.elapsed() >= SETTLE {
                let reason = format!("the cluster still shows the old state after {} s", SETTLE.as_secs());
                return Err(Error::Kafka { doing: format!("change the topic {topic:?}"), reason });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The partitions of a topic.
    pub(crate) fn partitions(&self, topic: &str) -> Result<Vec<i32>, Error> {
        client::partitions_of(&self.metadata()?, topic, &self.brokers)
    }

    fn metadata(&self) -> Result<Metadata, Error> {
        client::metadata(&self.consumer, &self.brokers, CONNECT_PATIENCE)
    }
}

/// The most partitions that librdkafka asks for.
const MAX_PARTITIONS: i32 = 100_000;

/// Checks how many partitions a topic is to get.
pub(crate) fn check_partitions(topic: &str, partitions: i32) -> Result<(), Error> {
    if (1..=MAX_PARTITIONS).contains(&partitions) {
        return Ok(());
    }
    let reason = format!("it must have at least 1, and at most {MAX_PARTITIONS}");
    Err(Error::Partitions { topic: topic.to_owned(), partitions, reason })
}

/// The offsets of the consumer's group. Asks again while the cluster is still finding out which broker coordinates the
/// group, as it must when it hears of the group for the first time.
fn committed(
    consumer: &BaseConsumer<Context>,
    partitions: &TopicPartitionList,
) -> KafkaResult<TopicPartitionList> {
    let begin = Instant::now();
    loop {
        let answer = consumer.committed_offsets(partitions.clone(), REQUEST_TIMEOUT);
        let code = answer.as_ref().err().and_then(|error| error.rdkafka_error_code());
        match code {
            Some(
                RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::WaitingForCoordinator,
            ) if begin.elapsed() < REQUEST_TIMEOUT => std::thread::sleep(Duration::from_millis(50)),
            _ => return answer,
        }
    }
}

/// The offsets that some partitions of a topic hold.
fn held(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    partitions: impl IntoIterator<Item = i32>,
) -> Result<BTreeMap<i32, Watermarks>, Error> {
    let name: Arc<str> = topic.into();
    let partitions: Vec<_> =
        partitions.into_iter().map(|partition| TopicPartition::new(Arc::clone(&name), partition)).collect();
    let held = watermarks::ask(consumer, &partitions)
        .map_err(|(partition, error)| watermarks::untold(&partition, &error))?;
    Ok(partitions.iter().map(|p| p.partition).zip(held).collect())
}

/// Waits for one of the admin client's futures, which it completes on a thread of its own. Works inside and outside of
/// any async runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut task = TaskContext::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut task) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
