//! No silent stall: while records wait and nothing is committed, the run says why.

use std::time::Duration;

use puddle_testkit::{Apache, Embedded, flights, produce, unique};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::bench::{Bench, DEADLINE, until};

/// Fault matrix 11.
#[test]
fn a_run_without_a_broker_says_so_until_there_is_one() {
    let mut broker = Embedded::start();
    let mut bench = Bench::new(&broker.brokers(), 1, &[]);
    bench.patience.stall = Duration::from_secs(1);
    let run = bench.follow(&bench.table());
    produce(&bench.brokers, &bench.topic, flights(50, 31));
    until("the records are committed", || run.committed() == 50);
    assert_eq!(run.note(), None);

    broker.stop();
    let says = |words: &str| run.note().is_some_and(|note| note.contains(words));
    until("the run says why it stalls", || says("no broker has answered"));
    assert!(run.metrics.render().contains("puddle_stalled{pipeline=\"bench\"} 1"));

    broker.restart();
    produce(&bench.brokers, &bench.topic, flights(50, 32));
    until("the run goes on", || run.committed() == 100);
    until("the run says nothing any more", || run.note().is_none());
    bench.stop(run).unwrap();
    assert_eq!(bench.rows_in_lake(), bench.expected());
}

/// Fault matrix 11, 15.
#[test]
fn nothing_is_committed_while_no_broker_says_that_the_topic_is_the_same() {
    let mut broker = Embedded::start();
    let overrides = ["commit.every=2s", "ingest.client.\"socket.timeout.ms\"=1000"];
    let mut bench = Bench::new(&broker.brokers(), 1, &overrides);
    // Later than the commit that is due, and than the brokers may take to answer.
    bench.patience.stall = Duration::from_secs(5);
    let run = bench.follow(&bench.table());
    produce(&bench.brokers, &bench.topic, flights(50, 35));
    until("the records are read", || run.metrics.records_read() == 50);
    broker.stop();
    until("the run says why it stalls", || {
        run.note().is_some_and(|note| note.contains("no broker has answered"))
    });
    assert_eq!(run.committed(), 0);

    broker.restart();
    until("the run goes on", || run.committed() == 50);
    assert!(run.metrics.records_read() >= 100, "they are read again");
    bench.stop(run).unwrap();
    assert_eq!(bench.rows_in_lake(), bench.expected());
}

/// Fault matrix 17.
#[test]
fn apache_a_run_that_waits_for_a_transaction_names_the_partition_and_the_offset() {
    let Some(kafka) = Apache::shared() else { return };
    let mut bench = Bench::new(kafka.brokers(), 1, &[]);
    bench.patience.stall = Duration::from_secs(1);
    let run = bench.follow(&bench.table());
    produce(&bench.brokers, &bench.topic, flights(50, 33));
    until("the records are committed", || run.committed() == 50);

    let producer: BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &bench.brokers)
        .set("transactional.id", unique("transaction"))
        .create()
        .unwrap();
    producer.init_transactions(DEADLINE).unwrap();
    producer.begin_transaction().unwrap();
    for record in flights(20, 34) {
        let record: BaseRecord<'_, (), _> = BaseRecord::to(&bench.topic).payload(&record);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
    let words = format!("{}-0 waits at offset 50", bench.topic);
    until("the run says what it waits for", || {
        run.note().is_some_and(|note| note.contains(&words) && note.contains("transaction"))
    });

    producer.commit_transaction(DEADLINE).unwrap();
    until("the run goes on", || run.committed() == 70);
    until("the run says nothing any more", || run.note().is_none());
    bench.stop(run).unwrap();
    assert_eq!(bench.rows_in_lake(), bench.expected());
}
