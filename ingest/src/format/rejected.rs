//! The records that did not fit, as rows.

use std::sync::Arc;

use arrow::array::{BinaryBuilder, RecordBatch, StringBuilder};
use puddle_types::{TopicPartition, metadata};

use super::origin::Origin;
use crate::raw::RawRecord;

/// Builds a batch with the schema [`metadata::rejected_schema`].
#[derive(Debug)]
pub(crate) struct Rejected {
    origin: Origin,
    reasons: StringBuilder,
    values: BinaryBuilder,
}

impl Rejected {
    /// With room for no record: most batches have none to reject.
    pub(crate) fn new() -> Self {
        Self {
            origin: Origin::with_capacity(0),
            reasons: StringBuilder::with_capacity(0, 0),
            values: BinaryBuilder::with_capacity(0, 0),
        }
    }

    pub(crate) fn push(&mut self, record: &RawRecord<'_>, reason: &str) {
        self.origin.push(record);
        self.reasons.append_value(reason);
        self.values.append_option(record.value);
    }

    pub(crate) fn finish(mut self, partition: &TopicPartition) -> RecordBatch {
        let mut columns = self.origin.finish(partition);
        columns.push(Arc::new(self.reasons.finish()));
        columns.push(Arc::new(self.values.finish()));
        RecordBatch::try_new(metadata::rejected_schema(), columns).expect("columns are built by the schema")
    }
}
