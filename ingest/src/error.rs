//! What can go wrong between a broker or a data set and a batch.

use std::path::PathBuf;
use std::time::Duration;

use puddle_types::{Offset, TopicPartition};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::IngestConfig;
use crate::schema::SchemaError;

/// An error of this crate. Each says what happened, with which input, and what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No broker answered in time.
    #[error(
        "no Kafka broker answers at {brokers} (waited {} s{}): check the address, and that the broker runs \
         (`puddle broker` starts one)",
        waited.as_secs(),
        because(reason)
    )]
    Unreachable {
        /// The addresses that were tried.
        brokers: String,
        /// How long.
        waited: Duration,
        /// What the client said last; empty when it said nothing.
        reason: String,
    },
    /// The broker refused who we are.
    #[error(
        "the broker at {brokers} refused to authenticate us ({reason}): check the sasl.* and ssl.* client settings"
    )]
    Authentication {
        /// The addresses that were tried.
        brokers: String,
        /// What the client said.
        reason: String,
    },
    /// A topic does not exist.
    #[error("no topic {topic:?} at {brokers}{}", instead(nearest, existing))]
    UnknownTopic {
        /// The topic that was asked for.
        topic: String,
        /// Where.
        brokers: String,
        /// The existing topic most like it.
        nearest: Option<String>,
        /// The topics that exist, sorted.
        existing: Vec<String>,
    },
    /// A topic that was to be created is there already.
    #[error("the topic {topic:?} exists already: choose another name, or delete it first")]
    TopicExists {
        /// Its name.
        topic: String,
    },
    /// A name cannot be a topic's.
    #[error("the topic name {topic:?} {reason}")]
    TopicName {
        /// The name.
        topic: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No topic is named.
    #[error("no topic to read: name at least one, as in topics = [\"flights\"]")]
    NoTopics,
    /// A client setting is refused.
    #[error("the client setting {key:?} {reason}")]
    Setting {
        /// Its name; its value may be a secret and is never shown.
        key: String,
        /// Why.
        reason: String,
    },
    /// A client setting gives a secret away, or trust.
    #[error(
        "the client setting {key:?} {why}: use sasl_ssl with its checks, or, where nobody else can listen, set \
         allow_insecure = true in [ingest]"
    )]
    Insecure {
        /// Its name.
        key: &'static str,
        /// What is insecure about it.
        why: &'static str,
    },
    /// What the table expects next is not what the topic can offer.
    #[error(
        "{partition} holds the offsets {low} to {high} (exclusive), but offset {expected} comes next: \
         retention has deleted records that were not read yet, or the topic was truncated or made again. \
         If retention has overtaken the table, --accept-gap goes on at {low}; else write to a new table"
    )]
    Gap {
        /// Which partition.
        partition: TopicPartition,
        /// The offset that should come next.
        expected: Offset,
        /// The oldest offset that the partition holds.
        low: Offset,
        /// Its exclusive end.
        high: Offset,
    },
    /// The last committed record is not in the topic any more; another one has its offset.
    #[error(
        "the record at offset {offset} of {partition} is not the one that was committed from there: \
         the topic was deleted and made again (it holds the offsets {low} to {high}, exclusive). \
         Write to a new table, or bring the old topic back"
    )]
    Recreated {
        /// Which partition.
        partition: TopicPartition,
        /// The offset of the last committed record.
        offset: Offset,
        /// The oldest offset that the partition holds.
        low: Offset,
        /// Its exclusive end.
        high: Offset,
    },
    /// A topic was deleted and made again while it was read.
    #[error(
        "the topic {topic} was deleted and made again while it was read; nothing of the new one was committed. \
         Write to a new table, or bring the old topic back"
    )]
    Replaced {
        /// The topic.
        topic: String,
    },
    /// A partition that the table has rows of does not exist.
    #[error(
        "{partition} does not exist, but the table has rows of it: the topic was deleted and made again with fewer \
         partitions. Write to a new table, or bring the old topic back"
    )]
    MissingPartition {
        /// Which partition.
        partition: TopicPartition,
    },
    /// The Kafka client failed at something.
    #[error("cannot {doing}: {reason}")]
    Kafka {
        /// What was being done.
        doing: String,
        /// What the client said.
        reason: String,
    },
    /// A data set does not exist or is not of a known kind.
    #[error("cannot replay {}: {reason}", path.display())]
    Dataset {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Reading or encoding a data set failed.
    #[error("cannot read {}", path.display())]
    ReadDataset {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A data set lacks a column.
    #[error("no column {column:?} in {}{}", path.display(), instead(nearest, columns))]
    UnknownColumn {
        /// The column that was asked for.
        column: String,
        /// The file.
        path: PathBuf,
        /// The existing column most like it.
        nearest: Option<String>,
        /// The columns that exist.
        columns: Vec<String>,
    },
    /// A replay's pace cannot be kept.
    #[error("the replay's pace {reason}")]
    Pace {
        /// Why.
        reason: &'static str,
    },
    /// Records were not delivered.
    #[error("{failed} of {sent} records were not delivered to {topic}: {reason}")]
    Delivery {
        /// The topic.
        topic: String,
        /// How many were not.
        failed: u64,
        /// How many were sent.
        sent: u64,
        /// What the first failure said.
        reason: String,
    },
    /// A record is larger than what takes it.
    #[error(
        "record {record} has {size} bytes, and {topic} does not take it: that is beyond {limit}. Or leave the record \
         out. {delivered} records were delivered"
    )]
    RecordTooLarge {
        /// The topic.
        topic: String,
        /// The record's number in the replay, from 1.
        record: u64,
        /// The size of its key and value.
        size: u64,
        /// Whose limit it is, how large, and how to raise it.
        limit: String,
        /// How many records the broker acknowledged.
        delivered: u64,
    },
    /// A topic cannot have so many partitions.
    #[error("the topic {topic:?} cannot have {partitions} partitions: {reason}")]
    Partitions {
        /// The topic that was to be created.
        topic: String,
        /// How many it should have.
        partitions: i32,
        /// What is allowed.
        reason: String,
    },
    /// The consumer group will not have us.
    #[error("cannot join the group {group:?}: {reason}{}", advice(*code))]
    Group {
        /// The group.
        group: String,
        /// What the broker said.
        reason: String,
        /// As a code.
        code: RDKafkaErrorCode,
    },
    /// Another member of the group has our id, and the group holds with the later one.
    #[error(
        "another consumer joined the group {group:?} as member {member:?}, which we were, and took our place: stop one \
         of the two, or give one a `group` of its own in [ingest] (--set ingest.group=NAME)"
    )]
    Fenced {
        /// The group.
        group: String,
        /// The member's id (`group.instance.id`).
        member: String,
    },
    /// How far the table is could not be asked when partitions were assigned to us.
    #[error("cannot ask the table where the partitions that were assigned to us go on")]
    Progress {
        /// What the table's side said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A consumer group is named by an empty string.
    #[error("the group's name is empty: name one, or leave `group` out for puddle-<pipeline>")]
    GroupName,
    /// The records' format cannot be read as it is configured.
    #[error("format = {format:?}: {reason}")]
    Format {
        /// The format's name.
        format: &'static str,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// A schema registry does not answer, or not as one.
    #[error(
        "the schema registry at {url} does not tell its schemas (asked for {:.0} s): {reason}. Check that it runs, and \
         `url` of [ingest.registry]",
        waited.as_secs_f64()
    )]
    Registry {
        /// Its address.
        url: String,
        /// How long it was asked.
        waited: Duration,
        /// What it said last, or what kept it from saying anything.
        reason: String,
    },
    /// A schema is wrong.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

