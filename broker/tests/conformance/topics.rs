//! Topics and their administration.

use std::time::Duration;

use puddle_testkit::unique;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use crate::{block_on, eventually};

const TIMEOUT: Duration = Duration::from_secs(20);

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
}

fn create(brokers: &str, topic: &NewTopic<'_>) -> Result<String, (String, RDKafkaErrorCode)> {
    block_on(admin(brokers).create_topics([topic], &AdminOptions::new())).unwrap().remove(0)
}

fn fixed(name: &str, partitions: i32) -> NewTopic<'_> {
    NewTopic::new(name, partitions, TopicReplication::Fixed(1))
}

/// The topic's partitions, or `None` if it does not exist.
fn partitions(brokers: &str, topic: &str) -> Option<usize> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let metadata = client.fetch_metadata(None, TIMEOUT).unwrap();
    metadata.topics().iter().find(|found| found.name() == topic).map(|found| found.partitions().len())
}

pub(crate) fn topics_are_created_listed_and_deleted(brokers: &str) {
    let topic = unique("topics");
    assert_eq!(partitions(brokers, &topic), None);
    assert_eq!(create(brokers, &fixed(&topic, 3)), Ok(topic.clone()));
    eventually("the topic has 3 partitions", || partitions(brokers, &topic) == Some(3));
    let again = create(brokers, &fixed(&topic, 3)).unwrap_err();
    assert_eq!(again.1, RDKafkaErrorCode::TopicAlreadyExists);
    let delete =
        || block_on(admin(brokers).delete_topics(&[&topic], &AdminOptions::new())).unwrap().remove(0);
    assert_eq!(delete(), Ok(topic.clone()));
    eventually("the topic is gone", || partitions(brokers, &topic).is_none());
    assert_eq!(delete().unwrap_err().1, RDKafkaErrorCode::UnknownTopicOrPartition);
}

pub(crate) fn impossible_topics_are_refused(brokers: &str) {
    let name = unique("impossible");
    let refused = |topic: &NewTopic<'_>| create(brokers, topic).unwrap_err().1;
    assert_eq!(refused(&fixed("no/slashes", 1)), RDKafkaErrorCode::InvalidTopic);
    assert_eq!(refused(&fixed("..", 1)), RDKafkaErrorCode::InvalidTopic);
    let replicated = NewTopic::new(&name, 1, TopicReplication::Fixed(3));
    assert_eq!(refused(&replicated), RDKafkaErrorCode::InvalidReplicationFactor);
    let configured = fixed(&name, 1).set("no.such.setting", "1");
    assert_eq!(refused(&configured), RDKafkaErrorCode::InvalidConfig);
    assert_eq!(partitions(brokers, &name), None);
}

pub(crate) fn partitions_can_be_added(brokers: &str) {
    let topic = unique("growing");
    puddle_testkit::topics::create(brokers, &topic, 2);
    let grow = |to| {
        block_on(admin(brokers).create_partitions(&[NewPartitions::new(&topic, to)], &AdminOptions::new()))
            .unwrap()
            .remove(0)
    };
    assert_eq!(grow(5), Ok(topic.clone()));
    eventually("the topic has 5 partitions", || partitions(brokers, &topic) == Some(5));
    assert_eq!(grow(3).unwrap_err().1, RDKafkaErrorCode::InvalidPartitions);
}

pub(crate) fn settings_can_be_read(brokers: &str) {
    let topic = unique("settings");
    puddle_testkit::topics::create(brokers, &topic, 1);
    let asked = [ResourceSpecifier::Topic(&topic)];
    let described = block_on(admin(brokers).describe_configs(&asked, &AdminOptions::new())).unwrap();
    let settings = described.into_iter().next().unwrap().unwrap().entries;
    let value = |name: &str| settings.iter().find(|entry| entry.name == name).and_then(|e| e.value.clone());
    assert_eq!(value("cleanup.policy").as_deref(), Some("delete"));
    assert_eq!(value("max.message.bytes").as_deref(), Some("1048588"));
    let missing = [ResourceSpecifier::Topic("no-such-topic")];
    let described = block_on(admin(brokers).describe_configs(&missing, &AdminOptions::new())).unwrap();
    // The library drops the error code of a single resource.
    assert!(described.into_iter().flatten().all(|described| described.entries.is_empty()));
}
