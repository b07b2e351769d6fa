//! One consumer group: who is in it, and how its members agree on who reads what (Kafka's classic protocol).
//!
//! ```text
//!            first member joins             all (re)joined, or time is up
//!   Empty ----------------------> Preparing ----------------------> Completing
//!     ^                            ^     ^                              | leader sends the assignment
//!     | last member gone           |     | somebody joins or leaves     v
//!     +----------------------------+     +--------------------------- Stable
//! ```
//!
//! The members' JoinGroup requests are held back while the group prepares, then all are answered at once with a new
//! *generation*; the leader among them computes the assignment (the broker never looks into it), and the SyncGroup
//! requests are held back until the leader has sent it.
//!
//! No I/O, no clock: the time comes in as an argument, the answers leave through channels. `on_time` must be called
//! at [`Group::next_deadline`].

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::member::{Identity, JoinReply, JoinRequest, Member, SyncReply, SyncRequest};

/// Members that a group may have, those that are about to join included.
const MAX_MEMBERS: usize = 1_000;

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody is in it; there may be committed offsets.
    Empty,
    /// Waiting for the members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member knows its assignment.
    Stable,
}

impl State {
    /// Kafka's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// A consumer group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) state: State,
    pub(crate) generation: i32,
    pub(crate) protocol_type: String,
    /// Name of the assignment strategy that the members agreed on.
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    /// Member ids of static members by `group.instance.id`.
    instances: HashMap<String, String>,
    /// Ids that were given out and not used yet, until when they may be.
    pub(super) pending: HashMap<String, Instant>,
    pub(super) initial_delay: Duration,
    /// Until when the group waits for joins or for the assignment.
    pub(super) rebalance_until: Option<Instant>,
    /// Whether it waits for the whole of that time, because the group was empty and others may come.
    pub(super) initial: bool,
}

impl Group {
    /// A group without members.
    pub(crate) fn new(initial_delay: Duration) -> Group {
        Group {
            state: State::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            pending: HashMap::new(),
            initial_delay,
            rebalance_until: None,
            initial: false,
        }
    }

    /// Whether it has neither members nor any about to join.
    pub(crate) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    /// A member joins or joins again; `reply` is answered now or when the rebalance is through.
    pub(crate) fn join(&mut self, request: JoinRequest, reply: oneshot::Sender<JoinReply>, now: Instant) {
        if let Err((reply, code, member_id)) = self.try_join(request, reply, now) {
            let _ = reply.send(Err((code, member_id)));
        }
    }

    fn try_join(
        &mut self,
        request: JoinRequest,
        reply: oneshot::Sender<JoinReply>,
        now: Instant,
    ) -> Result<(), (oneshot::Sender<JoinReply>, ResponseError, String)> {
        let id = request.identity.member_id.clone();
        if !self.agrees_with(&request) {
            return Err((reply, ResponseError::InconsistentGroupProtocol, id));
        }
        if !id.is_empty() {
            if self.pending.remove(&id).is_some() {
                self.add(id, request, reply, now);
            } else if let Err(code) = self.check_identity(&request.identity) {
                return Err((reply, code, id));
            } else {
                self.rejoin(&id, request, reply, now);
            }
            return Ok(());
        }
        let id = format!("{}-{}", request.client_id, Uuid::new_v4());
        if let Some(instance) = &request.identity.instance_id {
            match self.instances.get(instance).cloned() {
                Some(old) => self.replace(&old, id, request, reply, now),
                None if self.is_full() => {
                    return Err((reply, ResponseError::GroupMaxSizeReached, String::new()));
                }
                None => self.add(id, request, reply, now),
            }
        } else if self.is_full() {
            return Err((reply, ResponseError::GroupMaxSizeReached, String::new()));
        } else if request.takes_member_id {
            // Giving out the id first means that a client that retries does not leave a ghost behind (KIP-394).
            self.pending.insert(id.clone(), now + request.session_timeout);
            return Err((reply, ResponseError::MemberIdRequired, id));
        } else {
            self.add(id, request, reply, now);
        }
        Ok(())
    }

