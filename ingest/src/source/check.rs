//! Does the progress of a table still fit what the topics hold?
//!
//! Three things may have happened since the last run: retention deleted records that were not read yet, the topic was
//! truncated, or it was deleted and made again. The first two show in the watermarks, the last one in them or in the
//! record at the last committed offset, which is another one then. Any of them stops the run; a gap is never silent.

use std::collections::{BTreeMap, BTreeSet};

use puddle_types::{Fingerprint, Position, Progress, TopicPartition};
use rdkafka::consumer::BaseConsumer;
use tracing::debug;

use super::{SourceSettings, Watermarks};
use crate::client::Context;
use crate::error::Error;
use crate::reader::{Range, Reader};
use crate::watermarks;

/// Checks all progress, before anything is read.
pub(super) fn check(
    consumer: &BaseConsumer<Context>,
    settings: &SourceSettings,
    known: &BTreeSet<TopicPartition>,
    progress: &Progress,
) -> Result<(), Error> {
    if let Some(partition) = progress.keys().find(|partition| !known.contains(partition)) {
        return Err(Error::MissingPartition { partition: partition.clone() });
    }
    let partitions: Vec<TopicPartition> = progress.keys().cloned().collect();
    let held = watermarks::ask(consumer, &partitions)
        .map_err(|(partition, error)| watermarks::untold(&partition, &error))?;
    let watermarks: BTreeMap<_, _> = partitions.into_iter().zip(held).collect();
    for (partition, position) in progress {
        check_range(partition, position.next, watermarks[partition])?;
    }
    let readable = progress.iter().filter_map(|(p, position)| readable(p, position, watermarks[p]));
    let expected: BTreeMap<_, _> = readable.collect();
    compare(settings, &expected, &watermarks)
}

/// Checks that the offset that comes next is one that the partition holds, or its end.
pub(super) fn check_range(partition: &TopicPartition, expected: i64, held: Watermarks) -> Result<(), Error> {
    let Watermarks { low, high } = held;
    match (low..=high).contains(&expected) {
        true => Ok(()),
        false => Err(Error::Gap { partition: partition.clone(), expected, low, high }),
    }
}

/// The fingerprint to compare, unless retention has deleted its record since.
fn readable(
    partition: &TopicPartition,
    position: &Position,
    held: Watermarks,
) -> Option<(TopicPartition, Fingerprint)> {
    let last = position.last?;
    (last.offset >= held.low && last.offset < held.high).then(|| (partition.clone(), last))
}

fn compare(
    settings: &SourceSettings,
    expected: &BTreeMap<TopicPartition, Fingerprint>,
    watermarks: &BTreeMap<TopicPartition, Watermarks>,
) -> Result<(), Error> {
    if expected.is_empty() {
        return Ok(());
    }
    let range =
        |(p, last): (&TopicPartition, &Fingerprint)| Range::new(p.clone(), last.offset, last.offset + 1);
    let mut reader =
        Reader::open(&settings.brokers, &settings.config.client, expected.iter().map(range).collect())?;
    while let Some(batch) = reader.next()? {
        let want = expected[&batch.partition];
        let Some(found) = batch.records().next() else {
            // Compaction may remove the very record; what is left cannot tell whose topic this is.
            debug!("{} holds no record at offset {} any more: not compared", batch.partition, want.offset);
            continue;
        };
        if found.fingerprint() != want {
            let Watermarks { low, high } = watermarks[&batch.partition];
            return Err(Error::Recreated {
                partition: batch.partition.clone(),
                offset: want.offset,
                low,
                high,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Watermarks = Watermarks { low: 10, high: 20 };

    #[test]
    fn progress_may_lie_at_both_ends_and_not_beyond() {
        let partition = TopicPartition::new("t", 0);
        for (next, fits) in [(9, false), (10, true), (20, true), (21, false)] {
            assert_eq!(check_range(&partition, next, HELD).is_ok(), fits, "{next}");
        }
        let error = check_range(&partition, 9, HELD).unwrap_err().to_string();
        assert!(error.contains("t-0") && error.contains('9') && error.contains("10 to 20"), "{error}");
    }

    #[test]
    fn a_record_that_retention_deleted_is_not_compared() {
        let partition = TopicPartition::new("t", 0);
        for (offset, is_readable) in [(9, false), (10, true), (19, true), (20, false)] {
            let last = Some(Fingerprint { offset, timestamp: 0, hash: 0 });
            let position = Position { next: offset + 1, last };
            assert_eq!(readable(&partition, &position, HELD).is_some(), is_readable, "{offset}");
        }
    }
}
