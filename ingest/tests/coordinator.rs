//! A group's coordinator moves from broker to broker, with and without knowing the state of the group; so no rung but
//! librdkafka's mock cluster can do it.

mod support;

use std::collections::BTreeMap;

use puddle_ingest::{Event, Source};
use puddle_testkit::unique;
use puddle_types::{Batch, Position, Progress, TopicPartition};
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use support::*;

/// What a table does with a source's events, in memory: batches are open until they are committed with their offsets.
#[derive(Default)]
struct Table {
    ids: Vec<i64>,
    progress: Progress,
    open: Vec<Batch>,
    lost: usize,
}

impl Table {
    /// Takes the next event; commits every third batch, and before a revocation.
    fn take(&mut self, source: &mut Source) {
        match next(source) {
            Event::Batch(batch) => {
                let position = self.position(&batch.partition);
                assert_eq!(batch.from, position, "{}: a gap, or read twice", batch.partition);
                self.open.push(batch);
                if self.open.len() == 3 {
                    self.commit(source);
                }
            }
            Event::Revoking { ack, .. } => {
                self.commit(source);
                ack.done();
            }
            Event::Lost(partitions) => {
                self.lost += 1;
                self.open.retain(|batch| !partitions.contains(&batch.partition));
            }
            Event::EndOfPartition { .. } => self.commit(source),
            Event::Assigned(_) => {}
        }
    }

    fn position(&self, partition: &TopicPartition) -> i64 {
        let open = self.open.iter().rev().find(|batch| batch.partition == *partition).map(|batch| batch.next);
        open.or(self.progress.get(partition).map(|position| position.next)).unwrap_or(0)
    }

    fn commit(&mut self, source: &Source) {
        for batch in self.open.drain(..) {
            self.ids.extend(ids(&batch));
            self.progress.insert(batch.partition, Position { next: batch.next, last: batch.last });
        }
        source.commit_hint(&self.progress);
    }
}

/// Fault matrix 13.
#[test]
fn a_group_whose_coordinator_moves_doubles_nothing() {
    const PARTITIONS: i32 = 3;
    const ROUND: usize = 600;
    const ROUNDS: usize = 4;
    let cluster = MockCluster::new(3).unwrap();
    let (brokers, topic) = (cluster.bootstrap_servers(), unique("moving"));
    cluster.create_topic(&topic, PARTITIONS, 1).unwrap();
    let mut settings = settings(&brokers, &topic);
    // The mock waits for the member that we were until its session ends.
    let soon = [
        ("reconnect.backoff.max.ms", "100"),
        ("retry.backoff.max.ms", "100"),
        ("session.timeout.ms", "4000"),
    ];
    settings.config.client = client(&soon);
    let coordinator = |broker: usize| {
        cluster.coordinator(MockCoordinator::Group(settings.group.clone()), broker as i32).unwrap();
    };
    coordinator(1);
    let (mut table, mut sent) = (Table::default(), 0);
    let mut source = Source::start(settings.clone(), Progress::new()).unwrap();
    let mut fill = || {
        (0..PARTITIONS).for_each(|p| {
            fill(&brokers, &topic, p, sent + p as usize * ROUND..sent + (p as usize + 1) * ROUND)
        });
        sent += PARTITIONS as usize * ROUND;
        sent
    };
    for round in 0..ROUNDS {
        let wanted = fill();
        coordinator(1 + round % 3);
        if round == 1 {
            // The new coordinator knows another state of the group than ours.
            let other = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION];
            cluster.request_errors(RDKafkaApiKey::Heartbeat, &other);
            let before = table.lost;
            while table.lost == before {
                table.take(&mut source);
            }
        }
        while table.ids.len() < wanted {
            table.take(&mut source);
        }
    }
    source.close();
    table.ids.sort();
    assert_eq!(table.ids, (0..sent as i64).collect::<Vec<_>>());
    let ends: BTreeMap<_, _> =
        table.progress.iter().map(|(p, position)| (p.partition, position.next)).collect();
    assert!(ends.values().all(|next| *next == (ROUNDS * ROUND) as i64), "{ends:?}");
}
