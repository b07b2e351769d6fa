//! What one commit will cover: the spans read so far, and the timestamps whose latency ends with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arrow::array::ArrayRef;
use puddle_sink::{Epoch, Span};
use puddle_types::{Batch, Offset, TopicPartition, metadata};

use crate::config::CommitConfig;

/// What became of the records of an epoch; `records = written + filtered + rejected`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EpochCounts {
    pub(crate) records: u64,
    pub(crate) written: u64,
    pub(crate) filtered: u64,
    pub(crate) rejected: u64,
}

/// The epoch being filled.
#[derive(Default)]
pub(crate) struct OpenEpoch {
    spans: BTreeMap<TopicPartition, Span>,
    counts: EpochCounts,
    timestamps: Vec<ArrayRef>,
    since: Option<Instant>,
}

impl OpenEpoch {
    /// Takes in a batch of which `written` records became rows and `rejected` were rejected.
    pub(crate) fn add(&mut self, batch: &Batch, written: u64, rejected: u64) {
        let records = batch.records() as u64;
        let filtered = records - written - rejected;
        let span = self.span(&batch.partition, batch.from);
        span.next = batch.next;
        span.last = batch.last.or(span.last);
        span.records += records;
        span.written += written;
        span.filtered += filtered;
        span.rejected += rejected;
        self.counts.records += records;
        self.counts.written += written;
        self.counts.filtered += filtered;
        self.counts.rejected += rejected;
        if let Some(timestamps) = batch.rows.column_by_name(metadata::TIMESTAMP) {
            self.timestamps.push(timestamps.clone());
        }
    }

    /// Moves a partition's end past control records and gaps, when the broker says that nothing is left before `next`.
    pub(crate) fn advance(&mut self, partition: &TopicPartition, from: Offset, next: Offset) {
        if next > from {
            let span = self.span(partition, from);
            span.next = span.next.max(next);
        }
    }

    /// Lets the commit say where a partition begins, of which there is nothing to read yet.
    pub(crate) fn begin(&mut self, partition: &TopicPartition, from: Offset) {
        self.span(partition, from);
    }

    /// When the epoch must be committed, if it holds anything.
    pub(crate) fn deadline(&self, every: Duration) -> Option<Instant> {
        self.since.map(|since| since + every)
    }

    /// Whether the epoch must be committed at `now`.
    pub(crate) fn is_due(&self, config: &CommitConfig, now: Instant) -> bool {
        self.counts.records >= config.rows
            || self.deadline(config.every).is_some_and(|deadline| deadline <= now)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// What the sink must know to commit, the counts, and the timestamps of the records.
    pub(crate) fn close(self) -> (Epoch, EpochCounts, Vec<ArrayRef>) {
        (Epoch { partitions: self.spans, ..Epoch::default() }, self.counts, self.timestamps)
    }

    fn span(&mut self, partition: &TopicPartition, from: Offset) -> &mut Span {
        self.since.get_or_insert_with(Instant::now);
        self.spans.entry(partition.clone()).or_insert(Span {
            from,
            next: from,
            last: None,
            records: 0,
            written: 0,
            filtered: 0,
            rejected: 0,
        })
    }
}
