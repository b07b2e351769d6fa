//! What a lake holds, read through the commit logs: whole epochs only, without locks, also while a writer runs.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use puddle_types::Progress;

use crate::Error;
use crate::config::{REJECTED_SUFFIX, validate_table};
use crate::delta::read;
use crate::parquet::layout::{HIDDEN, Layout};
use crate::parquet::log::{self, Loaded, Log};
use crate::parquet::rejected_schema;
use crate::schema::schema;
use crate::storage::{LocalStorage, Storage};

mod check;

pub use crate::parquet::log::{Commit, DataFile, Moved, RetriedPartition};

/// A table as of its newest whole epoch.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name; that of a table of rejected records ends with `.rejected`.
    pub name: String,
    /// Its folder.
    pub root: PathBuf,
    /// Its files, oldest first.
    pub files: Vec<TableFile>,
    /// The columns that stand in the path, outermost first.
    pub partition_by: Vec<Field>,
    /// All columns, those of the path too, in the order of the query that wrote them. Files from before a column
    /// was added lack it.
    pub schema: SchemaRef,
    /// The newest epoch that is seen.
    pub epoch: u64,
    /// Rows of all files.
    pub rows: u64,
    /// Size of all files.
    pub bytes: u64,
}

/// A file of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFile {
    /// Where it is.
    pub path: PathBuf,
    /// The exact values of [`Table::partition_by`], as text; null is `None`.
    pub partition: Vec<Option<String>>,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

/// The tables of a lake, by name, each followed by that of its rejected records. A lake that does not exist yet has
/// none.
pub fn tables(lake: &Path) -> Result<Vec<Table>, Error> {
    let hidden = lake.join(HIDDEN);
    let mut names = match storage().list(&hidden) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", &hidden)(error)),
    };
    names.retain(|name| validate_table(name).is_ok());
    names.sort_unstable();
    let mut tables = Vec::new();
    for name in names {
        if let Some((data, rejected)) = both(lake, &name)? {
            tables.extend([data, rejected]);
        }
    }
    Ok(tables)
}

/// One table of a lake, by name; also one of rejected records.
pub fn table(lake: &Path, name: &str) -> Result<Table, Error> {
    let main = name.strip_suffix(REJECTED_SUFFIX);
    let (data, rejected) = with_rejected(lake, main.unwrap_or(name))?;
    Ok(if main.is_some() { rejected } else { data })
}

/// A table, and that of its rejected records as of the same epoch.
pub fn with_rejected(lake: &Path, name: &str) -> Result<(Table, Table), Error> {
    both(lake, name)?.ok_or_else(|| Error::NoTable { table: name.to_owned(), lake: lake.to_owned() })
}

/// All commits of a table, oldest first, read as they are asked for. It may be read while the table is written: it ends
/// with the last commit there was when it began.
pub struct History(Commits);

enum Commits {
    Parquet(log::History),
    Delta(read::Versions),
}

impl Iterator for History {
    type Item = Result<Commit, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Commits::Parquet(commits) => commits.next(),
            Commits::Delta(commits) => commits.next(),
        }
    }
}

/// All commits of a table. Of a Delta table, those of Puddle's sink: versions that others or an upkeep made, which move
/// no offset, are left out.
pub fn history(lake: &Path, table: &str) -> Result<History, Error> {
    Ok(History(if is_delta(lake, table)? {
        Commits::Delta(read::Versions::new(lake, table)?)
    } else {
        Commits::Parquet(find(lake, table)?.0.history()?)
    }))
}

/// Where a table's partitions go on, without taking its lock.
pub fn progress(lake: &Path, table: &str) -> Result<Progress, Error> {
    if is_delta(lake, table)? { read::progress(lake, table) } else { Ok(find(lake, table)?.1.state.progress) }
}

/// What in the folders of a table, and of its rejected records, is not as the log says, in words. Every file is read.
/// Safe while a writer runs.
pub fn check(lake: &Path, table: &str) -> Result<Vec<String>, Error> {
    if is_delta(lake, table)? { read::check(lake, table) } else { check::check(lake, table) }
}

/// Whether a table is a Delta table.
pub fn is_delta(lake: &Path, table: &str) -> Result<bool, Error> {
    validate_table(table)?;
    read::is_delta(lake, table)
}

/// The log's `last` commit, if its files are all in place; the one before it otherwise, so that an epoch is seen
/// whole or not at all.
fn visible_epoch(log: &Log, lake: &Path, loaded: &Loaded) -> u64 {
    let epoch = loaded.state.epoch;
    let placed = |file: &DataFile| file.destination_in(lake).is_ok_and(|path| path.exists());
    if log.done().is_some_and(|done| done >= epoch) || loaded.last.files.iter().all(placed) {
        epoch
    } else {
        epoch - 1
    }
}

/// A table and that of its rejected records.
fn both(lake: &Path, name: &str) -> Result<Option<(Table, Table)>, Error> {
    if is_delta(lake, name)? {
        return read::both(lake, name).map(Some);
    }
    let layout = Layout::new(lake, name);
    let Some((log, loaded)) = load(lake, name)? else { return Ok(None) };
    let epoch = visible_epoch(&log, lake, &loaded);
    let form = &loaded.state.form;
    let all = schema(&form.columns).map_err(|reason| Error::corrupt(log.dir(), reason))?;
    let by =
        form.partition_by.iter().filter_map(|column| all.field_with_name(column).ok().cloned()).collect();
    let table = |name: String, root, schema, partition_by| Table {
        name,
        root,
        files: Vec::new(),
        partition_by,
        schema,
        epoch,
        rows: 0,
        bytes: 0,
    };
    let mut data = table(name.to_owned(), layout.root(), all, by);
    let mut rejected = table(layout.rejected_name(), layout.rejected_root(), rejected_schema()?, Vec::new());
    let mut removed = HashSet::new();
    for commit in log.history()? {
        let commit = commit?;
        if commit.epoch > epoch {
            break;
        }
        removed.extend(commit.removed_in(lake).map_err(|reason| Error::corrupt(log.dir(), reason))?);
        for file in commit.files {
            let path = file.destination_in(lake).map_err(|reason| Error::corrupt(log.dir(), reason))?;
            let table = if file.rejected { &mut rejected } else { &mut data };
            table.files.push(TableFile {
                path,
                partition: file.partition,
                rows: file.rows,
                bytes: file.bytes,
            });
        }
    }
    rejected.files.retain(|file| !removed.contains(&file.path));
    for table in [&mut data, &mut rejected] {
        table.rows = table.files.iter().map(|file| file.rows).sum();
        table.bytes = table.files.iter().map(|file| file.bytes).sum();
    }
    Ok(Some((data, rejected)))
}

fn find(lake: &Path, table: &str) -> Result<(Log, Loaded), Error> {
    load(lake, table)?.ok_or_else(|| Error::NoTable { table: table.to_owned(), lake: lake.to_owned() })
}

/// A table's log and what it says; `None` if it has no commit.
fn load(lake: &Path, table: &str) -> Result<Option<(Log, Loaded)>, Error> {
    validate_table(table)?;
    let dir = Layout::new(lake, table).log();
    let storage = storage();
    if !storage.exists(&dir).map_err(Error::io("look for", &dir))? {
        return Ok(None);
    }
    let log = Log::new(storage, dir);
    // Before the log, since a writer may be at work.
    let done = log.done();
    let Some(loaded) = log.load()? else { return Ok(None) };
    log.check_whole(done, &loaded)?;
    Ok(Some((log, loaded)))
}

fn storage() -> Arc<dyn Storage> {
    Arc::new(LocalStorage { durable: true })
}
