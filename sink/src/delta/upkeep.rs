//! What the upkeep of a Delta table has in common: which table, and which files it names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch, StructArray};
use arrow::datatypes::Int64Type;
use delta_kernel::engine::arrow_data::EngineDataArrowExt as _;
use delta_kernel::snapshot::SnapshotRef;

use super::engine::{LOG, engine};
use super::state::State;
use crate::config::REJECTED_SUFFIX;
use crate::{Error, lake};

/// The newest state of a table, and its folder as the kernel spells it, or a usage error that says what it is instead.
pub(super) fn find(lake: &Path, table: &str, action: &'static str) -> Result<(PathBuf, State), Error> {
    let not_delta = || Error::NotDelta { table: table.to_owned(), action };
    if table.ends_with(REJECTED_SUFFIX) {
        lake::table(lake, table)?;
        return Err(not_delta());
    }
    crate::config::validate_table(table)?;
    match State::load(&lake.join(table))? {
        Some(state) => Ok((root(&state.snapshot)?, state)),
        None => {
            lake::table(lake, table)?;
            Err(not_delta())
        }
    }
}

/// The files that a version of a table names.
#[derive(Default)]
pub(super) struct Named {
    /// Those that hold its rows.
    pub(super) live: Vec<PathBuf>,
    /// Those that an earlier version held, with when they were removed, in milliseconds since 1970 (UTC), as far back
    /// as the log remembers.
    pub(super) removed: HashMap<PathBuf, i64>,
}

impl Named {
    /// Reads the log up to a version.
    pub(super) fn read(root: &Path, snapshot: &SnapshotRef) -> Result<Self, Error> {
        let log = root.join(LOG);
        let mut named = Self::default();
        // What a checkpoint would hold is just this: the live files, and those removed that may still be read.
        let checkpoint = snapshot.clone().create_checkpoint_writer(engine());
        let actions = checkpoint.and_then(|checkpoint| checkpoint.checkpoint_data(engine()));
        for batch in actions.map_err(Error::delta("read", &log))? {
            let rows = batch.and_then(|batch| batch.apply_selection_vector());
            let rows =
                rows.and_then(|rows| rows.try_into_record_batch()).map_err(Error::delta("read", &log))?;
            named.add(&rows, snapshot).map_err(|reason| Error::corrupt(&log, reason))?;
        }
        Ok(named)
    }

    fn add(&mut self, rows: &RecordBatch, snapshot: &SnapshotRef) -> Result<(), String> {
        if let Some(adds) = action(rows, "add") {
            for (_, path) in paths(adds) {
                self.live.push(resolve(snapshot, path)?);
            }
        }
        if let Some(removes) = action(rows, "remove") {
            let times = removes
                .column_by_name("deletionTimestamp")
                .and_then(|column| column.as_primitive_opt::<Int64Type>());
            for (row, path) in paths(removes) {
                if let Some(times) = times.filter(|times| times.is_valid(row)) {
                    self.removed.insert(resolve(snapshot, path)?, times.value(row));
                }
            }
        }
        Ok(())
    }
}

/// The place of a file that the log names, by the rules of a URL, as the kernel finds it when it reads.
pub(super) fn resolve(snapshot: &SnapshotRef, path: &str) -> Result<PathBuf, String> {
    let url = snapshot.table_root().join(path).map_err(|error| format!("{path:?} is no path: {error}"))?;
    url.to_file_path().map_err(|()| format!("{path:?} is no file on this machine"))
}

fn root(snapshot: &SnapshotRef) -> Result<PathBuf, Error> {
    let root = snapshot.table_root();
    root.to_file_path()
        .map_err(|()| Error::corrupt(Path::new(root.path()), "it is no folder on this machine"))
}

fn action<'a>(rows: &'a RecordBatch, name: &str) -> Option<&'a StructArray> {
    rows.column_by_name(name)?.as_struct_opt()
}

/// The paths of the rows that hold this action.
fn paths(action: &StructArray) -> impl Iterator<Item = (usize, &str)> {
    let paths = action.column_by_name("path").and_then(|column| column.as_string_opt::<i32>());
    let rows = 0..action.len();
    rows.filter_map(move |row| {
        let paths = paths.filter(|paths| action.is_valid(row) && paths.is_valid(row))?;
        Some((row, paths.value(row)))
    })
}
