//! What every Kafka client of this crate shares: settings, log lines, and the way to a broker that answers.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use serde::de::{Deserialize, Deserializer, Visitor};
use tracing::{debug, warn};

use crate::error::{Error, reason};
use crate::nearest::nearest;

/// How long one request may take once a broker has answered.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one attempt at a first answer takes, between which errors are looked at.
const ATTEMPT: Duration = Duration::from_millis(250);

/// Settings that a user may not make, and why.
const REFUSED: &[(&str, &str)] = &[
    ("auto.commit.enable", "is Puddle's: the table decides where a run resumes"),
    ("auto.offset.reset", "is Puddle's: an offset out of range must stop the run; use `start` of [ingest]"),
    ("bootstrap.servers", "is given by --brokers"),
    ("check.crcs", "is Puddle's: a damaged record must be seen"),
    ("enable.auto.commit", "is Puddle's: the table decides where a run resumes"),
    ("enable.auto.offset.store", "is Puddle's: the table decides where a run resumes"),
    ("enable.idempotence", "is Puddle's: a retry must not double a record"),
    ("enable.partition.eof", "is Puddle's: it tells when a run has caught up"),
    ("group.id", "is given by `group` of [ingest]"),
    ("group.protocol", "is Puddle's: the rebalance protocol is part of exactly-once"),
    ("isolation.level", "is Puddle's: records of aborted transactions must stay invisible"),
    ("log.queue", "is Puddle's: log lines go to Puddle's log"),
    ("metadata.broker.list", "is given by --brokers"),
    ("offset.store.method", "is Puddle's: the table decides where a run resumes"),
    ("partition.assignment.strategy", "is Puddle's: the rebalance protocol is part of exactly-once"),
    ("plugin.library.paths", "would load foreign code"),
];

/// How long a request may wait for its answer before its connection is taken for dead and made anew. librdkafka's
/// default is a minute, and nothing else tells of a connection that a firewall forgot: the group would have given us up
/// before (`session.timeout.ms`, 45 s). A broker that is only slow is asked again, and answers the same.
pub const DEFAULT_SOCKET_TIMEOUT: Duration = Duration::from_secs(10);

/// Further librdkafka settings, by name. Values may be secrets: `Debug` shows the names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientSettings(BTreeMap<String, String>);

impl ClientSettings {
    /// These settings.
    pub fn new(settings: BTreeMap<String, String>) -> Self {
        Self(settings)
    }

    /// These settings, with `key` set to `value` unless it is set already.
    pub fn or(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.entry(key.to_owned()).or_insert_with(|| value.into());
        self
    }

    /// Whether there is a setting of this name.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// What `key` is set to.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Checks that no setting undermines exactly-once, and that the client was built for what they ask.
    ///
    /// # Errors
    /// [`Error::Setting`], which names the setting and never its value.
    pub fn validate(&self) -> Result<(), Error> {
        for key in self.0.keys() {
            if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| refused == key) {
                return Err(Error::Setting { key: key.clone(), reason: (*reason).to_owned() });
            }
        }
        self.check_supported()
    }

    /// A librdkafka configuration: these settings for these brokers, and what every client of Puddle needs.
    pub(crate) fn config(&self, brokers: &str) -> Result<ClientConfig, Error> {
        self.validate()?;
        let mut config = ClientConfig::new();
        // Idle connections are reaped by brokers; librdkafka opens them again by itself.
        config.set("log.connection.close", "false");
        config.set("client.id", "puddle");
        config.set("socket.timeout.ms", DEFAULT_SOCKET_TIMEOUT.as_millis().to_string());
        // So that a firewall does not forget a connection that is only idle.
        config.set("socket.keepalive.enable", "true");
        config.set("allow.auto.create.topics", "false");
        config.extend(self.0.clone());
        config.set("bootstrap.servers", brokers);
        config.set_log_level(if tracing::enabled!(target: "librdkafka", tracing::Level::DEBUG) {
            RDKafkaLogLevel::Info
        } else {
            RDKafkaLogLevel::Warning
        });
        Ok(config)
    }
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|key| (key, "..."))).finish()
    }
}

impl<'de> Deserialize<'de> for ClientSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = BTreeMap::<String, Text>::deserialize(deserializer)?;
        Ok(Self(settings.into_iter().map(|(key, Text(value))| (key, value)).collect()))
    }
}

