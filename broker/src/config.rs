//! What a broker can be told, with defaults.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::Error;

/// Configuration of a [`Broker`](crate::Broker): [`BrokerConfig::new`] has the defaults, any field may be changed.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Address to listen on; port 0 takes a free one. Default 127.0.0.1:9092, Kafka's port, reachable from this machine
    /// only. There is neither authentication nor encryption, so think before changing the address.
    pub listen: SocketAddr,
    /// Address that clients are told to use, if it is not the one that they came to: that of a proxy or a port forwarding.
    /// Default none; Kafka's `advertised.listeners`.
    pub advertised: Option<SocketAddr>,
    /// Folder for everything that the broker keeps; made if it does not exist.
    pub dir: PathBuf,
    /// When records are forced to disk. Default [`Fsync::Never`].
    pub fsync: Fsync,
    /// Whether a topic is made when a client asks for one that does not exist. Default false, unlike Kafka: a typing
    /// error should be an error.
    pub auto_create_topics: bool,
    /// Partitions of a topic that is made without saying how many. Default 1, Kafka's `num.partitions`.
    pub default_partitions: i32,
    /// Partitions that all topics together may have. Default 10,000: each holds an open file.
    pub max_partitions: usize,
    /// Bytes after which a segment is sealed and the next begun. Default 64 MiB; Kafka's `segment.bytes` is 1 GiB, but
    /// what follows the last sealed segment is read at start, and retention removes whole segments.
    pub segment_bytes: u64,
    /// Largest record batch that is taken. Default 1,048,588 bytes, Kafka's `message.max.bytes`.
    pub max_batch_bytes: usize,
    /// Largest request that is read. Default 100 MiB, Kafka's `socket.request.max.bytes`.
    pub max_request_bytes: usize,
    /// Connections at a time. Another takes the place of the one that has been silent longest. Default 1,000.
    pub max_connections: usize,
    /// Bytes that all connections together may hold of requests that are not whole yet and of answers that nobody has
    /// read yet; beyond that, those that hold most are closed. Default 256 MiB: two of the largest requests, and room.
    pub max_held_bytes: usize,
    /// How long a client may take to send a request, counted from the end of the one before, or to read an answer.
    /// Default 10 minutes, Kafka's `connections.max.idle.ms`.
    pub max_idle: Duration,
    /// Bytes that a partition keeps at least, if set; whole segments beyond that are removed. Default none.
    pub retention_bytes: Option<u64>,
    /// How long a segment is kept after its latest record's timestamp, if set. Default none: a sandbox forgets nothing.
    pub retention_time: Option<Duration>,
    /// How often retention is looked at. Default 5 minutes, Kafka's `log.retention.check.interval.ms`.
    pub retention_check: Duration,
    /// How long the first member of an empty group waits for others. Default 50 ms; Kafka's
    /// `group.initial.rebalance.delay.ms` of 3 s is meant for fleets.
    pub initial_rebalance_delay: Duration,
    /// Shortest session time-out that a group member may ask for. Default 500 ms; Kafka's
    /// `group.min.session.timeout.ms` of 6 s would make every take-over on a laptop wait.
    pub min_session_timeout: Duration,
    /// Longest session time-out that a group member may ask for. Default 30 minutes, Kafka's
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout: Duration,
}

/// When appended records are forced to disk. They survive the end of the broker's process, kill -9 included, with
/// any of these; the choice is about the machine losing power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// The operating system decides, as with Kafka's defaults.
    Never,
    /// In the background, this often: a power cut costs at most that many milliseconds of records.
    EveryMillis(u64),
    /// Before a producer gets its acknowledgement.
    Always,
}

impl BrokerConfig {
    /// The defaults, with everything kept in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> BrokerConfig {
        BrokerConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9092)),
            advertised: None,
            dir: dir.into(),
            fsync: Fsync::Never,
            auto_create_topics: false,
            default_partitions: 1,
            max_partitions: 10_000,
            segment_bytes: 64 << 20,
            max_batch_bytes: 1_048_588,
            max_request_bytes: 100 << 20,
            max_connections: 1_000,
            max_held_bytes: 256 << 20,
            max_idle: Duration::from_secs(600),
            retention_bytes: None,
            retention_time: None,
            retention_check: Duration::from_secs(300),
            initial_rebalance_delay: Duration::from_millis(50),
            min_session_timeout: Duration::from_millis(500),
            max_session_timeout: Duration::from_secs(30 * 60),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let wrong = |field, why| Err(Error::Config { field, why });
        if self.advertised.is_some_and(|address| address.port() == 0) {
            return wrong("advertised", "must name a port, for clients cannot find port 0");
        }
        if self.default_partitions < 1 {
            return wrong("default_partitions", "must be at least 1");
        }
        if self.fsync == Fsync::EveryMillis(0) {
            return wrong("fsync", "an interval must be at least 1 ms");
        }
        if self.retention_check.is_zero() {
            return wrong("retention_check", "must be longer than 0");
        }
        if self.min_session_timeout > self.max_session_timeout {
            return wrong("min_session_timeout", "must not be above max_session_timeout");
        }
        if self.max_batch_bytes > self.max_request_bytes {
            return wrong("max_batch_bytes", "must not be above max_request_bytes");
        }
        if self.max_held_bytes < self.max_request_bytes {
            return wrong("max_held_bytes", "must not be below max_request_bytes");
        }
        Ok(())
    }
}