impl Error {
    /// Whether the user asked for something wrong (exit code 2), rather than something having failed (exit code 1).
    pub fn is_usage(&self) -> bool {
        match self {
            Error::UnknownTopic { .. }
            | Error::TopicExists { .. }
            | Error::TopicName { .. }
            | Error::NoTopics
            | Error::Setting { .. }
            | Error::Insecure { .. }
            | Error::Dataset { .. }
            | Error::UnknownColumn { .. }
            | Error::Pace { .. }
            | Error::Partitions { .. }
            | Error::Format { .. }
            | Error::GroupName => true,
            // The broker's word on what was set.
            Error::Group { code, .. } => *code == RDKafkaErrorCode::InvalidSessionTimeout,
            Error::Schema(error) => error.is_usage(),
            _ => false,
        }
    }

    pub(crate) fn format(config: &IngestConfig, reason: String) -> Self {
        Error::Format { format: config.format.name(), reason }
    }

    pub(crate) fn kafka(doing: impl Into<String>, error: &KafkaError) -> Self {
        Error::Kafka { doing: doing.into(), reason: reason(error) }
    }
}

/// What the Kafka client means, without the name of the call that failed.
pub(crate) fn reason(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string())
}

/// What to do when a group will not have us.
fn advice(code: RDKafkaErrorCode) -> &'static str {
    match code {
        RDKafkaErrorCode::InvalidSessionTimeout => {
            "; set session.timeout.ms of [ingest.client] to what the broker allows (group.min.session.timeout.ms to \
             group.max.session.timeout.ms), or leave it out"
        }
        RDKafkaErrorCode::InconsistentGroupProtocol => {
            "; other members divide the partitions in another way: name a `group` of its own in [ingest]"
        }
        RDKafkaErrorCode::GroupAuthorizationFailed => {
            "; the broker's access rules must let us read with this group"
        }
        _ => "",
    }
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!("; {reason}") }
}

/// How many names an error lists before it only counts them.
const LISTED: usize = 20;

fn instead(nearest: &Option<String>, existing: &[String]) -> String {
    let listed = existing.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = existing.len().saturating_sub(LISTED);
    match nearest {
        Some(name) => format!(": did you mean {name:?}?"),
        None if existing.is_empty() => ": there is none at all".to_owned(),
        None if more > 0 => format!(": there are {listed} and {more} more"),
        None => format!(": there are {listed}"),
    }
}
