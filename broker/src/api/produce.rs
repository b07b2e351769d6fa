//! Produce, and the ids of idempotent producers.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducerId,
};
use tracing::{debug, error};

use super::{Call, blocking, text};
use crate::log::AppendError;

/// Appends each batch to its partition; with `acks=0` there is no answer.
pub(super) async fn produce(call: &Call<'_>, request: ProduceRequest) -> Option<ProduceResponse> {
    let answers = request.acks != 0;
    let wrong_acks = !matches!(request.acks, -1..=1);
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let index = data.index;
            let response = if wrong_acks {
                failed(ResponseError::InvalidRequiredAcks, "acks must be -1, 0 or 1".into())
            } else {
                append(call, &topic.name, data).await
            };
            partitions.push(response.with_index(index));
        }
        responses
            .push(TopicProduceResponse::default().with_name(topic.name).with_partition_responses(partitions));
    }
    answers.then(|| ProduceResponse::default().with_responses(responses))
}

async fn append(call: &Call<'_>, topic: &str, data: PartitionProduceData) -> PartitionProduceResponse {
    let Some(partition) = call.state.topics.partition(topic, data.index) else {
        return failed(ResponseError::UnknownTopicOrPartition, "no such topic or partition".into());
    };
    let batch = data.records.unwrap_or_default();
    match blocking(move || partition.append(&batch)).await {
        Ok(Ok(appended)) => PartitionProduceResponse::default()
            .with_base_offset(appended.base_offset)
            .with_log_start_offset(appended.log_start),
        Ok(Err(error)) => {
            if let AppendError::Storage(source) = &error {
                error!(topic, partition = data.index, %source, "records could not be stored");
            } else {
                debug!(topic, partition = data.index, %error, "refused a batch");
            }
            failed(error.code(), error.to_string())
        }
        Err(code) => failed(code, code.to_string()),
    }
}

fn failed(code: ResponseError, message: String) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_error_code(code.code())
        .with_base_offset(-1)
        .with_error_message(Some(text(message)))
}

/// Gives an idempotent producer an id of its own; transactional ones are refused.
pub(super) async fn init_producer_id(
    call: &Call<'_>,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let state = Arc::clone(call.state);
    let id = match request.transactional_id {
        Some(_) => Err(ResponseError::InvalidRequest),
        None => blocking(move || state.next_producer_id()).await.flatten(),
    };
    match id {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(code) => InitProducerIdResponse::default()
            .with_error_code(code.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}
