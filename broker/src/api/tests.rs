//! Every version that is advertised, and bytes that are no requests.

use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Message, Request};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::BrokerConfig;

/// A broker's state without its connections.
struct Bench {
    state: Arc<State>,
    runtime: tokio::runtime::Runtime,
    _dir: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let dir = TempDir::new().unwrap();
        let state = State::open(BrokerConfig::new(dir.path())).unwrap();
        state.topics.create("known", 1, false).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Bench { state: Arc::new(state), runtime, _dir: dir }
    }

    fn send(&self, frame: Bytes) -> Result<Option<BytesMut>, Malformed> {
        let address = SocketAddr::from(([127, 0, 0, 1], 9092));
        let peer = Peer { advertised: address, remote: address };
        self.runtime.block_on(serve(&self.state, peer, frame))
    }

    /// Asks in every served version, and decodes each answer to its last byte.
    fn answers<R: Request>(&self, ask: impl Fn(i16) -> R, judge: impl Fn(i16, R::Response)) {
        let key = ApiKey::try_from(R::KEY).unwrap();
        let &(_, lowest, highest) = SERVED.iter().find(|(served, ..)| *served == key).unwrap();
        let library = <R as Message>::VERSIONS;
        assert!(library.min <= lowest && highest <= library.max, "{key:?}: {library}");
        for version in lowest..=highest {
            let answer = self.send(framed(R::KEY, version, &ask(version))).unwrap().expect("an answer");
            let mut answer = answer.freeze();
            let len = i32::from_be_bytes(*answer.split_to(4).first_chunk().unwrap());
            assert_eq!(len as usize, answer.len());
            let head = ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
            assert_eq!(head.correlation_id, 77);
            let response = R::Response::decode(&mut answer, version).unwrap();
            assert!(answer.is_empty(), "{key:?} version {version}: {} bytes left", answer.len());
            judge(version, response);
        }
    }
}

fn framed<R: Encodable>(key: i16, version: i16, request: &R) -> Bytes {
    let mut frame = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(77)
        .with_client_id(Some(text("client")));
    header.encode(&mut frame, ApiKey::try_from(key).unwrap().request_header_version(version)).unwrap();
    request.encode(&mut frame, version).unwrap();
    frame.freeze()
}

fn known() -> TopicName {
    TopicName(text("known"))
}

fn group() -> GroupId {
    GroupId(text("group"))
}

#[test]
fn every_advertised_version_of_reading_and_writing_is_served() {
    let bench = Bench::new();
    bench.answers(
        |_| {
            use produce_request::*;
            let data = PartitionProduceData::default().with_records(Some(Bytes::from_static(b"nonsense")));
            let topic = TopicProduceData::default().with_name(known()).with_partition_data(vec![data]);
            ProduceRequest::default().with_acks(1).with_topic_data(vec![topic])
        },
        |_, response: ProduceResponse| {
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!(partition.error_code, ResponseError::CorruptMessage.code());
        },
    );
    let id = bench.state.topics.get("known").unwrap().id;
    bench.answers(
        |version| {
            use fetch_request::*;
            let topic = FetchTopic::default().with_partitions(vec![FetchPartition::default()]);
            let topic = if version < 13 { topic.with_topic(known()) } else { topic.with_topic_id(id) };
            FetchRequest::default().with_max_bytes(1_000).with_topics(vec![topic])
        },
        |version, response| {
            let partition = &response.responses[0].partitions[0];
            assert_eq!((partition.error_code, partition.high_watermark), (0, 0), "version {version}");
        },
    );
    for (timestamp, offset) in [(-1, 0), (-2, 0), (-3, -1), (5, -1)] {
        bench.answers(
            |_| {
                use list_offsets_request::*;
                let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
                let topic = ListOffsetsTopic::default().with_name(known()).with_partitions(vec![partition]);
                ListOffsetsRequest::default().with_topics(vec![topic])
            },
            |_, response| {
                let partition = &response.topics[0].partitions[0];
                assert_eq!((partition.error_code, partition.offset), (0, offset));
            },
        );
    }
    bench.answers(
        |_| InitProducerIdRequest::default().with_transactional_id(None),
        |version, response| assert_eq!(response.producer_id, i64::from(version)),
    );
}

