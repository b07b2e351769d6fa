//! A network that fails as it is told to: a proxy between a client and a broker.
//!
//! ```text
//! client ◄──► Proxy ◄──► broker
//!               ▲
//!               └── weather, freeze, tear, cut, refuse
//! ```
//!
//! Kafka's clients go where the broker says that it is. So the broker must advertise the proxy's address, as with
//! [`Embedded::behind`](crate::Embedded::behind) and [`Apache::behind`](crate::Apache::behind), or its clients go around it.
//!
//! A proxy sees what an application sees of TCP: bytes in order, late, or an end. A packet that the network loses is sent
//! again after a while, and all that follows waits for it; so loss is a stall here, see [`Weather::loss`].

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::frames::Frames;
use crate::records::SplitMix64;

/// How long a lost packet takes to come through: the shortest retransmission time-out of Linux.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// A proxy on a free loopback port, with a thread of its own. It stops when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How bytes travel, in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// What every read of up to 16 KiB takes longer.
    pub latency: Duration,
    /// What it takes longer at most besides, by chance.
    pub jitter: Duration,
    /// The share of reads (0 to 1) that lose a packet: they and what follows them come 200 ms later.
    pub loss: f64,
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Requests.
    ToBroker,
    /// Responses.
    ToClient,
    /// Both.
    Both,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were taken.
    pub accepted: usize,
    /// Connections that were refused.
    pub refused: usize,
    /// Connections that were reset in the middle of a response.
    pub torn: usize,
    /// Reads that lost a packet.
    pub lost: usize,
    /// Connections that clients closed while nothing moved on them any more.
    pub given_up: usize,
}

#[derive(Debug, Default)]
struct Shared {
    faults: watch::Sender<Faults>,
    random: Mutex<SplitMix64>,
    /// Connections are numbered from 1.
    newest: AtomicU64,
    counters: [AtomicUsize; 5],
}

/// What is wrong at the moment.
#[derive(Clone, Debug, Default)]
struct Faults {
    broker: Option<SocketAddr>,
    weather: Weather,
    /// Up to which connection nothing moves, and in which direction.
    frozen: Option<(u64, Way)>,
    /// Up to which connection all are reset.
    cut: u64,
    tear: Tear,
    refuse: bool,
}

/// How many responses of at least so many bytes are still to be torn.
#[derive(Clone, Copy, Debug, Default)]
struct Tear {
    at_least: usize,
    times: usize,
}

#[derive(Clone, Copy)]
enum Counter {
    Accepted,
    Refused,
    Torn,
    Lost,
    GivenUp,
}

