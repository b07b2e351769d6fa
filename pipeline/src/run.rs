//! The run loop: fills epochs, commits them, stops cleanly.
//!
//! ```text
//! Batch --> SQL --rows--> Sink::write ----------.
//!            '--failed--> Sink::write_rejected --+--> commit --> hint to the group
//! ```
//!
//! The loop is the only writer of the sink and the only judge of what belongs to an epoch, so there is nothing to
//! lock. Polling and decoding go on in the source's own threads while it transforms, writes and commits.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use puddle_ingest::identity::TopicIds;
use puddle_ingest::{Event, Source, SourceSettings};
use puddle_sink::Sink;
use puddle_transform::Transform;
use puddle_types::{Batch, Offset, TopicPartition};
use tokio::sync::watch;

use crate::epoch::OpenEpoch;
use crate::metrics::Metrics;
use crate::prepare::{self, Ready, blocking};
use crate::share::Share;
use crate::{Error, Pipeline, Summary};
use crate::{gaps, rejected};

/// Where each partition must have come to for a run to be over: exclusive next offsets.
pub type Targets = BTreeMap<TopicPartition, Offset>;

/// How often lag is brought up to date.
const LAG_EVERY: Duration = Duration::from_secs(1);

/// How a pipeline is to be run.
pub struct RunOptions {
    /// Kafka's bootstrap servers, as `host:port,host:port`.
    pub brokers: String,
    /// The folder of the tables.
    pub lake: PathBuf,
    /// Where to report to.
    pub metrics: Arc<Metrics>,
    /// When the run is over: never while this holds `None`; once it holds targets, as soon as they are committed.
    pub until: watch::Receiver<Option<Targets>>,
    /// What to do where retention has overtaken the table.
    pub gaps: Gaps,
}

/// What to do where the topic no longer holds the offset that the table goes on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gaps {
    /// Stop, with an error that names the range and the ways on.
    #[default]
    Refuse,
    /// Give up what is gone and go on at the oldest offset there is. The log and the audit show the gap.
    Accept,
}

/// Runs `pipeline` until its targets are reached or `stop` completes; then commits what is in hand and leaves.
///
/// Everything that can be wrong with the pipeline is found before a record is read and before the lake is touched.
pub async fn run(
    pipeline: &Pipeline,
    options: RunOptions,
    stop: impl Future<Output = ()>,
) -> Result<Summary, Error> {
    let RunOptions { brokers, lake, metrics, until, gaps } = options;
    tokio::pin!(stop);
    let wait = until.borrow().is_none();
    let Ready { transform, schema, mut sink, partitions, topic_ids } = tokio::select! {
        ready = prepare::ready(pipeline, &brokers, &lake, wait) => ready?,
        () = &mut stop => return Ok(metrics.summary(&pipeline.sink.table)),
    };
    let mut config = pipeline.ingest.clone();
    // One member with a fixed name: a run that begins after a kill takes its place at once, instead of waiting for the
    // group to forget it; and of two runs that share a group by mistake, the earlier one is told.
    config.client = config.client.or("group.instance.id", pipeline.group());
    let settings = SourceSettings::new(&brokers, pipeline.group(), config, schema);
    let progress = match gaps {
        Gaps::Refuse => sink.progress().clone(),
        Gaps::Accept => gaps::accept(pipeline, &brokers, &mut *sink).await?,
    };
    let positions = progress.iter().map(|(partition, position)| (partition.clone(), position.next)).collect();
    let source = blocking(move || Source::start(settings, progress)).await?;
    let mut running = Running {
        pipeline,
        brokers,
        positions,
        source,
        sink,
        transform,
        metrics,
        until,
        epoch: OpenEpoch::default(),
        ended: BTreeMap::new(),
        share: Share::new(partitions),
        topic_ids,
    };
    let result = running.until_over(&mut stop).await;
    let Running { source, metrics, mut sink, .. } = running;
    if result.is_err() {
        // The error is what the caller must see; what was staged is swept at the next start in any case.
        if let Err(error) = sink.abort() {
            tracing::debug!(%error, "staged files are left for the next start to sweep");
        }
    }
    blocking(move || source.close()).await;
    result.map(|()| metrics.summary(&pipeline.sink.table))
}

struct Running<'a> {
    pipeline: &'a Pipeline,
    brokers: String,
    source: Source,
    sink: Box<dyn Sink>,
    transform: Transform,
    metrics: Arc<Metrics>,
    until: watch::Receiver<Option<Targets>>,
    epoch: OpenEpoch,
    /// Where the next batch of each partition must begin.
    positions: Targets,
    /// Where each partition's end was when it was reached, which may lie before the high watermark.
    ended: Targets,
    share: Share,
    topic_ids: TopicIds,
}

