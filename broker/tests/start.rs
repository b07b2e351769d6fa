//! Starting, and what keeps a broker from it; and what others may send to its port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

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
fn garbage_ends_its_own_connection_only() {
    let broker = Embedded::start();
    create(&broker.brokers(), "topic", 1);
    let huge_length = [0x7f, 0xff, 0xff, 0xff, 0, 0];
    let too_short = [0, 0, 0, 2, 0, 0];
    let unknown_request = [0, 0, 0, 8, 0x7f, 0, 0, 0, 0, 0, 0, 1];
    // Metadata version 1 with an array of two billion topics.
    let huge_array = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff];
    let http = *b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let hostile: [&[u8]; 5] = [&huge_length, &too_short, &unknown_request, &huge_array, &http];
    for bytes in hostile {
        let mut stream = TcpStream::connect(broker.brokers()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(bytes).unwrap();
        // A reset, because of bytes that the broker did not read, is an end as well.
        let read = stream.read(&mut [0; 100]);
        assert!(
            matches!(&read, Ok(0))
                || read.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset),
            "{bytes:?}: {read:?}"
        );
    }
    produce(&broker.brokers(), "topic", ["still served"]);
    assert_eq!(consume_all(&broker.brokers(), "topic").len(), 1);
}

#[test]
fn connections_are_limited() {
    let broker = Embedded::start_with(|config| config.max_connections = 2);
    let kept = [(); 2].map(|()| TcpStream::connect(broker.brokers()).unwrap());
    let mut refused = TcpStream::connect(broker.brokers()).unwrap();
    refused.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(refused.read(&mut [0; 1]).unwrap(), 0);
    drop(kept);
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
