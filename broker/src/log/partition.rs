//! One partition: its segments, the append path, look-ups, and waking those who wait for more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::batch::{BatchError, BatchHeader, whole_batches};
use super::producers::{Producers, Verdict};
use super::records::{self, OffsetAndTime};
use super::segment::{self, Segment};
use crate::config::Fsync;

/// There is one node, which has always led: the epoch never changes.
pub(crate) const LEADER_EPOCH: i32 = 0;

/// What partitions need to know of the broker's configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) segment_bytes: u64,
    pub(crate) max_batch_bytes: usize,
    pub(crate) fsync: Fsync,
    pub(crate) retention_bytes: Option<u64>,
    pub(crate) retention_time: Option<Duration>,
}

/// A partition's log, shared by all connections.
#[derive(Debug)]
pub(crate) struct Partition {
    dir: PathBuf,
    settings: Settings,
    log: Mutex<Log>,
    waiting: Mutex<Vec<Weak<Notify>>>,
}

#[derive(Debug)]
struct Log {
    /// Rising and never empty; the last one is appended to.
    segments: Vec<Segment>,
    producers: Producers,
    unsynced: bool,
    /// Why nothing can be appended any more, once something made it so.
    closed: Option<Closed>,
}

/// Why a partition takes no more.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Closed {
    /// Its topic was deleted.
    Deleted,
    /// The broker is stopping, and gives up its folder when no append is under way any more.
    Stopped,
    /// After a failed sync the page cache no longer tells what is on disk, so the log must not go on as if it did.
    SyncFailed,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    pub(crate) log_start: i64,
}

/// Why a batch was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("the batch has {len} bytes, more than the allowed {max}")]
    TooLarge { len: usize, max: usize },
    #[error("the producer's epoch or sequence number does not follow: {0}")]
    Sequence(ResponseError),
    #[error("the topic was deleted")]
    Deleted,
    #[error("the log cannot be written")]
    Storage(#[from] io::Error),
}

impl AppendError {
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            AppendError::Batch(error) => error.code(),
            AppendError::TooLarge { .. } => ResponseError::MessageTooLarge,
            AppendError::Sequence(code) => *code,
            AppendError::Deleted => ResponseError::UnknownTopicOrPartition,
            AppendError::Storage(_) => ResponseError::KafkaStorageError,
        }
    }
}

/// Contiguous bytes of a segment, not read yet.
#[derive(Debug)]
pub(crate) struct Slice {
    file: Arc<File>,
    position: u64,
    len: usize,
    first_batch: usize,
    /// Whether the log goes on after these bytes.
    pub(crate) more: bool,
}

impl Slice {
    /// Bytes up to the end of the segment.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Reads the whole batches among the first `max_bytes`; with `at_least_one`, the first batch however large it is.
    pub(crate) fn read(&self, max_bytes: usize, at_least_one: bool) -> io::Result<Bytes> {
        let wanted = if self.first_batch <= max_bytes {
            self.len.min(max_bytes)
        } else if at_least_one {
            self.first_batch
        } else {
            return Ok(Bytes::new());
        };
        let mut bytes = vec![0; wanted];
        self.file.read_exact_at(&mut bytes, self.position)?;
        bytes.truncate(whole_batches(&bytes));
        Ok(Bytes::from(bytes))
    }
}

impl Partition {
    /// Makes an empty partition in `dir`, which must not exist yet.
    pub(crate) fn create(dir: &Path, settings: Settings) -> io::Result<Partition> {
        std::fs::create_dir(dir)?;
        let segments = vec![Segment::create(dir, 0)?];
        segment::sync_dir(dir)?;
        Ok(Partition::new(dir, settings, segments, Producers::default()))
    }

