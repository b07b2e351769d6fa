//! How an epoch gets into the log, whatever others commit meanwhile.
//!
//! ```text
//!        refresh: what did others commit?   a partition of ours moved on -> Stale: abort, reload, read again
//!           |
//!        commit version n+1 --- taken by another ----> wait a little, begin again, at most MAX_ATTEMPTS times
//!           |          \------- an error -----> look: is our stamp in the log?   no: the epoch failed
//!           v                                                                    yes: it was the answer that was lost
//!        rejected records into place, checkpoint if due
//! ```

use std::time::Duration;

use delta_kernel::snapshot::SnapshotRef;

use super::engine::{LOG, Outcome, is_table, snapshot};
use super::sink::{DeltaSink, accept};
use super::state::State;
use super::version::Stamp;
use super::{CHECKPOINT_EVERY, MAX_ATTEMPTS, MAX_DELAY, commit, schema};
use crate::error::chain;
use crate::parquet::log::{Commit, DataFile, Moved, RetriedPartition};
use crate::{Epoch, Error};

impl DeltaSink {
    /// Creates the table if nobody has yet.
    pub(super) fn create_table(&mut self) -> Result<(), Error> {
        if self.state.is_some() {
            return Ok(());
        }
        let root = self.layout.root();
        self.log.create_dir(&self.layout.lake)?;
        if !is_table(&root)? {
            let id = uuid::Uuid::new_v4().to_string();
            let content = schema::creation(&id, &self.owner, &self.form, self.storage.now())?;
            // If another is faster, its table is as good, and checked like any.
            self.log.put_new(0, content.as_bytes())?;
        }
        self.log.sync()?;
        let state = State::load(&root)?
            .ok_or_else(|| Error::corrupt(&root.join(LOG), "it is gone, though it was just created"))?;
        self.form.columns = accept(&state, &self.layout.table, &self.form, &self.owner)?;
        self.state = Some(state);
        Ok(())
    }

    /// Looks what others have committed since.
    pub(super) fn refresh(&mut self) -> Result<(), Error> {
        let root = self.layout.root();
        let Some(before) = self.state.as_ref().map(|state| state.table.clone()) else {
            self.state = State::load(&root)?;
            if let Some(state) = &self.state {
                self.form.columns = accept(state, &self.layout.table, &self.form, &self.owner)?;
            }
            return Ok(());
        };
        let (_, lost) = self.advance(None)?;
        if let Some(state) = self.state.as_ref().filter(|state| state.table != before) {
            let reason =
                format!("it was made anew while it was open: it is {} now, and was {before}", state.table);
            return Err(Error::corrupt(&root, reason));
        }
        if let Some(state) = &self.state {
            self.form.columns = accept(state, &self.layout.table, &self.form, &self.owner)?;
        }
        match lost {
            Some(path) => Err(Error::NotRejected { table: self.layout.table.clone(), path }),
            None => Ok(()),
        }
    }

    /// Commits on top of whatever others have committed.
    pub(super) fn land(&mut self, epoch: &Epoch, files: &[DataFile]) -> Result<Stamp, Error> {
        self.create_table()?;
        let root = self.layout.root();
        let id = uuid::Uuid::new_v4().to_string();
        for attempt in 0..MAX_ATTEMPTS {
            std::thread::sleep(delay(attempt));
            self.refresh()?;
            self.check_not_stale(epoch)?;
            let stamp = self.stamp(&id, epoch, files);
            let Some(state) = &self.state else { continue };
            match commit::commit(&root, &self.log, state, &self.form, &stamp, epoch) {
                Ok(Outcome::Committed(newest)) => {
                    self.advance(Some(newest)).map_err(|error| self.poison(error))?;
                    return Ok(stamp);
                }
                Ok(Outcome::Conflict) => {}
                Err(error) => return self.look(stamp, error),
            }
        }
        Err(Error::Contended { table: self.layout.table.clone(), attempts: MAX_ATTEMPTS })
    }

