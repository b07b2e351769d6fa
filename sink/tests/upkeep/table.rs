//! A small Delta table, ways to look after it, and storages that do so later or while something else happens.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use puddle_sink::delta::{DeltaSink, optimize, vacuum};
use puddle_sink::storage::{LocalStorage, Storage, WriteFile};
use puddle_sink::{Error, SinkConfig, SinkKind, lake};

use crate::common::{OWNER, expected, feed, files, schema};

pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn config() -> SinkConfig {
    SinkConfig { kind: SinkKind::Delta, ..crate::common::config() }
}

pub(crate) fn open(lake: &Path, storage: Arc<dyn Storage>) -> DeltaSink {
    DeltaSink::open(lake, &config(), schema(), OWNER, storage).unwrap()
}

pub(crate) fn disk() -> Arc<dyn Storage> {
    Arc::new(LocalStorage { durable: false })
}

/// A table of four commits up to offset 40, several small files in each partition.
pub(crate) fn table() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path(), disk());
    for until in [10, 20, 30, 40] {
        feed(&mut sink, until).unwrap();
    }
    dir
}

/// Another like it, for less than making it.
pub(crate) fn copy_of(table: &tempfile::TempDir) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    crate::common::job::copy(table.path(), dir.path());
    dir
}

/// Flips a bit of a file.
pub(crate) fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    // Anew, since a copy of a table shares its files.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

pub(crate) fn run_optimize(lake: &Path, storage: Arc<dyn Storage>) -> Result<optimize::Report, Error> {
    optimize::optimize(lake, "t", &optimize::Options::default(), storage, &mut |_, _| {})
}

/// A vacuum that is run so much later than now.
pub(crate) fn run_vacuum(
    lake: &Path,
    later: Duration,
    options: vacuum::Options,
) -> Result<vacuum::Report, Error> {
    vacuum::vacuum(lake, "t", &options, &Later(disk(), later), &mut |_, _| {})
}

/// Ids by partition value in the order in which a reader of the log finds them.
pub(crate) fn ids(lake: &Path) -> Vec<(i64, Option<String>)> {
    let mut found = Vec::new();
    for file in lake::table(lake, "t").unwrap().files {
        for batch in crate::common::read_file(&file.path) {
            let ids = batch["id"].as_primitive::<Int64Type>();
            found.extend(ids.values().iter().map(|id| (*id, file.partition[0].clone())));
        }
    }
    found
}

/// Checks that a reader of the log finds every record up to `until` exactly once, and that nothing is amiss.
pub(crate) fn assert_exact(lake: &Path, until: i64, context: &str) {
    let mut found = ids(lake);
    found.sort();
    assert_eq!(found, expected(until), "{context}");
    assert_eq!(lake::check(lake, "t").unwrap(), Vec::<String>::new(), "{context}");
}

pub(crate) fn live(lake: &Path) -> Vec<PathBuf> {
    let mut live: Vec<PathBuf> =
        lake::table(lake, "t").unwrap().files.into_iter().map(|file| file.path).collect();
    live.sort();
    live
}

/// The data files in the table's folder, whether a version names them or not.
pub(crate) fn on_disk(lake: &Path) -> Vec<PathBuf> {
    let mut all = files(&lake.join("t"));
    all.retain(|path| !path.starts_with(lake.join("t/_delta_log")));
    all
}

/// A storage whose clock is ahead.
pub(crate) struct Later(pub(crate) Arc<dyn Storage>, pub(crate) Duration);

/// A storage that lets something else happen once, just before a version is put in the log.
pub(crate) struct Meanwhile<F> {
    disk: Arc<dyn Storage>,
    happened: AtomicBool,
    what: F,
}

impl<F: Fn() + Send + Sync + 'static> Meanwhile<F> {
    pub(crate) fn arc(what: F) -> Arc<dyn Storage> {
        Arc::new(Self { disk: disk(), happened: AtomicBool::new(false), what })
    }
}

/// Forwards every operation that is not named.
macro_rules! forward {
    ($to:tt) => {
        fn create_dir(&self, path: &Path) -> io::Result<()> {
            self.$to.create_dir(path)
        }
        fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
            self.$to.create(path)
        }
        fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
            self.$to.open(path)
        }
        fn list(&self, path: &Path) -> io::Result<Vec<String>> {
            self.$to.list(path)
        }
        fn exists(&self, path: &Path) -> io::Result<bool> {
            self.$to.exists(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.$to.rename(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            self.$to.remove(path)
        }
        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            self.$to.sync_dir(path)
        }
    };
}

impl Storage for Later {
    forward!(0);

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename_new(from, to)
    }

    fn now(&self) -> i64 {
        self.0.now() + i64::try_from(self.1.as_millis()).unwrap()
    }
}

impl<F: Fn() + Send + Sync> Storage for Meanwhile<F> {
    forward!(disk);

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        if to.parent().is_some_and(|folder| folder.ends_with("_delta_log"))
            && !self.happened.swap(true, Ordering::SeqCst)
        {
            (self.what)();
        }
        self.disk.rename_new(from, to)
    }

    fn now(&self) -> i64 {
        self.disk.now()
    }
}
