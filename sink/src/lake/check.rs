//! Whether a table's files are what its log says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{find, storage, visible_epoch};
use crate::Error;
use crate::parquet::file::holds;
use crate::parquet::layout::Layout;
use crate::parquet::log::{Commit, Log, WAY_ON};

/// What in the folders of a table, and of its rejected records, is not as the log says, in words. Every file is read.
/// Safe while a writer runs.
pub(super) fn check(lake: &Path, table: &str) -> Result<Vec<String>, Error> {
    let layout = Layout::new(lake, table);
    // Before the log: a file that is there by now was named by an entry before.
    let mut there = BTreeSet::new();
    for root in [layout.root(), layout.rejected_root()] {
        collect_files(&root, &mut there).map_err(Error::io("list", &root))?;
    }
    let (log, loaded) = find(lake, table)?;
    let visible = visible_epoch(&log, lake, &loaded);
    let done = log.done().unwrap_or(0);
    let mut removed = BTreeMap::new();
    let mut found = Vec::new();
    for commit in log.history()? {
        let commit = commit?;
        add_removed(&commit, &log, lake, &mut removed)?;
        for file in commit.files {
            let path = file.destination_in(lake).map_err(|reason| Error::corrupt(log.dir(), reason))?;
            there.remove(&path);
            if commit.epoch > visible {
                continue;
            }
            match holds(&*storage(), &path, file.bytes, &file.hash) {
                Ok(true) => {}
                Ok(false) => found.push((path, "it does not hold the bytes that were committed".to_owned())),
                Err(Error::Io { source, .. }) => found.push((path, source.to_string())),
                Err(error) => return Err(error),
            }
        }
    }
    found.retain(|(path, _)| !removed.contains_key(path));
    if !found.is_empty() {
        // A commit that came meanwhile may have taken them away.
        for commit in log.history()? {
            add_removed(&commit?, &log, lake, &mut removed)?;
        }
        found.retain(|(path, _)| !removed.contains_key(path));
    }
    let told = |(path, what): (PathBuf, String)| format!("{}: {what}; {WAY_ON}", path.display());
    let mut problems: Vec<String> = found.into_iter().map(told).collect();
    for (path, epoch) in &removed {
        there.remove(path);
        // One that the writer is about to remove may be there still.
        if *epoch <= done && path.exists() {
            problems.push(format!(
                "{}: commit {epoch} took this file away, but it is there; remove it",
                path.display()
            ));
        }
    }
    let stranger = "no commit names this file; move it away";
    problems.extend(there.iter().map(|path| format!("{}: {stranger}", path.display())));
    let harmless = "The next run makes up for it; a checkpoint may also be removed";
    problems.extend(log.damaged()?.iter().map(|error| format!("{error}. {harmless}")));
    Ok(problems)
}

/// Adds the files that a commit took away, each with the commit.
fn add_removed(
    commit: &Commit,
    log: &Log,
    lake: &Path,
    removed: &mut BTreeMap<PathBuf, u64>,
) -> Result<(), Error> {
    let paths = commit.removed_in(lake).map_err(|reason| Error::corrupt(log.dir(), reason))?;
    removed.extend(paths.into_iter().map(|path| (path, commit.epoch)));
    Ok(())
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
