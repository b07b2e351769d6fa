//! The harness for the embedded broker itself.

use puddle_testkit::{Embedded, Record, consume_all, flights, produce, topics, unique};

#[test]
fn records_survive_a_restart() {
    let mut broker = Embedded::start();
    let topic = unique("restart");
    topics::create(&broker.brokers(), &topic, 1);
    let sent = flights(1_000, 3);
    produce(&broker.brokers(), &topic, sent.clone());

    let before = broker.brokers();
    broker.restart();
    assert_eq!(broker.brokers(), before);
    let received: Vec<_> = consume_all(&before, &topic).into_iter().map(|r| r.value.unwrap()).collect();
    assert_eq!(received, sent);
}

#[test]
fn brokers_are_apart() {
    let (one, two) = (Embedded::start(), Embedded::start());
    let topic = unique("apart");
    for broker in [&one, &two] {
        topics::create(&broker.brokers(), &topic, 1);
    }
    produce(&one.brokers(), &topic, [Record::new("only here")]);
    assert_eq!(consume_all(&one.brokers(), &topic).len(), 1);
    assert_eq!(consume_all(&two.brokers(), &topic).len(), 0);
    assert_ne!(one.dir(), two.dir());
}

#[tokio::test]
async fn it_can_be_used_and_dropped_within_a_runtime() {
    let broker = Embedded::start();
    let topic = unique("async");
    topics::create(&broker.brokers(), &topic, 1);
    produce(&broker.brokers(), &topic, ["value"]);
    assert_eq!(consume_all(&broker.brokers(), &topic)[0].value.as_deref(), Some(b"value".as_slice()));
}

#[test]
fn a_stopped_broker_gives_up_its_port_and_folder() {
    let mut broker = Embedded::start();
    broker.stop();
    std::net::TcpListener::bind(broker.brokers()).expect("the port is free");
    let dir = broker.dir().to_owned();
    assert!(dir.is_dir());
    drop(broker);
    assert!(!dir.exists());
}