impl Proxy {
    /// Starts a proxy that refuses connections until it knows a broker. What happens by chance follows from `seed`.
    pub fn start(seed: u64) -> Proxy {
        let shared = Arc::new(Shared { random: Mutex::new(SplitMix64(seed)), ..Shared::default() });
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, address) = mpsc::channel();
        let served = Arc::clone(&shared);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
                let _ = started.send(listener.local_addr().expect("a bound socket has an address"));
                tokio::select! {
                    () = accept(listener, served) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(run).expect("a thread");
        let address = address.recv().expect("the proxy listens");
        Proxy { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Where clients find it, and what the broker must advertise.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for `bootstrap.servers`.
    pub fn brokers(&self) -> String {
        self.address.to_string()
    }

    /// From now on, connections are led to this broker.
    pub fn lead_to(&self, broker: SocketAddr) {
        self.change(|faults| faults.broker = Some(broker));
    }

    /// From now on, bytes travel like this.
    pub fn weather(&self, weather: Weather) {
        self.change(|faults| faults.weather = weather);
    }

    /// Nothing moves any more on the connections that are open now, and nobody is told: they are half-open. New
    /// connections work.
    pub fn freeze(&self, way: Way) {
        let newest = self.shared.newest.load(Ordering::SeqCst);
        self.change(|faults| faults.frozen = Some((newest, way)));
    }

    /// Resets the connection in the middle of each of the next `times` responses of at least `at_least` bytes.
    pub fn tear(&self, at_least: usize, times: usize) {
        self.change(|faults| faults.tear = Tear { at_least, times });
    }

    /// Resets all connections that are open now.
    pub fn cut(&self) {
        let newest = self.shared.newest.load(Ordering::SeqCst);
        self.change(|faults| faults.cut = newest);
    }

    /// Resets all connections, and each new one as soon as it is made, until told otherwise.
    pub fn refuse(&self, refuse: bool) {
        self.change(|faults| faults.refuse = refuse);
        if refuse {
            self.cut();
        }
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        let count = |counter: Counter| self.shared.counters[counter as usize].load(Ordering::SeqCst);
        Counts {
            accepted: count(Counter::Accepted),
            refused: count(Counter::Refused),
            torn: count(Counter::Torn),
            lost: count(Counter::Lost),
            given_up: count(Counter::GivenUp),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.faults.send_modify(change);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        // A second panic while the first one unwinds would hide the test's message.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted.expect("a connection").0,
            Some(_) = connections.join_next() => continue,
        };
        let Faults { broker: Some(broker), refuse: false, .. } = *shared.faults.borrow() else {
            shared.count(Counter::Refused);
            reset(client);
            continue;
        };
        shared.count(Counter::Accepted);
        let number = shared.newest.fetch_add(1, Ordering::SeqCst) + 1;
        connections.spawn(Connection { number, shared: Arc::clone(&shared) }.serve(client, broker));
    }
}

/// Closes a connection so that its peer hears of a reset, and not of an orderly end.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

struct Connection {
    number: u64,
    shared: Arc<Shared>,
}

/// How a connection ends.
#[derive(PartialEq)]
enum End {
    Closed,
    Reset,
}

impl Connection {
    async fn serve(self, mut client: TcpStream, broker: SocketAddr) {
        let Ok(mut broker) = TcpStream::connect(broker).await else { return reset(client) };
        let _ = (client.set_nodelay(true), broker.set_nodelay(true));
        let ((from_client, to_client), (from_broker, to_broker)) = (client.split(), broker.split());
        let end = tokio::select! {
            end = self.relay(from_client, to_broker, Way::ToBroker) => end,
            end = self.relay(from_broker, to_client, Way::ToClient) => end,
            () = self.until(|faults| faults.cut >= self.number) => End::Reset,
        };
        if end == End::Reset {
            reset(client);
            reset(broker);
        }
    }

    async fn relay(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, way: Way) -> End {
        let mut buffer = vec![0; 16 << 10];
        let mut frames = Frames::default();
        loop {
            let read = match from.read(&mut buffer).await {
                Ok(0) | Err(_) => {
                    if self.is_frozen(Way::Both) {
                        self.shared.count(Counter::GivenUp);
                    }
                    return End::Closed;
                }
                Ok(read) => &buffer[..read],
            };
            self.shared.travel().await;
            if self.is_frozen(way) {
                // Swallowed: what comes after a gap would never be delivered by TCP either.
                continue;
            }
            let torn = match way {
                Way::ToClient => self.tear(&mut frames, read),
                _ => None,
            };
            if to.write_all(&read[..torn.unwrap_or(read.len())]).await.is_err() {
                return End::Closed;
            }
            if torn.is_some() {
                return End::Reset;
            }
        }
    }

    /// Whether nothing moves in this direction; with [`Way::Both`], whether nothing moves in any.
    fn is_frozen(&self, way: Way) -> bool {
        let frozen = self.shared.faults.borrow().frozen;
        frozen.is_some_and(|(up_to, stuck)| {
            self.number <= up_to && (way == Way::Both || stuck == Way::Both || stuck == way)
        })
    }

    /// Where to stop, if the bytes reach the middle of a response that is to be torn.
    fn tear(&self, frames: &mut Frames, bytes: &[u8]) -> Option<usize> {
        let tear = self.shared.faults.borrow().tear;
        let middle = frames.middle_of_large(bytes, tear.at_least);
        let middle = middle.filter(|_| tear.times > 0)?;
        self.shared.faults.send_modify(|faults| faults.tear.times -= 1);
        self.shared.count(Counter::Torn);
        Some(middle)
    }

    async fn until(&self, is: impl FnMut(&Faults) -> bool) {
        // An error means that the proxy is gone, and this task with it.
        let _ = self.shared.faults.subscribe().wait_for(is).await;
    }
}

impl Shared {
    fn count(&self, counter: Counter) {
        self.counters[counter as usize].fetch_add(1, Ordering::SeqCst);
    }

    /// Takes the time that the weather asks for.
    async fn travel(&self) {
        let Weather { latency, jitter, loss } = self.faults.borrow().weather;
        let mut takes = latency;
        {
            let mut random = self.random.lock().unwrap();
            if !jitter.is_zero() {
                takes += Duration::from_micros(random.below(jitter.as_micros() as u64 + 1));
            }
            if loss > 0.0 && (random.below(1_000_000) as f64) < loss * 1e6 {
                takes += RETRANSMISSION;
                self.count(Counter::Lost);
            }
        }
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
    }
}
