//! Reading a file of rejected records, some at a time.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch, is_not_null, is_null};
use arrow::datatypes::{FieldRef, Int32Type, Int64Type, Schema, SchemaRef, TimestampMillisecondType};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection};
use puddle_ingest::raw::RawBatch;
use puddle_types::{TopicPartition, metadata};

use crate::Error;

/// Rows that are read at once: each may be as large as Kafka lets a record be.
const READ_ROWS: usize = 64;
/// Records that are run again at once, and their bytes: as many as a run takes.
const CHUNK_ROWS: usize = 16_384;
const CHUNK_BYTES: usize = 2 << 20;

/// Some columns of a file, in batches of up to [`READ_ROWS`] rows.
pub(super) struct Rows {
    path: PathBuf,
    schema: SchemaRef,
    reader: ParquetRecordBatchReader,
}

impl Rows {
    /// Opens a file for these columns, and for all rows or those of ascending `ranges`.
    pub(super) fn open(
        path: &Path,
        columns: &[&str],
        ranges: Option<Vec<Range<usize>>>,
    ) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let damaged = |source| Error::RejectedFile { path: path.to_owned(), source };
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let mut builder = builder.with_projection(mask).with_batch_size(READ_ROWS);
        if let Some(ranges) = ranges {
            builder =
                builder.with_row_selection(RowSelection::from_consecutive_ranges(ranges.into_iter(), rows));
        }
        let known = metadata::rejected_schema();
        let fields = known.fields().iter().filter(|field| columns.contains(&field.name().as_str())).cloned();
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Self { path: path.to_owned(), schema, reader: builder.build().map_err(damaged)? })
    }

    /// The columns as the rest of Puddle has them; a file may keep them in other types.
    fn usual(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let column = |field: &FieldRef| {
            let column = rows
                .column_by_name(field.name())
                .ok_or_else(|| ArrowError::SchemaError(format!("there is no column {}", field.name())))?;
            cast(column, field.data_type())
        };
        let columns = self.schema.fields().iter().map(column).collect::<Result<_, _>>()?;
        RecordBatch::try_new(self.schema.clone(), columns)
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.reader.next()?.and_then(|rows| self.usual(&rows));
        let path = self.path.clone();
        Some(rows.map_err(|source| Error::RejectedFile { path, source: source.into() }))
    }
}

/// Records that are run again together.
pub(super) struct Chunk {
    /// Those that have a value, by partition, each in offset order.
    pub(super) records: Vec<RawBatch>,
    /// Those without: nothing that could be decoded. They are tombstones, or their value could not be read again
    /// when the SQL had failed on it; see [`by_sql`](super::by_sql).
    pub(super) without_value: Vec<RecordBatch>,
}

/// The records of a file, as they came from Kafka.
pub(super) struct Chunks(Rows);

impl Chunks {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let schema = metadata::rejected_schema();
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        Ok(Self(Rows::open(path, &columns, None)?))
    }
}

impl Iterator for Chunks {
    type Item = Result<Chunk, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut batches, mut without_value) = (Vec::new(), Vec::new());
        let (mut rows, mut bytes) = (0, 0);
        while rows < CHUNK_ROWS && bytes < CHUNK_BYTES {
            let batch = match self.0.next() {
                Some(Ok(batch)) => batch,
                Some(Err(error)) => return Some(Err(error)),
                None => break,
            };
            rows += batch.num_rows();
            bytes += batch.get_array_memory_size();
            let values = batch.column_by_name(metadata::VALUE).expect("all columns are read");
            if values.null_count() == 0 {
                batches.push(batch);
                continue;
            }
            let part = |mask| filter_record_batch(&batch, &mask).expect("the mask is of the batch");
            let null = is_null(values).expect("any array has nulls or not");
            without_value.push(part(null));
            batches.push(part(is_not_null(values).expect("any array has nulls or not")));
        }
        (rows > 0).then(|| Ok(Chunk { records: raw(&batches), without_value }))
    }
}

/// The records of these rows by partition, in offset order.
fn raw(batches: &[RecordBatch]) -> Vec<RawBatch> {
    let mut order: Vec<(TopicPartition, i64, usize, usize)> = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let origins = origins(batch);
        order.extend(origins.into_iter().enumerate().map(|(row, (at, offset))| (at, offset, number, row)));
    }
    order.sort_unstable();
    let mut all: Vec<RawBatch> = Vec::new();
    for (partition, offset, number, row) in order {
        let batch = &batches[number];
        let column = |name| batch.column_by_name(name).expect("all columns are read");
        let timestamps = column(metadata::TIMESTAMP).as_primitive::<TimestampMillisecondType>();
        let bytes = |name| {
            let bytes = column(name).as_binary::<i32>();
            (!bytes.is_null(row)).then(|| bytes.value(row))
        };
        let timestamp = (!timestamps.is_null(row)).then(|| timestamps.value(row));
        if all.last().is_none_or(|raw| raw.partition != partition) {
            all.push(RawBatch::new(partition, 0, offset));
        }
        let raw = all.last_mut().expect("one was pushed");
        raw.push(offset, timestamp, bytes(metadata::KEY), bytes(metadata::VALUE));
    }
    all
}

/// Partition and offset of each row.
pub(super) fn origins(batch: &RecordBatch) -> Vec<(TopicPartition, i64)> {
    let column = |name| batch.column_by_name(name).expect("the columns of the origin are read");
    let topics = column(metadata::TOPIC).as_string::<i32>();
    let partitions = column(metadata::PARTITION).as_primitive::<Int32Type>();
    let offsets = column(metadata::OFFSET).as_primitive::<Int64Type>();
    let mut last: Option<TopicPartition> = None;
    (0..batch.num_rows())
        .map(|row| {
            let (topic, partition) = (topics.value(row), partitions.value(row));
            // Rows come in runs of one partition, and a topic's name is shared by all that have it.
            let same = last.take().filter(|last| &*last.topic == topic && last.partition == partition);
            let at = same.unwrap_or_else(|| TopicPartition::new(topic, partition));
            last = Some(at.clone());
            (at, offsets.value(row))
        })
        .collect()
}
