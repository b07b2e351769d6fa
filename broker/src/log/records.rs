//! Looking into one batch: the only place where the broker decodes records, for the offset that goes with a timestamp.

use std::io;

use bytes::Bytes;
use kafka_protocol::records::{Record, RecordBatchDecoder};

/// Offset and timestamp of a record.
pub(crate) type OffsetAndTime = (i64, i64);

/// The first record at `timestamp` or later.
pub(crate) fn first_since(batch: Bytes, timestamp: i64) -> io::Result<Option<OffsetAndTime>> {
    let records = decode(batch)?;
    Ok(records
        .iter()
        .find(|record| record.timestamp >= timestamp)
        .map(|record| (record.offset, record.timestamp)))
}

/// The first of the records with the latest timestamp.
pub(crate) fn latest(batch: Bytes) -> io::Result<Option<OffsetAndTime>> {
    let records = decode(batch)?;
    let latest = records.iter().map(|record| record.timestamp).max();
    Ok(records
        .iter()
        .find(|record| Some(record.timestamp) == latest)
        .map(|record| (record.offset, record.timestamp)))
}

fn decode(mut batch: Bytes) -> io::Result<Vec<Record>> {
    RecordBatchDecoder::decode(&mut batch)
        .map(|set| set.records)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("undecodable batch: {error:#}")))
}
