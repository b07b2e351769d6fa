//! Which files of rejected records the next commit takes away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::layout::Layout;
use super::log::Commit;
use crate::{Error, lake};

/// Files of rejected records by path, with their rows: those that are there, and those that are to go.
#[derive(Default)]
pub(super) struct Retrying {
    /// Read from the log with the first retry, since a run has no use for it.
    there: Option<BTreeMap<PathBuf, u64>>,
    going: BTreeMap<PathBuf, u64>,
}

impl Retrying {
    /// Lets the next commit take these files away, too.
    pub(super) fn add(&mut self, layout: &Layout, files: &[PathBuf]) -> Result<(), Error> {
        let there = match &mut self.there {
            Some(there) => there,
            none => none.insert(list(layout)?),
        };
        let mut going = self.going.clone();
        for path in files {
            let rows = there.get(path).filter(|_| !going.contains_key(path));
            let error = || Error::NotRejected { table: layout.table.clone(), path: path.clone() };
            going.insert(path.clone(), *rows.ok_or_else(error)?);
        }
        self.going = going;
        Ok(())
    }

    /// Rows of the files that are to go.
    pub(super) fn rows(&self) -> u64 {
        self.going.values().sum()
    }

    /// The files that are to go, relative to the lake.
    pub(super) fn destinations(&self, lake: &Path) -> Vec<String> {
        let relative =
            |path: &PathBuf| path.strip_prefix(lake).unwrap_or(path).to_string_lossy().into_owned();
        self.going.keys().map(relative).collect()
    }

    /// The files are gone, and the commit's own are there.
    pub(super) fn committed(&mut self, lake: &Path, commit: &Commit) {
        let going = std::mem::take(&mut self.going);
        let Some(there) = &mut self.there else { return };
        there.retain(|path, _| !going.contains_key(path));
        let rejected = commit.files.iter().filter(|file| file.rejected);
        there.extend(rejected.filter_map(|file| Some((file.destination_in(lake).ok()?, file.rows))));
    }

    pub(super) fn abort(&mut self) {
        self.going.clear();
    }
}

fn list(layout: &Layout) -> Result<BTreeMap<PathBuf, u64>, Error> {
    match lake::table(&layout.lake, &layout.rejected_name()) {
        Ok(table) => Ok(table.files.into_iter().map(|file| (file.path, file.rows)).collect()),
        // Nothing was committed yet.
        Err(Error::NoTable { .. }) => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}
