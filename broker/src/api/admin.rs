//! Topics made, changed and deleted, and what is configured.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse, TopicName,
};
use uuid::Uuid;

use super::{Call, NODE_ID, blocking, text};
use crate::settings::{self, Setting};
use crate::state::State;
use crate::topics::{Refusal, Topic};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// In DescribeConfigs: set when the broker was started, for all topics alike.
const STATIC_BROKER_CONFIG: i8 = 4;

/// Makes topics.
pub(super) async fn create_topics(call: &Call<'_>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let dry_run = request.validate_only;
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        let state = Arc::clone(call.state);
        let created = blocking(move || create(&state, &topic, dry_run)).await;
        let result = CreatableTopicResult::default().with_name(name);
        results.push(match created.unwrap_or_else(|code| Err(Refusal::new(code, ""))) {
            Ok((topic, partitions)) => result
                .with_topic_id(topic.id)
                .with_num_partitions(partitions)
                .with_replication_factor(1)
                .with_configs(Some(topic_configs(call.state))),
            Err(refusal) => {
                result.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message)))
            }
        });
    }
    CreateTopicsResponse::default().with_topics(results)
}

fn create(state: &State, asked: &CreatableTopic, dry_run: bool) -> Result<(Arc<Topic>, i32), Refusal> {
    let partitions = if asked.assignments.is_empty() {
        check_replication(asked.replication_factor)?;
        if asked.num_partitions == -1 { state.config.default_partitions } else { asked.num_partitions }
    } else {
        let mut indexes: Vec<i32> = asked.assignments.iter().map(|part| part.partition_index).collect();
        indexes.sort_unstable();
        let ours = asked.assignments.iter().all(|part| part.broker_ids == [BrokerId(NODE_ID)]);
        if !ours || !indexes.iter().copied().eq(0..indexes.len() as i32) {
            let message =
                format!("every partition from 0 on must be assigned to node {NODE_ID}, the only one");
            return Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
        }
        indexes.len() as i32
    };
    for config in &asked.configs {
        settings::check_topic_setting(&state.config, &config.name, config.value.as_deref())
            .map_err(|why| Refusal::new(ResponseError::InvalidConfig, why))?;
    }
    state.topics.create(&asked.name, partitions, dry_run).map(|topic| (topic, partitions))
}

fn check_replication(factor: i16) -> Result<(), Refusal> {
    if matches!(factor, -1 | 1) {
        return Ok(());
    }
    let message = format!("Replication factor {factor} is not possible: there is one node, so it must be 1.");
    Err(Refusal::new(ResponseError::InvalidReplicationFactor, message))
}

fn topic_configs(state: &State) -> Vec<CreatableTopicConfigs> {
    let configs = settings::of_topics(&state.config).into_iter().map(|setting| {
        CreatableTopicConfigs::default()
            .with_name(text(setting.name))
            .with_value(Some(text(setting.value)))
            .with_config_source(STATIC_BROKER_CONFIG)
    });
    configs.collect()
}

/// Deletes topics, by name or since version 6 by id; what groups have committed for them is forgotten.
pub(super) async fn delete_topics(call: &Call<'_>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = |name| DeleteTopicState::default().with_name(Some(name));
    let asked = request.topics.into_iter().chain(request.topic_names.into_iter().map(by_name));
    let mut responses = Vec::new();
    for topic in asked {
        let result = DeletableTopicResult::default();
        let name = match topic.name {
            Some(name) => name,
            None => match call.state.topics.by_id(topic.topic_id) {
                Some(topic) => TopicName(text(&topic.name)),
                None => {
                    let code = ResponseError::UnknownTopicId.code();
                    responses.push(result.with_topic_id(topic.topic_id).with_error_code(code));
                    continue;
                }
            },
        };
        let id = call.state.topics.get(&name).map_or(Uuid::nil(), |topic| topic.id);
        let (state, topic) = (Arc::clone(call.state), name.to_string());
        let deleted = blocking(move || delete(&state, &topic)).await;
        let result = result.with_name(Some(name)).with_topic_id(id);
        responses.push(match deleted.unwrap_or_else(|code| Err(Refusal::new(code, ""))) {
            Ok(()) => result,
            Err(refusal) => {
                result.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message)))
            }
        });
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

fn delete(state: &State, name: &str) -> Result<(), Refusal> {
    // Offsets first: if the broker ends in between, the topic is there and its readers begin anew, rather than a
    // new topic of that name being read from an old topic's offset.
    state
        .coordinator
        .offsets()
        .forget_topic(name)
        .map_err(|error| Refusal::new(ResponseError::KafkaStorageError, error.to_string()))?;
    state.topics.delete(name)
}

/// Raises numbers of partitions.
pub(super) async fn create_partitions(
    call: &Call<'_>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let dry_run = request.validate_only;
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        let state = Arc::clone(call.state);
        let grown = blocking(move || grow(&state, &topic, dry_run)).await;
        let result = CreatePartitionsTopicResult::default().with_name(name);
        results.push(match grown.unwrap_or_else(|code| Err(Refusal::new(code, ""))) {
            Ok(()) => result,
            Err(refusal) => {
                result.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message)))
            }
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

fn grow(state: &State, asked: &CreatePartitionsTopic, dry_run: bool) -> Result<(), Refusal> {
    let assignments = asked.assignments.iter().flatten();
    if !assignments.into_iter().all(|partition| partition.broker_ids == [BrokerId(NODE_ID)]) {
        let message = format!("partitions can be assigned to node {NODE_ID} only, there is no other");
        return Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
    }
    state.topics.add_partitions(&asked.name, asked.count, dry_run)
}

/// Tells how topics and the broker are configured.
pub(super) fn describe_configs(call: &Call<'_>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| describe(call, resource));
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe(call: &Call<'_>, asked: DescribeConfigsResource) -> DescribeConfigsResult {
    let settings = settings_of(call, &asked);
    let result = DescribeConfigsResult::default()
        .with_resource_type(asked.resource_type)
        .with_resource_name(asked.resource_name);
    let settings = match settings {
        Ok(settings) => settings,
        Err(refusal) => {
            return result
                .with_error_code(refusal.code.code())
                .with_error_message(Some(text(refusal.message)));
        }
    };
    let wanted = |name: &str| {
        asked.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
    };
    let configs = settings.into_iter().filter(|setting| wanted(setting.name)).map(|setting| {
        DescribeConfigsResourceResult::default()
            .with_name(text(setting.name))
            .with_value(Some(text(setting.value)))
            .with_read_only(true)
            .with_config_source(STATIC_BROKER_CONFIG)
            .with_config_type(if call.version >= 3 { setting.kind as i8 } else { 0 })
    });
    result.with_configs(configs.collect())
}

fn settings_of(call: &Call<'_>, asked: &DescribeConfigsResource) -> Result<Vec<Setting>, Refusal> {
    let state = call.state;
    match asked.resource_type {
        TOPIC if state.topics.get(&asked.resource_name).is_some() => Ok(settings::of_topics(&state.config)),
        TOPIC => Err(Refusal::new(ResponseError::UnknownTopicOrPartition, "no such topic")),
        BROKER if matches!(asked.resource_name.as_str(), "" | "1") => {
            Ok(settings::of_broker(&state.config, NODE_ID))
        }
        BROKER => {
            Err(Refusal::new(ResponseError::InvalidRequest, format!("the only node has the id {NODE_ID}")))
        }
        _ => Err(Refusal::new(ResponseError::InvalidRequest, "only topics and brokers have settings")),
    }
}
