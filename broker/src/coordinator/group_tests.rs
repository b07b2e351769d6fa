use bytes::Bytes;
use tokio::sync::oneshot::Receiver;

use super::*;
use crate::coordinator::member::{Joined, Synced};

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);
const DELAY: Duration = Duration::from_millis(100);

/// A group with a clock of its own.
struct Bench {
    group: Group,
    now: Instant,
}

/// A member as its client sees it.
struct Client {
    id: String,
    generation: i32,
}

impl Bench {
    fn new() -> Bench {
        Bench { group: Group::new(DELAY), now: Instant::now() }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.group.on_time(self.now);
    }

    fn send_join(&mut self, request: JoinRequest) -> Receiver<JoinReply> {
        let (reply, answer) = oneshot::channel();
        self.group.join(request, reply, self.now);
        answer
    }

    /// Joins as a new member in two steps, as clients do.
    fn join_new(&mut self) -> (String, Receiver<JoinReply>) {
        let (code, id) = answered(&mut self.send_join(request("", None))).unwrap_err();
        assert_eq!(code, ResponseError::MemberIdRequired);
        let answer = self.send_join(request(&id, None));
        (id, answer)
    }

    fn send_sync(&mut self, client: &Client, assignments: &[(&str, &'static str)]) -> Receiver<SyncReply> {
        let (reply, answer) = oneshot::channel();
        let assignments = assignments.iter().map(|(id, text)| (id.to_string(), Bytes::from(*text)));
        let request = SyncRequest {
            identity: identity(&client.id),
            generation: client.generation,
            assignments: assignments.collect(),
            ..SyncRequest::default()
        };
        self.group.sync(request, reply, self.now);
        answer
    }

    fn heartbeat(&mut self, client: &Client) -> Result<(), ResponseError> {
        self.group.heartbeat(&identity(&client.id), client.generation, self.now)
    }

    /// A stable group of two; the first is the leader.
    fn of_two(&mut self) -> (Client, Client) {
        let (one, mut first) = self.join_new();
        let (other, mut second) = self.join_new();
        self.pass(DELAY);
        let (first, second) = (answered(&mut first).unwrap(), answered(&mut second).unwrap());
        let (mut leader, mut follower) = (client(one, &first), client(other, &second));
        if first.leader != leader.id {
            std::mem::swap(&mut leader, &mut follower);
        }
        let mut waiting = self.send_sync(&follower, &[]);
        assert!(waiting.try_recv().is_err(), "the follower waits for the leader");
        let (l, f) = (leader.id.clone(), follower.id.clone());
        let mut led = self.send_sync(&leader, &[(&l, "left"), (&f, "right")]);
        assert_eq!(assignment(&mut led), "left");
        assert_eq!(assignment(&mut waiting), "right");
        assert_eq!(self.group.state, State::Stable);
        (leader, follower)
    }
}

fn request(member_id: &str, instance: Option<&str>) -> JoinRequest {
    JoinRequest {
        identity: Identity { member_id: member_id.into(), instance_id: instance.map(str::to_owned) },
        client_id: "test".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from("subscription"))],
        takes_member_id: true,
        skips_assignment: true,
    }
}

fn identity(member_id: &str) -> Identity {
    Identity { member_id: member_id.into(), instance_id: None }
}

fn client(id: String, joined: &Joined) -> Client {
    Client { id, generation: joined.generation }
}

fn answered<T>(answer: &mut Receiver<T>) -> T {
    answer.try_recv().expect("an answer")
}

fn assignment(answer: &mut Receiver<SyncReply>) -> Bytes {
    let Synced { assignment, .. } = answered(answer).unwrap();
    assignment
}

#[test]
fn the_first_member_waits_for_others_and_one_of_them_leads() {
    let mut bench = Bench::new();
    let (_, mut first) = bench.join_new();
    let (_, mut second) = bench.join_new();
    assert!(first.try_recv().is_err());
    assert_eq!(bench.group.next_deadline(), Some(bench.now + DELAY));
    bench.pass(DELAY);
    let (first, second) = (answered(&mut first).unwrap(), answered(&mut second).unwrap());
    assert_eq!((first.generation, second.generation), (1, 1));
    assert_eq!(first.leader, second.leader);
    assert_eq!(first.members.len() + second.members.len(), 2, "only the leader is told of all");
}

#[test]
fn a_third_member_sets_off_a_rebalance_that_the_others_learn_of_by_heartbeat() {
    let mut bench = Bench::new();
    let (leader, follower) = bench.of_two();
    let (_, mut third) = bench.join_new();
    assert_eq!(bench.heartbeat(&leader), Err(ResponseError::RebalanceInProgress));
    let mut one = bench.send_join(request(&leader.id, None));
    assert!(third.try_recv().is_err(), "one member has not joined again yet");
    let mut other = bench.send_join(request(&follower.id, None));
    let all = [&mut one, &mut other, &mut third].map(|answer| answered(answer).unwrap());
    assert!(all.iter().all(|joined| joined.generation == 2));
    assert_eq!(all.iter().map(|joined| joined.members.len()).max(), Some(3));
}

#[test]
fn a_member_that_falls_silent_is_removed_and_the_rest_goes_on() {
    let mut bench = Bench::new();
    let (leader, follower) = bench.of_two();
    bench.pass(SESSION - Duration::from_secs(1));
    bench.heartbeat(&follower).unwrap();
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.heartbeat(&leader), Err(ResponseError::UnknownMemberId));
    assert_eq!(bench.heartbeat(&follower), Err(ResponseError::RebalanceInProgress));
    let joined = answered(&mut bench.send_join(request(&follower.id, None))).unwrap();
    assert_eq!((joined.generation, joined.leader), (2, follower.id));
}

