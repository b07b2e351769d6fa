//! A Delta table that is open for writing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use puddle_types::{Offset, Progress, TopicPartition};

use super::engine::{LOG, LogWriter, check_path};
use super::rejected::{self, Placer};
use super::schema;
use super::staging::{Staging, abandoned};
use super::state::State;
use crate::epoch::accept_gap;
use crate::error::chain;
use crate::parquet::layout::Layout;
use crate::parquet::lock::Lock;
use crate::parquet::log::{DataFile, Form};
use crate::parquet::retry::Retrying;
use crate::parquet::writer::{Settings, TableWriter};
use crate::parquet::{publish, rejected_schema};
use crate::schema::{Column, columns, evolve, schema as schema_of, stored};
use crate::storage::{Storage, create_dirs};
use crate::{Committed, Epoch, Error, Sink, SinkConfig, SinkKind};

/// A Delta table that is open for writing, perhaps by others too.
pub struct DeltaSink {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) layout: Layout,
    pub(super) owner: String,
    pub(super) log: LogWriter,
    /// The table as far as this writer has looked; `None` before the first commit.
    pub(super) state: Option<State>,
    /// Where this writer goes on, by its own commits and the last reload.
    pub(super) progress: Progress,
    /// The form that the next commit pins.
    pub(super) form: Form,
    gaps: BTreeMap<TopicPartition, Offset>,
    data: TableWriter,
    rejected: TableWriter,
    rows: u64,
    rejected_rows: u64,
    pub(super) retrying: Retrying,
    /// The epoch's files that are in the table's folder, though no commit names them yet.
    placed: Vec<PathBuf>,
    /// Folders that are durable, with all above them.
    durable: BTreeSet<PathBuf>,
    health: Health,
    staging: Staging,
    _lock: Lock,
}

enum Health {
    Good,
    /// The epoch in hand is lost; an abort makes it good.
    Broken(String),
    /// Only the disk knows what is there.
    Poisoned(String),
}

