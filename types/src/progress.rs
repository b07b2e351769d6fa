//! Positions in the log: which records of which partition are already in a table.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The place of a record in its partition. Offsets are not contiguous: compaction and transactions leave gaps,
/// so they are compared and never counted.
pub type Offset = i64;

/// A partition of a topic; orders by topic, then by number, and prints as `flights-3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition with this number of this topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// What the last committed record of a partition looked like. A start compares it with what the topic holds at
/// that offset: a difference means that the topic was deleted and made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The record's offset.
    pub offset: Offset,
    /// The record's timestamp, in milliseconds since 1970 (UTC); -1 when it has none.
    pub timestamp: i64,
    /// XXH3-64 of the key, a separator and the value.
    pub hash: u64,
}

/// Where a partition goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The exclusive next offset: everything below it is accounted for.
    pub next: Offset,
    /// The last record below `next`, if there ever was one.
    pub last: Option<Fingerprint>,
}

/// For each partition that a table has rows of, where it goes on.
pub type Progress = BTreeMap<TopicPartition, Position>;
