//! What the topics hold, to compare with the log.

use std::collections::{BTreeMap, BTreeSet};

use puddle_ingest::admin::Admin;
use puddle_ingest::reader::{Range, Reader};
use puddle_ingest::{ClientSettings, Watermarks};
use puddle_types::{Progress, TopicPartition};

use super::offsets::Ledger;
use crate::Error;

/// The offsets that each partition of these topics holds.
pub(super) fn held(
    admin: &Admin,
    topics: &BTreeSet<String>,
) -> Result<BTreeMap<TopicPartition, Watermarks>, Error> {
    let mut held = BTreeMap::new();
    for topic in topics {
        for (partition, watermarks) in admin.watermarks(topic)? {
            held.insert(TopicPartition::new(topic.as_str(), partition), watermarks);
        }
    }
    Ok(held)
}

/// Enters the offset of every record in these ranges.
pub(super) fn enter(
    brokers: &str,
    client: &ClientSettings,
    ranges: Vec<Range>,
    ledgers: &mut BTreeMap<TopicPartition, Ledger>,
) -> Result<(), Error> {
    let mut reader = Reader::open(brokers, client, ranges)?.offsets_only();
    while let Some(batch) = reader.next()? {
        if let Some(ledger) = ledgers.get_mut(&batch.partition) {
            batch.records().for_each(|record| ledger.in_topic(record.offset));
        }
    }
    Ok(())
}

/// Reports partitions whose last committed record is not the one that the topic holds at its offset now.
pub(super) fn compare_last(
    brokers: &str,
    client: &ClientSettings,
    progress: &Progress,
    held: &BTreeMap<TopicPartition, Watermarks>,
    problems: &mut Vec<String>,
) -> Result<(), Error> {
    let mut expected = BTreeMap::new();
    for (partition, position) in progress {
        let there = |offset| held.get(partition).is_some_and(|held| (held.low..held.high).contains(&offset));
        if let Some(last) = position.last.filter(|last| there(last.offset)) {
            expected.insert(partition.clone(), last);
        }
    }
    let one = |(partition, last): (&TopicPartition, &puddle_types::Fingerprint)| {
        Range::new(partition.clone(), last.offset, last.offset + 1)
    };
    let mut reader = Reader::open(brokers, client, expected.iter().map(one).collect())?;
    while let Some(batch) = reader.next()? {
        let last = expected[&batch.partition];
        if batch.records().next().map(|record| record.fingerprint()) != Some(last) {
            problems.push(format!(
                "{}: the record at offset {} is not the one that was committed: the topic was made again",
                batch.partition, last.offset
            ));
        }
    }
    Ok(())
}
