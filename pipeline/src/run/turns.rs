//! The loop itself: what happens next, and when a run is over.

use std::future::Future;
use std::time::{Duration, Instant};

use puddle_ingest::Event;
use puddle_types::{Offset, TopicPartition};
use tokio::task::block_in_place;

use super::Running;
use super::stage::Work;
use crate::Error;
use crate::setback::{Setback, may_pass};
use crate::stall::Facts;

/// How often lag and the progress of other runs are brought up to date.
const LAG_EVERY: Duration = Duration::from_secs(1);

impl Running<'_> {
    pub(super) async fn until_over(
        &mut self,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<(), Error> {
        let mut lag_at = Instant::now() + LAG_EVERY;
        // Whether whoever sets the targets is gone, so that they stay as they are.
        let mut settled = false;
        loop {
            if self.is_over() {
                let committed = self.commit();
                if committed.is_ok() {
                    break;
                }
                self.or_set_back(committed)?;
            }
            let wake = [self.epoch.deadline(self.pipeline.commit.every), self.again(), Some(lag_at)];
            let wake = wake.into_iter().flatten().min().unwrap_or(lag_at);
            tokio::select! {
                work = self.stage.next(&self.source) => match work {
                    Some(work) => {
                        let outcome = match work? {
                            Work::Batch(batch) => self.on_batch(batch).await,
                            Work::Event(event) => self.on_event(event),
                        };
                        self.or_set_back(outcome)?;
                    }
                    None => break,
                },
                changed = self.until.changed(), if !settled => match changed {
                    // An end that was reached before there was a target says nothing about the target.
                    Ok(()) => self.ended.clear(),
                    Err(_) => settled = true,
                },
                () = tokio::time::sleep_until(wake.into()) => {}
                () = &mut *stop => {
                    tracing::info!(pipeline = self.pipeline.name, "stopping: committing what is in hand");
                    self.last_commit()?;
                    break;
                }
            }
            let now = Instant::now();
            if self.setback.as_ref().is_some_and(|setback| setback.is_over(now)) {
                let outcome = self.go_on();
                self.or_set_back(outcome)?;
            } else if self.epoch.is_due(&self.pipeline.commit, now) {
                let committed = self.commit();
                self.or_set_back(committed)?;
            }
            if lag_at <= now {
                self.share.check(self.pipeline)?;
                self.look_at_others()?;
                self.report_lag();
                if self.metrics.lag() == 0 && self.epoch.is_empty() && self.again().is_none() {
                    self.forget_setback();
                }
                lag_at = Instant::now() + LAG_EVERY;
            }
        }
        self.report_lag();
        Ok(())
    }

    /// Commits what is in hand if that is possible now; else the next run reads it again.
    fn last_commit(&mut self) -> Result<(), Error> {
        match self.commit() {
            Err(error) if may_pass(&error) => {
                tracing::warn!(
                    pipeline = self.pipeline.name,
                    error = &error as &dyn std::error::Error,
                    "what is in hand is not committed; the next run reads it again"
                );
                self.store.abort();
                Ok(())
            }
            result => result,
        }
    }

    fn on_event(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Batch(_) => unreachable!("batches go through the SQL"),
            Event::EndOfPartition { partition, next } => {
                let from = *self.positions.entry(partition.clone()).or_insert(next);
                self.epoch.advance(&partition, from, next);
                if self.share.is_open() && !self.store.progress().contains_key(&partition) {
                    // Others must be able to see that nothing is missing in a partition that is empty.
                    self.epoch.begin(&partition, from);
                }
                self.positions.insert(partition.clone(), next.max(from));
                self.ended.insert(partition, next);
                Ok(())
            }
            Event::Assigned(partitions) => {
                tracing::info!(pipeline = self.pipeline.name, partitions = partitions.len(), "assigned");
                let taken_over = self.share.is_open() && !partitions.is_empty();
                self.share.add(&partitions);
                match taken_over && self.again().is_none() {
                    true => self.take_over(&partitions),
                    false => Ok(()),
                }
            }
            Event::Revoking { partitions, ack } => {
                tracing::info!(
                    pipeline = self.pipeline.name,
                    partitions = partitions.len(),
                    "revoked: committing first"
                );
                let committed = self.commit();
                self.share.remove(&partitions);
                self.forget(&partitions);
                // If they were not waited for, or nothing could be committed, nothing of them is open, and their new
                // owner reads it again.
                ack.done();
                committed
            }
            Event::Lost(partitions) => {
                tracing::warn!(
                    pipeline = self.pipeline.name,
                    partitions = partitions.len(),
                    "lost: the open epoch is read again"
                );
                self.share.lose(&partitions);
                self.forget(&partitions);
                // What waits already is read from the table's progress when it goes on.
                if self.again().is_some() { Ok(()) } else { self.start_over() }
            }
        }
    }

    /// Goes on from what other runs have committed in partitions that came from them.
    fn take_over(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.commit()?;
        block_in_place(|| self.store.reload())?;
        self.forget(partitions);
        // One that was stopped for long may have gone on in partitions that are ours since.
        let resume = self.store.resume();
        let moved = |(partition, position): (&TopicPartition, &Offset)| {
            self.share.has(partition) && resume.get(partition).is_some_and(|at| at.next != *position)
        };
        if self.positions.iter().any(moved) { self.start_over() } else { Ok(()) }
    }

    /// Takes the positions of partitions from what is committed.
    fn forget(&mut self, partitions: &[TopicPartition]) {
        let resume = self.store.resume();
        for partition in partitions {
            self.ended.remove(partition);
            self.positions.remove(partition);
            if let Some(position) = resume.get(partition) {
                self.positions.insert(partition.clone(), position.next);
            }
        }
    }

    /// Whether every target is reached: by us in the partitions that are ours, by a commit of others elsewhere. A
    /// partition's end counts as well: an open transaction keeps it before the high watermark for as long as it likes.
    fn is_over(&self) -> bool {
        let until = self.until.borrow();
        let Some(targets) = until.as_ref() else { return false };
        targets.iter().all(|(partition, target)| match self.share.is_elsewhere(partition) {
            true => {
                *target == 0 || self.others.get(partition).is_some_and(|position| position.next >= *target)
            }
            false => {
                self.positions.get(partition).is_some_and(|position| position >= target)
                    || self.ended.contains_key(partition)
            }
        })
    }

    /// Looks how far other runs have come, where that matters.
    fn look_at_others(&mut self) -> Result<(), Error> {
        if self.share.is_open() && self.until.borrow().is_some() {
            self.others = block_in_place(|| self.table.progress())?;
        }
        Ok(())
    }

    fn report_lag(&self) {
        let progress = self.store.progress();
        let watermarks = self.source.watermarks();
        self.metrics.on_lag(watermarks.iter().map(|(partition, held)| {
            let next = progress.get(partition).map_or(held.low, |position| position.next);
            (&*partition.topic, partition.partition, (held.high - next).max(0))
        }));
        let transaction = self.ended.iter().find(|(partition, end)| {
            self.positions.get(*partition) == Some(*end)
                && watermarks.get(*partition).is_some_and(|held| held.high > **end)
        });
        let until = self.until.borrow();
        let missing = until.iter().flatten().filter(|(partition, target)| {
            self.share.is_elsewhere(partition)
                && self.others.get(*partition).is_none_or(|position| position.next < **target)
        });
        self.watch.note(Facts {
            lag: self.metrics.lag() as i64,
            ours: self.share.count(),
            spare: self.share.is_spare(),
            others: missing.count(),
            outage: self.source.outage(),
            transaction: transaction.map(|(partition, end)| (partition.clone(), *end)),
            set_back: self.setback.as_ref().is_some_and(Setback::is_said),
        });
    }
}
