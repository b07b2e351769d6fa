//! How the Delta kernel reads a lake, and how a table's log is written.
//!
//! ```text
//! snapshot, scan -----> kernel --> object_store ----> the disk     every read
//! Transaction::commit -> LogWriter --> dyn Storage --> the disk    every write: _delta_log/<version>.json
//! checkpoint ----------------^                                     <version>.checkpoint.parquet, _last_checkpoint
//! ```
//!
//! A version is written beside the log, synced, and moved to its name only if nothing is there; with the folder synced,
//! it is committed. So it is whole or absent, two writers cannot both win, and it outlives a power cut. The kernel's own
//! writes know of no syncing and cannot be made to fail by a test, which is why none of them is used.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use delta_kernel::committer::{CommitMetadata, CommitResponse, Committer, PublishMetadata};
use delta_kernel::engine::arrow_data::EngineDataArrowExt as _;
use delta_kernel::engine::to_json_bytes;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::transaction::{CommitResult, Transaction};
use delta_kernel::{
    Engine, FileMeta, FilteredEngineData, KernelError, KernelResult, KernelResultIterator, Snapshot,
};
use delta_kernel_default_engine::executor::tokio::TokioBackgroundExecutor;
use delta_kernel_default_engine::{DefaultEngine, DefaultEngineBuilder};
use object_store::local::LocalFileSystem;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::storage::{Storage, WriteFile, create_dirs, read, write_synced};

/// The folder of a table's log.
pub(crate) const LOG: &str = "_delta_log";
/// The file that names the newest checkpoint.
const LAST_CHECKPOINT: &str = "_last_checkpoint";
/// What a commit says wrote it.
pub(crate) const ENGINE_INFO: &str = concat!("Puddle/", env!("CARGO_PKG_VERSION"));

/// The kernel's engine, for every table of every lake on this machine: it has no state but a thread.
pub(crate) fn engine() -> &'static dyn Engine {
    static ENGINE: LazyLock<DefaultEngine<TokioBackgroundExecutor>> =
        LazyLock::new(|| DefaultEngineBuilder::new(Arc::new(LocalFileSystem::new())).build());
    &*ENGINE
}

/// Refuses a folder that the kernel cannot name.
pub(crate) fn check_path(root: &Path) -> Result<(), Error> {
    url(root).map(|_| ())
}

/// The newest state of the table in a folder; `None` if there is no Delta table.
pub(crate) fn snapshot(root: &Path) -> Result<Option<SnapshotRef>, Error> {
    if !is_table(root)? {
        return Ok(None);
    }
    let snapshot = Snapshot::builder_for(url(root)?).build(engine());
    snapshot.map(Some).map_err(Error::delta("read", &root.join(LOG)))
}

/// The newest state of a table of which an older one is known. Costs a look for two files if nothing is new.
pub(crate) fn refresh(root: &Path, known: &SnapshotRef) -> Result<SnapshotRef, Error> {
    let log = root.join(LOG);
    let exists = |number| {
        let path = version_path(&log, number);
        path.try_exists().map_err(Error::io("look for", &path))
    };
    if exists(known.version() + 1)? {
        let newer = Snapshot::builder_from(known.clone()).build(engine());
        return newer.map_err(Error::delta("read", &log));
    }
    if exists(known.version())? {
        return Ok(known.clone());
    }
    // Another tool's clean-up took the known version away, and so perhaps the next one: it must not be taken for free.
    snapshot(root)?.ok_or_else(|| Error::corrupt(&log, "it is gone, though it was read before"))
}

/// Whether a folder has a Delta log with anything in it.
pub(crate) fn is_table(root: &Path) -> Result<bool, Error> {
    let log = root.join(LOG);
    let exists = |path: PathBuf| path.try_exists().map_err(Error::io("look for", &path));
    if exists(version_path(&log, 0))? || exists(log.join(LAST_CHECKPOINT))? {
        return Ok(true);
    }
    // Another writer's clean-up may have taken the first versions away.
    let entries = match std::fs::read_dir(&log) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(false);
        }
        entries => entries.map_err(Error::io("list", &log))?,
    };
    for entry in entries {
        let name = entry.map_err(Error::io("list", &log))?.file_name();
        if name.as_bytes().first().is_some_and(u8::is_ascii_digit) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The place of a version in a log's folder.
pub(crate) fn version_path(log: &Path, version: u64) -> PathBuf {
    log.join(format!("{version:020}.json"))
}

/// A path in a table as an `add` action writes it, and back: percent-encoded, as in a URL.
pub(crate) fn encode_path(path: &str) -> String {
    percent_encode(path.as_bytes())
}

/// The path of an `add` action as a file's, relative to the table; an error says why it is none.
pub(crate) fn decode_path(path: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(|| format!("{path:?} is not percent-encoded"))?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| format!("{path:?} is not UTF-8"))
}

