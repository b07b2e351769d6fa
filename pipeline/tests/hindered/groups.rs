//! Several runs of one pipeline: partitions change hands, and every record is in the table once.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use puddle_pipeline::Error;
use puddle_pipeline::table::Table;
use puddle_sink::memory::MemoryTable;
use puddle_sink::{Committed, Epoch, Error as SinkError, Sink};
use puddle_testkit::{flights, produce};
use puddle_types::{Offset, Progress, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::bench::{Bench, Member, rows, until};

/// A table in memory for several writers, whose commits wait while a gate is shut.
#[derive(Clone)]
struct Shared {
    table: MemoryTable,
    owner: String,
    gate: Arc<Gate>,
}

/// Shut by a test, passed by commits.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    shut: bool,
    waiting: usize,
}

impl Gate {
    fn set(&self, shut: bool) {
        self.state.lock().unwrap().shut = shut;
        self.changed.notify_all();
    }

    fn waiting(&self) -> usize {
        self.state.lock().unwrap().waiting
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        state = self.changed.wait_while(state, |state| state.shut).unwrap();
        state.waiting -= 1;
    }
}

impl Shared {
    fn new(bench: &Bench) -> Self {
        let (table, owner) = (MemoryTable::with_several_writers(), bench.pipeline.name.clone());
        Self { table, owner, gate: Arc::default() }
    }

    /// The same table as a writer sees it who has a gate of its own.
    fn with_gate(&self) -> (Arc<dyn Table>, Arc<Gate>) {
        let gate = Arc::<Gate>::default();
        (Arc::new(Self { gate: gate.clone(), ..self.clone() }), gate)
    }

    fn arc(&self) -> Arc<dyn Table> {
        Arc::new(self.clone())
    }

    #[track_caller]
    fn assert_exact(&self, bench: &Bench) {
        let (found, expected) = (rows(&self.table.rows()), bench.expected());
        assert_eq!(found.len(), expected.len(), "rows of the table, and of the topic");
        assert_eq!(found, expected);
    }
}

impl Table for Shared {
    fn open(&self, columns: SchemaRef) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Gated { sink: self.table.open(&columns, &self.owner)?, gate: self.gate.clone() }))
    }

    fn progress(&self) -> Result<Progress, SinkError> {
        Ok(self.table.progress())
    }

    fn has_several_writers(&self) -> bool {
        true
    }
}

struct Gated {
    sink: Box<dyn Sink>,
    gate: Arc<Gate>,
}

impl Sink for Gated {
    fn progress(&self) -> &Progress {
        self.sink.progress()
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        self.sink.write(rows)
    }

    fn write_rejected(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        self.sink.write_rejected(rows)
    }

    fn commit(&mut self, epoch: Epoch) -> Result<Committed, SinkError> {
        self.gate.pass();
        self.sink.commit(epoch)
    }

    fn abort(&mut self) -> Result<(), SinkError> {
        self.sink.abort()
    }

    fn accept_gap(&mut self, partition: &TopicPartition, next: Offset) -> Result<(), SinkError> {
        self.sink.accept_gap(partition, next)
    }

    fn retry(&mut self, files: &[std::path::PathBuf]) -> Result<(), SinkError> {
        self.sink.retry(files)
    }

    fn reload(&mut self) -> Result<(), SinkError> {
        self.sink.reload()
    }
}

fn committed(members: &[&Member]) -> u64 {
    members.iter().map(|member| member.committed()).sum()
}

pub(crate) fn runs_share_the_partitions_and_end_when_all_is_committed_by_whomever(brokers: &str) {
    let bench = Bench::new(brokers, 4, &[]);
    let table = Shared::new(&bench);
    let (first, second) = (bench.follow(&table.arc()), bench.follow(&table.arc()));
    // Both have partitions when both have committed something of what is produced while they run.
    let mut seed = 41;
    until("both runs commit", || {
        produce(brokers, &bench.topic, flights(100, seed));
        seed += 1;
        let begin = std::time::Instant::now();
        while committed(&[&first, &second]) < (seed - 41) * 100 {
            assert!(begin.elapsed() < crate::bench::DEADLINE, "records wait");
            std::thread::sleep(Duration::from_millis(5));
        }
        first.committed() > 0 && second.committed() > 0
    });
    produce(brokers, &bench.topic, flights(500, 40));
    // One more that is to catch up: it ends though the others commit most of it, and they go on.
    let summary = bench.ended(bench.catch_up(&table.arc())).unwrap();
    assert_eq!(rows(&table.table.rows()).len(), bench.expected().len());
    let total = (seed - 41) * 100 + 500;
    assert_eq!(summary.records + committed(&[&first, &second]), total);
    bench.stop(first).unwrap();
    bench.stop(second).unwrap();
    table.assert_exact(&bench);
}

