//! Consumer groups.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use puddle_testkit::topics::create;
use puddle_testkit::{Record, produce, unique};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::member::{Member, settings};
use crate::{block_on, eventually};

const TIMEOUT: Duration = Duration::from_secs(20);
const PARTITIONS: i32 = 6;

pub(crate) fn offsets_are_committed_and_fetched(brokers: &str) {
    let (topic, group) = (unique("commits"), unique("group"));
    create(brokers, &topic, 2);
    produce(brokers, &topic, ["a", "b", "c", "d"]);
    let config = settings(brokers, &group, "range");
    let committed = || {
        let consumer: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic, 0);
        list.add_partition(&topic, 1);
        let list = consumer.committed_offsets(list, TIMEOUT).unwrap();
        list.elements()
            .iter()
            .map(|element| (element.offset(), element.metadata().to_owned()))
            .collect::<Vec<_>>()
    };
    let nothing = (Offset::Invalid, String::new());
    assert_eq!(committed(), [nothing.clone(), nothing.clone()]);
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 1, Offset::Offset(3)).unwrap();
    list.find_partition(&topic, 1).unwrap().set_metadata("a note");
    consumer.commit(&list, CommitMode::Sync).unwrap();
    assert_eq!(committed(), [nothing, (Offset::Offset(3), "a note".to_owned())]);
    let mut missing = TopicPartitionList::new();
    missing.add_partition_offset("no-such-topic", 0, Offset::Offset(3)).unwrap();
    let refused = consumer.commit(&missing, CommitMode::Sync).unwrap_err();
    assert_eq!(refused.rdkafka_error_code(), Some(RDKafkaErrorCode::UnknownTopicOrPartition));
}

pub(crate) fn range_members_share_the_partitions(brokers: &str) {
    members_share_the_partitions(brokers, "range");
}

pub(crate) fn cooperative_members_share_the_partitions(brokers: &str) {
    members_share_the_partitions(brokers, "cooperative-sticky");
}

fn members_share_the_partitions(brokers: &str, strategy: &str) {
    let (topic, group) = (unique(strategy), unique("group"));
    create(brokers, &topic, PARTITIONS);
    let config = settings(brokers, &group, strategy);
    let first = Member::join(&config, &topic);
    eventually("the only member has everything", || first.assigned().len() == PARTITIONS as usize);
    let second = Member::join(&config, &topic);
    eventually("each has half", || first.assigned().len() == 3 && second.assigned().len() == 3);
    assert!(first.assigned().is_disjoint(&second.assigned()));

    // To each partition its part, whatever the producer would choose.
    let spread = (0..600).map(|n| Record::new(n.to_string()).to(n % PARTITIONS));
    produce(brokers, &topic, spread);
    eventually("all is read", || first.seen().len() + second.seen().len() >= 600);
    let all: BTreeSet<String> = first.seen().into_iter().chain(second.seen()).collect();
    assert_eq!((all.len(), first.seen().len() + second.seen().len()), (600, 600));
    assert!(!first.seen().is_empty() && !second.seen().is_empty());

    drop(first);
    eventually("the other has everything", || second.assigned().len() == PARTITIONS as usize);
}

pub(crate) fn a_static_member_comes_back_to_its_partitions(brokers: &str) {
    let (topic, group) = (unique("static"), unique("group"));
    create(brokers, &topic, PARTITIONS);
    let named = |instance: &str| {
        let mut config = settings(brokers, &group, "range");
        config.set("group.instance.id", instance).set("session.timeout.ms", "30000");
        config
    };
    let stays = Member::join(&named("stays"), &topic);
    let restarts = Member::join(&named("restarts"), &topic);
    eventually("each has half", || stays.assigned().len() == 3 && restarts.assigned().len() == 3);
    let (had, changes) = (restarts.assigned(), stays.changes());
    drop(restarts);
    let restarted = Member::join(&named("restarts"), &topic);
    eventually("it has its partitions again", || restarted.assigned() == had);
    assert_eq!(stays.changes(), changes, "the other one noticed nothing");
}

const MEMBER_OF: &str = "CONFORMANCE_MEMBER_OF";

pub(crate) fn a_dead_members_partitions_are_taken_over(brokers: &str) {
    let (topic, group) = (unique("dying"), unique("group"));
    create(brokers, &topic, PARTITIONS);
    let survivor = Member::join(&settings(brokers, &group, "range"), &topic);
    let mut dying = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "groups::member_in_a_process_of_its_own", "--ignored", "--nocapture"])
        .env(MEMBER_OF, format!("{brokers} {group} {topic}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(dying.stdout.take().unwrap());
    assert!(output.lines().map_while(Result::ok).any(|line| line.contains("it has partitions")));
    eventually("each has half", || survivor.assigned().len() == 3);
    dying.kill().unwrap();
    dying.wait().unwrap();
    eventually("the survivor has everything", || survivor.assigned().len() == PARTITIONS as usize);
}

/// Not a test: what the one above starts and kills.
#[test]
#[ignore = "started by a_dead_members_partitions_are_taken_over"]
fn member_in_a_process_of_its_own() {
    let Ok(of) = std::env::var(MEMBER_OF) else { return };
    let [brokers, group, topic] = of.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let member = Member::join(&settings(brokers, group, "range"), topic);
    eventually("it has partitions", || member.assigned().len() == 3);
    println!("it has partitions");
    std::thread::sleep(TIMEOUT * 3);
}

pub(crate) fn groups_are_listed_and_deleted(brokers: &str) {
    let (topic, group) = (unique("listed"), unique("group"));
    create(brokers, &topic, 1);
    let config = settings(brokers, &group, "range");
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let listed = || {
        let list = client.fetch_group_list(Some(&group), TIMEOUT).unwrap();
        let found = list.groups().iter().find(|found| found.name() == group);
        found.map(|found| (found.state().to_owned(), found.members().len()))
    };
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let delete = || {
        block_on(admin.delete_groups(&[&group], &AdminOptions::new()))
            .unwrap()
            .remove(0)
            .map_err(|error| error.1)
    };
    let member = Member::join(&config, &topic);
    eventually("the group is stable", || listed() == Some(("Stable".to_owned(), 1)));
    assert_eq!(delete(), Err(RDKafkaErrorCode::NonEmptyGroup));
    drop(member);
    eventually("the group is empty", || listed() == Some(("Empty".to_owned(), 0)));
    assert_eq!(delete(), Ok(group.clone()));
    assert_eq!(delete(), Err(RDKafkaErrorCode::GroupIdNotFound));
}
