//! The unit that flows: decoded records of one partition.

use arrow::array::RecordBatch;

use crate::{Fingerprint, Offset, TopicPartition};

/// Decoded records of one partition, in offset order, with what a commit must know of their origin.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where the records came from.
    pub partition: TopicPartition,
    /// Which assignment of the partition read them; rows of an ended assignment are thrown away.
    pub generation: u64,
    /// The offset at which this batch begins (inclusive): the `next` of the batch before it.
    pub from: Offset,
    /// The offset at which the next batch begins (exclusive end of this one). It may lie beyond the last record
    /// plus one, where the log holds control records or gaps.
    pub next: Offset,
    /// The records that fit the schema: its columns, then those of [`metadata::fields`](crate::metadata::fields).
    pub rows: RecordBatch,
    /// The records that did not, with the schema [`metadata::rejected_schema`](crate::metadata::rejected_schema).
    pub rejected: RecordBatch,
    /// The last record of the batch, if it has any.
    pub last: Option<Fingerprint>,
    /// Size of the raw keys and values, in bytes.
    pub bytes: usize,
}

impl Batch {
    /// How many records were read: those that fit and those that did not.
    pub fn records(&self) -> usize {
        self.rows.num_rows() + self.rejected.num_rows()
    }
}