pub(crate) fn a_partition_with_nothing_to_read_is_not_waited_for(brokers: &str) {
    let bench = Bench::new(brokers, 2, &["ingest.start=latest"]);
    produce(brokers, &bench.topic, flights(100, 71));
    let table = Shared::new(&bench);
    let holder = bench.follow(&table.arc());
    // The holder begins at the ends; nothing but its commits can tell the other that nothing is missing.
    until("it is known where the partitions begin", || table.table.progress().len() == 2);
    bench.ended(bench.catch_up(&table.arc())).unwrap();
    bench.stop(holder).unwrap();
    assert_eq!(table.table.rows().len(), 0);
}

/// Fault matrix 21. A dozen changes in quick succession; `PUDDLE_MEMBERSHIP_CHANGES=200` makes it as many, one every
/// two seconds.
pub(crate) fn members_that_come_and_go_lose_and_double_nothing(brokers: &str) {
    let asked = std::env::var("PUDDLE_MEMBERSHIP_CHANGES").ok().map(|text| text.parse().unwrap());
    let (changes, pace) = match asked {
        Some(changes) => (changes, Duration::from_secs(2)),
        None => (12, Duration::from_millis(300)),
    };
    let bench = Bench::new(brokers, 6, &[]);
    let table = Shared::new(&bench);
    come_and_go(&bench, &table.arc(), changes, pace);
    table.assert_exact(&bench);
}

/// Fault matrix 21.
#[test]
fn embedded_members_of_a_delta_table_come_and_go_and_lose_and_double_nothing() {
    let broker = puddle_testkit::Embedded::start();
    let bench = Bench::new(&broker.brokers(), 6, &["sink.kind=delta"]);
    come_and_go(&bench, &bench.table(), 10, Duration::from_millis(300));
    assert_eq!(bench.rows_in_lake(), bench.expected());
    assert_eq!(bench.problems(), Vec::<String>::new());
}

/// Starts and stops runs while records come, and in the end lets one catch up.
fn come_and_go(bench: &Bench, table: &Arc<dyn Table>, changes: u64, pace: Duration) {
    let mut members = vec![bench.follow(table)];
    let mut random = 7_u64;
    for change in 0..changes {
        produce(&bench.brokers, &bench.topic, flights(50, change));
        // Any will do that is neither always the oldest nor always the newest.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = (random >> 33) as usize;
        if members.len() == 1 || (members.len() < 4 && dice.is_multiple_of(2)) {
            members.push(bench.follow(table));
        } else {
            bench.stop(members.swap_remove(dice % members.len())).unwrap();
        }
        // The pace of the changes is what is tested; there is nothing to wait for.
        std::thread::sleep(pace);
    }
    bench.ended(bench.catch_up(table)).unwrap();
    members.into_iter().for_each(|member| _ = bench.stop(member).unwrap());
}

/// Fault matrix 22 and 24.
pub(crate) fn a_commit_that_outlasts_its_revocation_is_refused_and_read_again(brokers: &str) {
    let mut bench = Bench::new(brokers, 2, &[]);
    bench.patience.revoke = Duration::from_millis(200);
    let shared = Shared::new(&bench);
    let (table, gate) = shared.with_gate();
    let slow = bench.follow(&table);
    produce(brokers, &bench.topic, flights(200, 51));
    until("the first records are committed", || slow.committed() == 200);

    gate.set(true);
    produce(brokers, &bench.topic, flights(200, 52));
    until("a commit hangs", || gate.waiting() == 1);
    let quick = bench.follow(&shared.arc());
    until("the new owner commits what the slow one has in hand", || quick.committed() > 0);
    gate.set(false);
    until("all is committed", || committed(&[&slow, &quick]) == 400);
    produce(brokers, &bench.topic, flights(200, 53));
    until("both go on", || committed(&[&slow, &quick]) == 600);
    bench.stop(slow).unwrap();
    bench.stop(quick).unwrap();
    shared.assert_exact(&bench);
}

