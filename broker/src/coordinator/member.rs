//! A member of a group, and what it is asked and answered.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;

/// How a member names itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    /// Given out by the coordinator; empty for who has none yet.
    pub(crate) member_id: String,
    /// `group.instance.id`: makes the member static, so that it can restart without a rebalance.
    pub(crate) instance_id: Option<String>,
}

/// A JoinGroup request.
#[derive(Debug)]
pub(crate) struct JoinRequest {
    pub(crate) identity: Identity,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocol_type: String,
    /// Assignment strategies by preference, with what the leader needs to know for each.
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// Whether the client can be sent away to come back with a member id (request version 4).
    pub(crate) takes_member_id: bool,
    /// Whether a leader can be told not to assign (request version 9).
    pub(crate) skips_assignment: bool,
}

/// The answer to a join: a generation, or a code with the member id to use.
pub(crate) type JoinReply = Result<Joined, (ResponseError, String)>;

/// A place in a generation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) leader: String,
    pub(crate) member_id: String,
    /// Everybody, for the leader; empty for the others.
    pub(crate) members: Vec<SeenByLeader>,
    pub(crate) skip_assignment: bool,
}

/// What the leader needs to know of a member.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SeenByLeader {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) metadata: Bytes,
}

/// A SyncGroup request.
#[derive(Debug, Default)]
pub(crate) struct SyncRequest {
    pub(crate) identity: Identity,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    /// From the leader: everybody's assignment.
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// The answer to a sync.
pub(crate) type SyncReply = Result<Synced, ResponseError>;

/// A member's assignment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) assignment: Bytes,
}

/// A member of a group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    /// When its session times out, unless it is waiting for an answer.
    pub(crate) deadline: Instant,
    pub(crate) joining: Option<oneshot::Sender<JoinReply>>,
    pub(crate) syncing: Option<oneshot::Sender<SyncReply>>,
}

impl Member {
    /// A member whose join waits for the others.
    pub(crate) fn new(request: JoinRequest, reply: oneshot::Sender<JoinReply>, now: Instant) -> Member {
        Member {
            instance_id: request.identity.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout: request.session_timeout,
            rebalance_timeout: request.rebalance_timeout,
            protocols: request.protocols,
            assignment: Bytes::new(),
            deadline: now + request.session_timeout,
            joining: Some(reply),
            syncing: None,
        }
    }

    /// Takes over what a later join says.
    pub(crate) fn update(&mut self, request: JoinRequest, now: Instant) {
        self.client_id = request.client_id;
        self.client_host = request.client_host;
        self.session_timeout = request.session_timeout;
        self.rebalance_timeout = request.rebalance_timeout;
        self.protocols = request.protocols;
        self.deadline = now + self.session_timeout;
    }

    /// Tells whoever waits under the old member id that somebody else has its instance id now.
    pub(crate) fn fence(&mut self) {
        if let Some(reply) = self.joining.take() {
            let _ = reply.send(Err((ResponseError::FencedInstanceId, String::new())));
        }
        if let Some(reply) = self.syncing.take() {
            let _ = reply.send(Err(ResponseError::FencedInstanceId));
        }
    }

    /// A member that waits for our answer cannot send heartbeats, and is taken to be alive while its connection is.
    pub(crate) fn is_waiting(&self) -> bool {
        self.joining.as_ref().is_some_and(|reply| !reply.is_closed())
            || self.syncing.as_ref().is_some_and(|reply| !reply.is_closed())
    }

    /// Whether it knows this assignment strategy.
    pub(crate) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// What it told about itself for this strategy.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let known = self.protocols.iter().find(|(name, _)| name == protocol);
        known.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    pub(crate) fn seen_by_leader(&self, member_id: &str, protocol: &str) -> SeenByLeader {
        SeenByLeader {
            member_id: member_id.to_owned(),
            instance_id: self.instance_id.clone(),
            metadata: self.metadata(protocol),
        }
    }
}
