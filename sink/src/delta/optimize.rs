//! Joins the small files of a Delta table, partition by partition.
//!
//! ```text
//! small files of a partition --a batch at a time--> one file in staging --> moved beside them
//!                                                                           |
//!                      one version: adds the new file, removes the old, no data changed
//! ```
//!
//! The rows stay as they are, each file's in their order, one file after the other. Neither `txn` nor domain metadata is
//! touched, so a running pipeline finds its place as it left it. Versions that come in between are looked at again: one
//! that only adds is no conflict, and where a file that was read is no longer in the table, the joined one is dropped.
//! The old files stay, for readers of older versions, until a [vacuum](super::vacuum).
//!
//! Killed at any moment, the table is the old one or the new one. What is left over is swept from staging with the
//! next run, or, where it was moved already, is a file that no version names, for a vacuum.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{Fields, Schema};
use delta_kernel::scan::state::ScanFile;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::table_features::ColumnMappingMode;

use super::bins::{File, Values, bins};
use super::engine::{LOG, LogWriter, refresh, version_path};
use super::live::{Live, scan};
use super::rewrite::{Form, rewrite};
use super::staging::Staging;
use super::state::State;
use super::upkeep::{find, resolve};
use super::version;
use crate::config::{DEFAULT_BUFFER_BYTES, DEFAULT_ROW_GROUP_ROWS};
use crate::parquet::encoder::Encoder;
use crate::parquet::file::holds;
use crate::parquet::layout::Layout;
use crate::parquet::lock::Lock;
use crate::parquet::log::DataFile;
use crate::parquet::publish;
use crate::schema::schema as schema_of;
use crate::storage::Storage;
use crate::{Error, SinkConfig};

/// Default [`target_bytes`](Options::target_bytes): big enough that a reader spends its time on rows and not on opening
/// files, small enough that two cores find several to share. (Spark's own `OPTIMIZE` takes 1 GiB, for clusters.)
pub const DEFAULT_TARGET_BYTES: u64 = 128 << 20;
/// Default [`compression`](Options::compression): zstd's own. What is joined is to stay, and nobody waits for it.
pub const DEFAULT_COMPRESSION: i32 = 3;
/// Joined files are committed when this much was read, so that a kill loses little and a big table does not take a
/// version for each of them.
const COMMIT_BYTES: u64 = 1 << 30;

/// How to join files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most bytes that are joined into one file. Default: [`DEFAULT_TARGET_BYTES`].
    pub target_bytes: u64,
    /// The zstd level of the new files, 1 to 22. Default: [`DEFAULT_COMPRESSION`].
    pub compression: i32,
    /// Most rows of a row group. Default: the sink's.
    pub row_group_rows: usize,
    /// Most bytes of rows waiting in memory. Default: the sink's.
    pub buffer_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            target_bytes: DEFAULT_TARGET_BYTES,
            compression: DEFAULT_COMPRESSION,
            row_group_rows: DEFAULT_ROW_GROUP_ROWS,
            buffer_bytes: DEFAULT_BUFFER_BYTES,
        }
    }
}

/// What was joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The table's version afterwards.
    pub version: u64,
    /// Versions that this made.
    pub commits: u64,
    /// Partition values whose files were joined; 1 for a table without partitions.
    pub partitions: u64,
    /// Files that were joined.
    pub files_removed: u64,
    /// Their size.
    pub bytes_removed: u64,
    /// Files that they became.
    pub files_added: u64,
    /// Their size.
    pub bytes_added: u64,
    /// Rows in them.
    pub rows: u64,
    /// Files that would have been joined, had not another writer changed the table meanwhile.
    pub left_alone: u64,
}

/// Joins the small files of a Delta table. Safe while pipelines write to it. `progress` is told how many bytes are
/// read, and of how many.
///
/// # Errors
/// A table that is none or no Delta table is a usage error. After any error, what was committed before it stays.
pub fn optimize(
    lake: &Path,
    table: &str,
    options: &Options,
    storage: Arc<dyn Storage>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, Error> {
    let (root, state) = find(lake, table, "optimize")?;
    refuse(table, &state)?;
    let layout = Layout::new(lake, table);
    let _lock = Lock::share(&layout.lock(), table, "the optimization of the table")?;
    let staging = Staging::claim(&*storage, &layout)?;
    let form = form(table, options, &state)?;
    let log = LogWriter::new(storage.clone(), &layout.root(), &staging.dir);
    let partition_by = state.form.partition_by;
    let mut optimizer =
        Optimizer { storage, layout, root, snapshot: state.snapshot, log, form, partition_by, staging };
    let result = optimizer.run(options.target_bytes, progress);
    if result.is_err() {
        // What cannot be removed now is swept when a pipeline opens the table.
        drop(publish::sweep(&*optimizer.storage, &optimizer.staging.dir));
    }
    result
}

pub(super) struct Optimizer {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) layout: Layout,
    /// The table's folder, as the kernel spells it.
    root: PathBuf,
    pub(super) snapshot: SnapshotRef,
    pub(super) log: LogWriter,
    form: Form,
    pub(super) partition_by: Vec<String>,
    pub(super) staging: Staging,
}