impl Running<'_> {
    async fn until_over(&mut self, stop: &mut (impl Future<Output = ()> + Unpin)) -> Result<(), Error> {
        let mut lag_at = Instant::now() + LAG_EVERY;
        // Whether whoever sets the targets is gone, so that they stay as they are.
        let mut settled = false;
        while !self.is_over() {
            let wake = self.epoch.deadline(self.pipeline.commit.every).map_or(lag_at, |at| at.min(lag_at));
            tokio::select! {
                event = self.source.next() => match event {
                    Some(event) => self.on_event(event?).await?,
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
                    break;
                }
            }
            if self.epoch.is_due(&self.pipeline.commit, Instant::now()) {
                self.commit()?;
            }
            if lag_at <= Instant::now() {
                self.share.check(self.pipeline)?;
                self.report_lag();
                lag_at = Instant::now() + LAG_EVERY;
            }
        }
        self.commit()?;
        self.report_lag();
        Ok(())
    }

    async fn on_event(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Batch(batch) => self.on_batch(batch).await,
            Event::EndOfPartition { partition, next } => {
                let from = *self.positions.entry(partition.clone()).or_insert(next);
                self.epoch.advance(&partition, from, next);
                self.positions.insert(partition.clone(), next.max(from));
                self.ended.insert(partition, next);
                Ok(())
            }
            Event::Assigned(partitions) => {
                tracing::info!(pipeline = self.pipeline.name, partitions = partitions.len(), "assigned");
                self.share.add(partitions);
                Ok(())
            }
            Event::Revoking { partitions, ack } => {
                tracing::info!(
                    pipeline = self.pipeline.name,
                    partitions = partitions.len(),
                    "revoked: committing first"
                );
                self.commit()?;
                self.forget(&partitions);
                // If they were not waited for, nothing of them is open, and the new owner finds out at its commit.
                ack.done();
                Ok(())
            }
            Event::Lost(partitions) => {
                tracing::warn!(
                    pipeline = self.pipeline.name,
                    partitions = partitions.len(),
                    "lost: the open epoch is read again"
                );
                self.forget(&partitions);
                self.start_over()
            }
        }
    }

    async fn on_batch(&mut self, batch: Batch) -> Result<(), Error> {
        let expected = *self.positions.entry(batch.partition.clone()).or_insert(batch.from);
        assert_eq!(
            batch.from, expected,
            "{}: batches must follow one another without a gap",
            batch.partition
        );
        self.metrics.on_read(batch.records(), batch.bytes);

        let (rows, failed) = tokio::task::block_in_place(|| self.transform.apply_or_reject(&batch.rows))?;
        let mut rejected = batch.rejected.clone();
        if !failed.is_empty() {
            let more = rejected::by_sql(self.pipeline, &self.brokers, &batch, &failed).await?;
            rejected = arrow::compute::concat_batches(&rejected.schema(), [&rejected, &more])
                .expect("both have the schema of rejected records");
        }
        tokio::task::block_in_place(|| {
            if rows.num_rows() > 0 {
                self.sink.write(&rows)?;
            }
            if rejected.num_rows() > 0 {
                self.sink.write_rejected(&rejected)?;
            }
            Ok::<_, Error>(())
        })?;
        if rejected.num_rows() > 0 {
            self.metrics.on_rejected(&rejected);
        }
        self.epoch.add(&batch, rows.num_rows() as u64, rejected.num_rows() as u64);
        self.positions.insert(batch.partition, batch.next);
        Ok(())
    }

    /// Makes the open epoch visible together with its offsets, and begins the next.
    fn commit(&mut self) -> Result<(), Error> {
        if self.epoch.is_empty() {
            return Ok(());
        }
        let (epoch, counts, timestamps) = std::mem::take(&mut self.epoch).close();
        let committed = tokio::task::block_in_place(|| {
            // After the last record of the epoch was read, so that all of it is of the topic that we know.
            match self.topic_ids.check() {
                Err(error @ puddle_ingest::Error::Replaced { .. }) => return Err(Error::Ingest(error)),
                Err(error) => {
                    tracing::debug!(%error, "whether the topics are the same is looked at again later")
                }
                Ok(()) => {}
            }
            Ok(self.sink.commit(epoch)?)
        })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        self.metrics.on_commit(counts, &committed, timestamps.iter().map(|t| t.as_ref()), now);
        self.source.commit_hint(self.sink.progress());
        Ok(())
    }

    /// Throws the open epoch away and reads it again from what is committed.
    fn start_over(&mut self) -> Result<(), Error> {
        self.epoch = OpenEpoch::default();
        self.sink.abort()?;
        let progress = self.sink.progress().clone();
        self.positions =
            progress.iter().map(|(partition, position)| (partition.clone(), position.next)).collect();
        self.ended.clear();
        self.source.rewind(progress);
        Ok(())
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        self.share.remove(partitions);
        for partition in partitions {
            self.ended.remove(partition);
            self.positions.remove(partition);
            if let Some(position) = self.sink.progress().get(partition) {
                self.positions.insert(partition.clone(), position.next);
            }
        }
    }

    /// Whether every target is reached. A partition's end counts as well: an open transaction keeps it before the
    /// high watermark for as long as it likes.
    fn is_over(&self) -> bool {
        let until = self.until.borrow();
        let Some(targets) = until.as_ref() else { return false };
        targets.iter().all(|(partition, target)| {
            self.positions.get(partition).is_some_and(|position| position >= target)
                || self.ended.contains_key(partition)
        })
    }

    fn report_lag(&self) {
        let progress = self.sink.progress();
        let watermarks = self.source.watermarks();
        self.metrics.on_lag(watermarks.iter().map(|(partition, held)| {
            let next = progress.get(partition).map_or(held.low, |position| position.next);
            (&*partition.topic, partition.partition, (held.high - next).max(0))
        }));
    }
}
