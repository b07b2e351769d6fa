//! The table of rejected records beside a Delta table: Parquet files that the Delta commit names.
//!
//! ```text
//! version 12: rejected_before 9  <-- newest (domain puddle.rejected)
//! version  9: rejected_before 4      each names its files: staged at, placed at, size, hash; and those it removes
//! version  4                     <-- the mark: everything up to here is in place
//! ```
//!
//! The Delta commit decides; the files are renamed into place after it, by their writer or, if that is gone or slow, by
//! any other that opens or reloads the table. Two may be at it at once: a rename takes place once, and whoever comes
//! second finds the file in place. The mark is set whenever all has been looked at: at an open, and with each checkpoint.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::engine::{LOG, version_path};
use super::state::State;
use super::version::{self, Stamp};
use crate::Error;
use crate::parquet::file::holds;
use crate::parquet::layout::Layout;
use crate::parquet::log::{DataFile, seal, unseal};
use crate::storage::{Storage, create_dirs, read, write_synced};

/// The content of the mark.
#[derive(Serialize, Deserialize)]
struct Placed {
    version: u64,
}

/// Brings files of rejected records to where the log says they are.
pub(super) struct Placer<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) layout: &'a Layout,
    /// The writer's own folder.
    pub(super) scratch: &'a Path,
}

impl Placer<'_> {
    /// Brings every commit up to `state` to its end, that a crash or another's slowness may have left short of it.
    pub(super) fn roll_forward(&self, state: &State) -> Result<(), Error> {
        let Some(newest) = state.rejected else { return Ok(()) };
        let marked = self.marked();
        if marked >= newest {
            return Ok(());
        }
        let stamps = chain(&self.layout.root(), Some(newest), marked)?;
        self.place(&stamps, true)?;
        self.mark(newest)
    }

    /// Brings an own commit to its end.
    pub(super) fn conclude(&self, stamp: &Stamp) -> Result<(), Error> {
        if stamp.touches_rejected() { self.place(std::slice::from_ref(stamp), false) } else { Ok(()) }
    }

    /// Puts the files of commits in place, and takes away those that they remove; the removing comes last, so that
    /// a plain scan may see a record twice for a moment, but never miss one. Newest first.
    fn place(&self, stamps: &[Stamp], verify: bool) -> Result<(), Error> {
        let lake = &self.layout.lake;
        let corrupt = |stamp: &Stamp, reason: String| self.corrupt(stamp.commit.epoch, reason);
        let mut removed = BTreeSet::new();
        let mut folders = BTreeSet::new();
        for stamp in stamps {
            removed.extend(stamp.commit.removed_in(lake).map_err(|reason| corrupt(stamp, reason))?);
        }
        for stamp in stamps.iter().rev() {
            for file in stamp.commit.files.iter().filter(|file| file.rejected) {
                let source = file.source_in(lake).map_err(|reason| corrupt(stamp, reason))?;
                let destination = file.destination_in(lake).map_err(|reason| corrupt(stamp, reason))?;
                if removed.contains(&destination) {
                    continue;
                }
                self.place_one(stamp, file, &source, &destination, verify)?;
                folders.extend(destination.parent().map(Path::to_owned));
                folders.extend(source.parent().map(Path::to_owned));
            }
        }
        // The folders may be there without being durable, and so may the files in them.
        let root = self.layout.rejected_root();
        if folders.contains(&root) {
            folders.insert(lake.clone());
        }
        self.sync_all(&folders)?;
        let mut folders = BTreeSet::new();
        for path in &removed {
            match self.storage.remove(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => result.map_err(Error::io("remove", path))?,
            }
            folders.extend(path.parent().map(Path::to_owned));
        }
        self.sync_all(&folders)
    }

    fn place_one(
        &self,
        stamp: &Stamp,
        file: &DataFile,
        source: &Path,
        destination: &Path,
        verify: bool,
    ) -> Result<(), Error> {
        let exists = |path: &Path| self.storage.exists(path).map_err(Error::io("look for", path));
        create_dirs(self.storage, destination.parent().unwrap_or(&self.layout.lake))?;
        if !exists(destination)? {
            if verify {
                self.verify(stamp, file, source)?;
            }
            match self.storage.rename_new(source, destination) {
                Ok(()) => return Ok(()),
                // Another writer was faster.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) => {}
                Err(error) => return Err(Error::io("move a staged file to", destination)(error)),
            }
        }
        if exists(destination)? {
            return if verify { self.verify(stamp, file, destination) } else { Ok(()) };
        }
        if self.is_removed_since(destination)? {
            return Ok(());
        }
        let epoch = stamp.commit.epoch;
        let reason = format!("it is gone, and so is {}, though version {epoch} names it", source.display());
        Err(Error::corrupt(destination, reason))
    }

    /// Checks that a file holds what was committed; one that another writer takes away meanwhile passes.
    fn verify(&self, stamp: &Stamp, file: &DataFile, path: &Path) -> Result<(), Error> {
        match holds(self.storage, path, file.bytes, &file.hash) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::corrupt(
                path,
                format!(
                    "it does not hold what version {} wrote; restore it, or read its records again into a new table",
                    stamp.commit.epoch
                ),
            )),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether a newer commit took a file away meanwhile.
    fn is_removed_since(&self, path: &Path) -> Result<bool, Error> {
        let root = self.layout.root();
        let newest = State::load(&root)?.and_then(|state| state.rejected);
        for stamp in chain(&root, newest, self.marked())? {
            let removed = stamp.commit.removed_in(&self.layout.lake);
            if removed
                .map_err(|reason| self.corrupt(stamp.commit.epoch, reason))?
                .iter()
                .any(|gone| gone == path)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The version up to which everything is known to be in place. A mark that is missing or damaged only means
    /// more to look at.
    fn marked(&self) -> u64 {
        let bytes = read(self.storage, &self.layout.placed());
        bytes.ok().and_then(|bytes| unseal::<Placed>(&bytes).ok()).map_or(0, |placed| placed.version)
    }

    fn mark(&self, version: u64) -> Result<(), Error> {
        let path = self.layout.placed();
        let temporary = self.scratch.join("placed");
        write_synced(self.storage, &temporary, seal(&Placed { version }).as_bytes())?;
        self.storage.rename(&temporary, &path).map_err(Error::io("replace", &path))?;
        let folder = self.layout.hidden();
        self.storage.sync_dir(&folder).map_err(Error::sync(&folder))
    }

    /// Makes the names in folders durable. A folder that is gone, as that of a writer that ended, has none.
    fn sync_all(&self, folders: &BTreeSet<PathBuf>) -> Result<(), Error> {
        for folder in folders {
            match self.storage.sync_dir(folder) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => result.map_err(Error::sync(folder))?,
            }
        }
        Ok(())
    }

    fn corrupt(&self, version: u64, reason: String) -> Error {
        Error::corrupt(&version_path(&self.layout.root().join(LOG), version), reason)
    }
}

