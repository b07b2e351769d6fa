//! A table in memory: the reference that other sinks are compared with, and a sink for tests of what stands before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use puddle_types::{Offset, Progress, TopicPartition};

use crate::epoch::accept_gap;
use crate::parquet::rejected_schema;
use crate::schema::{Column, columns, convert, evolve, schema, stored};
use crate::{Committed, Epoch, Error, Sink};

const NAME: &str = "memory";

/// A table that lives as long as its clones, and is written by one sink after another, or by
/// [several](Self::with_several_writers) at a time.
#[derive(Clone, Default)]
pub struct MemoryTable {
    content: Arc<Mutex<Content>>,
}

#[derive(Default)]
struct Content {
    owner: Option<String>,
    columns: Vec<Column>,
    progress: Progress,
    rows: Vec<RecordBatch>,
    /// The rejected records of each commit, which stand for a file.
    rejected: BTreeMap<PathBuf, Vec<RecordBatch>>,
    epochs: Vec<Epoch>,
    /// Who has it open, where one writer is allowed.
    holder: Option<String>,
    several: bool,
}

/// A memory table that is open for writing.
struct MemorySink {
    table: MemoryTable,
    schema: SchemaRef,
    rejected_schema: SchemaRef,
    /// What the next commit pins.
    columns: Vec<Column>,
    owner: String,
    progress: Progress,
    gaps: BTreeMap<TopicPartition, Offset>,
    rows: Vec<RecordBatch>,
    rejected: Vec<RecordBatch>,
    retrying: BTreeSet<PathBuf>,
    broken: Option<String>,
}

