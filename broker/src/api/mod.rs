//! The requests that the broker serves: one file per family.
//!
//! ```text
//! frame --check layout--> header + request --handler--> response --encode--> frame
//! ```
//!
//! Handlers never fail as a whole: what goes wrong is a code in the response, as the protocol has it. Only a request that
//! cannot be understood ends its connection.

mod admin;
mod commits;
mod fetch;
mod groups;
mod metadata;
mod offsets;
mod produce;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::sync::OwnedSemaphorePermit;

use crate::state::State;
use crate::wire::layout::{self, LayoutError};

/// The id of the only node.
pub(crate) const NODE_ID: i32 = 1;

/// What is served, with the lowest and highest version. The lowest are those that Kafka 4 serves (KIP-896) or older.
/// The highest leave out what later versions added and this broker has not: topic ids in Produce and OffsetCommit,
/// tiered storage in ListOffsets, two-phase commit in InitProducerId, the new group protocol.
pub(crate) const SERVED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 12),
    (ApiKey::Fetch, 4, 16),
    (ApiKey::ListOffsets, 1, 7),
    (ApiKey::Metadata, 0, 12),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 4),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeCluster, 0, 2),
];

/// What a handler needs to know of the connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// The broker's address that the client is told to use: the one it has reached, unless configured.
    pub(crate) advertised: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// A request that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("request type {key} in version {version} is not served")]
    NotServed { key: i16, version: i16 },
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("{0}")]
    Codec(String),
}

/// One request with what belongs to it.
struct Call<'a> {
    state: &'a Arc<State>,
    peer: Peer,
    version: i16,
    correlation_id: i32,
    client_id: String,
    body: Bytes,
    /// Held until the answer is whole, by a call that reads records.
    reading: OnceLock<OwnedSemaphorePermit>,
}

/// Serves one request; `None` if the client wants no answer.
pub(crate) async fn serve(
    state: &Arc<State>,
    peer: Peer,
    frame: Bytes,
) -> Result<Option<BytesMut>, Malformed> {
    let [k0, k1, v0, v1, c0, c1, c2, c3] = *frame.first_chunk().ok_or(LayoutError::Short)?;
    let (key, version) = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
    let served = ApiKey::try_from(key).ok().and_then(|api| SERVED.iter().find(|(served, ..)| *served == api));
    let Some(&(api, lowest, highest)) = served else { return Err(Malformed::NotServed { key, version }) };
    if !(lowest..=highest).contains(&version) {
        // A client begins by asking for the versions in the newest version that it knows itself. It learns from the
        // answer, in the oldest version, which one to ask in.
        if api == ApiKey::ApiVersions {
            let correlation_id = i32::from_be_bytes([c0, c1, c2, c3]);
            let answer = api_versions().with_error_code(ResponseError::UnsupportedVersion.code());
            return encode(correlation_id, 0, &answer).map(Some);
        }
        return Err(Malformed::NotServed { key, version });
    }
    layout::check(api, version, &frame)?;
    let mut body = frame;
    let header = RequestHeader::decode(&mut body, api.request_header_version(version)).map_err(codec)?;
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    let correlation_id = header.correlation_id;
    let reading = OnceLock::new();
    Call { state, peer, version, correlation_id, client_id, body, reading }.dispatch(api).await
}

impl Call<'_> {
    async fn dispatch(&self, api: ApiKey) -> Result<Option<BytesMut>, Malformed> {
        match api {
            ApiKey::Produce => match produce::produce(self, self.request()?).await {
                Some(response) => self.reply(response),
                None => Ok(None),
            },
            ApiKey::Fetch => self.reply(fetch::fetch(self, self.request()?).await),
            ApiKey::ListOffsets => self.reply(offsets::list_offsets(self, self.request()?).await),
            ApiKey::Metadata => self.reply(metadata::metadata(self, self.request()?).await),
            ApiKey::DescribeCluster => self.reply(metadata::describe_cluster(self, self.request()?)),
            ApiKey::OffsetCommit => self.reply(commits::offset_commit(self, self.request()?).await),
            ApiKey::OffsetFetch => self.reply(commits::offset_fetch(self, self.request()?)),
            ApiKey::OffsetDelete => self.reply(commits::offset_delete(self, self.request()?).await),
            ApiKey::FindCoordinator => self.reply(groups::find_coordinator(self, self.request()?)),
            ApiKey::JoinGroup => self.reply(groups::join_group(self, self.request()?).await),
            ApiKey::SyncGroup => self.reply(groups::sync_group(self, self.request()?).await),
            ApiKey::Heartbeat => self.reply(groups::heartbeat(self, self.request()?)),
            ApiKey::LeaveGroup => self.reply(groups::leave_group(self, self.request()?)),
            ApiKey::DescribeGroups => self.reply(groups::describe_groups(self, self.request()?)),
            ApiKey::ListGroups => self.reply(groups::list_groups(self, self.request()?)),
            ApiKey::DeleteGroups => self.reply(groups::delete_groups(self, self.request()?).await),
            ApiKey::CreateTopics => self.reply(admin::create_topics(self, self.request()?).await),
            ApiKey::DeleteTopics => self.reply(admin::delete_topics(self, self.request()?).await),
            ApiKey::CreatePartitions => self.reply(admin::create_partitions(self, self.request()?).await),
            ApiKey::DescribeConfigs => self.reply(admin::describe_configs(self, self.request()?)),
            ApiKey::InitProducerId => self.reply(produce::init_producer_id(self, self.request()?).await),
            ApiKey::ApiVersions => self.reply(api_versions()),
            _ => Err(Malformed::NotServed { key: api as i16, version: self.version }),
        }
    }

    fn request<R: Decodable>(&self) -> Result<R, Malformed> {
        R::decode(&mut self.body.clone(), self.version).map_err(codec)
    }

    fn reply<R: Encodable + HeaderVersion>(&self, response: R) -> Result<Option<BytesMut>, Malformed> {
        encode(self.correlation_id, self.version, &response).map(Some)
    }
}

fn encode<R: Encodable + HeaderVersion>(
    correlation_id: i32,
    version: i16,
    response: &R,
) -> Result<BytesMut, Malformed> {
    // The size is computed first, so that fetched records are copied into their final place once.
    const HEAD: usize = 4 + 4 + 1;
    let size = response.compute_size(version).map_err(codec)?;
    let mut frame = BytesMut::with_capacity(HEAD + size);
    frame.extend_from_slice(&[0; 4]);
    ResponseHeader::default()
        .with_correlation_id(correlation_id)
        .encode(&mut frame, R::header_version(version))
        .map_err(codec)?;
    response.encode(&mut frame, version).map_err(codec)?;
    let len = i32::try_from(frame.len() - 4).map_err(|_| Malformed::Codec("response too large".into()))?;
    frame[..4].copy_from_slice(&len.to_be_bytes());
    Ok(frame)
}

fn api_versions() -> ApiVersionsResponse {
    let versions = SERVED.iter().map(|&(key, lowest, highest)| {
        ApiVersion::default().with_api_key(key as i16).with_min_version(lowest).with_max_version(highest)
    });
    ApiVersionsResponse::default().with_api_keys(versions.collect())
}

fn codec(error: impl std::fmt::Display) -> Malformed {
    Malformed::Codec(error.to_string())
}

/// Does work that may wait for the disk where it holds up nobody else.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ResponseError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a request failed");
        ResponseError::UnknownServerError
    })
}

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// The code of a result, 0 for success.
fn code<T>(result: &Result<T, ResponseError>) -> i16 {
    result.as_ref().err().map_or(0, ResponseError::code)
}

#[cfg(test)]
mod tests;