    /// Opens a partition, rebuilds its indexes and cuts off a torn tail.
    pub(crate) fn open(dir: &Path, settings: Settings) -> io::Result<Partition> {
        let mut producers = Producers::default();
        let mut segments: Vec<Segment> = Vec::new();
        let offsets = segment::list(dir)?;
        for (n, &base_offset) in offsets.iter().enumerate() {
            let last = n + 1 == offsets.len();
            // Only the last segment was open when the broker stopped. The others are checked by their structure.
            let (found, torn) = Segment::recover(dir, base_offset, last, |batch| {
                producers.note(batch, batch.base_offset);
            })?;
            if torn > 0 && last {
                info!(dir = %dir.display(), bytes = torn, next = found.next_offset(), "cut off a torn tail");
                found.truncate_torn()?;
            } else if torn > 0 {
                warn!(dir = %dir.display(), base_offset, bytes = torn, "a sealed segment is damaged: records are missing");
            }
            segments.push(found);
        }
        if segments.is_empty() {
            segments.push(Segment::create(dir, 0)?);
        }
        Ok(Partition::new(dir, settings, segments, producers))
    }

    fn new(dir: &Path, settings: Settings, segments: Vec<Segment>, producers: Producers) -> Partition {
        let log = Log { segments, producers, unsynced: false, closed: None };
        Partition { dir: dir.to_owned(), settings, log: Mutex::new(log), waiting: Mutex::default() }
    }

    /// Stores one batch as a producer sent it. It can be read when this returns, and is on disk if syncs are `Always`.
    pub(crate) fn append(&self, batch: &[u8]) -> Result<Appended, AppendError> {
        if batch.len() > self.settings.max_batch_bytes {
            return Err(AppendError::TooLarge { len: batch.len(), max: self.settings.max_batch_bytes });
        }
        let header = BatchHeader::of_producer(batch)?;
        let mut log = self.log();
        let appended = log.append(&self.dir, &self.settings, &header, batch)?;
        let file = log.active().file();
        drop(log);
        self.wake();
        if self.settings.fsync == Fsync::Always {
            // Not skipped when another append is syncing just now: that may have begun before this write.
            self.sync_file(&file)?;
        }
        Ok(appended)
    }

    /// The offsets [start, end) that can be read.
    pub(crate) fn offsets(&self) -> (i64, i64) {
        let log = self.log();
        (log.start(), log.end())
    }

    /// Where the records from `offset` on are, or `None` at the end of the log.
    ///
    /// The outer error is `OffsetOutOfRange`, the inner one of the file system.
    pub(crate) fn find(&self, offset: i64) -> Result<io::Result<Option<Slice>>, ResponseError> {
        let log = self.log();
        if offset < log.start() || offset > log.end() {
            return Err(ResponseError::OffsetOutOfRange);
        }
        Ok(log.find(offset))
    }

    /// The first record at `timestamp` (ms since 1970) or later.
    pub(crate) fn first_since(&self, timestamp: i64) -> io::Result<Option<OffsetAndTime>> {
        let batch = self.log().find_time(timestamp)?;
        batch.map_or(Ok(None), |batch| records::first_since(&batch.read(0, true)?, timestamp))
    }

    /// The record with the latest timestamp.
    pub(crate) fn latest(&self) -> io::Result<Option<OffsetAndTime>> {
        let batch = self.log().find_latest()?;
        batch.map_or(Ok(None), |batch| records::latest(&batch.read(0, true)?))
    }

    /// Has `reader` notified once, at the next append or when the partition is deleted.
    pub(crate) fn notify_once(&self, reader: &Arc<Notify>) {
        let mut waiting = self.waiting();
        waiting
            .retain(|other| other.strong_count() > 0 && !std::ptr::eq(other.as_ptr(), Arc::as_ptr(reader)));
        waiting.push(Arc::downgrade(reader));
    }