/// A bin, and the file that it became.
pub(super) struct Joined {
    pub(super) bin: Vec<File>,
    pub(super) file: DataFile,
}

impl Optimizer {
    fn run(&mut self, target: u64, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, Error> {
        let mut report = Report::default();
        let bins = bins(self.files()?, target);
        let size = |bin: &[File]| bin.iter().map(|file| file.bytes).sum::<u64>();
        let whole = bins.iter().map(|bin| size(bin)).sum();
        let hashes = self.hashes(&bins)?;
        let partitions: HashSet<&Values> = bins.iter().map(|bin| &bin[0].partition).collect();
        report.partitions = partitions.len() as u64;
        let (mut done, mut waiting, mut joined) = (0, 0, Vec::new());
        for bin in bins {
            progress(done, whole);
            let bytes = size(&bin);
            match self.join(bin, &hashes) {
                Ok(one) => joined.push(one),
                Err((bin, error)) => {
                    if self.is_live(&bin)? {
                        return Err(error);
                    }
                    report.left_alone += bin.len() as u64;
                }
            }
            (done, waiting) = (done + bytes, waiting + bytes);
            if waiting >= COMMIT_BYTES {
                self.commit(std::mem::take(&mut joined), &mut report)?;
                waiting = 0;
            }
        }
        self.commit(joined, &mut report)?;
        progress(done, whole);
        report.version = self.snapshot.version();
        Ok(report)
    }

    /// The files that can be joined: those in the table's folder, and of which all rows count.
    fn files(&self) -> Result<Vec<File>, Error> {
        let log = self.layout.root().join(LOG);
        let mut files = Vec::new();
        for batch in scan(&self.snapshot).map_err(Error::delta("read", &log))? {
            let batch = batch.map_err(Error::delta("read", &log))?;
            let found =
                batch.visit_scan_files(Vec::new(), |found: &mut Vec<ScanFile>, file| found.push(file));
            for file in found.map_err(Error::delta("read", &log))? {
                if file.dv_info.has_vector() || self.inside(&file.path).is_none() {
                    continue;
                }
                let values =
                    self.partition_by.iter().map(|column| file.partition_values.get(column).cloned());
                files.push(File {
                    partition: values.collect(),
                    bytes: file.size.max(0) as u64,
                    rows: file.stats.map(|stats| stats.num_records),
                    modified: file.modification_time,
                    path: file.path,
                });
            }
        }
        Ok(files)
    }

    /// Where a file is, and the same relative to the table's folder.
    fn inside(&self, path: &str) -> Option<(PathBuf, String)> {
        let path = resolve(&self.snapshot, path).ok()?;
        let relative = path.strip_prefix(&self.root).ok()?.to_str()?.to_owned();
        Some((path, relative))
    }

    /// Size and hash of what is to be joined, as the commits have it. Small files are young as a rule, so the log is
    /// read from its end, and no further than it must.
    fn hashes(&self, bins: &[Vec<File>]) -> Result<HashMap<String, DataFile>, Error> {
        let table = &self.layout.table;
        let paths = bins.iter().flatten().filter_map(|file| self.inside(&file.path));
        let mut wanted: HashSet<String> = paths.map(|(_, relative)| format!("{table}/{relative}")).collect();
        let mut found = HashMap::new();
        let log = self.layout.root().join(LOG);
        let mut version = Some(self.snapshot.version());
        while let Some(number) = version.filter(|_| !wanted.is_empty()) {
            let Some(content) = version::read(&log, number)? else { break };
            let written = content.stamp.into_iter().flat_map(|stamp| stamp.commit.files);
            for file in written.chain(content.joined) {
                if wanted.remove(&file.destination) {
                    found.insert(file.destination.clone(), file);
                }
            }
            version = number.checked_sub(1);
        }
        Ok(found)
    }

    /// Writes the rows of a bin to one staged file; gives the bin back if it cannot.
    fn join(&self, bin: Vec<File>, hashes: &HashMap<String, DataFile>) -> Result<Joined, (Vec<File>, Error)> {
        match self.try_join(&bin, hashes) {
            Ok(file) => Ok(Joined { bin, file }),
            Err(error) => Err((bin, error)),
        }
    }

    fn try_join(&self, bin: &[File], hashes: &HashMap<String, DataFile>) -> Result<DataFile, Error> {
        let table = &self.layout.table;
        let mut inputs = Vec::with_capacity(bin.len());
        let mut folder = table.clone();
        for file in bin {
            let Some((path, relative)) = self.inside(&file.path) else { continue };
            let name = format!("{table}/{relative}");
            if let Some(written) = hashes.get(&name)
                && !holds(&*self.storage, &path, written.bytes, &written.hash)?
            {
                // Joining it would make the damage look like what was committed.
                let reason = "it does not hold the bytes that were committed; nothing was joined with it";
                return Err(Error::corrupt(&path, reason));
            }
            if let Some((above, _)) = name.rsplit_once('/') {
                folder = above.to_owned();
            }
            inputs.push(path);
        }
        let name = format!("{table}-{}.parquet", uuid::Uuid::new_v4());
        let staged = self.staging.dir.join(&name);
        let finished = rewrite(&*self.storage, table, &inputs, staged.clone(), &self.form)?;
        let expected: Option<u64> = bin.iter().map(|file| file.rows).sum();
        if let Some(expected) = expected.filter(|expected| *expected != finished.rows) {
            let reason =
                format!("its {} files hold {} rows, the log says {expected}", bin.len(), finished.rows);
            return Err(Error::corrupt(&self.root.join(folder), reason));
        }
        Ok(DataFile {
            source: format!("{}/{name}", self.staging.name),
            destination: format!("{folder}/{name}"),
            partition: bin[0].partition.clone(),
            rejected: false,
            rows: finished.rows,
            bytes: finished.bytes,
            hash: finished.hash,
        })
    }

    /// Whether the table still has all these files.
    fn is_live(&mut self, bin: &[File]) -> Result<bool, Error> {
        let root = self.layout.root();
        self.snapshot = refresh(&root, &self.snapshot)?;
        let live = Live::read(&self.snapshot, &root.join(LOG))?;
        Ok(bin.iter().all(|file| live.paths.contains(&file.path)))
    }
}

impl Report {
    pub(super) fn count(&mut self, joined: &[Joined]) {
        self.commits += 1;
        for Joined { bin, file } in joined {
            self.files_removed += bin.len() as u64;
            self.bytes_removed += bin.iter().map(|file| file.bytes).sum::<u64>();
            self.files_added += 1;
            self.bytes_added += file.bytes;
            self.rows += file.rows;
        }
    }
}

/// How the new files are written: with the table's columns as they are now.
fn form(table: &str, options: &Options, state: &State) -> Result<Form, Error> {
    let config = SinkConfig {
        compression: options.compression,
        row_group_rows: options.row_group_rows,
        buffer_bytes: options.buffer_bytes,
        ..SinkConfig::new(table)
    };
    config.validate()?;
    let log = || version_path(&Path::new(table).join(LOG), state.version());
    let all = schema_of(&state.form.columns).map_err(|reason| Error::corrupt(&log(), reason))?;
    let in_files = all.fields().iter().filter(|field| !state.form.partition_by.contains(field.name()));
    let schema = Arc::new(Schema::new(in_files.cloned().collect::<Fields>()));
    Ok(Form {
        encoder: Encoder::new(table, &schema, &config)?,
        row_group_rows: options.row_group_rows,
        buffer_bytes: options.buffer_bytes,
    })
}

/// Refuses a table that another engine gave a feature which a rewrite by name would not keep.
fn refuse(table: &str, state: &State) -> Result<(), Error> {
    match state.snapshot.table_properties().column_mapping_mode {
        None | Some(ColumnMappingMode::None) => Ok(()),
        Some(_) => {
            let reason =
                "its columns are mapped to other names in the files; optimize it with the engine that did so";
            Err(Error::Feature { table: table.to_owned(), reason: reason.to_owned() })
        }
    }
}
