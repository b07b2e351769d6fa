//! Starting, and what keeps a broker from it.

use std::net::SocketAddr;

use puddle_broker::{Broker, BrokerConfig, Error, Fsync};
use puddle_testkit::topics::create;
use puddle_testkit::{Embedded, consume_all, produce};
use tempfile::TempDir;

fn start(config: BrokerConfig) -> Result<Broker, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Broker::start(config))
}

fn config(dir: &TempDir) -> BrokerConfig {
    BrokerConfig { listen: ([127, 0, 0, 1], 0).into(), ..BrokerConfig::new(dir.path().join("broker")) }
}

/// Fault matrix 49.
#[test]
fn it_listens_on_loopback_unless_told_otherwise() {
    let listen = BrokerConfig::new("unused").listen;
    assert!(listen.ip().is_loopback(), "{listen}");
}

#[test]
fn a_port_in_use_is_named() {
    let dir = TempDir::new().unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = other.local_addr().unwrap();
    let error = start(BrokerConfig { listen: addr, ..config(&dir) }).unwrap_err();
    assert!(matches!(error, Error::AddressInUse { .. }));
    assert!(error.to_string().contains(&addr.to_string()) && !error.is_usage());
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let dir = TempDir::new().unwrap();
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 0));
    let error = start(BrokerConfig { listen: elsewhere, ..config(&dir) }).unwrap_err();
    assert!(matches!(error, Error::Listen { .. }), "{error}");
}

#[test]
fn a_folder_in_use_by_another_broker_is_named() {
    let broker = Embedded::start();
    let listen = ([127, 0, 0, 1], 0).into();
    let error = start(BrokerConfig { listen, ..BrokerConfig::new(broker.dir()) }).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&broker.dir().display().to_string()));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("broker"), "a file").unwrap();
    let error = start(config(&dir)).unwrap_err();
    assert!(matches!(error, Error::Storage { .. }), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn a_damaged_file_is_named() {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir_all(dir.path().join("broker")).unwrap();
    std::fs::write(dir.path().join("broker/broker.json"), "{\"cluster").unwrap();
    let error = start(config(&dir)).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("broker.json"));
}

#[test]
fn a_senseless_configuration_is_the_users_fault() {
    let dir = TempDir::new().unwrap();
    let error = start(BrokerConfig { fsync: Fsync::EveryMillis(0), ..config(&dir) }).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("fsync"));
}

#[test]
fn every_fsync_policy_stores_records() {
    for fsync in [Fsync::Never, Fsync::EveryMillis(1), Fsync::Always] {
        let mut broker = Embedded::start_with(|config| config.fsync = fsync);
        create(&broker.brokers(), "topic", 1);
        produce(&broker.brokers(), "topic", ["a", "b"]);
        broker.restart();
        assert_eq!(consume_all(&broker.brokers(), "topic").len(), 2, "{fsync:?}");
    }
}

#[test]
fn topics_are_made_on_request_only_if_configured() {
    let producing = |broker: &Embedded| {
        let settings = [("message.timeout.ms", "3000")];
        let brokers = broker.brokers();
        std::panic::catch_unwind(move || {
            puddle_testkit::records::produce_with(&brokers, "not-there", ["a"], &settings);
        })
    };
    assert!(producing(&Embedded::start()).is_err());
    let creating = Embedded::start_with(|config| {
        config.auto_create_topics = true;
        config.default_partitions = 3;
    });
    producing(&creating).unwrap();
    assert_eq!(consume_all(&creating.brokers(), "not-there").len(), 1);
}
