//! Hostile bytes without a network: what a fuzzer, and the test that replays its findings, feed the broker.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::BrokerConfig;
use crate::api::{self, Peer};
use crate::connections::{Connection, Connections};
use crate::log::Partition;
use crate::log::batch::HEADER_LEN;
use crate::state::State;
use crate::wire::frame::Frames;

/// The topic that is there, with one partition.
pub const TOPIC: &str = "the-topic";

/// How long an answer is waited for. Requests that wait for others, such as a long poll, get none.
const PATIENCE: Duration = Duration::from_millis(5);

/// A broker's inside.
pub struct Bench {
    state: Arc<State>,
    connection: Connection,
    runtime: Runtime,
}

impl Bench {
    /// A broker in an empty folder, in which hostile requests can make few files.
    ///
    /// # Panics
    /// When the folder cannot be used.
    pub fn new(dir: &Path) -> Bench {
        let config = BrokerConfig { max_partitions: 16, ..BrokerConfig::new(dir) };
        let (max, bytes) = (config.max_connections, config.max_held_bytes);
        let state = Arc::new(State::open(config).expect("a usable folder"));
        state.topics.create(TOPIC, 1, false).expect("a new topic");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connection = Connections::new(max, bytes).admit().expect("the first connection");
        Bench { state, connection, runtime }
    }

    /// One input of a fuzzer: its first byte says what the others are taken for.
    ///
    /// # Panics
    /// As [`converse`](Self::converse) and [`append`](Self::append).
    pub fn run(&self, input: &[u8]) {
        match input {
            [b'c', bytes @ ..] => _ = self.converse(bytes),
            [b'b', time, bytes @ ..] => _ = self.append(bytes, i64::from(*time)),
            _ => {}
        }
    }

    /// Takes these bytes for all that a client sends: requests, or not. Returns how many were answered.
    ///
    /// # Panics
    /// When an answer is no frame, or is not about the request.
    pub fn converse(&self, bytes: &[u8]) -> usize {
        let peer = Peer {
            advertised: SocketAddr::from((Ipv4Addr::LOCALHOST, 9092)),
            remote: SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000)),
        };
        self.runtime.block_on(async {
            let mut frames = Frames::new(bytes, self.state.config.max_request_bytes, &self.connection);
            let mut answers = 0;
            while let Ok(Some(frame)) = frames.next().await {
                let correlation_id = frame[4..8].to_vec();
                match tokio::time::timeout(PATIENCE, api::serve(&self.state, peer, frame)).await {
                    Ok(Ok(Some(answer))) => {
                        let len = i32::from_be_bytes(*answer.first_chunk().expect("a length"));
                        assert_eq!(len as usize, answer.len() - 4);
                        assert_eq!(answer[4..8], correlation_id);
                        answers += 1;
                    }
                    Ok(Ok(None)) | Err(_) => {}
                    Ok(Err(_)) => break,
                }
            }
            answers
        })
    }

    /// Takes these bytes for a record batch whose length and checksum are right, as any producer can send one: appends
    /// it to an empty log, reads it back, and looks for times in it.
    ///
    /// # Panics
    /// When a batch that was taken is not there afterwards, byte for byte.
    pub fn append(&self, bytes: &[u8], time: i64) -> bool {
        if bytes.len() < HEADER_LEN {
            return false;
        }
        let batch = with_valid_front(bytes);
        let dir = self.state.config.dir.join("batch");
        let partition = Partition::create(&dir, self.state.topics.settings()).expect("a new folder");
        let appended = partition.append(&batch).is_ok();
        if appended {
            let read = partition.find(0).expect("in range").expect("readable").expect("there");
            let read = read.read(batch.len(), true).expect("readable");
            assert!(read[16..] == batch[16..], "the batch has changed");
            let (_, end) = partition.offsets();
            for found in [partition.first_since(time), partition.latest()] {
                assert!(
                    found.is_ok() || found.is_err_and(|error| error.kind() == io::ErrorKind::InvalidData)
                );
            }
            drop(partition);
            // What a restart makes of it.
            let again = Partition::open(&dir, self.state.topics.settings()).expect("readable");
            assert_eq!(again.offsets(), (0, end));
        }
        std::fs::remove_dir_all(&dir).expect("our own folder");
        appended
    }
}

/// The bytes as a batch whose length, format version and checksum are right, with its place chosen by the broker.
fn with_valid_front(bytes: &[u8]) -> Vec<u8> {
    let mut batch = bytes.to_vec();
    batch[..8].fill(0);
    batch[8..12].copy_from_slice(&(bytes.len() as u32 - 12).to_be_bytes());
    batch[16] = 2;
    let checksum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    batch
}
