//! What others may send to the broker's port, or keep from sending, while ordinary clients are served.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, FetchRequest, RequestHeader, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};
use puddle_testkit::hostile::damaged;
use puddle_testkit::memory::growth;
use puddle_testkit::topics::create;
use puddle_testkit::{Embedded, consume_all, produce};

const DEADLINE: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

/// What measuring takes is the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(broker: &Embedded) -> TcpStream {
    let stream = TcpStream::connect(broker.brokers()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Whether the broker has closed the connection; a reset, because of bytes that it did not read, is an end as well.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1024]) {
        Ok(read) => read == 0,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
    }
}

/// Checks that an ordinary client can write and read.
#[track_caller]
fn assert_served(broker: &Embedded) {
    let topic = puddle_testkit::unique("served");
    create(&broker.brokers(), &topic, 1);
    produce(&broker.brokers(), &topic, ["still served"]);
    assert_eq!(consume_all(&broker.brokers(), &topic).len(), 1);
}

/// Fault matrix 50.
#[test]
fn garbage_ends_its_own_connection_only() {
    let _alone = alone();
    let broker = Embedded::start();
    let huge_length = [0x7f, 0xff, 0xff, 0xff, 0, 0];
    let too_short = [0, 0, 0, 2, 0, 0];
    let unknown_request = [0, 0, 0, 8, 0x7f, 0, 0, 0, 0, 0, 0, 1];
    // Metadata version 1 with an array of two billion topics.
    let huge_array = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff];
    let http = *b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let hostile: [&[u8]; 5] = [&huge_length, &too_short, &unknown_request, &huge_array, &http];
    for bytes in hostile {
        let mut stream = connect(&broker);
        stream.write_all(bytes).unwrap();
        assert!(is_closed(&mut stream), "{bytes:?}");
    }
    assert_served(&broker);
}

/// What the fuzz target `frame_parser` does, with its seeds and damaged copies of them.
///
/// Fault matrix 50.
#[test]
fn no_bytes_make_the_broker_panic() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (grown, ()) = growth(|| {
        let bench = puddle_broker::fuzz::Bench::new(folder.path());
        damaged("frame_parser", 60, 50).for_each(|input| bench.run(&input));
    });
    assert!(grown < 64 * MIB, "{grown}");
}

/// Fault matrix 50.
#[test]
fn damaged_requests_take_bounded_memory_and_end_their_own_connections_only() {
    let _alone = alone();
    let broker = Embedded::start_with(|config| config.max_partitions = 50);
    let (grown, ()) = growth(|| {
        for input in damaged("frame_parser", 3, 2013) {
            let Some(bytes) = input.strip_prefix(b"c") else { continue };
            let mut stream = connect(&broker);
            // The broker may have closed the connection before it has got everything.
            if stream.write_all(bytes).is_ok() {
                let _ = stream.shutdown(std::net::Shutdown::Write);
                while !is_closed(&mut stream) {}
            }
        }
    });
    assert!(grown < 64 * MIB, "{grown}");
    assert_served(&broker);
}

/// Fault matrix 50.
#[test]
fn requests_that_do_not_end_hold_bounded_memory() {
    let _alone = alone();
    let broker = Embedded::start_with(|config| {
        config.max_request_bytes = 8 << 20;
        config.max_held_bytes = 16 << 20;
    });
    let (grown, kept) = growth(|| {
        let halves = (0..40).map(|_| {
            let mut stream = connect(&broker);
            stream.write_all(&(7_i32 << 20).to_be_bytes()).unwrap();
            let _ = stream.write_all(&vec![0; 6 << 20]);
            stream
        });
        let kept: Vec<_> = halves.collect();
        assert_served(&broker);
        kept
    });
    assert!(grown < 100 * MIB, "{grown}");
    drop(kept);
}

/// Fault matrix 50.
#[test]
fn answers_that_nobody_reads_hold_bounded_memory() {
    let _alone = alone();
    let broker = Embedded::start_with(|config| {
        config.max_request_bytes = 8 << 20;
        config.max_held_bytes = 32 << 20;
    });
    create(&broker.brokers(), "large", 1);
    produce(&broker.brokers(), "large", (0..32).map(|_| vec![b'x'; 900_000]));
    let (grown, kept) = growth(|| {
        let kept: Vec<_> = (0..40)
            .map(|_| {
                let mut stream = connect(&broker);
                stream.write_all(&fetch("large", 24 << 20)).unwrap();
                // A part of the answer shows that all of it is there.
                stream.read_exact(&mut [0; 1000]).unwrap();
                stream
            })
            .collect();
        assert_served(&broker);
        kept
    });
    assert!(grown < 200 * MIB, "{grown}");
    drop(kept);
}

/// A Fetch, version 4, of up to so many bytes of a topic's first partition.
fn fetch(topic: &'static str, max_bytes: i32) -> BytesMut {
    let partition = FetchPartition::default().with_partition_max_bytes(max_bytes);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_static_str(topic)))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_bytes(max_bytes).with_topics(vec![topic]);
    let mut body = BytesMut::new();
    let header =
        RequestHeader::default().with_request_api_key(ApiKey::Fetch as i16).with_request_api_version(4);
    header.encode(&mut body, ApiKey::Fetch.request_header_version(4)).unwrap();
    request.encode(&mut body, 4).unwrap();
    let mut frame = BytesMut::new();
    frame.put_i32(body.len() as i32);
    frame.extend_from_slice(&body);
    frame
}

/// Fault matrix 50.
#[test]
fn idle_connections_keep_nobody_out() {
    let _alone = alone();
    let broker = Embedded::start_with(|config| config.max_connections = 50);
    let mut first = connect(&broker);
    let idle: Vec<_> = (0..400).map(|_| connect(&broker)).collect();
    assert_served(&broker);
    // The one that had been silent longest has made room.
    assert!(is_closed(&mut first));
    drop(idle);
}

/// Fault matrix 50.
#[test]
fn a_request_that_comes_byte_by_byte_must_end_in_time() {
    let _alone = alone();
    let broker = Embedded::start_with(|config| config.max_idle = Duration::from_millis(300));
    let mut stream = connect(&broker);
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    stream.write_all(&1000_i32.to_be_bytes()).unwrap();
    let begun = Instant::now();
    while stream.write_all(&[0]).is_ok() && !is_closed(&mut stream) {
        assert!(begun.elapsed() < DEADLINE, "bytes are still taken");
    }
    assert_served(&broker);
}
