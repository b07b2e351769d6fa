//! How many of the topics' partitions are ours.
//!
//! A Parquet table has one writer, so a run needs all partitions. Another run of the same group would take some of them
//! away for good, and this one would wait for records that never come. Where several runs may write a table, they share
//! the partitions as the group divides them, and one may well have none.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use puddle_types::TopicPartition;

use crate::{Error, Pipeline};

/// How long some partitions may be held elsewhere before it is said. A rebalance takes less.
const WARN_AFTER: Duration = Duration::from_secs(10);
/// How long before the run gives up: longer than the 45 s after which Kafka forgets a member that was killed.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// The partitions that are ours, of how many, and since when they have been too few.
pub(crate) struct Share {
    ours: BTreeSet<TopicPartition>,
    all: usize,
    /// Whether others may have some.
    open: bool,
    /// Whether the group has told us our part.
    told: bool,
    short_since: Option<Instant>,
    warned: bool,
}

impl Share {
    /// Nothing is ours yet, of `all` partitions. `open`: others may have some.
    pub(crate) fn new(all: usize, open: bool) -> Self {
        Self { ours: BTreeSet::new(), all, open, told: false, short_since: None, warned: false }
    }

    pub(crate) fn add(&mut self, partitions: &[TopicPartition]) {
        self.told = true;
        self.ours.extend(partitions.iter().cloned());
    }

    pub(crate) fn remove(&mut self, partitions: &[TopicPartition]) {
        partitions.iter().for_each(|partition| _ = self.ours.remove(partition));
    }

    /// As [`remove`](Self::remove), by a group that does not count with us any more.
    pub(crate) fn lose(&mut self, partitions: &[TopicPartition]) {
        self.told = false;
        self.remove(partitions);
    }

    /// Whether others may have some.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// How many are ours.
    pub(crate) fn count(&self) -> usize {
        self.ours.len()
    }

    pub(crate) fn has(&self, partition: &TopicPartition) -> bool {
        self.ours.contains(partition)
    }

    /// Whether another run is to commit this one.
    pub(crate) fn is_elsewhere(&self, partition: &TopicPartition) -> bool {
        self.open && !self.has(partition)
    }

    /// Whether the group has none for us: others have them all.
    pub(crate) fn is_spare(&self) -> bool {
        self.open && self.told && self.ours.is_empty()
    }

    /// Warns when partitions have been held elsewhere for a while, and gives up after a longer one.
    pub(crate) fn check(&mut self, pipeline: &Pipeline) -> Result<(), Error> {
        self.check_at(pipeline, Instant::now())
    }

    fn check_at(&mut self, pipeline: &Pipeline, now: Instant) -> Result<(), Error> {
        let held = self.all.saturating_sub(self.ours.len());
        if held == 0 || self.open {
            (self.short_since, self.warned) = (None, false);
            return Ok(());
        }
        let group = pipeline.group();
        let short = now - *self.short_since.get_or_insert(now);
        if short >= GIVE_UP_AFTER {
            return Err(Error::Shared { held, all: self.all, group });
        }
        if short >= WARN_AFTER && !self.warned {
            self.warned = true;
            tracing::warn!(
                pipeline = pipeline.name,
                group,
                "{held} of {} partitions are not ours yet",
                self.all
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_never_gets_all_partitions_gives_up_and_one_that_does_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let text = "name = \"p\"\n[ingest]\ntopics = [\"t\"]\n[sink]\ntable = \"t\"\n";
        std::fs::write(folder.path().join("pipeline.toml"), text).unwrap();
        let pipeline = Pipeline::load(folder.path(), &[], &[]).unwrap();
        let start = Instant::now();
        let mut share = Share::new(2, false);
        share.add(&[TopicPartition::new("t", 0)]);
        share.check_at(&pipeline, start).unwrap();
        share.check_at(&pipeline, start + GIVE_UP_AFTER - Duration::from_secs(1)).unwrap();
        assert!(share.warned);
        let error = share.check_at(&pipeline, start + GIVE_UP_AFTER).unwrap_err().to_string();
        assert!(error.contains("1 of 2") && error.contains("puddle-p"), "{error}");

        share.add(&[TopicPartition::new("t", 1)]);
        share.check_at(&pipeline, start + GIVE_UP_AFTER).unwrap();
        share.remove(&[TopicPartition::new("t", 1)]);
        share.check_at(&pipeline, start + GIVE_UP_AFTER).unwrap();
    }

    #[test]
    fn where_others_may_have_some_a_run_without_any_is_a_spare_one_and_not_too_short() {
        let mut share = Share::new(1, true);
        let partition = TopicPartition::new("t", 0);
        assert!(!share.is_spare() && share.is_elsewhere(&partition));
        share.add(&[]);
        assert!(share.is_spare());
        share.add(std::slice::from_ref(&partition));
        assert!(!share.is_spare() && !share.is_elsewhere(&partition));
        share.lose(std::slice::from_ref(&partition));
        assert!(!share.is_spare(), "the group has not told yet what is ours now");
    }
}
