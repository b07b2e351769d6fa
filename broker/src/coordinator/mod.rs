//! Consumer groups: membership (`group.rs`, `rebalance.rs`, `member.rs`) and committed offsets (`offsets.rs`).
//!
//! Memberships are kept in memory only. After a restart of the broker, members are told that they are unknown and join
//! again; what they have committed is still there.

mod group;
mod member;
mod offsets;
mod rebalance;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError;
use tokio::sync::{Notify, oneshot};

pub(crate) use group::State;
pub(crate) use member::{Identity, JoinReply, JoinRequest, SyncReply, SyncRequest};
pub(crate) use offsets::{Committed, OffsetStore};

use group::Group;

/// Groups with members or committed offsets that the broker keeps.
const MAX_GROUPS: usize = 10_000;

/// What the coordinator needs to know of the broker's configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) initial_rebalance_delay: Duration,
    pub(crate) min_session_timeout: Duration,
    pub(crate) max_session_timeout: Duration,
}

/// All groups.
#[derive(Debug)]
pub(crate) struct Coordinator {
    limits: Limits,
    groups: Mutex<HashMap<String, Group>>,
    offsets: Arc<OffsetStore>,
    /// Tells the timer that a deadline may have come nearer.
    rescheduled: Notify,
}

/// What is told about a group.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) state: State,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) members: Vec<DescribedMember>,
}

/// What is told about a member.
#[derive(Debug)]
pub(crate) struct DescribedMember {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) metadata: bytes::Bytes,
    pub(crate) assignment: bytes::Bytes,
}

impl Coordinator {
    pub(crate) fn new(limits: Limits, offsets: OffsetStore) -> Coordinator {
        let groups = Mutex::default();
        Coordinator { limits, groups, offsets: Arc::new(offsets), rescheduled: Notify::new() }
    }

    /// Committed offsets.
    pub(crate) fn offsets(&self) -> &Arc<OffsetStore> {
        &self.offsets
    }

    /// Joins a group; answered when the rebalance that this sets off is through.
    pub(crate) async fn join(&self, group: &str, request: JoinRequest) -> JoinReply {
        let member_id = request.identity.member_id.clone();
        let refuse = |code| Err((code, member_id.clone()));
        if group.is_empty() {
            return refuse(ResponseError::InvalidGroupId);
        }
        let allowed = self.limits.min_session_timeout..=self.limits.max_session_timeout;
        if !allowed.contains(&request.session_timeout) {
            return refuse(ResponseError::InvalidSessionTimeout);
        }
        let (reply, answer) = oneshot::channel();
        {
            let mut groups = self.groups();
            if !groups.contains_key(group) {
                if !member_id.is_empty() {
                    return refuse(ResponseError::UnknownMemberId);
                }
                if groups.len() >= MAX_GROUPS {
                    groups.retain(|_, group| !group.is_idle());
                }
                if groups.len() >= MAX_GROUPS {
                    return refuse(ResponseError::GroupMaxSizeReached);
                }
            }
            let delay = self.limits.initial_rebalance_delay;
            let group = groups.entry(group.to_owned()).or_insert_with(|| Group::new(delay));
            group.join(request, reply, Instant::now());
        }
        self.rescheduled.notify_one();
        answer.await.unwrap_or_else(|_| refuse(ResponseError::UnknownMemberId))
    }

    /// Gets a member's assignment; answered when the leader has sent it.
    pub(crate) async fn sync(&self, group: &str, request: SyncRequest) -> SyncReply {
        let (reply, answer) = oneshot::channel();
        self.with(group, |group| group.sync(request, reply, Instant::now()))?;
        self.rescheduled.notify_one();
        answer.await.unwrap_or(Err(ResponseError::UnknownMemberId))
    }

    /// Keeps a member's session alive.
    pub(crate) fn heartbeat(
        &self,
        group: &str,
        identity: &Identity,
        generation: i32,
    ) -> Result<(), ResponseError> {
        self.with(group, |group| group.heartbeat(identity, generation, Instant::now()))?
    }

    /// Takes a member out of a group.
    pub(crate) fn leave(&self, group: &str, identity: &Identity) -> Result<(), ResponseError> {
        let left = self.with(group, |group| group.leave(identity, Instant::now()))?;
        self.rescheduled.notify_one();
        left
    }

    /// Whether offsets may be committed by this member, or by nobody in particular (generation -1).
    pub(crate) fn check_commit(
        &self,
        group: &str,
        identity: &Identity,
        generation: i32,
    ) -> Result<(), ResponseError> {
        if group.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        let checked = self.with(group, |group| group.check_commit(identity, generation, Instant::now()));
        match checked {
            Ok(checked) => checked?,
            Err(_) if generation < 0 => {}
            Err(_) => return Err(ResponseError::IllegalGeneration),
        }
        if self.offsets.of_group(group).is_none() && self.offsets.group_count() >= MAX_GROUPS {
            return Err(ResponseError::GroupMaxSizeReached);
        }
        Ok(())
    }

    /// What is known of a group; `None` if there is no such group.
    pub(crate) fn describe(&self, name: &str) -> Option<Described> {
        let groups = self.groups();
        let Some(group) = groups.get(name) else {
            let (protocol_type, protocol) = (String::new(), String::new());
            let state = State::Empty;
            let described = Described { state, protocol_type, protocol, members: Vec::new() };
            return self.offsets.of_group(name).map(|_| described);
        };
        let protocol = group.protocol.clone().unwrap_or_default();
        let members = group.members.iter().map(|(id, member)| DescribedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: member.metadata(&protocol),
            assignment: member.assignment.clone(),
        });
        Some(Described {
            state: group.state,
            protocol_type: group.protocol_type.clone(),
            members: members.collect(),
            protocol,
        })
    }

    /// Names of all groups, with members or with offsets only.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = self.offsets.groups();
        names.extend(self.groups().keys().cloned());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Forgets a group without members. Blocks on the disk.
    pub(crate) fn delete(&self, name: &str) -> Result<(), ResponseError> {
        let mut groups = self.groups();
        let known = groups.contains_key(name) || self.offsets.of_group(name).is_some();
        if !known {
            return Err(ResponseError::GroupIdNotFound);
        }
        if groups.get(name).is_some_and(|group| !group.is_idle()) {
            return Err(ResponseError::NonEmptyGroup);
        }
        groups.remove(name);
        self.offsets.forget_group(name).map_err(|error| storage_failed(&error))
    }

    /// Ends sessions and rebalances when their time is up; runs for as long as the broker.
    pub(crate) async fn keep_time(&self) {
        loop {
            let next = self.groups().values().filter_map(Group::next_deadline).min();
            let sleep = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.rescheduled.notified() => {}
            }
            let now = Instant::now();
            self.groups().values_mut().for_each(|group| group.on_time(now));
        }
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut Group) -> T) -> Result<T, ResponseError> {
        self.groups().get_mut(name).map(act).ok_or(ResponseError::UnknownMemberId)
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<String, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the log what went wrong, and the client that something did.
pub(crate) fn storage_failed(error: &io::Error) -> ResponseError {
    tracing::error!(%error, "storage failed");
    ResponseError::KafkaStorageError
}
