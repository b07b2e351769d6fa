//! The files of one version of a table, as the kernel lists them.

use std::collections::HashSet;
use std::path::Path;

use arrow::array::{Array, AsArray};
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::scan::ScanMetadata;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::{EngineData, FilteredEngineData, KernelResult};

use super::engine::engine;
use crate::Error;

/// The files of a version, as the kernel wants them back to remove them.
pub(super) struct Live {
    batches: Vec<FilteredEngineData>,
    /// Their paths, as the log spells them.
    pub(super) paths: HashSet<String>,
}

impl Live {
    pub(super) fn read(snapshot: &SnapshotRef, log: &Path) -> Result<Self, Error> {
        let mut live = Self { batches: Vec::new(), paths: HashSet::new() };
        for batch in scan(snapshot).map_err(Error::delta("read", log))? {
            let files = batch.map_err(Error::delta("read", log))?.scan_files;
            let selected = files.selection_vector();
            let all = paths(files.data());
            live.paths
                .extend(all.filter(|(row, _)| is_selected(selected, *row)).map(|(_, path)| path.to_owned()));
            live.batches.push(files);
        }
        Ok(live)
    }

    /// Those of these paths.
    pub(super) fn select(self, wanted: &HashSet<&str>) -> KernelResult<Vec<FilteredEngineData>> {
        let mut chosen = Vec::new();
        for batch in self.batches {
            let (data, before) = batch.into_parts();
            let mut selected = vec![false; data.len()];
            for (row, path) in paths(&*data) {
                selected[row] = is_selected(&before, row) && wanted.contains(path);
            }
            if selected.contains(&true) {
                chosen.push(FilteredEngineData::try_new(data, selected)?);
            }
        }
        Ok(chosen)
    }
}

/// All files of a version.
pub(super) fn scan(snapshot: &SnapshotRef) -> KernelResult<impl Iterator<Item = KernelResult<ScanMetadata>>> {
    snapshot.clone().scan_builder().build()?.scan_metadata(engine())
}

/// A selection may end early: what is beyond it is selected.
fn is_selected(selection: &[bool], row: usize) -> bool {
    selection.get(row).copied().unwrap_or(true)
}

fn paths(files: &dyn EngineData) -> impl Iterator<Item = (usize, &str)> {
    let rows = files.any_ref().downcast_ref::<ArrowEngineData>().map(ArrowEngineData::record_batch);
    let paths =
        rows.and_then(|rows| rows.column_by_name("path")).and_then(|column| column.as_string_opt::<i32>());
    let rows = 0..paths.map_or(0, Array::len);
    rows.filter_map(move |row| paths.filter(|paths| paths.is_valid(row)).map(|paths| (row, paths.value(row))))
}