impl DeltaSink {
    /// Opens a table, and first brings to its end what a crash cut short. Others may have it open at the same time.
    pub fn open(
        lake: &Path,
        config: &SinkConfig,
        schema_found: SchemaRef,
        owner: &str,
        storage: Arc<dyn Storage>,
    ) -> Result<Self, Error> {
        config.validate()?;
        let found = stored(&schema_found)?;
        schema::check(&found)?;
        let layout = Layout::new(lake, &config.table);
        check_path(&layout.root())?;
        // A writer checks its settings without a folder to write to.
        let mut form = Form { columns: columns(&found), partition_by: config.partition_by.clone() };
        writers(&storage, &layout, config, found, None)?;
        refuse_other_kind(&*storage, &layout)?;
        create_dirs(&*storage, &layout.hidden())?;
        let lock = Lock::share(&layout.lock(), &config.table, owner)?;
        let staging = Staging::claim(&*storage, &layout)?;
        // Before the log is read: what the dead committed is in it then.
        let dead = abandoned(&layout)?;
        let state = State::load(&layout.root())?;
        let log = LogWriter::new(storage.clone(), &layout.root(), &staging.dir);
        match &state {
            None => refuse_foreign(&*storage, &layout)?,
            Some(state) => {
                state.check(&layout.root())?;
                form.columns = accept(state, &config.table, &form, owner)?;
                // A crash may have come between a version and its folder's sync.
                log.create_dir(lake)?;
                log.sync()?;
                let placer = Placer { storage: &*storage, layout: &layout, scratch: &staging.dir };
                placer.roll_forward(state)?;
            }
        }
        dead.into_iter().try_for_each(|dead| dead.sweep(&*storage))?;
        let pinned =
            schema_of(&form.columns).map_err(|reason| Error::corrupt(&layout.root().join(LOG), reason))?;
        let (data, rejected) = writers(&storage, &layout, config, pinned, Some(&staging))?;
        let progress = state.as_ref().map(State::progress).unwrap_or_default();
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
            placed: Vec::new(),
            durable: BTreeSet::new(),
            health: Health::Good,
            staging,
            _lock: lock,
        })
    }

    pub(super) fn version(&self) -> u64 {
        self.state.as_ref().map_or(0, State::version)
    }

    pub(super) fn placer(&self) -> Placer<'_> {
        Placer { storage: &*self.storage, layout: &self.layout, scratch: &self.staging.dir }
    }

    fn check_health(&self) -> Result<(), Error> {
        match &self.health {
            Health::Good => Ok(()),
            Health::Broken(cause) => Err(Error::Broken { cause: cause.clone() }),
            Health::Poisoned(cause) => Err(Error::Poisoned { cause: cause.clone() }),
        }
    }

    /// Remembers a failure of an epoch that was not committed.
    fn fail(&mut self, error: Error) -> Error {
        if let Health::Poisoned(_) = self.health {
            return error;
        }
        if error.needs_reopen() {
            return self.poison(error);
        }
        self.health = Health::Broken(chain(&error));
        error
    }

    /// Remembers a failure after which only the disk knows what is there.
    pub(super) fn poison(&mut self, error: Error) -> Error {
        self.staging.leave();
        self.health = Health::Poisoned(chain(&error));
        error
    }

    /// Finishes the epoch's files, and puts those of the table in place, where nobody sees them yet.
    fn prepare(&mut self, epoch: &Epoch) -> Result<Vec<DataFile>, Error> {
        epoch.check(&self.progress, &self.gaps, self.rows, self.rejected_rows, self.retrying.rows())?;
        let number = self.version() + 1;
        let mut files = self.data.finish(number)?;
        files.append(&mut self.rejected.finish(number)?);
        if files.is_empty() {
            return Ok(files);
        }
        self.storage.sync_dir(&self.staging.dir).map_err(Error::sync(&self.staging.dir))?;
        publish::verify_staged(&*self.storage, &self.layout.lake, &files)?;
        for file in &mut files {
            // Another writer may be at the same epoch.
            let (folder, _) = file.destination.rsplit_once('/').unwrap_or_default();
            let table = if file.rejected { self.layout.rejected_name() } else { self.layout.table.clone() };
            file.destination = format!("{folder}/{table}-{}.parquet", uuid::Uuid::new_v4());
        }
        self.create_table()?;
        self.place(files.iter().filter(|file| !file.rejected))?;
        Ok(files)
    }

    /// Moves staged files into the table's folder, durably.
    fn place<'a>(&mut self, files: impl Iterator<Item = &'a DataFile>) -> Result<(), Error> {
        let lake = self.layout.lake.clone();
        let mut moves = Vec::new();
        for file in files {
            let inside = |path: Result<PathBuf, String>| path.map_err(|reason| Error::corrupt(&lake, reason));
            moves.push((inside(file.source_in(&lake))?, inside(file.destination_in(&lake))?));
        }
        self.placed.extend(moves.iter().map(|(_, destination)| destination.clone()));
        publish::place(&*self.storage, &lake, &moves)?;
        for folder in moves.iter().filter_map(|(_, destination)| destination.parent()) {
            if self.durable.contains(folder) {
                continue;
            }
            // Another writer may have created it, and not have come to making it durable.
            for above in folder.ancestors().skip(1).take_while(|above| above.starts_with(&lake)) {
                if self.durable.insert(above.to_owned()) {
                    self.storage.sync_dir(above).map_err(Error::sync(above))?;
                }
            }
            self.durable.insert(folder.to_owned());
        }
        Ok(())
    }

    /// Takes back what no commit names. Failing, it leaves files that nobody sees, for a vacuum.
    fn take_back(&mut self) {
        for path in std::mem::take(&mut self.placed) {
            if let Err(error) = self.storage.remove(&path) {
                tracing::debug!(path = %path.display(), %error, "could not remove a file that was not committed");
            }
        }
    }
}