/// What came of trying to commit.
pub(crate) enum Outcome {
    /// The table as of the commit.
    Committed(SnapshotRef),
    /// Another writer took the version.
    Conflict,
}

/// Commits a transaction that was built with a [`LogWriter`]. After an error, only reading the log can tell whether it
/// took place.
pub(crate) fn commit(root: &Path, transaction: Transaction) -> Result<Outcome, Error> {
    let log = root.join(LOG);
    match transaction.commit(engine()) {
        Ok(CommitResult::Committed(committed)) => match committed.post_commit_snapshot() {
            Some(snapshot) => Ok(Outcome::Committed(snapshot.clone())),
            None => Ok(Outcome::Committed(snapshot(root)?.ok_or_else(|| {
                Error::corrupt(&log, "it is gone, though a version was just committed to it")
            })?)),
        },
        Ok(CommitResult::Conflicted(_)) => Ok(Outcome::Conflict),
        Ok(CommitResult::Retryable(failed)) => Err(Error::delta("commit to", &log)(failed.error)),
        Err(error) => Err(Error::delta("commit to", &log)(error)),
    }
}

/// Writes versions and checkpoints of one table's log, through the sink's own file operations.
#[derive(Clone)]
pub(crate) struct LogWriter {
    storage: Arc<dyn Storage>,
    log: PathBuf,
    /// Where a file lies until it is whole: a folder of this writer alone, on the same file system.
    scratch: PathBuf,
}

/// The content of `_last_checkpoint`.
#[derive(Serialize, Deserialize)]
struct LastCheckpoint {
    version: u64,
    /// Actions in the checkpoint.
    size: u64,
}

impl LogWriter {
    pub(crate) fn new(storage: Arc<dyn Storage>, root: &Path, scratch: &Path) -> Self {
        Self { storage, log: root.join(LOG), scratch: scratch.to_owned() }
    }

    /// Creates the log's folder, and makes it and those above durable, as far up as `lake`.
    pub(crate) fn create_dir(&self, lake: &Path) -> Result<(), Error> {
        create_dirs(&*self.storage, &self.log)?;
        for dir in self.log.ancestors().skip(1).take_while(|dir| dir.starts_with(lake)) {
            self.storage.sync_dir(dir).map_err(Error::sync(dir))?;
        }
        Ok(())
    }

    /// Makes durable what is there: a crash may have come between a version and its folder's sync.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.storage.sync_dir(&self.log).map_err(Error::sync(&self.log))
    }

    /// Puts a version in place; `false` if there is one already.
    pub(crate) fn put_new(&self, version: u64, content: &[u8]) -> Result<bool, Error> {
        let path = version_path(&self.log, version);
        let temporary = self.write_temporary(&path, content)?;
        match self.storage.rename_new(&temporary, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.storage.remove(&temporary).map_err(Error::io("remove", &temporary))?;
                return Ok(false);
            }
            result => result.map_err(Error::io("create", &path))?,
        }
        self.sync()?;
        Ok(true)
    }

    /// Writes a checkpoint of a snapshot, so that opening need not read the versions before it. The table is the same
    /// whether or not this succeeds.
    pub(crate) fn checkpoint(&self, snapshot: &SnapshotRef) -> Result<(), Error> {
        let version = snapshot.version();
        let path = self.log.join(format!("{version:020}.checkpoint.parquet"));
        let temporary = self.temporary(&path);
        self.remove_leftover(&temporary)?;
        let size = self.write_checkpoint(snapshot, &path, &temporary)?;
        self.storage.rename(&temporary, &path).map_err(Error::io("create", &path))?;
        self.sync()?;
        let hint = self.log.join(LAST_CHECKPOINT);
        let newest = read(&*self.storage, &hint).ok();
        let newest = newest.and_then(|bytes| serde_json::from_slice::<LastCheckpoint>(&bytes).ok());
        if newest.is_some_and(|newest| newest.version >= version) {
            return Ok(());
        }
        let content =
            serde_json::to_vec(&LastCheckpoint { version, size }).expect("numbers always serialise");
        let temporary = self.write_temporary(&hint, &content)?;
        self.storage.rename(&temporary, &hint).map_err(Error::io("replace", &hint))?;
        self.sync()
    }

    /// Writes and syncs the checkpoint's content; how many actions it has.
    fn write_checkpoint(&self, snapshot: &SnapshotRef, path: &Path, temporary: &Path) -> Result<u64, Error> {
        let kernel = |error| Error::delta("write", path)(error);
        let checkpoint = snapshot.clone().create_checkpoint_writer(engine()).map_err(kernel)?;
        let mut writer: Option<ArrowWriter<Box<dyn WriteFile>>> = None;
        let mut actions = 0;
        for batch in checkpoint.checkpoint_data(engine()).map_err(kernel)? {
            let rows = batch.and_then(|batch| batch.apply_selection_vector());
            let rows = rows.and_then(|rows| rows.try_into_record_batch()).map_err(kernel)?;
            actions += rows.num_rows() as u64;
            let writer = match &mut writer {
                Some(writer) => writer,
                none => {
                    let file = self.storage.create(temporary).map_err(Error::io("create", temporary))?;
                    // Snappy, since that is what readers of Delta tables expect there; and without Arrow's own copy of
                    // the schema, which they do not know.
                    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                    let options = ArrowWriterOptions::new().with_properties(properties);
                    let options = options.with_skip_arrow_metadata(true);
                    none.insert(
                        ArrowWriter::try_new_with_options(file, rows.schema(), options)
                            .map_err(|error| Error::parquet(path, error))?,
                    )
                }
            };
            writer.write(&rows).map_err(|error| Error::parquet(path, error))?;
        }
        let writer = writer.ok_or_else(|| Error::corrupt(&self.log, "it has no action at all"))?;
        let mut file = writer.into_inner().map_err(|error| Error::parquet(path, error))?;
        file.sync().map_err(Error::sync(temporary))?;
        Ok(actions)
    }

    fn write_temporary(&self, path: &Path, content: &[u8]) -> Result<PathBuf, Error> {
        let temporary = self.temporary(path);
        write_synced(&*self.storage, &temporary, content)?;
        Ok(temporary)
    }

    fn temporary(&self, path: &Path) -> PathBuf {
        self.scratch.join(path.file_name().unwrap_or_default())
    }

    fn remove_leftover(&self, path: &Path) -> Result<(), Error> {
        match self.storage.exists(path).map_err(Error::io("look for", path))? {
            true => self.storage.remove(path).map_err(Error::io("remove", path)),
            false => Ok(()),
        }
    }
}

