//! Topics: names of a test's own, creating and deleting, and deleting what they hold.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

const DEADLINE: Duration = Duration::from_secs(30);

/// A name that no other test has, in this process or another: for topics, groups and transactional ids.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{prefix}-{}-{:x}-{count}", std::process::id(), since.as_micros())
}

/// Creates a topic and returns when the broker has acknowledged it.
///
/// # Panics
/// When the broker refuses, or does not answer within 30 s.
pub fn create(brokers: &str, topic: &str, partitions: i32) {
    create_with(brokers, topic, partitions, &[]);
}

/// As [`create`], with topic settings such as `("cleanup.policy", "compact")`.
///
/// # Panics
/// As [`create`].
pub fn create_with(brokers: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
    let admin = admin(brokers);
    let results = block_on(admin.create_topics([&new], &options()));
    expect_one(&format!("create {topic}"), results);
}

/// Deletes a topic and returns when the broker has acknowledged it.
///
/// # Panics
/// As [`create`].
pub fn delete(brokers: &str, topic: &str) {
    let admin = admin(brokers);
    let results = block_on(admin.delete_topics(&[topic], &options()));
    expect_one(&format!("delete {topic}"), results);
}

/// Deletes the records of a partition below an offset, as retention would.
///
/// # Panics
/// As [`create`].
pub fn delete_records(brokers: &str, topic: &str, partition: i32, below: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(below)).expect("the offset is not negative");
    let results = block_on(admin(brokers).delete_records(&list, &options()));
    let results = results.unwrap_or_else(|error| panic!("cannot delete records of {topic}: {error}"));
    results.elements().iter().for_each(|element| {
        element.error().unwrap_or_else(|error| panic!("cannot delete records of {topic}: {error}"));
    });
}

/// Adds partitions to a topic, up to so many.
///
/// # Panics
/// As [`create`].
pub fn add_partitions(brokers: &str, topic: &str, partitions: usize) {
    let new = NewPartitions::new(topic, partitions);
    let results = block_on(admin(brokers).create_partitions([&new], &options()));
    expect_one(&format!("add partitions to {topic}"), results);
}

/// What a setting of the only broker is; empty if it has none of that name.
pub(crate) fn broker_setting(brokers: &str, name: &str) -> String {
    let asked = [ResourceSpecifier::Broker(1)];
    let results = block_on(admin(brokers).describe_configs(&asked, &options()));
    let results = results.unwrap_or_else(|error| panic!("cannot ask for {name}: {error}"));
    let settings =
        results.into_iter().next().expect("one answer").unwrap_or_else(|code| panic!("{name}: {code}"));
    settings.get(name).and_then(|setting| setting.value.clone()).unwrap_or_default()
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).create().expect("the client's settings are valid")
}

fn options() -> AdminOptions {
    // The operation time-out has the broker answer only when every node knows the topic.
    AdminOptions::new().request_timeout(Some(DEADLINE)).operation_timeout(Some(DEADLINE))
}

type TopicResults = rdkafka::error::KafkaResult<Vec<Result<String, (String, RDKafkaErrorCode)>>>;

fn expect_one(action: &str, results: TopicResults) {
    for result in results.unwrap_or_else(|error| panic!("cannot {action}: {error}")) {
        if let Err((_, code)) = result {
            panic!("cannot {action}: {code}");
        }
    }
}

/// On a thread of its own, because a runtime cannot be entered from within another one.
fn block_on<F: Future<Output: Send> + Send>(future: F) -> F::Output {
    std::thread::scope(|scope| {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.expect("a runtime without drivers needs nothing").block_on(future)
        };
        scope.spawn(run).join().expect("the call does not panic")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::unique;

    #[test]
    fn names_differ_across_threads() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..250).map(|_| unique("t")).collect::<Vec<_>>()))
            .collect();
        let names: HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(names.len(), 1000);
    }
}
