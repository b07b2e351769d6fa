//! The partitions that are ours at the moment, and the batches being filled for them.

use std::time::{Duration, Instant};

use puddle_types::{Offset, TopicPartition};

use super::spare::Spare;
use crate::raw::RawBatch;

/// A batch is handed on at so many records: enough to make decoding by the batch pay, few enough that a batch
/// decodes in some ten milliseconds.
pub(super) const BATCH_RECORDS: usize = 16_384;

/// A batch is handed on at so many bytes in memory.
pub(super) const BATCH_BYTES: usize = 2 << 20;

/// A batch is handed on after so long, full or not: what a trickle of records waits at most.
pub(super) const LINGER: Duration = Duration::from_millis(50);

/// A partition that is ours.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) partition: TopicPartition,
    pub(super) generation: u64,
    /// The offset at which the next record is expected, or a higher one.
    pub(super) next: Offset,
    filling: Option<(RawBatch, Instant)>,
}

impl Held {
    pub(super) fn new(partition: TopicPartition, generation: u64, next: Offset) -> Self {
        Self { partition, generation, next, filling: None }
    }

    /// Takes a record. Returns how much memory it took: nothing for a record below `next`, which was read before (a
    /// broker answers with whole compressed batches, whatever offset was asked for).
    pub(super) fn push(
        &mut self,
        offset: Offset,
        timestamp_ms: Option<i64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        now: Instant,
        spare: &Spare,
    ) -> usize {
        if offset < self.next {
            return 0;
        }
        let (batch, _) = self
            .filling
            .get_or_insert_with(|| (spare.take(self.partition.clone(), self.generation, self.next), now));
        let before = batch.memory();
        batch.push(offset, timestamp_ms, key, value);
        self.next = batch.next;
        batch.memory() - before
    }

    /// Notes that nothing lies between here and `next`.
    pub(super) fn skip_to(&mut self, next: Offset) {
        self.next = self.next.max(next);
        if let Some((batch, _)) = &mut self.filling {
            batch.next = self.next;
        }
    }

    /// What the batch being filled weighs in memory, in bytes.
    pub(super) fn filled(&self) -> usize {
        self.filling.as_ref().map_or(0, |(batch, _)| batch.memory())
    }

    /// Whether the batch should be handed on now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.is_full() || self.filling.as_ref().is_some_and(|(_, since)| now.duration_since(*since) >= LINGER)
    }

    pub(super) fn is_full(&self) -> bool {
        self.filling
            .as_ref()
            .is_some_and(|(batch, _)| batch.len() >= BATCH_RECORDS || batch.memory() >= BATCH_BYTES)
    }

    /// The batch as it is, if it holds anything.
    pub(super) fn take(&mut self) -> Option<RawBatch> {
        self.filling.take().map(|(batch, _)| batch)
    }

    /// Goes on elsewhere, as another generation. Returns the batch that is not valid any more.
    pub(super) fn restart(&mut self, generation: u64, next: Offset) -> Option<RawBatch> {
        let old = self.take();
        self.generation = generation;
        self.next = next;
        old
    }
}

/// All partitions that are ours, in order.
#[derive(Debug, Default)]
pub(super) struct Partitions(Vec<Held>);

impl Partitions {
    /// Where a partition is, until one comes or goes.
    pub(super) fn place(&self, topic: &str, partition: i32) -> Option<usize> {
        self.search(topic, partition).ok()
    }

    pub(super) fn at(&mut self, place: usize) -> &mut Held {
        &mut self.0[place]
    }

    pub(super) fn contains(&self, partition: &TopicPartition) -> bool {
        self.place(&partition.topic, partition.partition).is_some()
    }

    /// Adds a partition, in the place of what was held of it before.
    pub(super) fn insert(&mut self, held: Held) {
        match self.search(&held.partition.topic, held.partition.partition) {
            Ok(place) => self.0[place] = held,
            Err(place) => self.0.insert(place, held),
        }
    }

    pub(super) fn remove(&mut self, partition: &TopicPartition) -> Option<Held> {
        self.place(&partition.topic, partition.partition).map(|place| self.0.remove(place))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        self.0.iter_mut()
    }

    /// Takes the fullest batches until those that are left weigh `most` bytes in memory or less.
    pub(super) fn take_fullest(&mut self, most: usize) -> Vec<RawBatch> {
        let mut left: usize = self.0.iter().map(Held::filled).sum();
        if left <= most {
            return Vec::new();
        }
        let mut by_weight: Vec<&mut Held> = self.0.iter_mut().collect();
        by_weight.sort_by_key(|held| std::cmp::Reverse(held.filled()));
        let mut taken = Vec::new();
        for held in by_weight {
            if left <= most {
                break;
            }
            left -= held.filled();
            taken.extend(held.take());
        }
        taken
    }

