//! Fetch: reading records, and waiting for them.
//!
//! A reader that has caught up sends its next request at once; the broker holds it until there are `min_bytes` to
//! send or `max_wait` is over. It is woken by the appends themselves, there is no polling.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, timeout_at};
use tracing::error;
use uuid::Uuid;

use super::{Call, blocking};
use crate::log::Partition;

/// Most bytes of records in a response, whatever the client asks for: Kafka's `fetch.max.bytes`.
const MAX_RESPONSE: usize = 55 << 20;
/// Longest wait, whatever the client asks for.
const MAX_WAIT: Duration = Duration::from_secs(300);
const READ_COMMITTED: i8 = 1;

/// A partition asked for.
#[derive(Debug, Clone)]
struct Wanted {
    index: i32,
    partition: Result<Arc<Partition>, ResponseError>,
    offset: i64,
    max_bytes: usize,
}

/// What was read of it.
#[derive(Debug, Default)]
struct Read {
    code: i16,
    log_start: i64,
    log_end: i64,
    records: Bytes,
}

/// All that was read.
#[derive(Debug, Default)]
struct Reads {
    of_partitions: Vec<Read>,
    bytes: usize,
    /// Waiting makes no sense: an error has to be told, or there is more than the limits let through.
    final_: bool,
}

/// Reads records from the partitions asked for.
pub(super) async fn fetch(call: &Call<'_>, request: FetchRequest) -> FetchResponse {
    if request.session_id != 0 {
        // Sessions are never opened, so this one is another broker's.
        return FetchResponse::default().with_error_code(ResponseError::FetchSessionIdNotFound.code());
    }
    let wanted = wanted(call, &request);
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(MAX_RESPONSE);
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes);
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(MAX_WAIT);
    let reads = read_enough(call, &wanted, min_bytes, max_bytes, Instant::now() + max_wait).await;
    respond(request, wanted, reads)
}

fn wanted(call: &Call<'_>, request: &FetchRequest) -> Vec<Wanted> {
    let topics = &call.state.topics;
    let by_id = call.version >= 13;
    let mut wanted = Vec::new();
    for asked in &request.topics {
        let topic = if by_id { topics.by_id(asked.topic_id) } else { topics.get(&asked.topic) };
        let unknown =
            if by_id { ResponseError::UnknownTopicId } else { ResponseError::UnknownTopicOrPartition };
        for partition in &asked.partitions {
            let log = topic.as_ref().ok_or(unknown).and_then(|topic| {
                let index = usize::try_from(partition.partition).ok();
                let log = index.and_then(|index| topic.partitions.get(index));
                log.cloned().ok_or(ResponseError::UnknownTopicOrPartition)
            });
            wanted.push(Wanted {
                index: partition.partition,
                partition: log,
                offset: partition.fetch_offset,
                max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
            });
        }
    }
    wanted
}

async fn read_enough(
    call: &Call<'_>,
    wanted: &[Wanted],
    min_bytes: usize,
    max_bytes: usize,
    until: Instant,
) -> Reads {
    let appended = Arc::new(Notify::new());
    loop {
        // Registered before reading: an append in between is then noticed.
        for partition in wanted.iter().filter_map(|wanted| wanted.partition.as_ref().ok()) {
            partition.notify_once(&appended);
        }
        let (reads, turn) = read(call, wanted, max_bytes).await;
        if reads.final_ || reads.bytes >= min_bytes || Instant::now() >= until {
            let _ = turn.map(|turn| call.reading.set(turn));
            return reads;
        }
        // Others have their turn while this one waits.
        drop((reads, turn));
        let _ = timeout_at(until, appended.notified()).await;
    }
}

/// Reads, and returns the turn that it took to do so.
async fn read(call: &Call<'_>, wanted: &[Wanted], max_bytes: usize) -> (Reads, Option<OwnedSemaphorePermit>) {
    let caught_up = wanted.iter().all(|wanted| {
        wanted.partition.as_ref().is_ok_and(|partition| partition.offsets().1 == wanted.offset)
    });
    if caught_up {
        // The common case of a waiting reader costs no trip to another thread.
        return (read_all(wanted, max_bytes), None);
    }
    let turn = Arc::clone(&call.state.reading).acquire_owned().await.ok();
    let owned = wanted.to_vec();
    let reads = blocking(move || read_all(&owned, max_bytes)).await.unwrap_or_else(|code| {
        let failed = wanted.iter().map(|_| Read { code: code.code(), ..Read::default() });
        Reads { of_partitions: failed.collect(), bytes: 0, final_: true }
    });
    (reads, turn)
}

fn read_all(wanted: &[Wanted], max_bytes: usize) -> Reads {
    let mut reads = Reads::default();
    for wanted in wanted {
        let left = max_bytes.saturating_sub(reads.bytes);
        let read = read_one(wanted, left, reads.bytes == 0).unwrap_or_else(|code| {
            let (log_start, log_end) = match (&wanted.partition, code) {
                // The one error with which a client needs to know the limits.
                (Ok(partition), ResponseError::OffsetOutOfRange) => partition.offsets(),
                _ => (-1, -1),
            };
            (Read { code: code.code(), log_start, log_end, records: Bytes::new() }, true)
        });
        reads.bytes += read.0.records.len();
        reads.final_ |= read.1;
        reads.of_partitions.push(read.0);
    }
    reads
}

/// Reads one partition; the flag tells whether there is more than was read.
fn read_one(wanted: &Wanted, left: usize, at_least_one: bool) -> Result<(Read, bool), ResponseError> {
    let partition = wanted.partition.as_ref().map_err(|code| *code)?;
    let failed = |error: std::io::Error| {
        error!(partition = wanted.index, offset = wanted.offset, %error, "records could not be read");
        ResponseError::KafkaStorageError
    };
    let slice = partition.find(wanted.offset)?.map_err(failed)?;
    let limit = wanted.max_bytes.min(left);
    let (records, more) = match &slice {
        Some(slice) => {
            let records = slice.read(limit, at_least_one).map_err(failed)?;
            let more = slice.more || records.len() < slice.len();
            (records, more)
        }
        None => (Bytes::new(), false),
    };
    let (log_start, log_end) = partition.offsets();
    Ok((Read { code: 0, log_start, log_end, records }, more))
}

fn respond(request: FetchRequest, wanted: Vec<Wanted>, reads: Reads) -> FetchResponse {
    // Without transactions all records are committed; the list of aborted ones is empty, or null if not asked for.
    let aborted = (request.isolation_level == READ_COMMITTED).then(Vec::new);
    let mut parts = wanted.into_iter().zip(reads.of_partitions).map(|(wanted, read)| {
        PartitionData::default()
            .with_partition_index(wanted.index)
            .with_error_code(read.code)
            .with_high_watermark(read.log_end)
            .with_last_stable_offset(read.log_end)
            .with_log_start_offset(read.log_start)
            .with_aborted_transactions(aborted.clone())
            .with_records(Some(read.records))
    });
    let mut responses = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let partitions = parts.by_ref().take(asked.partitions.len()).collect();
        let (topic, id): (TopicName, Uuid) = (asked.topic, asked.topic_id);
        responses.push(
            FetchableTopicResponse::default().with_topic(topic).with_topic_id(id).with_partitions(partitions),
        );
    }
    FetchResponse::default().with_responses(responses)
}