#[test]
fn who_does_not_join_again_in_time_is_left_out() {
    let mut bench = Bench::new();
    let (leader, follower) = bench.of_two();
    let (_, mut third) = bench.join_new();
    let mut one = bench.send_join(request(&leader.id, None));
    for _ in 0..REBALANCE.as_secs() {
        assert!(third.try_recv().is_err());
        let _ = bench.heartbeat(&follower);
        bench.pass(Duration::from_secs(1));
    }
    assert_eq!(answered(&mut one).unwrap().generation, 2);
    assert_eq!(answered(&mut third).unwrap().generation, 2);
    assert_eq!(bench.heartbeat(&follower), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_leader_that_never_assigns_is_left_out() {
    let mut bench = Bench::new();
    let (one, mut first) = bench.join_new();
    let (other, mut second) = bench.join_new();
    bench.pass(DELAY);
    let (first, second) = (answered(&mut first).unwrap(), answered(&mut second).unwrap());
    let follower = if first.leader == one { client(other, &second) } else { client(one, &first) };
    let mut waiting = bench.send_sync(&follower, &[]);
    bench.pass(REBALANCE);
    assert_eq!(answered(&mut waiting), Err(ResponseError::RebalanceInProgress));
    let joined = answered(&mut bench.send_join(request(&follower.id, None))).unwrap();
    assert_eq!(joined.leader, follower.id);
}

#[test]
fn leaving_rebalances_at_once_and_the_last_one_empties_the_group() {
    let mut bench = Bench::new();
    let (leader, follower) = bench.of_two();
    bench.group.leave(&identity(&leader.id), bench.now).unwrap();
    assert_eq!(bench.group.state, State::PreparingRebalance);
    bench.group.leave(&identity(&follower.id), bench.now).unwrap();
    assert_eq!(bench.group.state, State::Empty);
    assert_eq!(bench.group.next_deadline(), None);
    let unknown = bench.group.leave(&identity(&leader.id), bench.now);
    assert_eq!(unknown, Err(ResponseError::UnknownMemberId));
}

#[test]
fn requests_of_an_older_generation_are_refused() {
    let mut bench = Bench::new();
    let (leader, follower) = bench.of_two();
    let stale = Client { id: leader.id.clone(), generation: leader.generation - 1 };
    assert_eq!(bench.heartbeat(&stale), Err(ResponseError::IllegalGeneration));
    assert_eq!(answered(&mut bench.send_sync(&stale, &[])), Err(ResponseError::IllegalGeneration));
    let commit = bench.group.check_commit(&identity(&stale.id), stale.generation, bench.now);
    assert_eq!(commit, Err(ResponseError::IllegalGeneration));
    let commit = bench.group.check_commit(&identity(&follower.id), follower.generation, bench.now);
    assert_eq!(commit, Ok(()));
    let nobody = bench.group.check_commit(&identity(""), -1, bench.now);
    assert_eq!(nobody, Err(ResponseError::UnknownMemberId), "members own the offsets while there are any");
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_its_ghost_is_fenced() {
    let mut bench = Bench::new();
    let mut joining = bench.send_join(request("", Some("i-1")));
    bench.pass(DELAY);
    let joined = answered(&mut joining).unwrap();
    let old = client(joined.member_id.clone(), &joined);
    let named =
        |client: &Client| Identity { member_id: client.id.clone(), instance_id: Some("i-1".to_owned()) };
    let (id, generation) = (old.id.clone(), old.generation);
    assert_eq!(assignment(&mut bench.send_sync(&old, &[(&id, "all")])), "all");

    let back = answered(&mut bench.send_join(request("", Some("i-1")))).unwrap();
    assert_eq!((back.generation, back.skip_assignment), (generation, true));
    assert_ne!(back.member_id, old.id);
    assert_eq!(bench.group.state, State::Stable);
    let new = client(back.member_id.clone(), &back);
    assert_eq!(assignment(&mut bench.send_sync(&new, &[])), "all");
    let ghost = bench.group.heartbeat(&named(&old), generation, bench.now);
    assert_eq!(ghost, Err(ResponseError::FencedInstanceId));
    assert_eq!(bench.group.heartbeat(&named(&new), generation, bench.now), Ok(()));
}

#[test]
fn members_without_a_common_protocol_are_refused() {
    let mut bench = Bench::new();
    bench.of_two();
    let other = JoinRequest { protocols: vec![("sticky".into(), Bytes::new())], ..request("", None) };
    let refused = answered(&mut bench.send_join(other)).unwrap_err();
    assert_eq!(refused.0, ResponseError::InconsistentGroupProtocol);
    let none = JoinRequest { protocols: vec![], ..request("", None) };
    assert_eq!(answered(&mut bench.send_join(none)).unwrap_err().0, ResponseError::InconsistentGroupProtocol);
}

#[test]
fn a_member_id_that_is_not_used_expires() {
    let mut bench = Bench::new();
    let (_, id) = answered(&mut bench.send_join(request("", None))).unwrap_err();
    bench.pass(SESSION);
    assert!(bench.group.is_idle());
    let late = answered(&mut bench.send_join(request(&id, None))).unwrap_err();
    assert_eq!(late.0, ResponseError::UnknownMemberId);
}

#[test]
fn the_number_of_members_is_limited() {
    let mut bench = Bench::new();
    for _ in 0..MAX_MEMBERS {
        let (code, _) = answered(&mut bench.send_join(request("", None))).unwrap_err();
        assert_eq!(code, ResponseError::MemberIdRequired);
    }
    let (code, _) = answered(&mut bench.send_join(request("", None))).unwrap_err();
    assert_eq!(code, ResponseError::GroupMaxSizeReached);
}