    fn search(&self, topic: &str, partition: i32) -> Result<usize, usize> {
        self.0.binary_search_by(|held| {
            (&*held.partition.topic, held.partition.partition).cmp(&(topic, partition))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(next: Offset) -> Held {
        Held::new(TopicPartition::new("t", 0), 1, next)
    }

    fn put(held: &mut Held, offset: Offset, value: Option<&[u8]>, now: Instant) -> usize {
        held.push(offset, None, None, value, now, &Spare::default())
    }

    #[test]
    fn batches_follow_one_another_without_a_gap_between_them() {
        let (mut held, now) = (held(10), Instant::now());
        assert!(put(&mut held, 12, Some(b"a"), now) > 0);
        put(&mut held, 15, Some(b"b"), now);
        let first = held.take().unwrap();
        assert_eq!((first.from, first.next, first.len()), (10, 16, 2));
        put(&mut held, 16, None, now);
        held.skip_to(20);
        let second = held.take().unwrap();
        assert_eq!((second.from, second.next, second.len()), (16, 20, 1));
        assert!(held.take().is_none());
        assert_eq!(held.next, 20);
    }

    #[test]
    fn a_record_that_was_read_before_is_not_read_again() {
        let (mut held, now) = (held(10), Instant::now());
        assert_eq!(put(&mut held, 9, Some(b"old"), now), 0);
        assert!(held.take().is_none());
    }

    #[test]
    fn a_batch_is_due_when_full_or_old() {
        let (mut held, now) = (held(0), Instant::now());
        assert!(!held.is_due(now));
        put(&mut held, 0, Some(b"x"), now);
        assert!(!held.is_due(now));
        assert!(held.is_due(now + LINGER));
        put(&mut held, 1, Some(&vec![0; BATCH_BYTES]), now);
        assert!(held.is_due(now) && held.is_full());
    }

    #[test]
    fn tombstones_count_too() {
        let (mut held, now) = (held(0), Instant::now());
        assert!(put(&mut held, 0, None, now) > 0);
    }

    #[test]
    fn a_restart_throws_away_what_was_filled() {
        let (mut held, now) = (held(0), Instant::now());
        put(&mut held, 5, Some(b"x"), now);
        assert_eq!(held.restart(2, 3).unwrap().generation, 1);
        put(&mut held, 3, Some(b"y"), now);
        let batch = held.take().unwrap();
        assert_eq!((batch.generation, batch.from, batch.next), (2, 3, 4));
    }

    #[test]
    fn partitions_are_found_whatever_came_and_went() {
        let mut partitions = Partitions::default();
        for (topic, partition) in [("b", 1), ("a", 10), ("b", 0), ("a", 9), ("b", 1)] {
            partitions.insert(Held::new(TopicPartition::new(topic, partition), 1, 0));
        }
        assert!(partitions.remove(&TopicPartition::new("a", 10)).is_some());
        let all: Vec<_> = partitions.iter().map(|held| held.partition.to_string()).collect();
        assert_eq!(all, ["a-9", "b-0", "b-1"]);
        for (place, (topic, partition)) in [("a", 9), ("b", 0), ("b", 1)].into_iter().enumerate() {
            assert_eq!(partitions.place(topic, partition), Some(place));
            assert!(partitions.contains(&TopicPartition::new(topic, partition)));
        }
        assert_eq!(partitions.place("a", 10), None);
    }

    #[test]
    fn the_fullest_batches_go_first() {
        let mut partitions = Partitions::default();
        for (partition, bytes) in [100, 5000, 10, 3000].into_iter().enumerate() {
            let mut held = Held::new(TopicPartition::new("t", partition as i32), 1, 0);
            put(&mut held, 0, Some(&vec![b'x'; bytes]), Instant::now());
            partitions.insert(held);
        }
        let filled: usize = partitions.iter().map(Held::filled).sum();
        assert!(partitions.take_fullest(filled).is_empty());
        let of = |batches: Vec<RawBatch>| batches.iter().map(|b| b.partition.partition).collect::<Vec<_>>();
        assert_eq!(of(partitions.take_fullest(filled - 1)), [1]);
        assert_eq!(of(partitions.take_fullest(300)), [3]);
        assert_eq!(of(partitions.take_fullest(0)), [0, 2]);
        assert!(partitions.take_fullest(0).is_empty());
    }
}