    /// What follows from a commit: its rejected records are put in place, and a checkpoint is written if one is due.
    pub(super) fn conclude(&mut self, stamp: &Stamp) -> Result<(), Error> {
        let Some(state) = &self.state else { return Ok(()) };
        self.placer().conclude(stamp)?;
        let checkpoint = state.snapshot.log_segment().checkpoint_version.unwrap_or(0);
        if state.version() < checkpoint + CHECKPOINT_EVERY {
            return Ok(());
        }
        match self.log.checkpoint(&state.snapshot).and_then(|()| snapshot(&self.layout.root())) {
            Ok(newest) => {
                // Read anew, so that it begins at the checkpoint; and so does the search for rejected records.
                self.advance(newest)?;
                self.state.as_ref().map_or(Ok(()), |state| self.placer().roll_forward(state))
            }
            Err(error) => {
                tracing::warn!(
                    table = self.layout.table,
                    error = chain(&error),
                    "could not write a checkpoint"
                );
                Ok(())
            }
        }
    }

    /// After an error of the commit itself: the answer may have been lost, and not the commit.
    fn look(&mut self, stamp: Stamp, error: Error) -> Result<Stamp, Error> {
        match self.advance(None) {
            Ok((stamps, _)) if !stamps.contains(&stamp) => Err(error),
            // It is there, but perhaps not for good.
            Ok(_) if error.needs_reopen() => Err(self.poison(error)),
            Ok(_) => {
                let (table, error) = (&self.layout.table, chain(&error));
                tracing::warn!(table, error, "a commit got no answer, but took place");
                self.log.sync().map_err(|error| self.poison(error))?;
                Ok(stamp)
            }
            Err(unknown) => {
                self.poison(unknown);
                Err(error)
            }
        }
    }

    /// Goes on to this version of the table, or to the newest: what Puddle committed since, and a file that the
    /// epoch in hand was to take away, if another writer has done so.
    fn advance(
        &mut self,
        newest: Option<SnapshotRef>,
    ) -> Result<(Vec<Stamp>, Option<std::path::PathBuf>), Error> {
        let root = self.layout.root();
        let Some(state) = &mut self.state else { return Ok((Vec::new(), None)) };
        let stamps = match newest {
            Some(newest) => state.advance(&root, newest)?,
            None => state.refresh(&root)?,
        };
        let mut lost = None;
        for stamp in &stamps {
            lost = lost.or(self.retrying.others(&self.layout.lake, &stamp.commit).err());
        }
        Ok((stamps, lost))
    }

    /// Refuses an epoch of which another writer has moved a partition on.
    fn check_not_stale(&self, epoch: &Epoch) -> Result<(), Error> {
        let Some(state) = &self.state else { return Ok(()) };
        for (partition, span) in &epoch.partitions {
            let found = state.marks.get(partition).map(|mark| mark.next);
            let known = self.progress.get(partition).map(|position| position.next);
            if let Some(found) = found.filter(|found| Some(*found) != known) {
                return Err(Error::Stale { partition: partition.clone(), from: span.from, found });
            }
        }
        Ok(())
    }

    fn stamp(&self, id: &str, epoch: &Epoch, files: &[DataFile]) -> Stamp {
        let partitions = epoch.partitions.iter();
        let partitions =
            partitions.map(|(partition, span)| Moved { partition: partition.clone(), span: *span });
        let retried = epoch
            .retried
            .iter()
            .map(|(partition, retried)| RetriedPartition { partition: partition.clone(), retried: *retried });
        let removed = self.retrying.destinations(&self.layout.lake);
        let known = self.state.as_ref().filter(|state| !state.marks.is_empty());
        let is_new = known.is_none_or(|state| state.form.columns.len() != self.form.columns.len());
        let commit = Commit {
            version: Commit::version_for(&removed),
            epoch: self.version() + 1,
            table: self.state.as_ref().map(|state| state.table.clone()).unwrap_or_default(),
            owner: self.owner.clone(),
            time: self.storage.now(),
            partitions: partitions.collect(),
            files: files.to_vec(),
            retried: retried.collect(),
            removed,
            form: is_new.then(|| self.form.clone()),
        };
        let mut stamp = Stamp { id: id.to_owned(), rejected_before: None, commit };
        if stamp.touches_rejected() {
            stamp.rejected_before = self.state.as_ref().and_then(|state| state.rejected);
        }
        stamp
    }
}

/// How long to wait before an attempt: nothing before the first, then longer and longer, and not as long as others.
pub(super) fn delay(attempt: u32) -> Duration {
    if attempt == 0 {
        return Duration::ZERO;
    }
    let most = MAX_DELAY.min(Duration::from_millis(1 << attempt.min(10)));
    let (_, random) = uuid::Uuid::new_v4().as_u64_pair();
    most.mul_f64((random as u32) as f64 / f64::from(u32::MAX))
}
