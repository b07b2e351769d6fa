//! Committed offsets of groups: OffsetCommit, OffsetFetch, OffsetDelete.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, TopicName,
};

use super::groups::identity;
use super::{Call, blocking, code, text};
use crate::coordinator::{Committed, storage_failed};

/// Longest note that may be committed with an offset: Kafka's `offset.metadata.max.bytes`.
const MAX_METADATA: usize = 4096;

/// Stores the offsets of those partitions that exist, if the member may commit.
pub(super) async fn offset_commit(call: &Call<'_>, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let identity = identity(&request.member_id, &request.group_instance_id);
    let group = request.group_id.to_string();
    let generation = request.generation_id_or_member_epoch;
    let allowed = call.state.coordinator.check_commit(&group, &identity, generation);
    let mut accepted = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let index = asked.partition_index;
            let checked = allowed.and_then(|()| committed(call, &topic.name, asked));
            let response = OffsetCommitResponsePartition::default().with_partition_index(index);
            partitions.push(response.with_error_code(code(&checked)));
            accepted.extend(checked.ok());
        }
        topics.push(OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions));
    }
    if !accepted.is_empty() {
        let offsets = Arc::clone(call.state.coordinator.offsets());
        let stored = blocking(move || offsets.commit(&group, accepted));
        let stored = stored.await.and_then(|stored| stored.map_err(|error| storage_failed(&error)));
        if let Err(failed) = stored {
            let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.for_each(|partition| partition.error_code = failed.code());
        }
    }
    OffsetCommitResponse::default().with_topics(topics)
}

fn committed(
    call: &Call<'_>,
    topic: &str,
    asked: OffsetCommitRequestPartition,
) -> Result<Committed, ResponseError> {
    if call.state.topics.partition(topic, asked.partition_index).is_none() {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    let metadata = asked.committed_metadata.map(|metadata| metadata.to_string()).unwrap_or_default();
    if metadata.len() > MAX_METADATA {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    Ok(Committed {
        topic: topic.to_owned(),
        partition: asked.partition_index,
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata,
    })
}

/// Tells the committed offsets of one group, or since version 8 of several.
pub(super) fn offset_fetch(call: &Call<'_>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if call.version >= 8 {
        let groups = request.groups.into_iter().map(|group| {
            let asked =
                group.topics.map(|topics| asked(topics, |topic| (topic.name, topic.partition_indexes)));
            let topics = fetch(call, &group.group_id, asked).into_iter().map(|(name, offsets)| {
                OffsetFetchResponseTopics::default()
                    .with_name(name)
                    .with_partitions(offsets.into_iter().map(in_group).collect())
            });
            let topics = topics.collect();
            OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_topics(topics)
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    // Null asks for everything since version 2; version 1 had no null.
    let asked = request.topics.map(|topics| asked(topics, |topic| (topic.name, topic.partition_indexes)));
    let topics = fetch(call, &request.group_id, asked).into_iter().map(|(name, offsets)| {
        OffsetFetchResponseTopic::default()
            .with_name(name)
            .with_partitions(offsets.into_iter().map(alone).collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

type Asked = Vec<(TopicName, Vec<i32>)>;

fn asked<T>(topics: Vec<T>, split: impl Fn(T) -> (TopicName, Vec<i32>)) -> Asked {
    topics.into_iter().map(split).collect()
}

/// The offsets asked for, or all; offset -1 stands for "nothing committed".
fn fetch(call: &Call<'_>, group: &GroupId, asked: Option<Asked>) -> Vec<(TopicName, Vec<Committed>)> {
    let offsets = call.state.coordinator.offsets();
    let Some(asked) = asked else {
        let mut topics: Vec<(TopicName, Vec<Committed>)> = Vec::new();
        for committed in offsets.of_group(group).unwrap_or_default() {
            match topics.last_mut() {
                Some((name, of_topic)) if name.as_str() == committed.topic => of_topic.push(committed),
                _ => topics.push((TopicName(text(&committed.topic)), vec![committed])),
            }
        }
        return topics;
    };
    let topics = asked.into_iter().map(|(name, partitions)| {
        let found = partitions.into_iter().map(|partition| {
            offsets.get(group, &name, partition).unwrap_or_else(|| Committed {
                topic: name.to_string(),
                partition,
                offset: -1,
                leader_epoch: -1,
                metadata: String::new(),
            })
        });
        let found = found.collect();
        (name, found)
    });
    topics.collect()
}

// The protocol has two types for the same thing, for before and since version 8.

fn in_group(committed: Committed) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(committed.partition)
        .with_committed_offset(committed.offset)
        .with_committed_leader_epoch(committed.leader_epoch)
        .with_metadata(Some(text(committed.metadata)))
}

fn alone(committed: Committed) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition::default()
        .with_partition_index(committed.partition)
        .with_committed_offset(committed.offset)
        .with_committed_leader_epoch(committed.leader_epoch)
        .with_metadata(Some(text(committed.metadata)))
}

/// Forgets committed offsets of a group that has no members.
pub(super) async fn offset_delete(call: &Call<'_>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let group = request.group_id.to_string();
    let allowed = match call.state.coordinator.describe(&group) {
        None => Err(ResponseError::GroupIdNotFound),
        // Which topics the members read is in their metadata, which the broker does not look into.
        Some(described) if !described.members.is_empty() => Err(ResponseError::NonEmptyGroup),
        Some(_) => Ok(()),
    };
    if let Err(refused) = allowed {
        return OffsetDeleteResponse::default().with_error_code(refused.code());
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let indexes: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        let (offsets, group) = (Arc::clone(call.state.coordinator.offsets()), group.clone());
        let (name, forget) = (topic.name.to_string(), indexes.clone());
        let forgotten = blocking(move || offsets.forget_partitions(&group, &name, forget));
        let forgotten = forgotten.await.and_then(|done| done.map_err(|error| storage_failed(&error)));
        let partitions = indexes.into_iter().map(|index| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code(&forgotten))
        });
        let partitions = partitions.collect();
        topics.push(OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions));
    }
    OffsetDeleteResponse::default().with_topics(topics)
}