/// A setting's value. What is wrong with it is said without showing it, for it may be a password.
#[derive(Clone)]
pub(crate) struct Text(pub(crate) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a whole number or a boolean (quote a name that has dots)")
            }

            fn visit_str<E>(self, value: &str) -> Result<Text, E> {
                Ok(Text(value.to_owned()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }

            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Text, E> {
                // serde's own message would show the number.
                Err(E::custom(format!("expected {}", &self as &dyn serde::de::Expected)))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

/// Makes a client, and says which setting is wrong when librdkafka will not have it.
pub(crate) fn create<C: ClientContext, T: FromClientConfigAndContext<C>>(
    config: &ClientConfig,
    context: C,
) -> Result<T, Error> {
    config.create_with_context(context).map_err(|error| match error {
        KafkaError::ClientConfig(_, reason, key, value) => {
            // librdkafka quotes the value in its text.
            let reason = if value.is_empty() { reason } else { reason.replace(&value, "...") };
            Error::Setting { key, reason: format!("is not accepted: {reason}") }
        }
        KafkaError::ClientCreation(reason) => Error::Kafka { doing: "start a Kafka client".into(), reason },
        other => Error::kafka("start a Kafka client", &other),
    })
}

/// What a client's callbacks leave for the thread that polls it.
#[derive(Debug, Default)]
pub(crate) struct Context {
    /// Rebalances that wait for the poll loop; `None` while no loop is there to handle them.
    rebalances: Mutex<Option<VecDeque<Rebalance>>>,
    health: Mutex<Health>,
}

/// A change of the assignment that librdkafka waits for us to carry out.
#[derive(Debug)]
pub(crate) enum Rebalance {
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList),
}

#[derive(Clone, Debug, Default)]
struct Health {
    all_down: bool,
    authentication: bool,
    reason: String,
}

impl Context {
    /// From now on rebalances wait for [`next_rebalance`](Self::next_rebalance) instead of being carried out as
    /// librdkafka proposes.
    pub(crate) fn take_rebalances(&self) {
        *lock(&self.rebalances) = Some(VecDeque::new());
    }

    /// From now on rebalances are carried out as librdkafka proposes, so that a closing consumer can leave. Returns
    /// those that waited, which librdkafka expects an answer to as well.
    pub(crate) fn leave_rebalances(&self) -> VecDeque<Rebalance> {
        lock(&self.rebalances).take().unwrap_or_default()
    }

    /// The rebalance that has waited longest.
    pub(crate) fn next_rebalance(&self) -> Option<Rebalance> {
        lock(&self.rebalances).as_mut()?.pop_front()
    }

    /// Whether all brokers were reported down since the last call.
    pub(crate) fn take_all_down(&self) -> bool {
        std::mem::take(&mut lock(&self.health).all_down)
    }

    /// The newest error's text; empty when there was none.
    pub(crate) fn last_reason(&self) -> String {
        lock(&self.health).reason.clone()
    }

    fn authentication_failed(&self) -> bool {
        lock(&self.health).authentication
    }

    pub(crate) fn on_error(&self, error: &KafkaError, text: &str) {
        debug!(target: "librdkafka", "{}: {text}", reason(error));
        let mut health = lock(&self.health);
        match error.rdkafka_error_code() {
            // Follows the errors that say why, and says less than they do.
            Some(RDKafkaErrorCode::AllBrokersDown) => health.all_down = true,
            Some(RDKafkaErrorCode::Authentication) => {
                health.authentication = true;
                health.reason = text.to_owned();
            }
            Some(RDKafkaErrorCode::PartitionEOF) => {}
            _ => health.reason = text.to_owned(),
        }
    }
}

/// Takes librdkafka's log lines. What it calls errors are failed attempts that it repeats by itself; those that
/// matter also arrive as error events, so here they are no more than details.
pub(crate) fn on_log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            warn!(target: "librdkafka", "{facility}: {text}")
        }
        _ => debug!(target: "librdkafka", "{facility}: {text}"),
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        on_log(level, facility, text);
    }

    fn error(&self, error: KafkaError, text: &str) {
        self.on_error(&error, text);
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let assign = err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        // librdkafka waits until the application calls assign or unassign, inside this callback or later. Later
        // is better: the poll loop owns the state that is needed, and may ask the broker for watermarks.
        if let Some(waiting) = lock(&self.rebalances).as_mut() {
            let partitions = partitions.clone();
            return waiting.push_back(match assign {
                true => Rebalance::Assign(partitions),
                false => Rebalance::Revoke(partitions),
            });
        }
        refuse(consumer, if assign { None } else { Some(partitions) });
    }

    fn commit_callback(&self, result: rdkafka::error::KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            debug!("the group's offsets, a hint for lag tools, were not committed: {}", reason(&error));
        }
    }
}