/// Fault matrix 24.
pub(crate) fn a_commit_that_ends_in_time_is_where_the_next_owner_goes_on(brokers: &str) {
    let bench = Bench::new(brokers, 2, &[]);
    let shared = Shared::new(&bench);
    let (table, gate) = shared.with_gate();
    let slow = bench.follow(&table);
    produce(brokers, &bench.topic, flights(200, 54));
    until("the first records are committed", || slow.committed() == 200);
    gate.set(true);
    produce(brokers, &bench.topic, flights(200, 55));
    until("a commit hangs", || gate.waiting() == 1);
    // Fetched while the commit hangs, so that it is in hand and in no commit when the partitions are to go.
    produce(brokers, &bench.topic, flights(200, 56));
    let quick = bench.follow(&shared.arc());
    // Five heartbeats, so that the slow one has heard of the other.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(quick.committed(), 0, "the partitions were not waited for");
    gate.set(false);
    until("all is committed", || committed(&[&slow, &quick]) == 600);
    assert_eq!(slow.committed(), 600, "what was in hand was the old owner's to commit");
    bench.stop(slow).unwrap();
    bench.stop(quick).unwrap();
    shared.assert_exact(&bench);
}

/// Fault matrix 23.
pub(crate) fn of_two_runs_with_one_fixed_name_the_earlier_ends_with_an_error(brokers: &str) {
    let bench = Bench::new(brokers, 1, &["ingest.client.\"group.instance.id\"=\"one\""]);
    let table = Shared::new(&bench);
    let first = bench.follow(&table.arc());
    produce(brokers, &bench.topic, flights(50, 61));
    until("the first commits", || first.committed() == 50);
    let second = bench.follow(&table.arc());
    let error = bench.ended(first).unwrap_err();
    assert!(matches!(&error, Error::Ingest(puddle_ingest::Error::Fenced { .. })), "{error}");
    assert!(!error.is_usage() && error.to_string().contains("\"one\""), "{error}");
    produce(brokers, &bench.topic, flights(50, 62));
    until("the second goes on", || second.committed() == 50);
    bench.stop(second).unwrap();
    table.assert_exact(&bench);
}

/// Fault matrix 22, 23.
pub(crate) fn a_run_whose_own_name_is_taken_joins_anew(brokers: &str) {
    let bench = Bench::new(brokers, 1, &[]);
    let table = Shared::new(&bench);
    let run = bench.follow(&table.arc());
    produce(brokers, &bench.topic, flights(50, 65));
    until("the run commits", || run.committed() == 50);
    // What librdkafka itself may do after its session ended: the name joins once more, as somebody new.
    let group = bench.pipeline.group();
    let other: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", &group)
        .set("group.instance.id", format!("{group}-0"))
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    other.subscribe(&[&bench.topic]).unwrap();
    until("the other has the name, and loses it again", || {
        other.poll(Duration::from_millis(50));
        other.client().fatal_error().is_some()
    });
    produce(brokers, &bench.topic, flights(50, 66));
    until("the run goes on", || run.committed() == 100);
    bench.stop(run).unwrap();
    table.assert_exact(&bench);
}

/// Fault matrix 25.
pub(crate) fn a_table_with_one_writer_refuses_a_second_run_by_name(brokers: &str) {
    let bench = Bench::new(brokers, 1, &[]);
    let first = bench.follow(&bench.table());
    produce(brokers, &bench.topic, flights(50, 63));
    until("the first commits", || first.committed() == 50);
    let error = bench.ended(bench.follow(&bench.table())).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Sink(SinkError::Locked { .. })) && !error.is_usage(), "{text}");
    assert!(text.contains("pipeline \"bench\"") && text.contains("kind = \"delta\""), "{text}");

    produce(brokers, &bench.topic, flights(50, 64));
    until("the first goes on", || first.committed() == 100);
    bench.stop(first).unwrap();
    let other = bench.other_pipeline("thief", &[]);
    let table = puddle_pipeline::table::LakeTable {
        lake: bench.lake(),
        config: other.sink.clone(),
        owner: other.name.clone(),
    };
    let error = bench.ended(bench.start(other, &(Arc::new(table) as Arc<dyn Table>), None)).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Sink(SinkError::Owner { .. })) && error.is_usage(), "{text}");
    assert!(text.contains("\"bench\"") && text.contains("\"thief\""), "{text}");
    assert_eq!(bench.rows_in_lake(), bench.expected());
}