    /// A member asks for its assignment; the leader brings everybody's.
    pub(crate) fn sync(&mut self, request: SyncRequest, reply: oneshot::Sender<SyncReply>, now: Instant) {
        if let Err(code) = self.check_sync(&request) {
            let _ = reply.send(Err(code));
            return;
        }
        let id = &request.identity.member_id;
        let member = self.members.get_mut(id).expect("a checked member");
        member.deadline = now + member.session_timeout;
        if self.state == State::Stable {
            let _ = reply.send(Ok(self.synced(id)));
            return;
        }
        member.syncing = Some(reply);
        if self.leader.as_deref() == Some(id) {
            for (member, assignment) in request.assignments {
                if let Some(member) = self.members.get_mut(&member) {
                    member.assignment = assignment;
                }
            }
            self.state = State::Stable;
            self.rebalance_until = None;
            self.answer_syncs(now);
        }
    }

    /// A member is alive. `RebalanceInProgress` tells it to join again.
    pub(crate) fn heartbeat(
        &mut self,
        identity: &Identity,
        generation: i32,
        now: Instant,
    ) -> Result<(), ResponseError> {
        self.check_identity(identity)?;
        self.check_generation(generation)?;
        self.touch(&identity.member_id, now);
        match self.state {
            State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Whether this member may commit offsets now.
    pub(crate) fn check_commit(
        &mut self,
        identity: &Identity,
        generation: i32,
        now: Instant,
    ) -> Result<(), ResponseError> {
        if generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        self.check_identity(identity)?;
        self.check_generation(generation)?;
        self.touch(&identity.member_id, now);
        match self.state {
            State::CompletingRebalance => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// A member leaves; a static one may be named by its instance id alone.
    pub(crate) fn leave(&mut self, identity: &Identity, now: Instant) -> Result<(), ResponseError> {
        if self.pending.remove(&identity.member_id).is_some() {
            self.complete_if_all_joined(now);
            return Ok(());
        }
        let member_id = match &identity.instance_id {
            Some(instance) if identity.member_id.is_empty() => {
                self.instances.get(instance).cloned().ok_or(ResponseError::UnknownMemberId)?
            }
            _ => {
                self.check_identity(identity)?;
                identity.member_id.clone()
            }
        };
        self.remove(&member_id, now);
        Ok(())
    }

    /// When something happens by itself next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let sessions =
            self.members.values().filter(|member| !member.is_waiting()).map(|member| member.deadline);
        sessions.chain(self.pending.values().copied()).chain(self.rebalance_until).min()
    }

    /// Removes members whose session timed out and ends waits whose time is up.
    pub(crate) fn on_time(&mut self, now: Instant) {
        self.pending.retain(|_, until| *until > now);
        let expired: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| !member.is_waiting() && member.deadline <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for member_id in expired {
            tracing::info!(member_id, "group member's session timed out");
            self.remove(&member_id, now);
        }
        self.complete_if_all_joined(now);
        if self.rebalance_until.is_some_and(|until| until <= now) {
            match self.state {
                State::PreparingRebalance => self.complete_join(now),
                State::CompletingRebalance => self.remove_unsynced(now),
                State::Empty | State::Stable => self.rebalance_until = None,
            }
        }
    }

    /// Whether a member with these protocols can be in the group together with the others.
    fn agrees_with(&self, request: &JoinRequest) -> bool {
        let others = self.members.iter().filter(|(id, member)| {
            **id != request.identity.member_id
                && (member.instance_id.is_none() || member.instance_id != request.identity.instance_id)
        });
        let mut others = others.map(|(_, member)| member).peekable();
        if request.protocol_type.is_empty() || request.protocols.is_empty() {
            return false;
        }
        if others.peek().is_none() {
            return true;
        }
        let others: Vec<&Member> = others.collect();
        request.protocol_type == self.protocol_type
            && request.protocols.iter().any(|(name, _)| others.iter().all(|other| other.supports(name)))
    }

    fn is_full(&self) -> bool {
        self.members.len() + self.pending.len() >= MAX_MEMBERS
    }

    fn check_identity(&self, identity: &Identity) -> Result<(), ResponseError> {
        if let Some(instance) = &identity.instance_id {
            match self.instances.get(instance) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(member_id) if *member_id != identity.member_id => {
                    return Err(ResponseError::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(&identity.member_id) {
            Ok(())
        } else {
            Err(ResponseError::UnknownMemberId)
        }
    }

    fn check_generation(&self, generation: i32) -> Result<(), ResponseError> {
        if generation == self.generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), ResponseError> {
        self.check_identity(&request.identity)?;
        self.check_generation(request.generation)?;
        let differs = |asked: &Option<String>, is: Option<&str>| {
            asked.as_deref().is_some_and(|asked| is.is_none_or(|is| is != asked))
        };
        if differs(&request.protocol_type, Some(&self.protocol_type))
            || differs(&request.protocol, self.protocol.as_deref())
        {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => Err(ResponseError::UnknownMemberId),
            State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    fn touch(&mut self, member_id: &str, now: Instant) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.deadline = now + member.session_timeout;
        }
    }

    fn add(&mut self, id: String, request: JoinRequest, reply: oneshot::Sender<JoinReply>, now: Instant) {
        if let Some(instance) = &request.identity.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.protocol_type = request.protocol_type.clone();
        self.members.insert(id, Member::new(request, reply, now));
        self.prepare_rebalance(now);
    }

    fn rejoin(&mut self, id: &str, request: JoinRequest, reply: oneshot::Sender<JoinReply>, now: Instant) {
        let leads = self.leader.as_deref() == Some(id);
        let member = self.members.get_mut(id).expect("a checked member");
        let same = member.protocols == request.protocols;
        member.update(request, now);
        let unchanged = match self.state {
            // It did not get our answer the first time.
            State::CompletingRebalance => same,
            // The leader joins again to have everybody reassigned, say because a topic has grown.
            State::Stable => same && !leads,
            State::Empty | State::PreparingRebalance => false,
        };
        if unchanged {
            let _ = reply.send(Ok(self.joined(id)));
            return;
        }
        self.members.get_mut(id).expect("a checked member").joining = Some(reply);
        self.prepare_rebalance(now);
    }

    /// A static member came back without its member id: it gets a new one, and whoever uses the old one is fenced.
    fn replace(
        &mut self,
        old: &str,
        id: String,
        request: JoinRequest,
        reply: oneshot::Sender<JoinReply>,
        now: Instant,
    ) {
        let mut member = self.members.remove(old).expect("instances name members");
        member.fence();
        let skips_assignment = request.skips_assignment;
        if let Some(instance) = &request.identity.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        member.update(request, now);
        self.members.insert(id.clone(), member);
        let led = self.leader.as_deref() == Some(old);
        if led {
            self.leader = Some(id.clone());
        }
        if self.state == State::Stable && self.select_protocol() == self.protocol {
            // It goes on with the assignment it had: that is what static membership is for (KIP-345).
            let mut joined = self.joined(&id);
            if led && skips_assignment {
                joined.skip_assignment = true;
            } else if led {
                // An older client that is told it leads would assign; as a follower it takes what there is.
                joined.leader = old.to_owned();
                joined.members.clear();
            }
            let _ = reply.send(Ok(joined));
            return;
        }
        self.members.get_mut(&id).expect("just inserted").joining = Some(reply);
        self.prepare_rebalance(now);
    }

    pub(super) fn remove(&mut self, member_id: &str, now: Instant) {
        let Some(member) = self.members.remove(member_id) else { return };
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        if self.leader.as_deref() == Some(member_id) {
            self.leader = None;
        }
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(now),
            State::PreparingRebalance => self.complete_if_all_joined(now),
            State::Empty => {}
        }
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
