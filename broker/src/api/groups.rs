//! Membership of groups: from the wire to the coordinator and back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    BrokerId, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, GroupId, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest,
    ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Call, NODE_ID, blocking, code, text};
use crate::coordinator::{Described, Identity, JoinRequest, SyncRequest};

/// In FindCoordinator: who coordinates a group, as opposed to a transaction.
const GROUP: i8 = 0;
/// The only kind of group there is here.
const CLASSIC: &str = "classic";

/// How a member names itself in a request.
pub(super) fn identity(member_id: &str, instance_id: &Option<StrBytes>) -> Identity {
    let instance_id = instance_id.as_ref().map(|id| id.to_string());
    Identity { member_id: member_id.to_owned(), instance_id }
}

/// The only node coordinates all groups.
pub(super) fn find_coordinator(call: &Call<'_>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let host = text(call.peer.advertised.ip().to_string());
    let port = i32::from(call.peer.advertised.port());
    let refused = (request.key_type != GROUP).then(|| {
        (ResponseError::InvalidRequest.code(), text("this broker coordinates groups only, no transactions"))
    });
    if call.version < 4 {
        let response = FindCoordinatorResponse::default();
        return match refused {
            Some((code, message)) => response
                .with_error_code(code)
                .with_error_message(Some(message))
                .with_node_id(BrokerId(-1))
                .with_port(-1),
            None => response.with_node_id(BrokerId(NODE_ID)).with_host(host).with_port(port),
        };
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        let found = Coordinator::default().with_key(key);
        match &refused {
            Some((code, message)) => found
                .with_error_code(*code)
                .with_error_message(Some(message.clone()))
                .with_node_id(BrokerId(-1))
                .with_port(-1),
            None => found.with_node_id(BrokerId(NODE_ID)).with_host(host.clone()).with_port(port),
        }
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

/// Joins a group; answered when all have joined.
pub(super) async fn join_group(call: &Call<'_>, request: JoinGroupRequest) -> JoinGroupResponse {
    let group = request.group_id.to_string();
    let session_timeout = millis(request.session_timeout_ms);
    // Metadata is copied, so that a member does not keep its whole request in memory.
    let protocols = request
        .protocols
        .iter()
        .map(|protocol| (protocol.name.to_string(), Bytes::copy_from_slice(&protocol.metadata)));
    let join = JoinRequest {
        identity: identity(&request.member_id, &request.group_instance_id),
        client_id: call.client_id.clone(),
        client_host: format!("/{}", call.peer.remote.ip()),
        session_timeout,
        rebalance_timeout: if call.version >= 1 {
            millis(request.rebalance_timeout_ms)
        } else {
            session_timeout
        },
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        takes_member_id: call.version >= 4,
        skips_assignment: call.version >= 9,
    };
    match call.state.coordinator.join(&group, join).await {
        Ok(joined) => {
            let members = joined.members.into_iter().map(|member| {
                JoinGroupResponseMember::default()
                    .with_member_id(text(member.member_id))
                    .with_group_instance_id(member.instance_id.map(text))
                    .with_metadata(member.metadata)
            });
            JoinGroupResponse::default()
                .with_generation_id(joined.generation)
                .with_protocol_type(Some(text(joined.protocol_type)))
                .with_protocol_name(Some(text(joined.protocol)))
                .with_leader(text(joined.leader))
                .with_skip_assignment(joined.skip_assignment)
                .with_member_id(text(joined.member_id))
                .with_members(members.collect())
        }
        Err((code, member_id)) => JoinGroupResponse::default()
            .with_error_code(code.code())
            .with_generation_id(-1)
            .with_protocol_name((call.version < 7).then(StrBytes::default))
            .with_member_id(text(member_id)),
    }
}

/// Gets an assignment; answered when the leader has sent it.
pub(super) async fn sync_group(call: &Call<'_>, request: SyncGroupRequest) -> SyncGroupResponse {
    let assignments = request
        .assignments
        .iter()
        .map(|assignment| (assignment.member_id.to_string(), Bytes::copy_from_slice(&assignment.assignment)));
    let sync = SyncRequest {
        identity: identity(&request.member_id, &request.group_instance_id),
        generation: request.generation_id,
        protocol_type: request.protocol_type.as_ref().map(|name| name.to_string()),
        protocol: request.protocol_name.as_ref().map(|name| name.to_string()),
        assignments: assignments.collect(),
    };
    match call.state.coordinator.sync(&request.group_id, sync).await {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(Some(text(synced.protocol_type)))
            .with_protocol_name(Some(text(synced.protocol)))
            .with_assignment(synced.assignment),
        Err(code) => SyncGroupResponse::default().with_error_code(code.code()),
    }
}

/// Keeps a session alive.
pub(super) fn heartbeat(call: &Call<'_>, request: HeartbeatRequest) -> HeartbeatResponse {
    let identity = identity(&request.member_id, &request.group_instance_id);
    let alive = call.state.coordinator.heartbeat(&request.group_id, &identity, request.generation_id);
    HeartbeatResponse::default().with_error_code(code(&alive))
}

/// Takes one member, or since version 3 several, out of a group.
pub(super) fn leave_group(call: &Call<'_>, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let coordinator = &call.state.coordinator;
    if call.version < 3 {
        let left = coordinator.leave(&request.group_id, &identity(&request.member_id, &None));
        return LeaveGroupResponse::default().with_error_code(code(&left));
    }
    let members = request.members.into_iter().map(|member| {
        let identity = identity(&member.member_id, &member.group_instance_id);
        let left = coordinator.leave(&request.group_id, &identity);
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code(&left))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

/// Tells who is in a group and what is assigned to whom.
pub(super) fn describe_groups(call: &Call<'_>, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|id| {
        let described = call.state.coordinator.describe(&id);
        let group = DescribedGroup::default().with_group_id(id);
        match described {
            Some(described) => describe(call, group, described),
            // Before version 6 an unknown group was told to be dead.
            None if call.version < 6 => group.with_group_state(text("Dead")),
            None => group
                .with_group_state(text("Dead"))
                .with_error_code(ResponseError::GroupIdNotFound.code())
                .with_error_message(Some(text("no such group"))),
        }
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn describe(call: &Call<'_>, group: DescribedGroup, described: Described) -> DescribedGroup {
    let members = described.members.into_iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(text(member.member_id))
            // Before version 4 there is no field for it.
            .with_group_instance_id(member.instance_id.filter(|_| call.version >= 4).map(text))
            .with_client_id(text(member.client_id))
            .with_client_host(text(member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    group
        .with_group_state(text(described.state.name()))
        .with_protocol_type(text(described.protocol_type))
        .with_protocol_data(text(described.protocol))
        .with_members(members.collect())
}

/// Tells which groups there are, of certain states and types if asked for.
pub(super) fn list_groups(call: &Call<'_>, request: ListGroupsRequest) -> ListGroupsResponse {
    let passes = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let coordinator = &call.state.coordinator;
    let listed = coordinator.names().into_iter().filter_map(|name| {
        let described = coordinator.describe(&name)?;
        let state = described.state.name();
        let wanted = passes(&request.states_filter, state) && passes(&request.types_filter, CLASSIC);
        wanted.then(|| {
            ListedGroup::default()
                .with_group_id(GroupId(text(name)))
                .with_protocol_type(text(described.protocol_type))
                .with_group_state(text(state))
                .with_group_type(text(CLASSIC))
        })
    });
    ListGroupsResponse::default().with_groups(listed.collect())
}

/// Forgets groups that have no members, with their offsets.
pub(super) async fn delete_groups(call: &Call<'_>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for id in request.groups_names {
        let (state, name) = (Arc::clone(call.state), id.to_string());
        let deleted = blocking(move || state.coordinator.delete(&name)).await.flatten();
        results.push(DeletableGroupResult::default().with_group_id(id).with_error_code(code(&deleted)));
    }
    DeleteGroupsResponse::default().with_results(results)
}

fn millis(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
