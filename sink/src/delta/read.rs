//! What a Delta table holds, for [`lake`](crate::lake).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use delta_kernel::scan::state::ScanFile;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use puddle_types::Progress;

use super::engine::{self, LOG, decode_path, engine, version_path};
use super::rejected::there;
use super::schema::to_arrow;
use super::state::State;
use super::version::{self, Stamp, Version};
use crate::Error;
use crate::lake::{Commit, Table, TableFile};
use crate::parquet::file::holds;
use crate::parquet::layout::Layout;
use crate::parquet::rejected_schema;
use crate::storage::LocalStorage;

/// Whether a table of a lake is a Delta table.
pub(crate) fn is_delta(lake: &Path, table: &str) -> Result<bool, Error> {
    engine::is_table(&lake.join(table))
}

/// Where a table's partitions go on.
pub(crate) fn progress(lake: &Path, table: &str) -> Result<Progress, Error> {
    Ok(load(lake, table)?.progress())
}

/// A table and that of its rejected records, as of one version.
pub(crate) fn both(lake: &Path, name: &str) -> Result<(Table, Table), Error> {
    let layout = Layout::new(lake, name);
    let state = load(lake, name)?;
    let log = layout.root().join(LOG);
    let schema = to_arrow(&state.snapshot.schema()).map_err(|reason| Error::corrupt(&log, reason))?;
    let by = state.form.partition_by.iter();
    let by = by.filter_map(|column| schema.field_with_name(column).ok().cloned()).collect();
    let files = live(&layout.root(), &state)?;
    let rejected = rejected(&layout, &state)?;
    let sum = |files: &[TableFile], count: fn(&TableFile) -> u64| files.iter().map(count).sum();
    let table = |name, root, files: Vec<TableFile>, schema, partition_by| Table {
        name,
        root,
        partition_by,
        schema,
        epoch: state.version(),
        rows: sum(&files, |file| file.rows),
        bytes: sum(&files, |file| file.bytes),
        files,
    };
    let data = table(name.to_owned(), layout.root(), files, schema, by);
    let root = layout.rejected_root();
    Ok((data, table(layout.rejected_name(), root, rejected, rejected_schema()?, Vec::new())))
}

/// The commits of a Delta table, oldest first; versions that other writers or an upkeep made are left out.
pub(crate) struct Versions {
    log: PathBuf,
    next: u64,
    last: u64,
}

impl Versions {
    pub(crate) fn new(lake: &Path, table: &str) -> Result<Self, Error> {
        let state = load(lake, table)?;
        let log = lake.join(table).join(LOG);
        // Another writer's clean-up may have taken the first versions away.
        let first = if version_path(&log, 0).exists() { 0 } else { first(&log)? };
        Ok(Self { log, next: first, last: state.version() })
    }

    /// The next version, whoever made it.
    fn version(&mut self) -> Option<Result<Version, Error>> {
        if self.next > self.last {
            return None;
        }
        let number = self.next;
        let version = version::read(&self.log, number).and_then(|version| {
            let missing = || Error::corrupt(&version_path(&self.log, number), "it is missing");
            version.ok_or_else(missing)
        });
        // An error ends it: what follows a hole would look like the whole.
        self.next = if version.is_ok() { number + 1 } else { u64::MAX };
        Some(version)
    }
}

