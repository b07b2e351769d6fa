//! Records that were decoded but on which the SQL failed, as rejected records.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::Int64Type;
use puddle_ingest::reader::{Range, Reader};
use puddle_transform::Rejected;
use puddle_types::{Batch, Offset, metadata};

use crate::prepare::blocking;
use crate::{Error, Pipeline};

/// What the reason ends with where the topic no longer had the record's value.
const VALUE_GONE: &str = "; its value is no longer in the topic";
/// How long to go on trying to read rejected records again: as long as Kafka lets a consumer be silent.
const PATIENCE: Duration = Duration::from_secs(300);
/// The pause between two attempts, each of which waits for some seconds itself.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The rows of `batch` on which the SQL failed (in order), as rejected records.
///
/// Their raw values are read from the topic again: keeping them for every record, for the sake of the few that
/// fail, would cost more than it saves.
pub(crate) async fn by_sql(
    pipeline: &Pipeline,
    brokers: &str,
    batch: &Batch,
    failed: &[Rejected],
) -> Result<RecordBatch, Error> {
    let offsets = batch.rows.column_by_name(metadata::OFFSET).expect("every batch has its offsets");
    let offsets = offsets.as_primitive::<Int64Type>();
    let wanted: Vec<Offset> = failed.iter().map(|record| offsets.value(record.row)).collect();
    let range = Range::new(batch.partition.clone(), wanted[0], wanted[wanted.len() - 1] + 1);
    let (brokers, client, begun) = (brokers.to_owned(), pipeline.ingest.client.clone(), Instant::now());
    let values = loop {
        let (brokers, client, range, wanted) =
            (brokers.clone(), client.clone(), range.clone(), wanted.clone());
        match blocking(move || values(&brokers, &client, range, &wanted)).await {
            // As for the records themselves, a broker that is gone is waited for, but not for ever.
            Err(error) if !error.is_usage() && begun.elapsed() < PATIENCE => {
                tracing::warn!(pipeline = pipeline.name, %error, "cannot read rejected records again yet");
                tokio::time::sleep(RETRY_AFTER).await;
            }
            values => break values?,
        }
    };

    let is_gone: Vec<bool> = values.iter().map(Option::is_none).collect();
    let values: BinaryArray = values.iter().map(|value| value.as_ref()?.as_deref()).collect();
    Ok(rejected_rows(&batch.rows, failed, &values, |i| is_gone[i]))
}

/// Rows of the rejected table for the rows of `batch` on which the SQL failed, with their raw values. Where a value could
/// not be read again, the reason says so: it is not a tombstone.
pub(super) fn rejected_rows(
    batch: &RecordBatch,
    failed: &[Rejected],
    values: &BinaryArray,
    is_gone: impl Fn(usize) -> bool,
) -> RecordBatch {
    let rows = UInt32Array::from_iter_values(failed.iter().map(|record| record.row as u32));
    let mut columns: Vec<ArrayRef> = metadata::fields()
        .iter()
        .map(|field| {
            let column = batch.column_by_name(field.name()).expect("every batch has the metadata columns");
            take(column, &rows, None).expect("the indices are those of rows")
        })
        .collect();
    let reasons = failed.iter().enumerate().map(|(i, record)| match is_gone(i) {
        true => Cow::Owned(format!("{}{VALUE_GONE}", record.reason)),
        false => Cow::Borrowed(record.reason.as_str()),
    });
    columns.push(Arc::new(StringArray::from_iter_values(reasons)));
    columns.push(Arc::new(values.clone()));
    RecordBatch::try_new(metadata::rejected_schema(), columns).expect("the columns are those of the schema")
}

/// The values of the records at these offsets, in order, as far as the topic still has the records.
fn values(
    brokers: &str,
    client: &puddle_ingest::ClientSettings,
    range: Range,
    offsets: &[Offset],
) -> Result<Vec<Option<Option<Vec<u8>>>>, puddle_ingest::Error> {
    let mut values: Vec<Option<Option<Vec<u8>>>> = vec![None; offsets.len()];
    let mut reader = Reader::open(brokers, client, vec![range])?;
    while let Some(raw) = reader.next()? {
        for record in raw.records() {
            if let Ok(i) = offsets.binary_search(&record.offset) {
                values[i] = Some(record.value.map(<[u8]>::to_vec));
            }
        }
    }
    Ok(values)
}
