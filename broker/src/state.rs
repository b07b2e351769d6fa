//! What all connections share: topics, groups, and the broker's own small file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kafka_protocol::error::ResponseError;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tracing::error;
use uuid::Uuid;

use crate::coordinator::{Coordinator, Limits, OffsetStore};
use crate::log::Settings;
use crate::topics::Topics;
use crate::{BrokerConfig, Error, files};

/// Producer ids that are set aside with one write to disk. An id is never given out twice; a restart skips some.
const PRODUCER_ID_BLOCK: i64 = 1_000;

/// Answers with records that are made at a time: reading is copying from the page cache, which few cores do best.
const READERS: usize = 4;

/// Everything that is served.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: BrokerConfig,
    pub(crate) topics: Topics,
    pub(crate) coordinator: Coordinator,
    /// Turns to read records for an answer: each may take some 100 MB until it is handed to its connection.
    pub(crate) reading: Arc<Semaphore>,
    path: PathBuf,
    identity: Mutex<Identity>,
}

#[derive(Debug)]
struct Identity {
    stored: Stored,
    next_producer_id: i64,
}

/// `broker.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    cluster_id: String,
    /// No id from here on has been given out.
    next_producer_id: i64,
}

impl State {
    /// Opens everything below the broker's folder. Blocks on the disk, for as long as recovery takes.
    pub(crate) fn open(config: BrokerConfig) -> Result<State, Error> {
        let dir = config.dir.clone();
        let path = dir.join("broker.json");
        let stored = open_identity(&path)?;
        let settings = Settings {
            segment_bytes: config.segment_bytes,
            max_batch_bytes: config.max_batch_bytes,
            fsync: config.fsync,
            retention_bytes: config.retention_bytes,
            retention_time: config.retention_time,
        };
        let topics = Topics::open(dir.join("topics"), settings, config.max_partitions)?;
        let journal = dir.join("offsets.journal");
        let offsets = OffsetStore::open(journal.clone(), config.fsync).map_err(Error::storage(journal))?;
        let limits = Limits {
            initial_rebalance_delay: config.initial_rebalance_delay,
            min_session_timeout: config.min_session_timeout,
            max_session_timeout: config.max_session_timeout,
        };
        let coordinator = Coordinator::new(limits, offsets);
        let next_producer_id = stored.next_producer_id;
        let identity = Mutex::new(Identity { stored, next_producer_id });
        let reading = Arc::new(Semaphore::new(READERS));
        Ok(State { config, topics, coordinator, reading, path, identity })
    }

    /// The id of the cluster that consists of this broker, kept over restarts.
    pub(crate) fn cluster_id(&self) -> String {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).stored.cluster_id.clone()
    }

    /// An id that no producer has had. Blocks on the disk now and then.
    pub(crate) fn next_producer_id(&self) -> Result<i64, ResponseError> {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        if identity.next_producer_id == identity.stored.next_producer_id {
            let reserved = Stored {
                next_producer_id: identity.stored.next_producer_id + PRODUCER_ID_BLOCK,
                ..identity.stored.clone()
            };
            files::write_json(&self.path, &reserved).map_err(|error| {
                error!(%error, "producer ids could not be set aside");
                ResponseError::CoordinatorNotAvailable
            })?;
            identity.stored = reserved;
        }
        let id = identity.next_producer_id;
        identity.next_producer_id += 1;
        Ok(id)
    }

    /// Waits for what is being written and refuses everything from now on, so that another broker may have the folder.
    pub(crate) fn close(&self) {
        self.topics.close();
        self.coordinator.offsets().close();
    }

    /// Forces everything to disk. Blocks on it.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.topics.sync().and(self.coordinator.offsets().sync())
    }
}

fn open_identity(path: &Path) -> Result<Stored, Error> {
    if let Some(stored) = files::read_json::<Stored>(path)? {
        return Ok(stored);
    }
    let stored = Stored { cluster_id: Uuid::new_v4().simple().to_string(), next_producer_id: 0 };
    files::write_json(path, &stored).map_err(Error::storage(path))?;
    Ok(stored)
}