#[test]
fn every_advertised_version_of_groups_is_served() {
    let bench = Bench::new();
    bench.answers(
        |version| {
            let request = FindCoordinatorRequest::default();
            if version < 4 {
                request.with_key(text("g"))
            } else {
                request.with_coordinator_keys(vec![text("g")])
            }
        },
        |version, response| {
            let port = if version < 4 { response.port } else { response.coordinators[0].port };
            assert_eq!(port, 9092);
        },
    );
    bench.answers(
        |_| {
            use join_group_request::*;
            let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
            JoinGroupRequest::default()
                .with_group_id(group())
                .with_member_id(text("nobody"))
                .with_session_timeout_ms(10_000)
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol])
        },
        |_, response| assert_eq!(response.error_code, ResponseError::UnknownMemberId.code()),
    );
    let unknown = ResponseError::UnknownMemberId.code();
    bench.answers(
        |_| SyncGroupRequest::default().with_group_id(group()),
        |_, response| assert_eq!(response.error_code, unknown),
    );
    bench.answers(
        |_| HeartbeatRequest::default().with_group_id(group()),
        |_, response| assert_eq!(response.error_code, unknown),
    );
    bench.answers(
        |version| {
            use leave_group_request::*;
            let request = LeaveGroupRequest::default().with_group_id(group());
            if version < 3 { request } else { request.with_members(vec![MemberIdentity::default()]) }
        },
        |version, response| {
            let code = if version < 3 { response.error_code } else { response.members[0].error_code };
            assert_eq!(code, unknown);
        },
    );
    bench.answers(
        |version| {
            use offset_commit_request::*;
            let partition = OffsetCommitRequestPartition::default()
                .with_committed_offset(5 + i64::from(version))
                .with_committed_metadata(Some(text("note")));
            let topic =
                OffsetCommitRequestTopic::default().with_name(known()).with_partitions(vec![partition]);
            OffsetCommitRequest::default()
                .with_group_id(group())
                .with_generation_id_or_member_epoch(-1)
                .with_topics(vec![topic])
        },
        |_, response| assert_eq!(response.topics[0].partitions[0].error_code, 0),
    );
    bench.answers(
        |version| {
            use offset_fetch_request::*;
            if version < 8 {
                let topic =
                    OffsetFetchRequestTopic::default().with_name(known()).with_partition_indexes(vec![0, 1]);
                return OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic]));
            }
            let group = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(None);
            OffsetFetchRequest::default().with_groups(vec![group])
        },
        |version, response| {
            let offset = if version < 8 {
                assert_eq!(response.topics[0].partitions[1].committed_offset, -1);
                response.topics[0].partitions[0].committed_offset
            } else {
                response.groups[0].topics[0].partitions[0].committed_offset
            };
            assert_eq!(offset, 5 + 9);
        },
    );
    bench.answers(
        |_| DescribeGroupsRequest::default().with_groups(vec![group()]),
        |_, response| assert_eq!(response.groups[0].group_state.as_str(), "Empty"),
    );
    bench.answers(
        |_| ListGroupsRequest::default(),
        |_, response| assert_eq!(response.groups[0].group_id, group()),
    );
    bench.answers(
        |_| {
            use offset_delete_request::*;
            let topic = OffsetDeleteRequestTopic::default()
                .with_name(known())
                .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
            OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![topic])
        },
        |_, response| assert_eq!((response.error_code, response.topics[0].partitions[0].error_code), (0, 0)),
    );
    bench.answers(
        |_| DeleteGroupsRequest::default().with_groups_names(vec![group()]),
        |version, response| {
            let gone = if version == 0 { 0 } else { ResponseError::GroupIdNotFound.code() };
            assert_eq!(response.results[0].error_code, gone);
        },
    );
}