    /// Forces what was appended to disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut log = self.log();
        if !std::mem::take(&mut log.unsynced) {
            return Ok(());
        }
        let file = log.active().file();
        drop(log);
        self.sync_file(&file)
    }

    /// Without holding the log: syncing takes long, and nobody has to wait for it but who asked for it.
    fn sync_file(&self, file: &File) -> io::Result<()> {
        let synced = file.sync_data();
        if synced.is_err() {
            self.log().closed = Some(Closed::SyncFailed);
        }
        synced
    }

    /// Removes sealed segments that retention no longer covers. `now` is in ms since 1970.
    pub(crate) fn enforce_retention(&self, now: i64) -> io::Result<()> {
        let mut log = self.log();
        while log.expired(&self.settings, now) {
            let oldest = log.segments.remove(0);
            info!(dir = %self.dir.display(), base_offset = oldest.base_offset, "removed a segment by retention");
            oldest.remove()?;
        }
        Ok(())
    }

    /// Waits for the append under way, refuses others from now on, and wakes all readers.
    pub(crate) fn close(&self, why: Closed) {
        self.log().closed.get_or_insert(why);
        self.wake();
    }

    fn wake(&self) {
        for reader in self.waiting().drain(..).filter_map(|reader| reader.upgrade()) {
            reader.notify_one();
        }
    }

    // A panic while the lock was held cannot have left the log half-changed in a way that matters: sizes and offsets
    // are set after the write they describe.
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Weak<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn start(&self) -> i64 {
        self.segments[0].base_offset
    }

    fn end(&self) -> i64 {
        self.active().next_offset()
    }

    fn active(&self) -> &Segment {
        self.segments.last().expect("a log has a segment")
    }

    fn append(
        &mut self,
        dir: &Path,
        settings: &Settings,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<Appended, AppendError> {
        match self.closed {
            Some(Closed::Deleted) => return Err(AppendError::Deleted),
            Some(Closed::Stopped) => return Err(io::Error::other("the broker is stopping").into()),
            Some(Closed::SyncFailed) => return Err(io::Error::other("an earlier sync to disk failed").into()),
            None => {}
        }
        let log_start = self.start();
        if header.producer_id >= 0
            && let Verdict::Duplicate(base_offset) =
                self.producers.judge(header).map_err(AppendError::Sequence)?
        {
            return Ok(Appended { base_offset, log_start });
        }
        if self.active().size() > 0 && self.active().size() + header.len as u64 > settings.segment_bytes {
            self.roll(dir, settings)?;
        }
        let base_offset = self.end();
        let active = self.segments.last_mut().expect("a log has a segment");
        active.append(header, batch, base_offset, LEADER_EPOCH)?;
        self.producers.note(header, base_offset);
        self.unsynced = true;
        Ok(Appended { base_offset, log_start })
    }

    fn roll(&mut self, dir: &Path, settings: &Settings) -> io::Result<()> {
        let sync = settings.fsync != Fsync::Never;
        if sync && std::mem::take(&mut self.unsynced) {
            self.active().sync().inspect_err(|_| self.closed = Some(Closed::SyncFailed))?;
        }
        self.segments.push(Segment::create(dir, self.end())?);
        if sync {
            segment::sync_dir(dir)?;
        }
        Ok(())
    }

    fn find(&self, offset: i64) -> io::Result<Option<Slice>> {
        let holding = self.segments.partition_point(|segment| segment.base_offset <= offset);
        for segment in &self.segments[holding.saturating_sub(1)..] {
            if let Some((position, header)) = segment.find_offset(offset)? {
                return Ok(Some(self.slice(segment, position, &header)));
            }
        }
        Ok(None)
    }

    fn find_time(&self, timestamp: i64) -> io::Result<Option<Slice>> {
        for segment in &self.segments {
            if let Some((position, header)) = segment.find_time(timestamp)? {
                return Ok(Some(self.slice(segment, position, &header)));
            }
        }
        Ok(None)
    }

    fn find_latest(&self) -> io::Result<Option<Slice>> {
        let latest = self.segments.iter().filter_map(Segment::latest).map(|(time, _)| time).max();
        latest.map_or(Ok(None), |time| self.find_time(time))
    }

    fn slice(&self, segment: &Segment, position: u64, first: &BatchHeader) -> Slice {
        let len = (segment.size() - position) as usize;
        let more = segment.next_offset() < self.end();
        Slice { file: segment.file(), position, len, first_batch: first.len, more }
    }

    fn expired(&self, settings: &Settings, now: i64) -> bool {
        let [oldest, _, ..] = &self.segments[..] else { return false };
        let size: u64 = self.segments.iter().map(Segment::size).sum();
        let too_large = settings.retention_bytes.is_some_and(|most| size - oldest.size() >= most);
        let too_old = settings.retention_time.is_some_and(|longest| {
            let since = now.saturating_sub(i64::try_from(longest.as_millis()).unwrap_or(i64::MAX));
            oldest.latest().is_none_or(|(time, _)| time < since)
        });
        too_large || too_old
    }
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
