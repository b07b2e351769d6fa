//! How a group gets from one generation to the next.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::group::{Group, State};
use super::member::{Joined, Member, Synced};

/// Least time that members get for joining again, whatever they ask for: the wait must end, but not at once.
const SHORTEST_REBALANCE: Duration = Duration::from_millis(100);

impl Group {
    pub(super) fn prepare_rebalance(&mut self, now: Instant) {
        match self.state {
            State::PreparingRebalance => {}
            State::Empty => {
                self.initial = true;
                self.rebalance_until = Some(now + self.initial_delay);
            }
            State::CompletingRebalance | State::Stable => {
                for member in self.members.values_mut() {
                    if let Some(reply) = member.syncing.take() {
                        let _ = reply.send(Err(ResponseError::RebalanceInProgress));
                        member.deadline = now + member.session_timeout;
                    }
                }
                self.initial = false;
                self.rebalance_until = Some(now + self.longest_rebalance());
            }
        }
        self.state = State::PreparingRebalance;
        self.complete_if_all_joined(now);
    }

    pub(super) fn complete_if_all_joined(&mut self, now: Instant) {
        let all = self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some());
        let waits = self.initial && self.rebalance_until.is_some_and(|until| until > now);
        if self.state == State::PreparingRebalance && all && (!waits || self.members.is_empty()) {
            self.complete_join(now);
        }
    }

    /// Begins the next generation with those who joined.
    pub(super) fn complete_join(&mut self, now: Instant) {
        // A static member may be restarting; it stays until its session times out.
        self.members.retain(|_, member| member.joining.is_some() || member.instance_id.is_some());
        self.initial = false;
        let joined = |member: &Member| member.joining.is_some();
        if !self.members.is_empty() && !self.members.values().any(joined) {
            self.rebalance_until = Some(now + self.longest_rebalance());
            return;
        }
        self.generation += 1;
        if self.members.is_empty() {
            self.state = State::Empty;
            (self.protocol, self.leader, self.rebalance_until) = (None, None, None);
            return;
        }
        let leads = |id: &String| self.members.get(id).is_some_and(joined);
        if !self.leader.as_ref().is_some_and(leads) {
            self.leader = self.members.iter().find(|(_, member)| joined(member)).map(|(id, _)| id.clone());
        }
        self.protocol = self.select_protocol();
        self.state = State::CompletingRebalance;
        self.rebalance_until = Some(now + self.longest_rebalance());
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id);
            let member = self.members.get_mut(&id).expect("a member");
            member.assignment = Bytes::new();
            if let Some(reply) = member.joining.take() {
                member.deadline = now + member.session_timeout;
                let _ = reply.send(Ok(answer));
            }
        }
    }

    /// The leader or others did not follow up on their join: without them, once more.
    pub(super) fn remove_unsynced(&mut self, now: Instant) {
        let missing = self.members.iter().filter(|(_, member)| member.syncing.is_none());
        let missing: Vec<String> = missing.map(|(id, _)| id.clone()).collect();
        self.rebalance_until = None;
        for id in missing {
            self.remove(&id, now);
        }
    }

    pub(super) fn answer_syncs(&mut self, now: Instant) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.synced(&id);
            let member = self.members.get_mut(&id).expect("a member");
            if let Some(reply) = member.syncing.take() {
                member.deadline = now + member.session_timeout;
                let _ = reply.send(Ok(answer));
            }
        }
    }

    /// The protocol that all support and most prefer.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let members: Vec<&Member> = self.members.values().collect();
        let common = |name: &str| members.iter().all(|member| member.supports(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in &members {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    fn longest_rebalance(&self) -> Duration {
        self.members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default()
            .max(SHORTEST_REBALANCE)
    }

    pub(super) fn joined(&self, member_id: &str) -> Joined {
        let leads = self.leader.as_deref() == Some(member_id);
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = if leads { self.members.iter() } else { Default::default() };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.to_owned(),
            members: members.map(|(id, member)| member.seen_by_leader(id, &protocol)).collect(),
            protocol,
            skip_assignment: false,
        }
    }

    pub(super) fn synced(&self, member_id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: self
                .members
                .get(member_id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }
}