impl Committer for LogWriter {
    fn commit(
        &self,
        _engine: &dyn Engine,
        actions: KernelResultIterator<'_, FilteredEngineData>,
        metadata: CommitMetadata,
    ) -> KernelResult<CommitResponse> {
        let version = metadata.version();
        let content = to_json_bytes(actions)?;
        match self.put_new(version, &content) {
            Ok(true) => {
                let size = content.len() as u64;
                let (path, time) = (metadata.published_commit_path()?, metadata.in_commit_timestamp());
                Ok(CommitResponse::Committed { file_meta: FileMeta::new(path, time, size) })
            }
            Ok(false) => Ok(CommitResponse::Conflict { version }),
            Err(error) => Err(KernelError::GenericError { source: Box::new(error) }),
        }
    }

    fn is_catalog_committer(&self) -> bool {
        false
    }

    fn publish(&self, _engine: &dyn Engine, _metadata: PublishMetadata) -> KernelResult<()> {
        Err(KernelError::unsupported("a table in a folder has no catalog to publish from"))
    }
}

impl Error {
    /// An error of the kernel; one that came from [`LogWriter`] is told as itself.
    pub(crate) fn delta<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(KernelError) -> Self + 'a {
        move |error| match error {
            KernelError::GenericError { source } => match source.downcast::<Self>() {
                Ok(own) => *own,
                Err(source) => {
                    let source = Box::new(KernelError::GenericError { source });
                    Self::Delta { action, path: path.to_owned(), source }
                }
            },
            KernelError::IOError(source) => Self::Io { action, path: path.to_owned(), source },
            error => Self::Delta { action, path: path.to_owned(), source: Box::new(error) },
        }
    }
}

/// A table's folder as the URL that the kernel asks for.
fn url(root: &Path) -> Result<String, Error> {
    let absolute = std::path::absolute(root).map_err(Error::io("find", root))?;
    let bytes = absolute.as_os_str().as_bytes();
    // The kernel takes what it finds in a folder for encoded, and would look for another name.
    if absolute.to_str().is_none() || bytes.contains(&b'%') {
        let reason = format!(
            "the path of a Delta table must be UTF-8 without '%', and {} is not: choose another lake",
            absolute.display()
        );
        return Err(Error::Config { key: "kind", reason });
    }
    Ok(format!("file://{}/", percent_encode(bytes)))
}

/// Encodes all but what RFC 3986 reserves for nothing, `/`, and the `=` of partition folders.
fn percent_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/=".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_encoded_is_refused() {
        for path in ["%", "a%2", "%zz", "%ff"] {
            assert!(decode_path(path).is_err(), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn a_path_reads_back(path in any::<String>()) {
            let encoded = encode_path(&path);
            prop_assert!(encoded.is_ascii() && !encoded.contains([' ', '?', '#', '\n']));
            prop_assert_eq!(decode_path(&encoded), Ok(path));
        }
    }
}
