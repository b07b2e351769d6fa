//! Whole runs over a network that fails: every record once, with its values.

use std::time::{Duration, Instant};

use puddle_testkit::proxy::{Counts, Way, Weather};
use puddle_testkit::{Apache, Embedded, Proxy, flights, produce};

use crate::suite::{Bench, at_least, topic};

/// Runs a case with a proxy before an embedded broker.
fn embedded(case: fn(&Proxy)) {
    let proxy = Proxy::start(2013);
    let _broker = Embedded::behind(&proxy);
    case(&proxy);
}

/// Fault matrix 26.
#[test]
fn embedded_latency_jitter_and_loss_change_nothing() {
    embedded(latency_jitter_and_loss_change_nothing);
}

/// Fault matrix 27.
#[test]
fn embedded_a_half_open_connection_is_given_up_and_the_run_goes_on() {
    embedded(a_half_open_connection_is_given_up_and_the_run_goes_on);
}

/// Fault matrix 28.
#[test]
fn embedded_a_reset_in_the_middle_of_a_fetch_changes_nothing() {
    embedded(a_reset_in_the_middle_of_a_fetch_changes_nothing);
}

/// Fault matrix 11.
#[test]
fn embedded_a_broker_that_cannot_be_reached_for_a_second_is_waited_for() {
    embedded(a_broker_that_cannot_be_reached_for_a_second_is_waited_for);
}

/// Fault matrix 11.
#[test]
fn embedded_a_broker_that_cannot_be_reached_past_the_session_is_waited_for() {
    embedded(a_broker_that_cannot_be_reached_past_the_session_is_waited_for);
}

/// Fault matrix 11, 26, 27, 28.
#[test]
fn apache_survives_the_same_network() {
    let proxy = Proxy::start(2013);
    let Some(_kafka) = Apache::behind(&proxy) else { return };
    latency_jitter_and_loss_change_nothing(&proxy);
    a_half_open_connection_is_given_up_and_the_run_goes_on(&proxy);
    a_reset_in_the_middle_of_a_fetch_changes_nothing(&proxy);
    a_broker_that_cannot_be_reached_past_the_session_is_waited_for(&proxy);
}

/// Settings under which a fault of minutes takes seconds.
const SOON: [&str; 5] = [
    "ingest.client.\"socket.timeout.ms\"=1200",
    "ingest.client.\"reconnect.backoff.max.ms\"=200",
    "ingest.client.\"retry.backoff.max.ms\"=200",
    "ingest.client.\"heartbeat.interval.ms\"=200",
    "commit.every=50ms",
];

/// A topic, and a pipeline that reads it through the proxy.
fn bench(proxy: &Proxy, overrides: &[&str]) -> (String, Bench) {
    let topic = topic(&proxy.brokers(), 2);
    let bench = Bench::new(&proxy.brokers(), std::slice::from_ref(&topic), "rows = 100000");
    (topic, bench.set(&[&SOON, overrides].concat()))
}

/// Runs while `fault` strikes after each of some rounds of a thousand records, and checks that all came through it.
fn run_through(proxy: &Proxy, overrides: &[&str], rounds: usize, fault: impl Fn(usize)) {
    let (topic, bench) = bench(proxy, overrides);
    let records = flights(1_000 * rounds, 26);
    let (brokers, name, fault) = (proxy.brokers(), &topic, &fault);
    let summary = bench.run_until(|metrics| {
        let records = &records;
        async move {
            for (round, part) in records.chunks(1_000).enumerate() {
                tokio::task::block_in_place(|| {
                    if round > 0 {
                        fault(round);
                    }
                    produce(&brokers, name, part.iter().cloned());
                });
                at_least((round as u64 + 1) * 1_000, || metrics.records_committed()).await;
            }
        }
    });
    assert_eq!(summary.unwrap().records, records.len() as u64);
    bench.assert_equals_topic(&topic);
    bench.assert_exact(records.len() as u64);
}

fn latency_jitter_and_loss_change_nothing(proxy: &Proxy) {
    let before = proxy.counts().lost;
    let millis = Duration::from_millis;
    run_through(proxy, &[], 3, |_| {
        proxy.weather(Weather { latency: millis(3), jitter: millis(10), loss: 0.05 })
    });
    proxy.weather(Weather::default());
    assert!(proxy.counts().lost > before, "no packet was lost: {:?}", proxy.counts());
}

fn a_half_open_connection_is_given_up_and_the_run_goes_on(proxy: &Proxy) {
    let before = proxy.counts().given_up;
    let ways = [Way::Both, Way::ToClient, Way::ToBroker];
    let begun = Instant::now();
    run_through(proxy, &[], 1 + ways.len(), |round| proxy.freeze(ways[round - 1]));
    assert!(proxy.counts().given_up >= before + ways.len(), "{:?}", proxy.counts());
    // With librdkafka's own time-out, each would take a minute.
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
}

fn a_reset_in_the_middle_of_a_fetch_changes_nothing(proxy: &Proxy) {
    const TIMES: usize = 6;
    let before = proxy.counts().torn;
    let (topic, bench) = bench(proxy, &[]);
    produce(&proxy.brokers(), &topic, flights(6_000, 28));
    // Nothing else that a client asks for is answered at such length.
    proxy.tear(20_000, TIMES);
    assert_eq!(bench.catch_up().unwrap().records, 6_000);
    let Counts { torn, .. } = proxy.counts();
    assert_eq!(torn, before + TIMES);
    bench.assert_equals_topic(&topic);
    bench.assert_exact(6_000);
}

/// Lets nobody through for so long, and until the run has tried to come through more than once.
fn away(proxy: &Proxy, time: Duration) {
    let (begun, before) = (Instant::now(), proxy.counts().refused);
    proxy.refuse(true);
    while begun.elapsed() < time || proxy.counts().refused < before + 2 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the run does not try: {:?}", proxy.counts());
        std::thread::sleep(Duration::from_millis(10));
    }
    proxy.refuse(false);
}

fn a_broker_that_cannot_be_reached_for_a_second_is_waited_for(proxy: &Proxy) {
    run_through(proxy, &[], 2, |_| away(proxy, Duration::from_secs(1)));
}

/// Minutes, with a session of a second instead of 45: the group has given us up when we come back.
fn a_broker_that_cannot_be_reached_past_the_session_is_waited_for(proxy: &Proxy) {
    let session = ["ingest.client.\"session.timeout.ms\"=1000"];
    run_through(proxy, &session, 2, |_| away(proxy, Duration::from_secs(3)));
}