impl Sink for DeltaSink {
    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.check_health()?;
        self.rows += rows.num_rows() as u64;
        let epoch = self.version() + 1;
        self.data.write(epoch, rows).map_err(|error| self.fail(error))
    }

    fn write_rejected(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.check_health()?;
        self.rejected_rows += rows.num_rows() as u64;
        let epoch = self.version() + 1;
        self.rejected.write(epoch, rows).map_err(|error| self.fail(error))
    }

    fn commit(&mut self, epoch: Epoch) -> Result<Committed, Error> {
        self.check_health()?;
        let rows = self.rows + self.rejected_rows + self.retrying.rows();
        if rows == 0 && !epoch.is_news(&self.progress) {
            return Ok(Committed { epoch: self.version(), ..Committed::default() });
        }
        let files = self.prepare(&epoch).map_err(|error| self.fail(error))?;
        let stamp = self.land(&epoch, &files).map_err(|error| self.fail(error))?;
        self.placed.clear();
        for (partition, span) in &epoch.partitions {
            span.advance(partition, &mut self.progress);
        }
        self.conclude(&stamp).map_err(|error| self.poison(error))?;
        self.data.published();
        self.rejected.published();
        (self.rows, self.rejected_rows) = (0, 0);
        self.retrying.committed(&self.layout.lake, &stamp.commit);
        self.gaps.clear();
        let files = &stamp.commit.files;
        let sum = |count: fn(&DataFile) -> u64| files.iter().map(count).sum();
        Ok(Committed {
            epoch: stamp.commit.epoch,
            files: files.len(),
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
        self.take_back();
        publish::sweep(&*self.storage, &self.staging.dir).map_err(|error| self.poison(error))?;
        self.health = Health::Good;
        Ok(())
    }

    fn accept_gap(&mut self, partition: &TopicPartition, next: Offset) -> Result<(), Error> {
        self.check_health()?;
        accept_gap(&self.progress, &mut self.gaps, partition, next)
    }

    fn retry(&mut self, files: &[PathBuf]) -> Result<(), Error> {
        self.check_health()?;
        // So that each file is where the table of rejected records will have it.
        self.refresh()?;
        if let Some(state) = &self.state {
            self.placer().roll_forward(state)?;
        }
        let newest = self.state.as_ref().and_then(|state| state.rejected);
        self.retrying.add(&self.layout.table, files, || {
            Ok(rejected::there(&self.layout, newest)?.into_iter().collect())
        })
    }

    fn reload(&mut self) -> Result<(), Error> {
        self.check_health()?;
        // Before the log is read: what the dead committed is in it then.
        let dead = abandoned(&self.layout)?;
        self.refresh()?;
        if let Some(state) = &self.state {
            self.placer().roll_forward(state)?;
            self.progress = state.progress();
        }
        dead.into_iter().try_for_each(|dead| dead.sweep(&*self.storage))
    }
}

/// The writers of rows and of rejected records, into a writer's own folder.
fn writers(
    storage: &Arc<dyn Storage>,
    layout: &Layout,
    config: &SinkConfig,
    schema: SchemaRef,
    staging: Option<&Staging>,
) -> Result<(TableWriter, TableWriter), Error> {
    let writer = |table: String, rejected, schema, partition_by: &[String]| {
        let (staging, staging_name) =
            staging.map(|staging| (staging.dir.clone(), staging.name.clone())).unwrap_or_default();
        let settings = Settings { table, staging, staging_name, rejected, schema, partition_by };
        TableWriter::new(storage.clone(), settings, config)
    };
    let data = writer(layout.table.clone(), false, schema, &config.partition_by)?;
    let rejected = writer(layout.rejected_name(), true, rejected_schema()?, &[])?;
    Ok((data, rejected))
}

/// Checks what was asked for against what the table pins; the columns that rows have from here on.
pub(super) fn accept(state: &State, table: &str, asked: &Form, owner: &str) -> Result<Vec<Column>, Error> {
    let table = table.to_owned();
    if state.owner != owner {
        return Err(Error::Owner { table, owner: state.owner.clone(), asked: owner.to_owned() });
    }
    if state.form.partition_by != asked.partition_by {
        let (pinned, asked) = (state.form.partition_by.clone(), asked.partition_by.clone());
        return Err(Error::PartitionBy { table, pinned, asked });
    }
    evolve(&table, &state.form.columns, &asked.columns)
}

/// Refuses a table whose commits are in a log of Puddle's own.
fn refuse_other_kind(storage: &dyn Storage, layout: &Layout) -> Result<(), Error> {
    let log = layout.log();
    if !storage.exists(&log).map_err(Error::io("look for", &log))?
        || storage.list(&log).map_err(Error::io("list", &log))?.is_empty()
    {
        return Ok(());
    }
    let (table, pinned, asked) = (layout.table.clone(), SinkKind::Parquet, SinkKind::Delta);
    Err(Error::Kind { table, pinned, asked })
}

/// Refuses folders with files that no log covers: their records would be written twice.
fn refuse_foreign(storage: &dyn Storage, layout: &Layout) -> Result<(), Error> {
    for path in [layout.root(), layout.rejected_root()] {
        if storage.exists(&path).map_err(Error::io("look for", &path))?
            // A crash may have come between the log's folder and its first version.
            && storage.list(&path).map_err(Error::io("list", &path))?.iter().any(|name| name != LOG)
        {
            return Err(Error::Foreign { path });
        }
    }
    Ok(())
}
