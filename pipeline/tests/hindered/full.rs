//! A full disk: the run pauses, says so, goes on when there is room, and nothing is lost or doubled.

use std::sync::Arc;
use std::time::Duration;

use puddle_pipeline::Error;
use puddle_pipeline::table::Table;
use puddle_testkit::{Embedded, flights, produce};

use crate::bench::{Bench, until};
use crate::disk::{Disk, Lacks, TableOnDisk};

/// How many operations of a full disk fail before there is room again.
const FULL_FOR: usize = 6;

fn on(disk: &Arc<Disk>, bench: &Bench) -> Arc<dyn Table> {
    let (config, owner) = (bench.pipeline.sink.clone(), bench.pipeline.name.clone());
    Arc::new(TableOnDisk { lake: bench.lake(), config, owner, disk: disk.clone() })
}

/// Runs into a disk that is full from operation `at` on, for a while; the table must be exact in the end. Returns how
/// many operations it took.
fn exact_when_full_at(broker: &Embedded, lacks: Lacks, at: usize) -> usize {
    let bench = Bench::new(&broker.brokers(), 2, &["commit.rows=200"]);
    produce(&bench.brokers, &bench.topic, flights(600, 21));
    let disk = Disk::new(lacks, at..at.saturating_add(FULL_FOR));
    let summary = bench.ended(bench.catch_up(&on(&disk, &bench))).unwrap();
    assert_eq!(summary.lag, 0, "full at operation {at}: {summary:?}");
    assert_eq!(bench.problems(), Vec::<String>::new(), "full at operation {at}");
    assert_eq!(bench.rows_in_lake(), bench.expected(), "full at operation {at}");
    disk.operations()
}

fn exact_when_full_at_any_of(lacks: Lacks, samples: usize) {
    let broker = Embedded::start();
    let operations = exact_when_full_at(&broker, lacks, usize::MAX);
    assert!(operations > samples, "{operations} operations");
    for sample in 0..samples {
        exact_when_full_at(&broker, lacks, sample * operations / samples);
    }
}

/// Fault matrix 29.
#[test]
fn a_disk_that_is_full_at_any_write_is_waited_for() {
    exact_when_full_at_any_of(Lacks::Room, 14);
}

/// Fault matrix 30.
#[test]
fn a_disk_without_inodes_is_waited_for() {
    exact_when_full_at_any_of(Lacks::Inodes, 6);
}

/// Fault matrix 29.
#[test]
fn a_run_that_is_paused_says_so_and_goes_on_with_what_came_meanwhile() {
    let broker = Embedded::start();
    let mut bench = Bench::new(&broker.brokers(), 2, &[]);
    // Long enough for records to come meanwhile.
    bench.patience.full_pause = (Duration::from_millis(500), Duration::from_millis(500));
    let disk = Disk::new(Lacks::Room, 0..0);
    let run = bench.follow(&on(&disk, &bench));
    produce(&bench.brokers, &bench.topic, flights(300, 22));
    until("the first records are committed", || run.committed() == 300);
    assert_eq!(run.note(), None);

    disk.fill();
    produce(&bench.brokers, &bench.topic, flights(300, 23));
    until("the run says that it is paused", || run.note().as_deref() == Some("paused: disk full"));
    assert!(run.metrics.render().contains("puddle_paused{pipeline=\"bench\"} 1"));
    let read = run.metrics.records_read();
    produce(&bench.brokers, &bench.topic, flights(300, 24));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(run.metrics.records_read(), read, "a run that is paused reads nothing");

    disk.make_room();
    until("all is committed", || run.committed() == 900);
    until("the run says nothing any more", || run.note().is_none());
    assert!(run.metrics.render().contains("puddle_paused{pipeline=\"bench\"} 0"));
    bench.stop(run).unwrap();
    assert_eq!(bench.problems(), Vec::<String>::new());
    assert_eq!(bench.rows_in_lake(), bench.expected());
}

/// Fault matrix 29.
#[test]
fn a_paused_run_ends_in_order_when_asked_and_the_next_one_reads_the_rest() {
    let broker = Embedded::start();
    let bench = Bench::new(&broker.brokers(), 2, &[]);
    let disk = Disk::new(Lacks::Room, 0..0);
    let run = bench.follow(&on(&disk, &bench));
    produce(&bench.brokers, &bench.topic, flights(300, 25));
    until("the first records are committed", || run.committed() == 300);
    disk.fill();
    produce(&bench.brokers, &bench.topic, flights(300, 26));
    until("the run says that it is paused", || run.note().is_some());
    assert_eq!(bench.stop(run).unwrap().records, 300);
    disk.make_room();
    assert_eq!(bench.ended(bench.catch_up(&on(&disk, &bench))).unwrap().records, 300);
    assert_eq!(bench.problems(), Vec::<String>::new());
    assert_eq!(bench.rows_in_lake(), bench.expected());
}

/// Fault matrix 29.
#[test]
fn a_run_gives_up_when_there_is_no_room_for_too_long() {
    let broker = Embedded::start();
    let mut bench = Bench::new(&broker.brokers(), 1, &[]);
    bench.patience.full = Duration::from_millis(300);
    produce(&bench.brokers, &bench.topic, flights(10, 27));
    let disk = Disk::new(Lacks::Room, 0..usize::MAX);
    let error = bench.ended(bench.follow(&on(&disk, &bench))).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Lake { .. }) && !error.is_usage(), "{text}");
    assert!(text.contains(&bench.lake().display().to_string()) && text.contains("make room"), "{text}");
}
