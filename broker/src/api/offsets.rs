//! ListOffsets: which offset goes with a time.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use tracing::error;

use super::{Call, blocking};
use crate::log::LEADER_EPOCH;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// Stands for "there is none" in the response.
const NONE: (i64, i64) = (-1, -1);

/// Looks up an offset for each partition asked for.
pub(super) async fn list_offsets(call: &Call<'_>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let found = look_up(call, &topic.name, &asked).await;
            let response =
                ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            partitions.push(match found {
                Ok((offset, timestamp)) => response
                    .with_offset(offset)
                    .with_timestamp(timestamp)
                    .with_leader_epoch(if call.version >= 4 { LEADER_EPOCH } else { -1 }),
                Err(code) => response.with_error_code(code.code()),
            });
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

async fn look_up(
    call: &Call<'_>,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<(i64, i64), ResponseError> {
    let partition = call
        .state
        .topics
        .partition(topic, asked.partition_index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let (start, end) = partition.offsets();
    let timestamp = asked.timestamp;
    match timestamp {
        EARLIEST => return Ok((start, -1)),
        LATEST => return Ok((end, -1)),
        MAX_TIMESTAMP | 0.. => {}
        _ => return Err(ResponseError::InvalidRequest),
    }
    let found = blocking(move || match timestamp {
        MAX_TIMESTAMP => partition.latest(),
        _ => partition.first_since(timestamp),
    });
    found.await?.map(|found| found.unwrap_or(NONE)).map_err(|error| {
        error!(topic, partition = asked.partition_index, %error, "time look-up failed");
        ResponseError::KafkaStorageError
    })
}
