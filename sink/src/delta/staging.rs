//! A staging folder for each writer of a table, so that nobody sweeps what another is writing.
//!
//! ```text
//! .puddle/flights/staging/<id>/    files that are being written; id: a UUID
//! .puddle/flights/writers/<id>     locked by the writer for as long as it lives
//! ```
//!
//! The lock is the kernel's (`flock`), which releases it when the process ends, however it ends. So whoever gets the
//! lock of another's folder knows that nobody writes there any more. The lock's file is there, and locked, before the
//! folder is.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::Error;
use crate::parquet::layout::{HIDDEN, Layout};
use crate::parquet::publish;
use crate::storage::{Storage, create_dirs};

/// How often a new folder's lock may be taken from under its hands by a sweep, of which each lasts microseconds.
const CLAIMS: usize = 10;

/// A writer's own folder; it goes when dropped, unless something is left in it, or it was [left](Staging::leave).
pub(super) struct Staging {
    pub(super) dir: PathBuf,
    /// The folder's name relative to the lake.
    pub(super) name: String,
    is_left: bool,
    lock: Locked,
}

/// The folder of a writer that is no more.
pub(super) struct Abandoned {
    dir: PathBuf,
    lock: Locked,
}

struct Locked {
    path: PathBuf,
    _file: File,
}

impl Staging {
    /// Makes a folder for one writer.
    pub(super) fn claim(storage: &dyn Storage, layout: &Layout) -> Result<Self, Error> {
        let (all, writers) = (layout.staging(), layout.writers());
        for dir in [&all, &writers] {
            create_dirs(storage, dir)?;
        }
        // Those that are there may be of a run that ended before they were durable.
        for dir in [&layout.lake, &layout.lake.join(HIDDEN), &layout.hidden()] {
            storage.sync_dir(dir).map_err(Error::sync(dir))?;
        }
        for _ in 0..CLAIMS {
            let id = uuid::Uuid::new_v4().to_string();
            let Some(lock) = Locked::take(&writers.join(&id))? else { continue };
            let dir = all.join(&id);
            create_dirs(storage, &dir)?;
            let name = format!("{}/{id}", layout.staging_name());
            return Ok(Self { dir, name, is_left: false, lock });
        }
        let taken = std::io::Error::from(ErrorKind::ResourceBusy);
        Err(Error::io("lock", &writers)(taken))
    }

    /// Leaves the folder to the next sweep. A file that was moved out of it and whose new name is not durable may turn up
    /// here again after a power cut, and nowhere if the folder is gone.
    pub(super) fn leave(&mut self) {
        self.is_left = true;
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        // Only an empty folder is removed: what a failure left is for the next sweep, which knows what the log says.
        if fs::remove_dir(&self.dir).is_ok() {
            drop(fs::remove_file(&self.lock.path));
        }
    }
}

/// The folders whose writers have ended, locked until dropped. What the log says of them must be read after this.
pub(super) fn abandoned(layout: &Layout) -> Result<Vec<Abandoned>, Error> {
    let mut found = Vec::new();
    // A writer may have ended between making its lock's file and its folder.
    let mut ids = names(&layout.staging())?;
    ids.extend(names(&layout.writers())?);
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        if let Some(lock) = Locked::take(&layout.writers().join(&id))? {
            found.push(Abandoned { dir: layout.staging().join(&id), lock });
        }
    }
    Ok(found)
}

impl Abandoned {
    /// Removes the folder with all that is in it.
    pub(super) fn sweep(self, storage: &dyn Storage) -> Result<(), Error> {
        match publish::sweep(storage, &self.dir) {
            // There never was one, or another swept it after this one saw it.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            result => result?,
        }
        if fs::remove_dir(&self.dir).is_ok() || !self.dir.exists() {
            drop(fs::remove_file(&self.lock.path));
        }
        Ok(())
    }
}

impl Locked {
    /// `None` if another holds it.
    fn take(path: &Path) -> Result<Option<Self>, Error> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(Error::io("open", path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(Error::io("lock", path)(error.into())),
        }
        // A sweep may have removed it between opening and locking; whoever looks at the path would not see this lock.
        let links = file.metadata().map_err(Error::io("read", path))?.nlink();
        Ok((links > 0).then(|| Self { path: path.to_owned(), _file: file }))
    }
}

fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("list", dir))?,
    };
    entries
        .map(|entry| Ok(entry.map_err(Error::io("list", dir))?.file_name().to_string_lossy().into_owned()))
        .collect()
}
