//! Buffers on their way back from the decode thread to the poll thread.
//!
//! A batch's buffers are some megabytes, which an allocator asks the kernel for, and the kernel fills with zeros page by
//! page. Going round, they stay in memory, and the last ones used in the processor's cache.

use std::sync::Mutex;

use puddle_types::{Offset, TopicPartition};

use super::held::BATCH_BYTES;
use crate::client::lock;
use crate::raw::RawBatch;

/// So many batches are kept at most: as many as are on their way between the threads when none of them waits.
const KEPT: usize = 4;

/// A batch with larger buffers is not kept. A full one has less: buffers double as they grow.
const LARGEST: usize = 3 * BATCH_BYTES;

/// Batches that nobody reads any more, the last used on top.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<RawBatch>>);

impl Spare {
    pub(super) fn give_back(&self, batch: RawBatch) {
        let mut kept = lock(&self.0);
        if kept.len() < KEPT && batch.capacity() <= LARGEST {
            kept.push(batch);
        }
    }

    /// An empty batch.
    pub(super) fn take(&self, partition: TopicPartition, generation: u64, from: Offset) -> RawBatch {
        match lock(&self.0).pop() {
            Some(batch) => batch.reuse(partition, generation, from),
            None => RawBatch::new(partition, generation, from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(bytes: usize) -> RawBatch {
        let mut batch = RawBatch::new(TopicPartition::new("t", 0), 1, 0);
        batch.push(0, None, None, Some(&vec![0; bytes]));
        batch
    }

    #[test]
    fn few_are_kept_and_none_that_is_huge() {
        let spare = Spare::default();
        spare.give_back(filled(LARGEST + 1));
        (0..KEPT + 3).for_each(|_| spare.give_back(filled(1000)));
        let kept = |_: &usize| spare.take(TopicPartition::new("u", 1), 2, 9).capacity() >= 1000;
        assert_eq!((0..KEPT + 3).filter(kept).count(), KEPT);
    }
}
