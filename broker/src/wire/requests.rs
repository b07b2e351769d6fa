//! The layout of each request that the broker serves, in all versions that it serves; from the message definitions of
//! Apache Kafka (`clients/src/main/resources/common/message`). Tagged fields need no mention: they name their length.

use kafka_protocol::messages::ApiKey;

use super::layout::Field;
use super::layout::Kind::{self, Bytes, Fixed, String, Structs, Values};

const BOOL: Kind = Fixed(1);
const INT8: Kind = Fixed(1);
const INT16: Kind = Fixed(2);
const INT32: Kind = Fixed(4);
const INT64: Kind = Fixed(8);
const UUID: Kind = Fixed(16);

const fn all(kind: Kind) -> Field {
    since(0, kind)
}

const fn since(since: i16, kind: Kind) -> Field {
    between(since, i16::MAX, kind)
}

const fn until(until: i16, kind: Kind) -> Field {
    between(0, until, kind)
}

const fn between(since: i16, until: i16, kind: Kind) -> Field {
    Field { since, until, kind }
}

/// The fields of a request; none for one that is not served.
pub(super) fn layout(key: ApiKey) -> &'static [Field] {
    match key {
        ApiKey::Produce => PRODUCE,
        ApiKey::Fetch => FETCH,
        ApiKey::ListOffsets => LIST_OFFSETS,
        ApiKey::Metadata => METADATA,
        ApiKey::OffsetCommit => OFFSET_COMMIT,
        ApiKey::OffsetFetch => OFFSET_FETCH,
        ApiKey::FindCoordinator => FIND_COORDINATOR,
        ApiKey::JoinGroup => JOIN_GROUP,
        ApiKey::SyncGroup => SYNC_GROUP,
        ApiKey::Heartbeat => HEARTBEAT,
        ApiKey::LeaveGroup => LEAVE_GROUP,
        ApiKey::DescribeGroups => DESCRIBE_GROUPS,
        ApiKey::ListGroups => LIST_GROUPS,
        ApiKey::DeleteGroups => DELETE_GROUPS,
        ApiKey::OffsetDelete => OFFSET_DELETE,
        ApiKey::ApiVersions => API_VERSIONS,
        ApiKey::CreateTopics => CREATE_TOPICS,
        ApiKey::DeleteTopics => DELETE_TOPICS,
        ApiKey::CreatePartitions => CREATE_PARTITIONS,
        ApiKey::InitProducerId => INIT_PRODUCER_ID,
        ApiKey::DescribeConfigs => DESCRIBE_CONFIGS,
        ApiKey::DescribeCluster => DESCRIBE_CLUSTER,
        _ => &[],
    }
}

const PRODUCE: &[Field] = &[
    all(String),
    all(INT16),
    all(INT32),
    all(Structs(&[all(String), all(Structs(&[all(INT32), all(Bytes)]))])),
];

const FETCH: &[Field] = &[
    until(14, INT32),
    all(INT32),
    all(INT32),
    all(INT32),
    all(INT8),
    since(7, INT32),
    since(7, INT32),
    all(Structs(&[
        until(12, String),
        since(13, UUID),
        all(Structs(&[
            all(INT32),
            since(9, INT32),
            all(INT64),
            since(12, INT32),
            since(5, INT64),
            all(INT32),
        ])),
    ])),
    since(7, Structs(&[until(12, String), since(13, UUID), all(Values(&INT32))])),
    since(11, String),
];

const LIST_OFFSETS: &[Field] = &[
    all(INT32),
    since(2, INT8),
    all(Structs(&[all(String), all(Structs(&[all(INT32), since(4, INT32), all(INT64)]))])),
];

const METADATA: &[Field] =
    &[all(Structs(&[since(10, UUID), all(String)])), since(4, BOOL), between(8, 10, BOOL), since(8, BOOL)];

const OFFSET_COMMIT: &[Field] = &[
    all(String),
    all(INT32),
    all(String),
    since(7, String),
    until(4, INT64),
    all(Structs(&[all(String), all(Structs(&[all(INT32), all(INT64), since(6, INT32), all(String)]))])),
];

const OFFSET_FETCH: &[Field] = &[
    until(7, String),
    until(7, Structs(&[all(String), all(Values(&INT32))])),
    since(
        8,
        Structs(&[
            all(String),
            since(9, String),
            since(9, INT32),
            all(Structs(&[all(String), all(Values(&INT32))])),
        ]),
    ),
    since(7, BOOL),
];

const JOIN_GROUP: &[Field] = &[
    all(String),
    all(INT32),
    since(1, INT32),
    all(String),
    since(5, String),
    all(String),
    all(Structs(&[all(String), all(Bytes)])),
    since(8, String),
];

const SYNC_GROUP: &[Field] = &[
    all(String),
    all(INT32),
    all(String),
    since(3, String),
    since(5, String),
    since(5, String),
    all(Structs(&[all(String), all(Bytes)])),
];

const CREATE_TOPICS: &[Field] = &[
    all(Structs(&[
        all(String),
        all(INT32),
        all(INT16),
        all(Structs(&[all(INT32), all(Values(&INT32))])),
        all(Structs(&[all(String), all(String)])),
    ])),
    all(INT32),
    all(BOOL),
];

const CREATE_PARTITIONS: &[Field] =
    &[all(Structs(&[all(String), all(INT32), all(Structs(&[all(Values(&INT32))]))])), all(INT32), all(BOOL)];

const FIND_COORDINATOR: &[Field] = &[until(3, String), since(1, INT8), since(4, Values(&String))];

const HEARTBEAT: &[Field] = &[all(String), all(INT32), all(String), since(3, String)];

const LEAVE_GROUP: &[Field] =
    &[all(String), until(2, String), since(3, Structs(&[all(String), all(String), since(5, String)]))];

const DESCRIBE_GROUPS: &[Field] = &[all(Values(&String)), since(3, BOOL)];

const LIST_GROUPS: &[Field] = &[since(4, Values(&String)), since(5, Values(&String))];

const DELETE_GROUPS: &[Field] = &[all(Values(&String))];

const OFFSET_DELETE: &[Field] = &[all(String), all(Structs(&[all(String), all(Structs(&[all(INT32)]))]))];

const API_VERSIONS: &[Field] = &[since(3, String), since(3, String)];

const DELETE_TOPICS: &[Field] =
    &[since(6, Structs(&[all(String), all(UUID)])), until(5, Values(&String)), all(INT32)];

const INIT_PRODUCER_ID: &[Field] = &[all(String), all(INT32), since(3, INT64), since(3, INT16)];

const DESCRIBE_CONFIGS: &[Field] =
    &[all(Structs(&[all(INT8), all(String), all(Values(&String))])), all(BOOL), since(3, BOOL)];

const DESCRIBE_CLUSTER: &[Field] = &[all(BOOL), since(1, INT8), since(2, BOOL)];
