//! A folder of Parquet files with a commit log beside it.
//!
//! ```text
//! lake/flights/month=2013-01/flights-<epoch>-<n>.parquet    finished files only
//! lake/flights.rejected/flights.rejected-<epoch>-<n>.parquet
//! lake/.puddle/flights/{log/, staging/, lock}
//!
//!          write            commit: 1               2                 3
//! rows ----------> staging ---------> synced files ---> log/<n>.json ---> renamed to the table, marked done
//!          abort: removed                            the commit point
//!
//! retry: files of rejected records -----------------> named in it ------> removed, after the others are in place
//! ```
//!
//! Before the commit point nothing happened; after it, everything did, and a start brings what is left to its end.
//! To a plain scan of the folder, the files of one epoch appear one after the other; [`lake`](crate::lake) reads
//! through the log and sees whole epochs.

mod ahead;
pub(crate) mod encoder;
pub(crate) mod file;
pub(crate) mod layout;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod publish;
mod remove;
pub(crate) mod retry;
pub(crate) mod rows;
mod split;
pub(crate) mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use puddle_types::{Offset, Progress, TopicPartition, metadata};

use crate::epoch::accept_gap;
use crate::error::chain;
use crate::schema::{columns, evolve, schema as schema_of, stored};
use crate::storage::Storage;
use crate::{Committed, Epoch, Error, Sink, SinkConfig, SinkKind};
use ahead::{LookOut, find_file, refuse_taken};
use layout::Layout;
use lock::Lock;
use log::{Commit, DataFile, Form, Log, Moved, RetriedPartition, State};
use retry::Retrying;
use writer::{Settings, TableWriter};

pub use remove::remove;

/// A Parquet table that is open for writing.
pub struct ParquetSink {
    storage: Arc<dyn Storage>,
    layout: Layout,
    owner: String,
    log: Log,
    /// What is committed; `None` before the first commit.
    state: Option<State>,
    progress: Progress,
    /// The form that the next commit pins, if it is not the pinned one.
    form: Form,
    gaps: BTreeMap<TopicPartition, Offset>,
    data: TableWriter,
    rejected: TableWriter,
    rows: u64,
    rejected_rows: u64,
    retrying: Retrying,
    health: Health,
    look_out: LookOut,
    _lock: Lock,
}

enum Health {
    Good,
    /// The epoch in hand is lost; an abort makes it good.
    Broken(String),
    /// Only the disk knows what is there.
    Poisoned(String),
}

impl ParquetSink {
    /// Opens a table, and first brings to its end what a crash cut short. Takes the table's lock until dropped.
    pub fn open(
        lake: &Path,
        config: &SinkConfig,
        schema: SchemaRef,
        owner: &str,
        storage: Arc<dyn Storage>,
    ) -> Result<Self, Error> {
        config.validate()?;
        let found = stored(&schema)?;
        let layout = Layout::new(lake, &config.table);
        let (mut data, rejected) = writers(&storage, &layout, config, found.clone())?;
        if crate::delta::read::is_delta(lake, &config.table)? {
            let (table, pinned, asked) = (config.table.clone(), SinkKind::Delta, SinkKind::Parquet);
            return Err(Error::Kind { table, pinned, asked });
        }
        layout.create(&*storage)?;
        let lock = Lock::take(&layout.lock(), &config.table, owner)?;
        let log = Log::new(storage.clone(), layout.log());
        log.sweep()?;
        let mut form = Form { columns: columns(&found), partition_by: config.partition_by.clone() };
        let loaded = log.load()?;
        match &loaded {
            None => refuse_foreign(&layout)?,
            Some(loaded) => {
                form.columns = accept(&loaded.state, config, &form, owner)?;
                let pinned =
                    schema_of(&form.columns).map_err(|reason| Error::corrupt(&layout.log(), reason))?;
                data = writers(&storage, &layout, config, pinned)?.0;
                recover(&*storage, &layout, &log, loaded)?;
            }
        }
        publish::sweep(&*storage, &layout.staging())?;
        let state = loaded.map(|loaded| loaded.state);
        let progress = state.as_ref().map(|state| state.progress.clone()).unwrap_or_default();
        let look_out = LookOut::begin(&layout, state.as_ref().map_or(0, |state| state.epoch))?;
        Ok(Self {
            storage,
            layout,
            owner: owner.to_owned(),
            log,
            state,
            progress,
            form,
            gaps: BTreeMap::new(),
            data,
            rejected,
            rows: 0,
            rejected_rows: 0,
            retrying: Retrying::default(),
            health: Health::Good,
            look_out,
            _lock: lock,
        })
    }

