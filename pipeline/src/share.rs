//! How many of the topics' partitions are ours.
//!
//! A Parquet table has one writer, so a run needs all partitions. Another run of the same group would take some of them
//! away for good, and this one would wait for records that never come.

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
    short_since: Option<Instant>,
    warned: bool,
}

impl Share {
    /// Nothing is ours yet.
    pub(crate) fn new(all: usize) -> Self {
        Self { ours: BTreeSet::new(), all, short_since: None, warned: false }
    }

    pub(crate) fn add(&mut self, partitions: Vec<TopicPartition>) {
        self.ours.extend(partitions);
    }

    pub(crate) fn remove(&mut self, partitions: &[TopicPartition]) {
        partitions.iter().for_each(|partition| _ = self.ours.remove(partition));
    }

    /// Warns when partitions have been held elsewhere for a while, and gives up after a longer one.
    pub(crate) fn check(&mut self, pipeline: &Pipeline) -> Result<(), Error> {
        self.check_at(pipeline, Instant::now())
    }

    fn check_at(&mut self, pipeline: &Pipeline, now: Instant) -> Result<(), Error> {
        let held = self.all.saturating_sub(self.ours.len());
        if held == 0 {
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
        let mut share = Share::new(2);
        share.add(vec![TopicPartition::new("t", 0)]);
        share.check_at(&pipeline, start).unwrap();
        share.check_at(&pipeline, start + GIVE_UP_AFTER - Duration::from_secs(1)).unwrap();
        assert!(share.warned);
        let error = share.check_at(&pipeline, start + GIVE_UP_AFTER).unwrap_err().to_string();
        assert!(error.contains("1 of 2") && error.contains("puddle-p"), "{error}");

        share.add(vec![TopicPartition::new("t", 1)]);
        share.check_at(&pipeline, start + GIVE_UP_AFTER).unwrap();
        share.remove(&[TopicPartition::new("t", 1)]);
        share.check_at(&pipeline, start + GIVE_UP_AFTER).unwrap();
    }
}
