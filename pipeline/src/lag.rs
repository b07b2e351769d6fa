//! How far a table is behind its topics.

use std::path::Path;

use puddle_ingest::admin::Admin;
use puddle_types::{Offset, Progress, TopicPartition};
use serde::Serialize;

use crate::prepare::blocking;
use crate::run::Targets;
use crate::{Error, Pipeline};

/// A partition and how far the table has come in it.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The oldest offset that the topic holds.
    pub low: Offset,
    /// The exclusive end of what the topic holds.
    pub high: Offset,
    /// Where the table goes on; nothing if it has nothing of this partition yet.
    pub next: Option<Offset>,
    /// Offsets still to come: an upper bound of the records, since offsets may have gaps.
    pub lag: i64,
}

/// Compares the table's log with what the topics hold.
///
/// # Errors
/// A broker that cannot be reached, an unknown topic, a log that cannot be read.
pub async fn lag(pipeline: &Pipeline, brokers: &str, lake: &Path) -> Result<Vec<PartitionLag>, Error> {
    let progress = match puddle_sink::lake::progress(lake, &pipeline.sink.table) {
        Err(puddle_sink::Error::NoTable { .. }) => Progress::new(),
        progress => progress?,
    };
    let (brokers, config) = (brokers.to_owned(), pipeline.ingest.clone());
    blocking(move || {
        let admin = Admin::connect(&brokers, &config.client)?;
        let mut lags = Vec::new();
        for topic in &config.topics {
            for (partition, held) in admin.watermarks(topic)? {
                let next = progress
                    .get(&TopicPartition::new(topic.as_str(), partition))
                    .map(|position| position.next);
                let lag = (held.high - next.unwrap_or(held.low)).max(0);
                lags.push(PartitionLag {
                    topic: topic.clone(),
                    partition,
                    low: held.low,
                    high: held.high,
                    next,
                    lag,
                });
            }
        }
        Ok(lags)
    })
    .await
}

/// Where the committed records of the pipeline's topics end now: the targets of a run that catches up.
///
/// # Errors
/// A broker that cannot be reached, an unknown topic.
pub async fn ends(pipeline: &Pipeline, brokers: &str) -> Result<Targets, Error> {
    let (brokers, config) = (brokers.to_owned(), pipeline.ingest.clone());
    blocking(move || {
        let admin = Admin::connect(&brokers, &config.client)?;
        let mut ends = Targets::new();
        for topic in &config.topics {
            for (partition, held) in admin.stable_watermarks(topic)? {
                ends.insert(TopicPartition::new(topic.as_str(), partition), held.high);
            }
        }
        Ok(ends)
    })
    .await
}