#[test]
fn every_advertised_version_of_topics_and_the_cluster_is_served() {
    let bench = Bench::new();
    bench.answers(
        |_| ApiVersionsRequest::default(),
        |_, response| assert_eq!(response.api_keys.len(), SERVED.len()),
    );
    let id = bench.state.topics.get("known").unwrap().id;
    bench.answers(
        |version| {
            use metadata_request::*;
            let by_name = MetadataRequestTopic::default().with_name(Some(known()));
            let unknown = MetadataRequestTopic::default().with_name(Some(TopicName(text("unknown"))));
            let by_id = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
            let topics = if version < 12 { vec![by_name, unknown] } else { vec![by_name, unknown, by_id] };
            MetadataRequest::default().with_topics(Some(topics))
        },
        |version, response| {
            assert_eq!(response.brokers[0].port, 9092);
            assert_eq!((response.topics[0].error_code, response.topics[0].partitions.len()), (0, 1));
            assert_eq!(response.topics[1].error_code, ResponseError::UnknownTopicOrPartition.code());
            assert!(version < 12 || response.topics[2].name == Some(known()));
        },
    );
    bench.answers(
        |version| {
            use create_topics_request::*;
            let topic = CreatableTopic::default()
                .with_name(TopicName(text(format!("made-{version}"))))
                .with_num_partitions(if version < 4 { 2 } else { -1 })
                .with_replication_factor(1);
            let many = CreatableTopic::default()
                .with_name(TopicName(text("many")))
                .with_num_partitions(1)
                .with_replication_factor(3);
            CreateTopicsRequest::default().with_topics(vec![topic, many])
        },
        |_, response| {
            assert_eq!(response.topics[0].error_code, 0);
            assert_eq!(response.topics[1].error_code, ResponseError::InvalidReplicationFactor.code());
        },
    );
    bench.answers(
        |version| {
            use create_partitions_request::*;
            let topic = CreatePartitionsTopic::default()
                .with_name(known())
                .with_count(2 + i32::from(version))
                .with_assignments(None);
            CreatePartitionsRequest::default().with_topics(vec![topic])
        },
        |_, response| assert_eq!(response.results[0].error_code, 0),
    );
    bench.answers(
        |_| {
            use describe_configs_request::*;
            let topic = |kind, name| {
                DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(None)
            };
            DescribeConfigsRequest::default().with_resources(vec![topic(2, "known"), topic(4, "1")])
        },
        |_, response| {
            assert!(response.results.iter().all(|result| result.error_code == 0 && result.configs.len() > 5));
        },
    );
    bench.answers(
        |_| DescribeClusterRequest::default(),
        |_, response| assert_eq!((response.error_code, response.brokers.len()), (0, 1)),
    );
    bench.answers(
        |version| {
            use delete_topics_request::*;
            let name = TopicName(text(format!("made-{}", version + 1)));
            if version < 6 {
                return DeleteTopicsRequest::default().with_topic_names(vec![name]);
            }
            let by_name = DeleteTopicState::default().with_name(Some(name));
            let by_id = DeleteTopicState::default().with_name(None).with_topic_id(id);
            DeleteTopicsRequest::default().with_topics(vec![by_name, by_id])
        },
        |version, response| assert_eq!(response.responses[0].error_code, 0, "version {version}"),
    );
    assert!(bench.state.topics.get("known").is_none());
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let bench = Bench::new();
    let mut frame = framed(ApiKey::ApiVersions as i16, 3, &ApiVersionsRequest::default()).to_vec();
    frame[2..4].copy_from_slice(&99i16.to_be_bytes());
    let mut answer = bench.send(Bytes::from(frame)).unwrap().unwrap().freeze().slice(4..);
    let head = ResponseHeader::decode(&mut answer, 0).unwrap();
    let response = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!((head.correlation_id, response.error_code), (77, ResponseError::UnsupportedVersion.code()));
    assert!(!response.api_keys.is_empty());
}

#[test]
fn what_is_not_served_is_an_error_not_an_answer() {
    let bench = Bench::new();
    for (key, version) in [(0, 99), (0, 0), (999, 0), (-1, 0), (24, 0)] {
        let mut frame = framed(0, 3, &ProduceRequest::default()).to_vec();
        frame[..2].copy_from_slice(&i16::to_be_bytes(key));
        frame[2..4].copy_from_slice(&i16::to_be_bytes(version));
        let refused = bench.send(Bytes::from(frame));
        assert!(matches!(refused, Err(Malformed::NotServed { .. })), "{key} {version}");
    }
}

#[test]
fn hostile_bytes_neither_panic_nor_take_memory() {
    let bench = Bench::new();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let bytes =
        prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(0xff), any::<u8>()], 0..200);
    let cases = (0..SERVED.len(), 0..20i16, bytes);
    let result = runner.run(&cases, |(which, version, body)| {
        let (key, lowest, highest) = SERVED[which];
        let version = version.clamp(lowest, highest);
        let head = [&(key as i16).to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 77]].concat();
        let _ = bench.send(Bytes::from([head, body].concat()));
        Ok(())
    });
    result.unwrap();
}
