//! What the poll loop and the pipeline's side of a [`Source`](super::Source) both look at.

use std::collections::{BTreeMap, BTreeSet};

use puddle_types::{Offset, Position, Progress, TopicPartition};

use super::{Outage, Watermarks};
use crate::config::Start;

/// Guarded by one mutex, held for single look-ups and updates only.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Where partitions go on when they are assigned: what was committed last.
    pub(super) progress: Progress,
    /// Where partitions that have no progress began. Kept, so that a rewind goes there and not to where the start
    /// policy would point by then.
    pub(super) origins: BTreeMap<TopicPartition, Offset>,
    pub(super) watermarks: BTreeMap<TopicPartition, Watermarks>,
    /// While no broker answers.
    pub(super) outage: Option<Outage>,
    /// The partitions that existed at the start.
    known: BTreeSet<TopicPartition>,
    /// The newest generation.
    generation: u64,
    /// Generations up to this one have ended, for all partitions.
    ended: u64,
    /// Generations up to this one have ended, for one partition.
    ended_of: BTreeMap<TopicPartition, u64>,
}

impl Shared {
    pub(super) fn new(progress: Progress, known: BTreeSet<TopicPartition>) -> Self {
        Self { progress, known, ..Self::default() }
    }

    pub(super) fn new_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Takes in how far the table is in a partition, unless more is known already, as where a gap was accepted.
    pub(super) fn learn(&mut self, partition: &TopicPartition, position: Position) {
        let known = self.progress.entry(partition.clone()).or_insert(position);
        if position.next > known.next {
            *known = position;
        }
    }

    /// Where a partition goes on, if that was decided before.
    pub(super) fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        let committed = self.progress.get(partition).map(|position| position.next);
        committed.or_else(|| self.origins.get(partition).copied())
    }

    /// Decides where a partition without progress begins. One that was added while we run begins at its
    /// first record whatever the policy: all of its records are new.
    pub(super) fn begin(
        &mut self,
        partition: &TopicPartition,
        start: Start,
        watermarks: Watermarks,
    ) -> Offset {
        let offset = match start {
            Start::Latest if self.known.contains(partition) => watermarks.high,
            _ => watermarks.low,
        };
        *self.origins.entry(partition.clone()).or_insert(offset)
    }

    /// Ends what came so far of all partitions: they go on from `progress`. Returns the newest generation that ended.
    pub(super) fn rewind(&mut self, progress: Progress) -> u64 {
        self.progress = progress;
        self.end_all()
    }

    /// Ends what came so far of all partitions. Returns the newest generation that ended.
    pub(super) fn end_all(&mut self) -> u64 {
        self.ended = self.new_generation();
        self.ended
    }

    /// Ends what came so far of a partition.
    pub(super) fn end(&mut self, partition: &TopicPartition, generation: u64) {
        self.ended_of.insert(partition.clone(), generation);
    }

    pub(super) fn is_current(&self, partition: &TopicPartition, generation: u64) -> bool {
        generation > self.ended && self.ended_of.get(partition).is_none_or(|ended| generation > *ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flights(partition: i32) -> TopicPartition {
        TopicPartition::new("flights", partition)
    }

    const MARKS: Watermarks = Watermarks { low: 5, high: 9 };

    #[test]
    fn partitions_begin_by_the_policy_and_new_ones_at_their_start() {
        let mut shared = Shared::new(Progress::new(), [flights(0)].into());
        assert_eq!(shared.begin(&flights(0), Start::Latest, MARKS), 9);
        assert_eq!(shared.begin(&flights(1), Start::Latest, MARKS), 5);
        assert_eq!(shared.begin(&flights(2), Start::Earliest, MARKS), 5);
    }

    #[test]
    fn a_partition_that_comes_back_goes_on_and_does_not_begin_again() {
        let mut shared = Shared::new(Progress::new(), [flights(0)].into());
        shared.begin(&flights(0), Start::Latest, MARKS);
        assert_eq!(shared.position(&flights(0)), Some(9));
        assert_eq!(shared.begin(&flights(0), Start::Latest, Watermarks { low: 5, high: 90 }), 9);
        shared.progress.insert(flights(0), Position { next: 40, last: None });
        assert_eq!(shared.position(&flights(0)), Some(40));
    }

    #[test]
    fn what_others_committed_moves_a_partition_on_and_never_back() {
        let at = |next| Position { next, last: None };
        let mut shared = Shared::new(Progress::from([(flights(0), at(40))]), [flights(0)].into());
        shared.learn(&flights(0), at(60));
        assert_eq!(shared.position(&flights(0)), Some(60));
        shared.learn(&flights(0), at(50));
        assert_eq!(shared.position(&flights(0)), Some(60));
        shared.learn(&flights(1), at(7));
        assert_eq!(shared.position(&flights(1)), Some(7));
    }

    #[test]
    fn a_rewind_ends_all_that_came_before_it() {
        let mut shared = Shared::new(Progress::new(), [flights(0)].into());
        let before = shared.new_generation();
        assert!(shared.is_current(&flights(0), before));
        shared.rewind(Progress::new());
        assert!(!shared.is_current(&flights(0), before));
        let after = shared.new_generation();
        assert!(shared.is_current(&flights(0), after));
    }

    #[test]
    fn a_lost_partition_ends_alone() {
        let mut shared = Shared::new(Progress::new(), [flights(0), flights(1)].into());
        let generation = shared.new_generation();
        shared.end(&flights(0), generation);
        assert!(!shared.is_current(&flights(0), generation));
        assert!(shared.is_current(&flights(1), generation));
    }
}
