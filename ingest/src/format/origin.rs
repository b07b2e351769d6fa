//! The metadata columns: where each row came from.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Array, Int64Array, StringArray, TimestampMillisecondBuilder,
};
use puddle_types::{TopicPartition, metadata};

use crate::raw::RawRecord;

/// Builds the columns of [`puddle_types::metadata::fields`].
#[derive(Debug)]
pub(crate) struct Origin {
    offsets: Vec<i64>,
    timestamps: TimestampMillisecondBuilder,
    keys: BinaryBuilder,
}

impl Origin {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            offsets: Vec::with_capacity(rows),
            timestamps: TimestampMillisecondBuilder::with_capacity(rows)
                .with_data_type(metadata::timestamp_type()),
            keys: BinaryBuilder::with_capacity(rows, 0),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(crate) fn push(&mut self, record: &RawRecord<'_>) {
        self.offsets.push(record.offset);
        self.timestamps.append_option(record.timestamp_ms);
        self.keys.append_option(record.key);
    }

    /// The columns, in the order of the fields.
    pub(crate) fn finish(mut self, partition: &TopicPartition) -> Vec<ArrayRef> {
        let rows = self.len();
        vec![
            Arc::new(StringArray::new_repeated(&partition.topic, rows)),
            Arc::new(Int32Array::from_value(partition.partition, rows)),
            Arc::new(Int64Array::from(self.offsets)),
            Arc::new(self.timestamps.finish()),
            Arc::new(self.keys.finish()),
        ]
    }
}