    fn epoch(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.epoch)
    }

    fn check_health(&self) -> Result<(), Error> {
        match &self.health {
            Health::Good => Ok(()),
            Health::Broken(cause) => Err(Error::Broken { cause: cause.clone() }),
            Health::Poisoned(cause) => Err(Error::Poisoned { cause: cause.clone() }),
        }
    }

    /// Remembers a failure before the commit point: nothing is visible, but the epoch's files are of no use.
    fn fail(&mut self, error: Error) -> Error {
        let cause = chain(&error);
        self.health = if error.needs_reopen() { Health::Poisoned(cause) } else { Health::Broken(cause) };
        error
    }

    /// Remembers a failure at or after the commit point.
    fn poison(&mut self, error: Error) -> Error {
        self.health = Health::Poisoned(chain(&error));
        error
    }

    /// Everything before the commit point.
    fn prepare(&mut self, epoch: &Epoch) -> Result<Commit, Error> {
        epoch.check(&self.progress, &self.gaps, self.rows, self.rejected_rows, self.retrying.rows())?;
        let number = self.epoch() + 1;
        let mut files = self.data.finish(number)?;
        files.append(&mut self.rejected.finish(number)?);
        refuse_taken(&*self.storage, &self.layout, number, &files)?;
        if !files.is_empty() {
            let staging = self.layout.staging();
            self.storage.sync_dir(&staging).map_err(Error::sync(&staging))?;
            publish::verify_staged(&*self.storage, &self.layout.lake, &files)?;
        }
        let moved = epoch
            .partitions
            .iter()
            .map(|(partition, span)| Moved { partition: partition.clone(), span: *span });
        let retried = epoch
            .retried
            .iter()
            .map(|(partition, retried)| RetriedPartition { partition: partition.clone(), retried: *retried });
        let removed = self.retrying.destinations(&self.layout.lake);
        let table = match &self.state {
            Some(state) => state.table.clone(),
            None => uuid::Uuid::new_v4().to_string(),
        };
        Ok(Commit {
            version: Commit::version_for(&removed),
            epoch: number,
            table,
            owner: self.owner.clone(),
            time: self.storage.now(),
            partitions: moved.collect(),
            files,
            retried: retried.collect(),
            removed,
            form: (self.state.as_ref().map(|state| &state.form) != Some(&self.form))
                .then(|| self.form.clone()),
        })
    }

    /// The commit point and what follows from it.
    fn conclude(&mut self, commit: &Commit) -> Result<(), Error> {
        self.log.append(commit)?;
        publish::publish(&*self.storage, &self.layout.lake, &self.log, commit)?;
        let state = match self.state.take() {
            None => State::begin(commit),
            Some(mut state) => state.apply(commit).map(|()| state),
        };
        let state = state.map_err(|reason| Error::corrupt(self.log.dir(), reason))?;
        self.progress.clone_from(&state.progress);
        if let Err(error) = self.log.maintain(&state) {
            tracing::warn!(table = self.layout.table, error = chain(&error), "could not tidy the commit log");
        }
        self.state = Some(state);
        Ok(())
    }
}

