//! The proxy itself: what it is told to break breaks, and nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use puddle_testkit::proxy::{Way, Weather};
use puddle_testkit::{Apache, Embedded, Proxy, consume_all, flights, produce, topics, unique};

/// Longer than anything takes that does not hang.
const DEADLINE: Duration = Duration::from_secs(20);

/// A proxy before somebody who sends back what comes.
fn echo() -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(1);
    proxy.lead_to(listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut from = stream.try_clone().unwrap();
            let mut to = stream;
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    proxy
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn echoed(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes)?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, bytes);
    Ok(())
}

#[test]
fn weather_delays_and_changes_nothing() {
    let proxy = echo();
    let mut stream = connect(&proxy);
    echoed(&mut stream, b"calm").unwrap();
    let latency = Duration::from_millis(30);
    proxy.weather(Weather { latency, jitter: Duration::from_millis(5), loss: 0.0 });
    let begin = Instant::now();
    echoed(&mut stream, b"slow").unwrap();
    assert!(begin.elapsed() >= 2 * latency, "{:?}", begin.elapsed());
    proxy.weather(Weather { loss: 1.0, ..Weather::default() });
    echoed(&mut stream, b"lossy").unwrap();
    assert!(proxy.counts().lost >= 2, "{:?}", proxy.counts());
}

#[test]
fn a_frozen_connection_is_silent_and_a_new_one_works() {
    let proxy = echo();
    let mut frozen = connect(&proxy);
    echoed(&mut frozen, b"before").unwrap();
    proxy.freeze(Way::ToClient);
    frozen.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let error = echoed(&mut frozen, b"after").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    echoed(&mut connect(&proxy), b"another").unwrap();
    drop(frozen);
    let begin = Instant::now();
    while proxy.counts().given_up == 0 {
        assert!(begin.elapsed() < DEADLINE, "{:?}", proxy.counts());
        std::thread::yield_now();
    }
}

#[test]
fn large_responses_are_torn_as_often_as_asked() {
    let proxy = echo();
    proxy.tear(1_000, 1);
    let frame = |length: u32| [&length.to_be_bytes()[..], &vec![7; length as usize]].concat();
    let mut stream = connect(&proxy);
    echoed(&mut stream, &frame(999)).unwrap();
    let error = echoed(&mut stream, &frame(1_000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    assert_eq!(proxy.counts().torn, 1);
    echoed(&mut connect(&proxy), &frame(1_000)).unwrap();
}

#[test]
fn connections_are_cut_and_refused_until_told_otherwise() {
    let proxy = echo();
    let mut stream = connect(&proxy);
    echoed(&mut stream, b"before").unwrap();
    proxy.refuse(true);
    assert!(echoed(&mut stream, b"after").is_err());
    assert!(TcpStream::connect(proxy.address()).and_then(|mut stream| echoed(&mut stream, b"new")).is_err());
    assert_eq!(proxy.counts().refused, 1);
    proxy.refuse(false);
    echoed(&mut connect(&proxy), b"back").unwrap();
}

/// Whether clients of a broker come by the proxy for all that they do, and see what they would see without it.
fn is_passed_by_all(proxy: &Proxy) {
    let topic = unique("proxied");
    topics::create(&proxy.brokers(), &topic, 2);
    let records = flights(500, 1);
    produce(&proxy.brokers(), &topic, records.clone());
    let before = proxy.counts().accepted;
    assert_eq!(consume_all(&proxy.brokers(), &topic).len(), records.len());
    // One connection for the bootstrap, and one for the broker as it advertises itself.
    assert!(proxy.counts().accepted >= before + 2, "{:?}", proxy.counts());
}

#[test]
fn embedded_clients_come_by_the_proxy() {
    let proxy = Proxy::start(1);
    let _broker = Embedded::behind(&proxy);
    is_passed_by_all(&proxy);
}

#[test]
fn apache_clients_come_by_the_proxy() {
    let proxy = Proxy::start(1);
    let Some(kafka) = Apache::behind(&proxy) else { return };
    is_passed_by_all(&proxy);
    let topic = unique("direct");
    let before = proxy.counts();
    topics::create(kafka.brokers(), &topic, 1);
    produce(kafka.brokers(), &topic, ["past the proxy"]);
    assert_eq!(proxy.counts(), before);
}
