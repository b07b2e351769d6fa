//! Deletes the files of a table's folder that its newest version does not name, once they are old enough.
//!
//! ```text
//! the folder's files -- live ----------------------------> stay
//!                    -- removed by a version, long ago --> deleted      counted from the removal
//!                    -- never committed, and old --------> deleted      counted from the last write
//! ```
//!
//! A reader that began before a file was removed still reads it, and a writer puts files in place before it commits
//! them: both have the retention's time. The folder is listed before the log is read, so that a file committed
//! meanwhile is known as live. Only `.parquet` files are ever deleted; what is hidden (`_delta_log` among it), and what
//! lies behind a symbolic link, is not even looked at. Nothing depends on how far a vacuum came: it may be killed, and
//! run again.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::engine::refresh;
use super::upkeep::{Named, find};
use crate::Error;
use crate::storage::Storage;

/// How long a file stays when the table does not say (`delta.deletedFileRetentionDuration`): Delta's own default.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long a file stays that no version ever named, whatever was asked for: a writer may be about to commit it.
pub const IN_FLIGHT: Duration = Duration::from_secs(60 * 60);

/// What to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Files younger than this stay. Default: the table's own retention, [`DEFAULT_RETENTION`] as a rule.
    pub older_than: Option<Duration>,
    /// Allows less than the table's own retention, which breaks whoever still reads an older version.
    pub force: bool,
    /// Only tell what would be deleted.
    pub dry_run: bool,
}

/// What a vacuum deleted, or would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The version whose files stayed.
    pub version: u64,
    /// Files younger than this stayed.
    pub older_than: Duration,
    /// What was deleted, by path.
    pub files: Vec<Unnamed>,
    /// Their size.
    pub bytes: u64,
    /// Files that the version does not name either, but that are too young.
    pub young: u64,
}

/// A file that the newest version of its table does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unnamed {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Whether an earlier version named it; otherwise it was never committed, or the log has forgotten.
    pub removed: bool,
    /// When it was removed, or else last written, in milliseconds since 1970 (UTC).
    pub since: i64,
}

/// Deletes what the newest version of a Delta table does not name. Safe while pipelines write to the table. `progress`
/// is told how many files are deleted, and of how many.
///
/// # Errors
/// A table that is none, or no Delta table, and a retention below the table's own without force, are usage errors.
/// Nothing is deleted if a file that the table needs is missing.
pub fn vacuum(
    lake: &Path,
    table: &str,
    options: &Options,
    storage: &dyn Storage,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, Error> {
    let (root, before) = find(lake, table, "vacuum")?;
    let least =
        before.snapshot.table_properties().deleted_file_retention_duration.unwrap_or(DEFAULT_RETENTION);
    let older_than = options.older_than.unwrap_or(least);
    if older_than < least && !options.force {
        return Err(Error::Retention { table: table.to_owned(), asked: older_than, least });
    }
    let mut found = Vec::new();
    list(&root, &mut found).map_err(Error::io("list", &root))?;
    let snapshot = refresh(&lake.join(table), &before.snapshot)?;
    let named = Named::read(&root, &snapshot)?;
    let (mut files, young) = unnamed(&root, found, &named, storage.now(), older_than)?;
    files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    if !options.dry_run {
        let whole = files.len() as u64;
        for (done, file) in (0..).zip(&files) {
            progress(done, whole);
            match storage.remove(&file.path) {
                // Another vacuum was faster.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => result.map_err(Error::io("remove", &file.path))?,
            }
        }
        progress(whole, whole);
    }
    let bytes = files.iter().map(|file| file.bytes).sum();
    Ok(Report { version: snapshot.version(), older_than, files, bytes, young })
}

/// A data file in the table's folder.
struct Found {
    path: PathBuf,
    bytes: u64,
    modified: i64,
}

/// The data files below a folder, as far as readers would look.
fn list(folder: &Path, found: &mut Vec<Found>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().first().is_some_and(|first| b"._".contains(first)) {
            continue;
        }
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            list(&path, found)?;
        } else if kind.is_file() && path.extension().is_some_and(|end| end == "parquet") {
            match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                metadata => {
                    let metadata = metadata?;
                    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                    let modified = i64::try_from(modified.as_millis()).unwrap_or(i64::MAX);
                    found.push(Found { path, bytes: metadata.len(), modified });
                }
            }
        }
    }
    Ok(())
}

/// The files that may go, and the number of those that are too young.
fn unnamed(
    root: &Path,
    found: Vec<Found>,
    named: &Named,
    now: i64,
    older_than: Duration,
) -> Result<(Vec<Unnamed>, u64), Error> {
    let mut found: HashMap<PathBuf, Found> =
        found.into_iter().map(|file| (file.path.clone(), file)).collect();
    for live in &named.live {
        // One that was committed since the folder was listed is there. If it is not, either the table is damaged or
        // its paths are not understood: no time to delete anything.
        if found.remove(live).is_none() && !live.try_exists().map_err(Error::io("look for", live))? {
            let reason =
                format!("it is gone, though the table needs it; nothing in {} was deleted", root.display());
            return Err(Error::corrupt(live, reason));
        }
    }
    let (mut old, mut young) = (Vec::new(), 0);
    for Found { path, bytes, modified } in found.into_values() {
        let removed = named.removed.get(&path);
        let least = if removed.is_some() { older_than } else { older_than.max(IN_FLIGHT) };
        let since = removed.copied().unwrap_or(modified);
        if i128::from(now) - i128::from(since) > i128::try_from(least.as_millis()).unwrap_or(i128::MAX) {
            old.push(Unnamed { path, bytes, removed: removed.is_some(), since });
        } else {
            young += 1;
        }
    }
    Ok((old, young))
}