impl Sink for ParquetSink {
    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.check_health()?;
        self.rows += rows.num_rows() as u64;
        let epoch = self.epoch() + 1;
        self.data.write(epoch, rows).map_err(|error| self.fail(error))
    }

    fn write_rejected(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.check_health()?;
        self.rejected_rows += rows.num_rows() as u64;
        let epoch = self.epoch() + 1;
        self.rejected.write(epoch, rows).map_err(|error| self.fail(error))
    }

    fn commit(&mut self, epoch: Epoch) -> Result<Committed, Error> {
        self.check_health()?;
        let rows = self.rows + self.rejected_rows + self.retrying.rows();
        if rows == 0 && !epoch.is_news(&self.progress) {
            return Ok(Committed { epoch: self.epoch(), ..Committed::default() });
        }
        self.look_out.end().map_err(|error| self.poison(error))?;
        let commit = self.prepare(&epoch).map_err(|error| self.fail(error))?;
        self.conclude(&commit).map_err(|error| self.poison(error))?;
        self.data.published();
        self.rejected.published();
        (self.rows, self.rejected_rows) = (0, 0);
        self.retrying.committed(&self.layout.lake, &commit);
        self.gaps.clear();
        let sum = |count: fn(&DataFile) -> u64| commit.files.iter().map(count).sum();
        Ok(Committed {
            epoch: commit.epoch,
            files: commit.files.len(),
            bytes: sum(|file| file.bytes),
            rows: sum(|file| if file.rejected { 0 } else { file.rows }),
        })
    }

    fn abort(&mut self) -> Result<(), Error> {
        if let Health::Poisoned(_) = self.health {
            return self.check_health();
        }
        self.data.abort();
        self.rejected.abort();
        (self.rows, self.rejected_rows) = (0, 0);
        self.retrying.abort();
        publish::sweep(&*self.storage, &self.layout.staging()).map_err(|error| self.poison(error))?;
        self.health = Health::Good;
        Ok(())
    }

    fn accept_gap(&mut self, partition: &TopicPartition, next: Offset) -> Result<(), Error> {
        self.check_health()?;
        accept_gap(&self.progress, &mut self.gaps, partition, next)
    }

    fn retry(&mut self, files: &[PathBuf]) -> Result<(), Error> {
        self.check_health()?;
        self.retrying.add(&self.layout.table, files, || retry::list(&self.layout))
    }

    /// There is no other writer, so there is nothing to read.
    fn reload(&mut self) -> Result<(), Error> {
        self.check_health()
    }
}

fn writers(
    storage: &Arc<dyn Storage>,
    layout: &Layout,
    config: &SinkConfig,
    schema: SchemaRef,
) -> Result<(TableWriter, TableWriter), Error> {
    let writer = |table: String, rejected, schema, partition_by: &[String]| {
        let (staging, staging_name) = (layout.staging(), layout.staging_name());
        let settings = Settings { table, staging, staging_name, rejected, schema, partition_by };
        TableWriter::new(storage.clone(), settings, config)
    };
    let data = writer(layout.table.clone(), false, schema, &config.partition_by)?;
    let rejected = writer(layout.rejected_name(), true, rejected_schema()?, &[])?;
    Ok((data, rejected))
}

/// The schema of the table of rejected records.
pub(crate) fn rejected_schema() -> Result<SchemaRef, Error> {
    let schema: &Schema = &metadata::rejected_schema();
    stored(schema)
}

/// Checks what was asked for against what the log pins; the columns of the table from here on.
fn accept(
    state: &State,
    config: &SinkConfig,
    found: &Form,
    owner: &str,
) -> Result<Vec<crate::schema::Column>, Error> {
    let table = config.table.clone();
    if state.owner != owner {
        return Err(Error::Owner { table, owner: state.owner.clone(), asked: owner.to_owned() });
    }
    if state.form.partition_by != config.partition_by {
        let (pinned, asked) = (state.form.partition_by.clone(), config.partition_by.clone());
        return Err(Error::PartitionBy { table, pinned, asked });
    }
    evolve(&table, &state.form.columns, &found.columns)
}

fn recover(storage: &dyn Storage, layout: &Layout, log: &Log, loaded: &log::Loaded) -> Result<(), Error> {
    let epoch = loaded.state.epoch;
    let done = log.done();
    log.check_whole(done, loaded)?;
    match done {
        Some(done) if done == epoch => {}
        _ => publish::roll_forward(storage, &layout.lake, log, &loaded.last)?,
    }
    let root = layout.root();
    if loaded.state.rows > 0 && !storage.exists(&root).map_err(Error::io("look for", &root))? {
        return Err(Error::Gone { path: root, log: layout.hidden() });
    }
    Ok(())
}

/// Refuses folders with files that no log covers: their records would be written twice.
fn refuse_foreign(layout: &Layout) -> Result<(), Error> {
    for path in [layout.root(), layout.rejected_root()] {
        if find_file(&path, &|_| true)?.is_some() {
            return Err(Error::Foreign { path });
        }
    }
    Ok(())
}
