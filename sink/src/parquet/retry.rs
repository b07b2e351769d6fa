//! Which files of rejected records the next commit takes away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::holds;
use super::layout::Layout;
use super::log::{Commit, DataFile, Log};
use crate::Error;
use crate::storage::LocalStorage;

/// Files of rejected records by path: those that are there, and those that are to go.
#[derive(Default)]
pub(crate) struct Retrying {
    /// Read from the log with the first retry, since a run has no use for it.
    there: Option<BTreeMap<PathBuf, DataFile>>,
    /// Each with its rows.
    going: BTreeMap<PathBuf, u64>,
}

impl Retrying {
    /// Lets the next commit take these files away, too. Each must hold what was committed: once it is gone, its records
    /// are what was read from it. `list` tells which files are there.
    pub(crate) fn add(
        &mut self,
        table: &str,
        files: &[PathBuf],
        list: impl FnOnce() -> Result<BTreeMap<PathBuf, DataFile>, Error>,
    ) -> Result<(), Error> {
        let storage = LocalStorage { durable: false };
        let there = match &mut self.there {
            Some(there) => there,
            none => none.insert(list()?),
        };
        let mut going = self.going.clone();
        for path in files {
            let file = there.get(path).filter(|_| !going.contains_key(path));
            let error = || Error::NotRejected { table: table.to_owned(), path: path.clone() };
            let file = file.ok_or_else(error)?;
            if !holds(&storage, path, file.bytes, &file.hash)? {
                return Err(Error::corrupt(
                    path,
                    "it does not hold the rejected records that were committed, so they are not run again; put it \
                     back as it was",
                ));
            }
            going.insert(path.clone(), file.rows);
        }
        self.going = going;
        Ok(())
    }

    /// Rows of the files that are to go.
    pub(crate) fn rows(&self) -> u64 {
        self.going.values().sum()
    }

    /// The files that are to go, relative to the lake.
    pub(crate) fn destinations(&self, lake: &Path) -> Vec<String> {
        let relative =
            |path: &PathBuf| path.strip_prefix(lake).unwrap_or(path).to_string_lossy().into_owned();
        self.going.keys().map(relative).collect()
    }

    /// The files are gone, and the commit's own are there.
    pub(crate) fn committed(&mut self, lake: &Path, commit: &Commit) {
        let going = std::mem::take(&mut self.going);
        let Some(there) = &mut self.there else { return };
        there.retain(|path, _| !going.contains_key(path));
        let rejected = commit.files.iter().filter(|file| file.rejected);
        there.extend(rejected.filter_map(|file| Some((file.destination_in(lake).ok()?, file.clone()))));
    }

    /// Another writer committed this. An error is a file of ours that it took away.
    pub(crate) fn others(&mut self, lake: &Path, commit: &Commit) -> Result<(), PathBuf> {
        // Read anew when it is needed.
        self.there = None;
        let removed = commit.removed_in(lake).unwrap_or_default();
        removed.into_iter().find(|path| self.going.contains_key(path)).map_or(Ok(()), Err)
    }

    pub(crate) fn abort(&mut self) {
        self.going.clear();
    }
}

/// All files of rejected records that are there.
pub(super) fn list(layout: &Layout) -> Result<BTreeMap<PathBuf, DataFile>, Error> {
    let log = Log::new(Arc::new(LocalStorage { durable: false }), layout.log());
    let corrupt = |reason| Error::corrupt(log.dir(), reason);
    let mut there = BTreeMap::new();
    for commit in log.history()? {
        let commit = commit?;
        for path in commit.removed_in(&layout.lake).map_err(corrupt)? {
            there.remove(&path);
        }
        for file in commit.files.into_iter().filter(|file| file.rejected) {
            there.insert(file.destination_in(&layout.lake).map_err(corrupt)?, file);
        }
    }
    Ok(there)
}
