//! Metadata and DescribeCluster: who is there, which topics and partitions.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, MetadataResponse, TopicName,
};
use uuid::Uuid;

use super::{Call, NODE_ID, blocking, text};
use crate::log::LEADER_EPOCH;
use crate::topics::Topic;

/// In DescribeCluster: the endpoints of brokers, as opposed to those of controllers.
const BROKERS: i8 = 1;

/// Tells about the node and about all topics, or those asked for.
pub(super) async fn metadata(call: &Call<'_>, request: MetadataRequest) -> MetadataResponse {
    let all = match &request.topics {
        None => true,
        // Version 0 had no null.
        Some(topics) => call.version == 0 && topics.is_empty(),
    };
    let topics = if all {
        call.state.topics.all().iter().map(|topic| known(call, topic)).collect()
    } else {
        // Before version 4 a client could not say that it does not want topics to be made.
        let may_create = call.version < 4 || request.allow_auto_topic_creation;
        let mut topics = Vec::new();
        for asked in request.topics.unwrap_or_default() {
            topics.push(one(call, asked, may_create).await);
        }
        topics
    };
    let node = MetadataResponseBroker::default()
        .with_node_id(BrokerId(NODE_ID))
        .with_host(text(call.peer.advertised.ip().to_string()))
        .with_port(i32::from(call.peer.advertised.port()));
    MetadataResponse::default()
        .with_brokers(vec![node])
        .with_cluster_id(Some(text(call.state.cluster_id())))
        .with_controller_id(BrokerId(NODE_ID))
        .with_topics(topics)
}

async fn one(call: &Call<'_>, asked: MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic {
    let topics = &call.state.topics;
    let Some(name) = asked.name else {
        return match topics.by_id(asked.topic_id) {
            Some(topic) => known(call, &topic),
            None => unknown(ResponseError::UnknownTopicId, None, asked.topic_id),
        };
    };
    if let Some(topic) = topics.get(&name) {
        return known(call, &topic);
    }
    if !(may_create && call.state.config.auto_create_topics) {
        return unknown(ResponseError::UnknownTopicOrPartition, Some(name), Uuid::nil());
    }
    let (state, wanted) = (Arc::clone(call.state), name.clone());
    let created = blocking(move || {
        state.topics.create(&wanted, state.config.default_partitions, false).map_err(|refusal| refusal.code)
    });
    match created.await.flatten() {
        Ok(topic) => known(call, &topic),
        Err(code) => unknown(code, Some(name), Uuid::nil()),
    }
}

fn known(call: &Call<'_>, topic: &Arc<Topic>) -> MetadataResponseTopic {
    let node = vec![BrokerId(NODE_ID)];
    let partitions = (0..topic.partitions.len() as i32).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(NODE_ID))
            .with_leader_epoch(if call.version >= 7 { LEADER_EPOCH } else { -1 })
            .with_replica_nodes(node.clone())
            .with_isr_nodes(node.clone())
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

fn unknown(code: ResponseError, name: Option<TopicName>, id: Uuid) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_error_code(code.code()).with_name(name).with_topic_id(id)
}

/// Tells about the node.
pub(super) fn describe_cluster(call: &Call<'_>, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default()
        .with_cluster_id(text(call.state.cluster_id()))
        .with_controller_id(BrokerId(NODE_ID));
    if call.version >= 1 && request.endpoint_type != BROKERS {
        let message = "this node serves clients, it is no controller endpoint";
        return response
            .with_endpoint_type(request.endpoint_type)
            .with_error_code(ResponseError::MismatchedEndpointType.code())
            .with_error_message(Some(text(message)));
    }
    let node = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(NODE_ID))
        .with_host(text(call.peer.advertised.ip().to_string()))
        .with_port(i32::from(call.peer.advertised.port()));
    response.with_brokers(vec![node])
}
