//! From staging to the table: what a commit does after its entry is in the log, and what a start makes up for.
//!
//! Files that a commit takes away go last, when those that stand in for them are in place for good: so a plain scan
//! may see a record twice for a moment, but never miss one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::file::holds;
use super::log::{Commit, DataFile, Log};
use crate::Error;
use crate::storage::{Storage, create_dirs};

/// Compares each staged file with what was written to it, before anything refers to it. What was just written is
/// in memory still, so this costs a hundredth of encoding it.
pub(crate) fn verify_staged(storage: &dyn Storage, lake: &Path, files: &[DataFile]) -> Result<(), Error> {
    for file in files {
        let staged = file.source_in(lake).map_err(|reason| Error::corrupt(lake, reason))?;
        if !holds(storage, &staged, file.bytes, &file.hash)? {
            return Err(Error::corrupt(
                &staged,
                "it does not hold what was written; the epoch was not committed",
            ));
        }
    }
    Ok(())
}

/// Moves a commit's staged files to the table, removes those that it takes away, and marks it as done.
pub(crate) fn publish(storage: &dyn Storage, lake: &Path, log: &Log, commit: &Commit) -> Result<(), Error> {
    let entry = |reason| Error::corrupt(log.dir(), format!("epoch {}: {reason}", commit.epoch));
    let mut moves = Vec::with_capacity(commit.files.len());
    for file in &commit.files {
        moves.push((file.source_in(lake).map_err(entry)?, file.destination_in(lake).map_err(entry)?));
    }
    conclude(storage, lake, log, commit, &moves)
}

/// Brings a commit to its end that a crash may have cut short: files that are in place stay, staged ones follow, and
/// those that it takes away go.
pub(crate) fn roll_forward(
    storage: &dyn Storage,
    lake: &Path,
    log: &Log,
    commit: &Commit,
) -> Result<(), Error> {
    let entry = |reason| Error::corrupt(log.dir(), format!("epoch {}: {reason}", commit.epoch));
    log.sync()?;
    let mut moves = Vec::new();
    let mut placed = Vec::new();
    for file in &commit.files {
        let (source, destination) =
            (file.source_in(lake).map_err(entry)?, file.destination_in(lake).map_err(entry)?);
        let is_there = storage.exists(&destination).map_err(Error::io("look for", &destination))?;
        let at = if is_there { &destination } else { &source };
        if !storage.exists(at).map_err(Error::io("look for", at))? {
            let way_on = way_on(storage, lake, log, commit)?;
            let reason = format!(
                "epoch {} names it, but it is gone, and so is {}; {way_on}",
                commit.epoch,
                source.display()
            );
            return Err(Error::corrupt(&destination, reason));
        }
        if !holds(storage, at, file.bytes, &file.hash)? {
            let way_on = way_on(storage, lake, log, commit)?;
            let reason = format!("it does not hold what epoch {} wrote; {way_on}", commit.epoch);
            return Err(Error::corrupt(at, reason));
        }
        if is_there { placed.push(destination) } else { moves.push((source, destination)) }
    }
    // The folders may be there without being durable, and so may the files that are in place.
    for (_, destination) in &moves {
        create_dirs(storage, destination.parent().unwrap_or(lake))?;
    }
    let destinations = placed.iter().chain(moves.iter().map(|(_, destination)| destination));
    let folders: BTreeSet<&Path> = destinations
        .flat_map(|path| path.ancestors().skip(1).take_while(|dir| dir.starts_with(lake)))
        .collect();
    sync_all(storage, folders)?;
    conclude(storage, lake, log, commit, &moves)
}

/// Makes the last moves of a commit, takes its files away, in this order, and marks it as done.
fn conclude(
    storage: &dyn Storage,
    lake: &Path,
    log: &Log,
    commit: &Commit,
    moves: &[(PathBuf, PathBuf)],
) -> Result<(), Error> {
    let entry = |reason| Error::corrupt(log.dir(), format!("epoch {}: {reason}", commit.epoch));
    let removed = commit.removed_in(lake).map_err(entry)?;
    place(storage, lake, moves)?;
    take_away(storage, &removed)?;
    log.mark_done(commit.epoch)
}

/// What to do about a commit that cannot be brought to its end. Nobody was told of it yet, so it may be taken back, and
/// Kafka still has its records; but not those that were rejected before and run again, once their old files are gone.
fn way_on(storage: &dyn Storage, lake: &Path, log: &Log, commit: &Commit) -> Result<String, Error> {
    let put_back = "put it back as it was";
    for path in commit.removed_in(lake).map_err(|reason| Error::corrupt(log.dir(), reason))? {
        if !storage.exists(&path).map_err(Error::io("look for", &path))? {
            return Ok(format!("{put_back}, or read the topic again into a new table"));
        }
    }
    Ok(format!(
        "{put_back}; or take the epoch back: move {} away, and what the table has of the epoch already, and its \
         records are read again from Kafka",
        log.entry_path(commit.epoch).display()
    ))
}

/// Removes staged files; nothing in the log that is not in place names them.
pub(crate) fn sweep(storage: &dyn Storage, staging: &Path) -> Result<(), Error> {
    for name in storage.list(staging).map_err(Error::io("list", staging))? {
        let path = staging.join(name);
        storage.remove(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// Moves staged files to their places, where nothing may be yet, and makes both folders durable.
pub(crate) fn place(storage: &dyn Storage, lake: &Path, moves: &[(PathBuf, PathBuf)]) -> Result<(), Error> {
    let mut folders = BTreeSet::new();
    for (source, destination) in moves {
        let folder = destination.parent().unwrap_or(lake);
        create_dirs(storage, folder)?;
        storage.rename_new(source, destination).map_err(Error::io("move a staged file to", destination))?;
        folders.extend([folder, source.parent().unwrap_or(lake)]);
    }
    sync_all(storage, folders)
}

/// Removes files for good, those at least that are still there.
fn take_away(storage: &dyn Storage, files: &[PathBuf]) -> Result<(), Error> {
    let mut folders = BTreeSet::new();
    for path in files {
        if storage.exists(path).map_err(Error::io("look for", path))? {
            storage.remove(path).map_err(Error::io("remove", path))?;
        }
        folders.extend(path.parent());
    }
    sync_all(storage, folders)
}

/// Makes the names in folders durable.
fn sync_all(storage: &dyn Storage, folders: BTreeSet<&Path>) -> Result<(), Error> {
    let folders: Vec<&Path> = folders.into_iter().collect();
    storage.sync_dirs(&folders).map_err(|(position, error)| Error::sync(folders[position])(error))
}
