//! A disk that fills up where a test says: a decorator around the sink's storage.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use arrow::datatypes::SchemaRef;
use puddle_pipeline::table::Table;
use puddle_sink::parquet::ParquetSink;
use puddle_sink::storage::{LocalStorage, Storage, WriteFile};
use puddle_sink::{Error, Sink, SinkConfig};
use puddle_types::Progress;

/// What a full disk refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lacks {
    /// Every byte: new files, more of old ones, and syncing them.
    Room,
    /// Inodes: new files and folders only.
    Inodes,
}

/// Operations that need room are counted from 0; those in a range fail for the lack of it.
pub(crate) struct Disk {
    lacks: Lacks,
    operations: AtomicUsize,
    from: AtomicUsize,
    to: AtomicUsize,
}

impl Disk {
    /// A disk on which the operations of `full` fail.
    pub(crate) fn new(lacks: Lacks, full: Range<usize>) -> Arc<Self> {
        let (from, to) = (AtomicUsize::new(full.start), AtomicUsize::new(full.end));
        Arc::new(Self { lacks, operations: AtomicUsize::new(0), from, to })
    }

    pub(crate) fn operations(&self) -> usize {
        self.operations.load(SeqCst)
    }

    /// From now on nothing fits any more.
    pub(crate) fn fill(&self) {
        self.to.store(usize::MAX, SeqCst);
        self.from.store(0, SeqCst);
    }

    /// From now on there is room.
    pub(crate) fn make_room(&self) {
        self.from.store(usize::MAX, SeqCst);
    }

    fn take(&self, lacking: Lacks) -> io::Result<()> {
        if lacking != self.lacks && self.lacks == Lacks::Inodes {
            return Ok(());
        }
        let number = self.operations.fetch_add(1, SeqCst);
        match (self.from.load(SeqCst)..self.to.load(SeqCst)).contains(&number) {
            // No space left on device, also where it is inodes that lack.
            true => Err(io::Error::from_raw_os_error(28)),
            false => Ok(()),
        }
    }
}

/// A Parquet table on such a disk.
pub(crate) struct TableOnDisk {
    pub(crate) lake: PathBuf,
    pub(crate) config: SinkConfig,
    pub(crate) owner: String,
    pub(crate) disk: Arc<Disk>,
}

impl Table for TableOnDisk {
    fn open(&self, columns: SchemaRef) -> Result<Box<dyn Sink>, Error> {
        let storage =
            Arc::new(FillingStorage { disk: self.disk.clone(), local: LocalStorage { durable: false } });
        Ok(Box::new(ParquetSink::open(&self.lake, &self.config, columns, &self.owner, storage)?))
    }

    fn progress(&self) -> Result<Progress, Error> {
        puddle_sink::lake::progress(&self.lake, &self.config.table)
    }

    fn has_several_writers(&self) -> bool {
        false
    }
}

struct FillingStorage {
    disk: Arc<Disk>,
    local: LocalStorage,
}

struct FillingFile {
    disk: Arc<Disk>,
    file: Box<dyn WriteFile>,
}

impl Storage for FillingStorage {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if !path.exists() {
            self.disk.take(Lacks::Inodes)?;
        }
        self.local.create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.disk.take(Lacks::Inodes)?;
        Ok(Box::new(FillingFile { disk: self.disk.clone(), file: self.local.create(path)? }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        self.local.open(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.local.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.local.exists(path)
    }

    // A new name may need another block of its folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.take(Lacks::Room)?;
        self.local.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.take(Lacks::Room)?;
        self.local.rename_new(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.local.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.take(Lacks::Room)?;
        self.local.sync_dir(path)
    }

    fn now(&self) -> i64 {
        self.local.now()
    }
}

impl Write for FillingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.disk.take(Lacks::Room) {
            // A disk takes what still fits before it refuses the rest.
            self.file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl WriteFile for FillingFile {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.take(Lacks::Room)?;
        self.file.sync()
    }
}
