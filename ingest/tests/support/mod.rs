//! What the tests of this crate's Kafka side share.
//!
//! Each case is a function of the brokers' address, and runs twice: against the embedded broker (`embedded::...`) and
//! against Apache Kafka (`apache::...`). A broker and tests with the same misunderstanding would agree with each other.

#![allow(dead_code, unused_imports, unused_macros, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use puddle_ingest::schema::SchemaDecl;
use puddle_ingest::{ClientSettings, Error, Event, IngestConfig, Source, SourceSettings};
use puddle_testkit::{Record, produce, topics, unique};
use puddle_types::{Batch, Offset, Position, Progress, TopicPartition};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;

/// Runs each case against both brokers.
macro_rules! against_both {
    ($($case:ident),+ $(,)?) => {
        mod embedded {
            $(#[test] fn $case() { super::$case(&puddle_testkit::Embedded::start().brokers()) })+
        }
        mod apache {
            $(#[test] fn $case() {
                if let Some(apache) = puddle_testkit::Apache::shared() {
                    super::$case(apache.brokers())
                }
            })+
        }
    };
}
pub(crate) use against_both;

/// Longer than anything takes that does not hang.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for a future, and fails rather than hangs.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let in_time = runtime.block_on(async { tokio::time::timeout(DEADLINE, future).await });
    in_time.expect("nothing came within the deadline")
}

/// A new topic.
pub(crate) fn topic(brokers: &str, partitions: i32) -> String {
    let topic = unique("ingest");
    topics::create(brokers, &topic, partitions);
    topic
}

/// The record that the tests count by: `{"id": id}`.
pub(crate) fn numbered(id: usize) -> Record {
    Record::new(format!("{{\"id\":{id}}}"))
}

/// Produces records with these ids to a partition.
pub(crate) fn fill(brokers: &str, topic: &str, partition: i32, ids: std::ops::Range<usize>) {
    produce(brokers, topic, ids.map(|id| numbered(id).to(partition)));
}

/// Adds partitions to a topic, up to so many.
pub(crate) fn add_partitions(brokers: &str, topic: &str, partitions: usize) {
    let new = NewPartitions::new(topic, partitions);
    let results = wait(admin(brokers).create_partitions([&new], &AdminOptions::new())).unwrap();
    results.into_iter().for_each(|result| _ = result.unwrap());
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    rdkafka::ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
}

/// Settings for a source of [`numbered`] records, in a group of its own.
pub(crate) fn settings(brokers: &str, topic: &str) -> SourceSettings {
    let mut config: IngestConfig = toml::from_str(&format!("topics = ['{topic}']")).unwrap();
    config.client = client(&[]);
    let schema: SchemaDecl = toml::from_str("id = 'int64'").unwrap();
    SourceSettings::new(brokers, unique("group"), config, schema)
}

/// These client settings, and a short heartbeat.
pub(crate) fn client(settings: &[(&str, &str)]) -> ClientSettings {
    // A member hears of a rebalance with its next heartbeat: by default up to three seconds later.
    let heartbeat = ("heartbeat.interval.ms", "200");
    ClientSettings::new(
        settings.iter().chain([&heartbeat]).map(|(k, v)| ((*k).into(), (*v).into())).collect(),
    )
}

/// The error that a source must not start without.
pub(crate) fn start_error(settings: SourceSettings, progress: Progress) -> Error {
    Source::start(settings, progress).expect_err("the source must not start")
}

/// The next event; an error fails the test.
pub(crate) fn next(source: &mut Source) -> Event {
    wait(source.next()).expect("the source ended").unwrap_or_else(|error| panic!("{error}"))
}

/// What a source said until it came to the ends of so many partitions.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) batches: Vec<Batch>,
    pub(crate) ends: BTreeMap<TopicPartition, Offset>,
}

impl Seen {
    /// Reads until `partitions` have ended, at least once each.
    pub(crate) fn until_ends(source: &mut Source, partitions: usize) -> Seen {
        let mut seen = Seen::default();
        while seen.ends.len() < partitions {
            seen.add(next(source));
        }
        seen
    }

    /// Reads until so many records have come.
    pub(crate) fn until_records(source: &mut Source, records: usize) -> Seen {
        let mut seen = Seen::default();
        while seen.records() < records {
            seen.add(next(source));
        }
        seen
    }

    pub(crate) fn add(&mut self, event: Event) {
        match event {
            Event::Batch(batch) => self.batches.push(batch),
            Event::EndOfPartition { partition, next } => _ = self.ends.insert(partition, next),
            Event::Assigned(_) => {}
            Event::Revoking { ack, .. } => _ = ack.done(),
            Event::Lost(partitions) => panic!("{partitions:?} were lost"),
        }
    }

    pub(crate) fn records(&self) -> usize {
        self.batches.iter().map(Batch::records).sum()
    }

    /// The ids, sorted.
    pub(crate) fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = self.batches.iter().flat_map(ids).collect();
        ids.sort();
        ids
    }

    /// Where a table would be that had committed all of it.
    pub(crate) fn progress(&self) -> Progress {
        let mut progress = Progress::new();
        for batch in &self.batches {
            let position =
                progress.entry(batch.partition.clone()).or_insert(Position { next: 0, last: None });
            *position = Position { next: batch.next, last: batch.last.or(position.last) };
        }
        for (partition, next) in &self.ends {
            let position = progress.entry(partition.clone()).or_insert(Position { next: 0, last: None });
            position.next = position.next.max(*next);
        }
        progress
    }

    /// Checks that the batches of each partition follow one another, from `from` to the end that was told.
    pub(crate) fn assert_whole(&self, from: impl Fn(&TopicPartition) -> Offset) {
        for (partition, end) in &self.ends {
            let mut at = from(partition);
            for batch in self.batches.iter().filter(|batch| batch.partition == *partition) {
                assert_eq!(batch.from, at, "{partition}");
                assert!(batch.next > batch.from && batch.last.is_some_and(|last| last.offset < batch.next));
                at = batch.next;
            }
            assert!(at <= *end, "{partition}: {at} {end}");
        }
    }
}

/// The ids in a batch.
pub(crate) fn ids(batch: &Batch) -> Vec<i64> {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    let column = batch.rows.column_by_name("id").unwrap();
    column.as_primitive::<Int64Type>().iter().map(Option::unwrap).collect()
}