/// The files of rejected records as of a version, oldest first, each where it is once it is in place.
pub(super) fn there(layout: &Layout, newest: Option<u64>) -> Result<Vec<(PathBuf, DataFile)>, Error> {
    let root = layout.root();
    let mut removed = BTreeSet::new();
    let mut files = Vec::new();
    for stamp in chain(&root, newest, 0)? {
        let log = version_path(&root.join(LOG), stamp.commit.epoch);
        let corrupt = |reason| Error::corrupt(&log, reason);
        removed.extend(stamp.commit.removed_in(&layout.lake).map_err(corrupt)?);
        for file in stamp.commit.files.into_iter().filter(|file| file.rejected).rev() {
            let path = file.destination_in(&layout.lake).map_err(corrupt)?;
            if !removed.contains(&path) {
                files.push((path, file));
            }
        }
    }
    files.reverse();
    Ok(files)
}

/// The commits that touched rejected records, from the `newest` back to the first after `until`.
pub(super) fn chain(root: &Path, newest: Option<u64>, until: u64) -> Result<Vec<Stamp>, Error> {
    let log = root.join(LOG);
    let mut stamps = Vec::new();
    let mut next = newest;
    while let Some(number) = next.filter(|number| *number > until) {
        let path = version_path(&log, number);
        let stamp = version::read(&log, number)?.and_then(|version| version.stamp);
        let stamp = stamp.ok_or_else(|| {
            Error::corrupt(&path, "it is missing or not a commit of Puddle, though a newer one refers to it")
        })?;
        next = stamp.rejected_before;
        stamps.push(stamp);
    }
    Ok(stamps)
}