impl Iterator for Versions {
    type Item = Result<Commit, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.version()? {
                Ok(version) => match version.stamp {
                    Some(stamp) => return Some(Ok(stamp.commit)),
                    None => continue,
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// What is not as the log says, in words.
pub(crate) fn check(lake: &Path, name: &str) -> Result<Vec<String>, Error> {
    let layout = Layout::new(lake, name);
    let storage = LocalStorage { durable: false };
    // Before the log: a file that is there by now was named by a commit before.
    let mut strangers = BTreeSet::new();
    let root = layout.rejected_root();
    match std::fs::read_dir(&root) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        entries => {
            for entry in entries.map_err(Error::io("list", &root))? {
                strangers.insert(entry.map_err(Error::io("list", &root))?.path());
            }
        }
    }
    let (data, rejected) = both(lake, name)?;
    // Perhaps beyond that version: what a commit takes away meanwhile is not missed.
    let mut history = Versions::new(lake, name)?;
    let whole = history.next == 0;
    let mut written = 0;
    let mut committed = HashMap::new();
    let mut removed = HashSet::new();
    let inside = |reason| Error::corrupt(&layout.root().join(LOG), reason);
    while let Some(version) = history.version() {
        let Version { stamp, joined, .. } = version?;
        let mut files = joined;
        if let Some(Stamp { commit, .. }) = stamp {
            removed.extend(commit.removed_in(lake).map_err(inside)?);
            if commit.epoch <= data.epoch {
                written += commit.partitions.iter().map(|moved| moved.span.written).sum::<u64>();
                written += commit.retried.iter().map(|again| again.retried.written).sum::<u64>();
            }
            files.extend(commit.files);
        }
        for file in files {
            committed.insert(file.destination_in(lake).map_err(inside)?, (file.bytes, file.hash));
        }
    }
    let mut problems = Vec::new();
    if whole && data.rows != written {
        problems.push(format!("the table has {} rows, but its commits wrote {written}", data.rows));
    }
    for file in data.files.iter().chain(&rejected.files) {
        strangers.remove(&file.path);
        if removed.contains(&file.path) {
            continue;
        }
        let whole = match committed.get(&file.path) {
            Some((bytes, hash)) => holds(&storage, &file.path, *bytes, hash),
            // A file that another tool wrote has no hash.
            None => file
                .path
                .metadata()
                .map(|found| found.len() == file.bytes)
                .map_err(Error::io("read", &file.path)),
        };
        match whole {
            Ok(true) => {}
            Ok(false) => problems
                .push(format!("{}: it does not hold the bytes that were committed", file.path.display())),
            Err(Error::Io { source, .. }) => problems.push(format!("{}: {source}", file.path.display())),
            Err(error) => return Err(error),
        }
    }
    // A commit that came meanwhile may be putting its own in place, or taking others away.
    strangers.retain(|path| !removed.contains(path) && !committed.contains_key(path));
    problems.extend(strangers.iter().map(|path| format!("{}: no commit names this file", path.display())));
    Ok(problems)
}

fn load(lake: &Path, table: &str) -> Result<State, Error> {
    let no_table = || Error::NoTable { table: table.to_owned(), lake: lake.to_owned() };
    State::load(&lake.join(table))?.ok_or_else(no_table)
}

/// The files of the newest version, by path.
fn live(root: &Path, state: &State) -> Result<Vec<TableFile>, Error> {
    let log = root.join(LOG);
    let kernel = |error| Error::delta("read", &log)(error);
    let scan = state.snapshot.clone().scan_builder().build().map_err(kernel)?;
    let mut found: Vec<ScanFile> = Vec::new();
    for batch in scan.scan_metadata(engine()).map_err(kernel)? {
        let batch = batch.map_err(kernel)?;
        found = batch.visit_scan_files(found, |found, file| found.push(file)).map_err(kernel)?;
    }
    let mut files = BTreeMap::new();
    for file in found {
        if file.dv_info.has_vector() {
            let reason =
                format!("{}: deletion vectors are not supported; rewrite the table without", file.path);
            return Err(Error::corrupt(&log, reason));
        }
        let inside = decode_path(&file.path).map_err(|reason| Error::corrupt(&log, reason))?;
        let path =
            crate::parquet::log::inside(root, &inside).map_err(|reason| Error::corrupt(&log, reason))?;
        let rows = match &file.stats {
            Some(stats) => stats.num_records,
            None => count(&path)?,
        };
        let by = state.form.partition_by.iter();
        let partition = by.map(|column| file.partition_values.get(column).cloned()).collect();
        let bytes = u64::try_from(file.size).unwrap_or(0);
        // By the time of its commit, and by name within one.
        files.insert((file.modification_time, path.clone()), TableFile { path, partition, rows, bytes });
    }
    Ok(files.into_values().collect())
}

/// The files of rejected records, oldest first. One that its writer has not put in place yet is where it was staged.
fn rejected(layout: &Layout, state: &State) -> Result<Vec<TableFile>, Error> {
    let mut files = Vec::new();
    for (mut path, file) in there(layout, state.rejected)? {
        if !path.exists() {
            let staged = file.source_in(&layout.lake);
            let staged = staged.map_err(|reason| Error::corrupt(&layout.root().join(LOG), reason))?;
            path = if staged.exists() { staged } else { path };
        }
        files.push(TableFile { path, partition: Vec::new(), rows: file.rows, bytes: file.bytes });
    }
    Ok(files)
}

/// The rows of a file whose writer did not say how many.
fn count(path: &Path) -> Result<u64, Error> {
    let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let reader = SerializedFileReader::new(file).map_err(|error| Error::parquet(path, error))?;
    Ok(u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0))
}

/// The first version that is there.
fn first(log: &Path) -> Result<u64, Error> {
    let mut first = None;
    for entry in std::fs::read_dir(log).map_err(Error::io("list", log))? {
        let name = entry.map_err(Error::io("list", log))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<u64>().ok());
        first = first.into_iter().chain(number).min();
    }
    Ok(first.unwrap_or(0))
}
