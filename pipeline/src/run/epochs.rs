//! Epochs: what goes into one, how it is committed, and how it is thrown away and read again.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::task::block_in_place;

use super::stage::Transformed;
use super::{Running, positions};
use crate::epoch::OpenEpoch;
use crate::setback::Setback;
use crate::stall::Doing;
use crate::{Error, rejected};

impl Running<'_> {
    pub(super) async fn on_batch(&mut self, transformed: Transformed) -> Result<(), Error> {
        let Transformed { batch, rows, failed } = transformed;
        let expected = *self.positions.entry(batch.partition.clone()).or_insert(batch.from);
        if batch.from != expected && self.share.is_open() {
            // Somebody committed between the source's look at the table and ours.
            return self.start_over();
        }
        assert_eq!(
            batch.from, expected,
            "{}: batches must follow one another without a gap",
            batch.partition
        );
        self.metrics.on_read(batch.records(), batch.bytes);

        let mut rejected = batch.rejected.clone();
        if !failed.is_empty() {
            self.watch.begin(Doing::Reread);
            let more = rejected::by_sql(self.pipeline, &self.brokers, &batch, &failed).await;
            self.watch.end(Doing::Reread);
            let more = more?;
            rejected = arrow::compute::concat_batches(&rejected.schema(), [&rejected, &more])
                .expect("both have the schema of rejected records");
        }
        let sink = self.store.sink()?;
        self.watch.during(Doing::Write, || {
            block_in_place(|| {
                if rows.num_rows() > 0 {
                    sink.write(&rows)?;
                }
                if rejected.num_rows() > 0 {
                    sink.write_rejected(&rejected)?;
                }
                Ok::<_, Error>(())
            })
        })?;
        if rejected.num_rows() > 0 {
            self.metrics.on_rejected(&rejected);
        }
        self.epoch.add(&batch, rows.num_rows() as u64, rejected.num_rows() as u64);
        self.positions.insert(batch.partition, batch.next);
        Ok(())
    }

    /// Makes the open epoch visible together with its offsets, and begins the next.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        if self.epoch.is_empty() {
            return Ok(());
        }
        let (epoch, counts, timestamps) = std::mem::take(&mut self.epoch).close();
        let sink = self.store.sink()?;
        let committed = self.watch.during(Doing::Commit, || {
            block_in_place(|| {
                // After the last record of the epoch was read, so that all of it is of the topic that we know.
                self.topic_ids.check().map_err(|error| match error {
                    replaced @ puddle_ingest::Error::Replaced { .. } => Error::Ingest(replaced),
                    unanswered => Error::Unanswered(unanswered),
                })?;
                Ok::<_, Error>(sink.commit(epoch)?)
            })
        })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        self.metrics.on_commit(counts, &committed, timestamps.iter().map(|t| t.as_ref()), now);
        self.source.commit_hint(self.store.progress());
        self.watch.moved();
        self.forget_setback();
        Ok(())
    }

    /// What was set back is committed, by us or by others.
    pub(super) fn forget_setback(&mut self) {
        if let Some(setback) = self.setback.take() {
            setback.passed(&self.metrics);
        }
    }

    /// Throws the open epoch away and reads it again from what is committed.
    pub(super) fn start_over(&mut self) -> Result<(), Error> {
        self.epoch = OpenEpoch::default();
        block_in_place(|| {
            self.store.abort();
            self.store.reload()
        })?;
        let progress = self.store.resume();
        self.positions = positions(&progress);
        self.ended.clear();
        self.source.rewind(progress);
        Ok(())
    }

    /// Throws the open epoch away and waits, if `outcome` is an error that may pass.
    pub(super) fn or_set_back(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        let Err(error) = outcome else { return Ok(()) };
        self.setback =
            Some(Setback::after(self.setback.take(), error, &self.lake, &self.patience, &self.metrics)?);
        self.epoch = OpenEpoch::default();
        block_in_place(|| self.store.abort());
        self.positions = positions(&self.store.resume());
        self.ended.clear();
        self.source.pause();
        Ok(())
    }

    /// Reads again what was thrown away.
    pub(super) fn go_on(&mut self) -> Result<(), Error> {
        if let Some(setback) = &mut self.setback {
            setback.go_on();
        }
        self.start_over()
    }

    /// Until when the run waits, if it does.
    pub(super) fn again(&self) -> Option<Instant> {
        self.setback.as_ref().and_then(Setback::again)
    }
}