impl MemoryTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty table that may have several writers, each of which sees what the others committed when it reloads.
    pub fn with_several_writers() -> Self {
        let table = Self::default();
        table.lock().several = true;
        table
    }

    /// Opens the table for rows of this schema; refuses what a stored table refuses.
    pub fn open(&self, schema_found: &SchemaRef, owner: &str) -> Result<Box<dyn Sink>, Error> {
        let found = columns(&*stored(schema_found)?);
        let mut content = self.lock();
        if let Some(holder) = &content.holder {
            return Err(Error::Locked { table: NAME.to_owned(), holder: format!("pipeline {holder:?}") });
        }
        let columns = match &content.owner {
            None => found,
            Some(pinned) if pinned != owner => {
                let (table, owner, asked) = (NAME.to_owned(), pinned.clone(), owner.to_owned());
                return Err(Error::Owner { table, owner, asked });
            }
            Some(_) => evolve(NAME, &content.columns, &found)?,
        };
        let sink = MemorySink {
            table: self.clone(),
            schema: schema(&columns).map_err(|reason| Error::Batch { table: NAME.to_owned(), reason })?,
            rejected_schema: rejected_schema()?,
            columns,
            owner: owner.to_owned(),
            progress: content.progress.clone(),
            gaps: BTreeMap::new(),
            rows: Vec::new(),
            rejected: Vec::new(),
            retrying: BTreeSet::new(),
            broken: None,
        };
        content.holder = (!content.several).then(|| owner.to_owned());
        Ok(Box::new(sink))
    }

    /// Where each partition goes on, whoever wrote it.
    pub fn progress(&self) -> Progress {
        self.lock().progress.clone()
    }

    /// The committed rows, in the order of their commits.
    pub fn rows(&self) -> Vec<RecordBatch> {
        self.lock().rows.clone()
    }

    /// The committed rejected records.
    pub fn rejected(&self) -> Vec<RecordBatch> {
        self.lock().rejected.values().flatten().cloned().collect()
    }

    /// What stands for the files of the rejected records: one for each commit that has some, oldest first.
    pub fn rejected_files(&self) -> Vec<PathBuf> {
        self.lock().rejected.keys().cloned().collect()
    }

    /// The commits.
    pub fn epochs(&self) -> Vec<Epoch> {
        self.lock().epochs.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemorySink {
    fn check_health(&self) -> Result<(), Error> {
        self.broken.as_ref().map_or(Ok(()), |cause| Err(Error::Broken { cause: cause.clone() }))
    }

    fn fail(&mut self, error: Error) -> Error {
        self.broken = Some(crate::error::chain(&error));
        error
    }
}

impl Sink for MemorySink {
    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.check_health()?;
        let rows = convert(rows, &self.schema, NAME).map_err(|error| self.fail(error))?;
        self.rows.push(rows);
        Ok(())
    }

    fn write_rejected(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.check_health()?;
        let rows = convert(rows, &self.rejected_schema, NAME).map_err(|error| self.fail(error))?;
        self.rejected.push(rows);
        Ok(())
    }

    fn commit(&mut self, epoch: Epoch) -> Result<Committed, Error> {
        self.check_health()?;
        let (rows, rejected) = (count(&self.rows), count(&self.rejected));
        let (newest, retried) = {
            let content = self.table.lock();
            let retried = self.retrying.iter().filter_map(|path| content.rejected.get(path));
            (content.epochs.len() as u64, retried.map(|batches| count(batches)).sum())
        };
        if rows + rejected + retried == 0 && !epoch.is_news(&self.progress) {
            return Ok(Committed { epoch: newest, ..Committed::default() });
        }
        epoch.check(&self.progress, &self.gaps, rows, rejected, retried).map_err(|error| self.fail(error))?;
        let mut content = self.table.content.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = content.epochs.len() as u64;
        for (partition, span) in &epoch.partitions {
            let next = |progress: &Progress| progress.get(partition).map(|position| position.next);
            if let Some(found) =
                next(&content.progress).filter(|_| next(&content.progress) != next(&self.progress))
            {
                drop(content);
                let stale = Error::Stale { partition: partition.clone(), from: span.from, found };
                return Err(self.fail(stale));
            }
        }
        for (partition, span) in &epoch.partitions {
            span.advance(partition, &mut content.progress);
            span.advance(partition, &mut self.progress);
        }
        content.owner = Some(self.owner.clone());
        content.columns.clone_from(&self.columns);
        content.rows.append(&mut self.rows);
        for path in std::mem::take(&mut self.retrying) {
            content.rejected.remove(&path);
        }
        if rejected > 0 {
            content.rejected.insert(file(newest + 1), std::mem::take(&mut self.rejected));
        }
        content.epochs.push(epoch);
        self.gaps.clear();
        Ok(Committed { epoch: newest + 1, files: 0, bytes: 0, rows })
    }

    fn abort(&mut self) -> Result<(), Error> {
        self.rows.clear();
        self.rejected.clear();
        self.retrying.clear();
        self.broken = None;
        Ok(())
    }

    fn accept_gap(&mut self, partition: &TopicPartition, next: Offset) -> Result<(), Error> {
        accept_gap(&self.progress, &mut self.gaps, partition, next)
    }

    fn retry(&mut self, files: &[PathBuf]) -> Result<(), Error> {
        self.check_health()?;
        let content = self.table.lock();
        let mut retrying = self.retrying.clone();
        for path in files {
            if !content.rejected.contains_key(path) || !retrying.insert(path.clone()) {
                return Err(Error::NotRejected { table: NAME.to_owned(), path: path.clone() });
            }
        }
        drop(content);
        self.retrying = retrying;
        Ok(())
    }

    fn reload(&mut self) -> Result<(), Error> {
        self.check_health()?;
        self.progress = self.table.progress();
        Ok(())
    }
}

impl Drop for MemorySink {
    fn drop(&mut self) {
        let mut content = self.table.lock();
        if !content.several {
            content.holder = None;
        }
    }
}

fn count(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|rows| rows.num_rows() as u64).sum()
}

/// The name of a commit's rejected records. Names sort as commits follow one another.
fn file(epoch: u64) -> PathBuf {
    Path::new("memory.rejected").join(format!("{epoch:020}"))
}
