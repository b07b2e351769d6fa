use bytes::{Bytes as Buffer, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, Message, Request, StrBytes};

use super::*;
use crate::api::SERVED;

/// A whole request with a header, as a client would send it.
fn framed<R: Request>(version: i16, request: &R) -> Buffer {
    let key = ApiKey::try_from(R::KEY).unwrap();
    let mut frame = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("client")))
        .encode(&mut frame, key.request_header_version(version))
        .unwrap();
    request.encode(&mut frame, version).unwrap();
    frame.freeze()
}

/// Checks that the layout covers exactly what the library encodes, in every served version.
fn covers<R: Request + Message>(fill: impl Fn(i16) -> R) {
    let key = ApiKey::try_from(R::KEY).unwrap();
    let &(_, lowest, highest) = SERVED.iter().find(|(served, ..)| *served == key).expect("a served request");
    for version in lowest..=highest {
        let frame = framed(version, &fill(version));
        assert_eq!(check(key, version, &frame), Ok(frame.len()), "{key:?} version {version}");
        for cut in 0..frame.len() {
            assert!(check(key, version, &frame[..cut]).is_err(), "{key:?} version {version} cut at {cut}");
        }
    }
}

fn text() -> StrBytes {
    StrBytes::from_static_str("some text")
}

fn topic() -> TopicName {
    TopicName(text())
}

fn group() -> GroupId {
    GroupId(text())
}

#[test]
fn layouts_of_records_and_offsets() {
    covers(|_| {
        use produce_request::*;
        let data = PartitionProduceData::default().with_records(Some(Buffer::from("records")));
        let topic = TopicProduceData::default().with_name(topic()).with_partition_data(vec![data; 2]);
        ProduceRequest::default().with_topic_data(vec![topic; 2])
    });
    covers(|version| {
        use fetch_request::*;
        let asked = FetchTopic::default().with_partitions(vec![FetchPartition::default(); 3]);
        let asked = if version < 13 { asked.with_topic(topic()) } else { asked };
        let forgotten = ForgottenTopic::default().with_partitions(vec![1, 2]);
        let request = FetchRequest::default().with_topics(vec![asked; 2]);
        if version >= 7 { request.with_forgotten_topics_data(vec![forgotten]) } else { request }
    });
    covers(|_| {
        use list_offsets_request::*;
        let asked = ListOffsetsTopic::default()
            .with_name(topic())
            .with_partitions(vec![ListOffsetsPartition::default(); 2]);
        ListOffsetsRequest::default().with_topics(vec![asked; 2])
    });
    covers(|_| {
        use offset_commit_request::*;
        let partition = OffsetCommitRequestPartition::default().with_committed_metadata(Some(text()));
        let asked =
            OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![partition; 2]);
        OffsetCommitRequest::default().with_group_id(group()).with_topics(vec![asked; 2])
    });
    covers(|version| {
        use offset_fetch_request::*;
        if version < 8 {
            let asked = OffsetFetchRequestTopic::default().with_name(topic()).with_partition_indexes(vec![1]);
            return OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![asked; 2]));
        }
        let asked = OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(vec![1]);
        let group = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(Some(vec![asked]));
        OffsetFetchRequest::default().with_groups(vec![group; 2])
    });
    covers(|_| {
        use offset_delete_request::*;
        let asked = OffsetDeleteRequestTopic::default()
            .with_name(topic())
            .with_partitions(vec![OffsetDeleteRequestPartition::default(); 2]);
        OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![asked])
    });
    covers(|_| InitProducerIdRequest::default());
}

#[test]
fn layouts_of_groups() {
    covers(|version| {
        let request = FindCoordinatorRequest::default();
        if version < 4 { request.with_key(text()) } else { request.with_coordinator_keys(vec![text(); 3]) }
    });
    covers(|version| {
        use join_group_request::*;
        let protocol =
            JoinGroupRequestProtocol::default().with_name(text()).with_metadata(Buffer::from("metadata"));
        let request = JoinGroupRequest::default().with_group_id(group()).with_protocols(vec![protocol; 2]);
        if version >= 5 { request.with_group_instance_id(Some(text())) } else { request }
    });
    covers(|_| {
        use sync_group_request::*;
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(text())
            .with_assignment(Buffer::from("assignment"));
        SyncGroupRequest::default().with_group_id(group()).with_assignments(vec![assignment; 2])
    });
    covers(|_| HeartbeatRequest::default().with_group_id(group()).with_member_id(text()));
    covers(|version| {
        use leave_group_request::*;
        let request = LeaveGroupRequest::default().with_group_id(group());
        if version < 3 {
            return request.with_member_id(text());
        }
        request.with_members(vec![MemberIdentity::default().with_member_id(text()); 2])
    });
    covers(|_| DescribeGroupsRequest::default().with_groups(vec![group(); 2]));
    covers(|version| {
        let request = ListGroupsRequest::default();
        if version >= 4 { request.with_states_filter(vec![text(); 2]) } else { request }
    });
    covers(|_| DeleteGroupsRequest::default().with_groups_names(vec![group(); 2]));
}

#[test]
fn layouts_of_topics_and_the_cluster() {
    covers(|_| ApiVersionsRequest::default());
    covers(|_| {
        use metadata_request::*;
        let asked = MetadataRequestTopic::default().with_name(Some(topic()));
        MetadataRequest::default().with_topics(Some(vec![asked; 2]))
    });
    covers(|_| {
        use create_topics_request::*;
        let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1); 2]);
        let config = CreatableTopicConfig::default().with_name(text()).with_value(Some(text()));
        let topic = CreatableTopic::default()
            .with_name(topic())
            .with_assignments(vec![assignment; 2])
            .with_configs(vec![config; 2]);
        CreateTopicsRequest::default().with_topics(vec![topic; 2])
    });
    covers(|version| {
        use delete_topics_request::*;
        if version < 6 {
            return DeleteTopicsRequest::default().with_topic_names(vec![topic(); 2]);
        }
        let asked = DeleteTopicState::default().with_name(Some(topic()));
        DeleteTopicsRequest::default().with_topics(vec![asked; 2])
    });
    covers(|_| {
        use create_partitions_request::*;
        let assignment = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1)]);
        let asked =
            CreatePartitionsTopic::default().with_name(topic()).with_assignments(Some(vec![assignment; 2]));
        CreatePartitionsRequest::default().with_topics(vec![asked; 2])
    });
    covers(|_| {
        use describe_configs_request::*;
        let asked = DescribeConfigsResource::default()
            .with_resource_name(text())
            .with_configuration_keys(Some(vec![text(); 2]));
        DescribeConfigsRequest::default().with_resources(vec![asked; 2])
    });
    covers(|_| DescribeClusterRequest::default());
}

#[test]
fn a_claimed_count_of_billions_is_refused() {
    let hostile: [(i16, &[u8]); 2] = [(1, &[0x7f, 0xff, 0xff, 0xff]), (9, &[0xff, 0xff, 0xff, 0xff, 0x07])];
    for (version, count) in hostile {
        // Null topics are the last thing in version 1; in version 9 three booleans and no tagged fields follow.
        let null = framed(version, &MetadataRequest::default().with_topics(None));
        let before = null.len() - if version == 1 { 4 } else { 5 };
        let frame = [&null[..before], count, &[0; 100]].concat();
        assert_eq!(check(ApiKey::Metadata, version, &frame), Err(LayoutError::TooMany), "version {version}");
    }
}
