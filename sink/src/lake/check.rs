//! Whether a table's files are what its log says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{find, storage, visible_epoch};
use crate::Error;
use crate::parquet::file::holds;
use crate::parquet::layout::Layout;
use crate::parquet::log::Log;

/// What in the folders of a table, and of its rejected records, is not as the log says, in words. Every file is read.
/// Safe while a writer runs.
pub fn check(lake: &Path, table: &str) -> Result<Vec<String>, Error> {
    let layout = Layout::new(lake, table);
    // Before the log: a file that is there by now was named by an entry before.
    let mut there = BTreeSet::new();
    for root in [layout.root(), layout.rejected_root()] {
        collect_files(&root, &mut there).map_err(Error::io("list", &root))?;
    }
    let (log, loaded) = find(lake, table)?;
    let visible = visible_epoch(&log, lake, &loaded);
    let done = log.done().unwrap_or(0);
    let removed = removed(&log, lake)?;
    let mut problems = Vec::new();
    let mut missing = Vec::new();
    for commit in log.history()? {
        let commit = commit?;
        for file in commit.files {
            let path = file.destination_in(lake).map_err(|reason| Error::corrupt(log.dir(), reason))?;
            if removed.contains_key(&path) {
                continue;
            }
            there.remove(&path);
            if commit.epoch > visible {
                continue;
            }
            match holds(&*storage(), &path, file.bytes, &file.hash) {
                Ok(true) => {}
                Ok(false) => {
                    problems
                        .push(format!("{}: it does not hold the bytes that were committed", path.display()));
                }
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                    missing.push((path, source));
                }
                Err(Error::Io { source, .. }) => problems.push(format!("{}: {source}", path.display())),
                Err(error) => return Err(error),
            }
        }
    }
    if !missing.is_empty() {
        // A commit that came meanwhile may have taken them away.
        let removed = self::removed(&log, lake)?;
        missing.retain(|(path, _)| !removed.contains_key(path));
        problems.extend(missing.iter().map(|(path, source)| format!("{}: {source}", path.display())));
    }
    for (path, epoch) in &removed {
        // One that the writer is about to remove may be there still.
        if there.remove(path) && *epoch <= done && path.exists() {
            problems.push(format!("{}: commit {epoch} took this file away, but it is there", path.display()));
        }
    }
    problems.extend(there.iter().map(|path| format!("{}: no commit names this file", path.display())));
    Ok(problems)
}

/// The files that commits took away, each with the commit.
fn removed(log: &Log, lake: &Path) -> Result<BTreeMap<PathBuf, u64>, Error> {
    let mut removed = BTreeMap::new();
    for commit in log.history()? {
        let commit = commit?;
        let paths = commit.removed_in(lake).map_err(|reason| Error::corrupt(log.dir(), reason))?;
        removed.extend(paths.into_iter().map(|path| (path, commit.epoch)));
    }
    Ok(removed)
}

/// All files below a folder, which may not exist.
fn collect_files(folder: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect_files(&entry.path(), files)?;
        } else {
            files.insert(entry.path());
        }
    }
    Ok(())
}