/// Carries out a rebalance while leaving the group: takes nothing, gives back what was `revoked`.
pub(crate) fn refuse(consumer: &BaseConsumer<Context>, revoked: Option<&TopicPartitionList>) {
    let nothing = TopicPartitionList::new();
    let accepted = match (revoked, consumer.rebalance_protocol()) {
        (None, RebalanceProtocol::Cooperative) => consumer.incremental_assign(&nothing),
        (None, _) => consumer.assign(&nothing),
        (Some(revoked), RebalanceProtocol::Cooperative) => consumer.incremental_unassign(revoked),
        (Some(_), _) => consumer.unassign(),
    };
    if let Err(error) = accepted {
        debug!("a rebalance while leaving the group: {}", reason(&error));
    }
}

/// The cluster's topics, once a broker answers; brokers that are still starting are waited for.
///
/// # Errors
/// [`Error::Unreachable`] after `patience`, [`Error::Authentication`] as soon as a broker refuses us.
pub(crate) fn metadata(
    consumer: &BaseConsumer<Context>,
    brokers: &str,
    patience: Duration,
) -> Result<Metadata, Error> {
    let begin = Instant::now();
    loop {
        let left = patience.saturating_sub(begin.elapsed());
        match consumer.fetch_metadata(None, left.min(ATTEMPT).max(Duration::from_millis(1))) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => debug!("no answer from {brokers} yet: {}", reason(&error)),
        }
        drain_events(consumer);
        let context = consumer.context();
        if context.authentication_failed() {
            return Err(Error::Authentication { brokers: brokers.to_owned(), reason: context.last_reason() });
        }
        if begin.elapsed() >= patience {
            let reason = context.last_reason();
            return Err(Error::Unreachable { brokers: brokers.to_owned(), waited: patience, reason });
        }
    }
}

/// Serves error and log events, which reach the context only when someone polls.
pub(crate) fn drain_events(consumer: &BaseConsumer<Context>) {
    // An upper bound, so that a client that fails without end cannot hold us here.
    for _ in 0..64 {
        let _ = consumer.poll(Duration::ZERO);
    }
}

/// The partitions of a topic, by the metadata of the cluster.
///
/// # Errors
/// [`Error::UnknownTopic`], with the topic that was probably meant.
pub(crate) fn partitions_of(metadata: &Metadata, topic: &str, brokers: &str) -> Result<Vec<i32>, Error> {
    match metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none()) {
        Some(found) => Ok(found.partitions().iter().map(|p| p.id()).collect()),
        None => Err(unknown_topic(metadata, topic, brokers)),
    }
}

fn unknown_topic(metadata: &Metadata, topic: &str, brokers: &str) -> Error {
    let mut existing: Vec<String> = metadata.topics().iter().map(|t| t.name().to_owned()).collect();
    existing.retain(|name| !is_internal(name) && name != topic);
    existing.sort();
    let nearest = nearest(topic, existing.iter().map(String::as_str));
    Error::UnknownTopic { topic: topic.to_owned(), brokers: brokers.to_owned(), nearest, existing }
}

/// Whether a topic is the cluster's own book-keeping.
pub(crate) fn is_internal(topic: &str) -> bool {
    topic.starts_with("__")
}

/// Locks, also after a panic elsewhere: what these mutexes guard is valid after every single assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault matrix 27.
    #[test]
    fn a_dead_connection_is_noticed_before_the_group_gives_us_up() {
        let settings = ClientSettings::default();
        let native = settings.config("127.0.0.1:1").unwrap().create_native_config().unwrap();
        let millis = |key: &str| native.get(key).unwrap().parse::<u128>().unwrap();
        assert_eq!(millis("socket.timeout.ms"), DEFAULT_SOCKET_TIMEOUT.as_millis());
        assert!(millis("socket.timeout.ms") * 3 < millis("session.timeout.ms"), "time for a second try");
        assert_eq!(native.get("socket.keepalive.enable").unwrap(), "true");
        let changed = settings.or("socket.timeout.ms", "7000").config("127.0.0.1:1").unwrap();
        assert_eq!(changed.get("socket.timeout.ms"), Some("7000"));
    }

    /// Fault matrix 47.
    #[test]
    fn a_value_that_librdkafka_does_not_accept_is_not_shown() {
        for key in ["session.timeout.ms", "broker.address.family", "sasl.jaas.config"] {
            let config = ClientSettings::default().or(key, "hunter2").config("127.0.0.1:1").unwrap();
            let Err(error) = create::<_, BaseConsumer<Context>>(&config, Context::default()) else {
                panic!("{key} was accepted")
            };
            let text = error.to_string();
            assert!(error.is_usage() && text.contains(key) && !text.contains("hunter2"), "{text}");
        }
    }
}
