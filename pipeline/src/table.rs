//! The table that a run writes: how it is opened, and the open one.
//!
//! ```text
//! Table (where it is) --open--> Store --write, commit--> Sink
//!                                 '-- after a failure that leaves the sink's state unknown: dropped, opened anew
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use puddle_sink::{Error, Sink, SinkConfig};
use puddle_types::{Offset, Position, Progress, TopicPartition};

use crate::run::Targets;

/// A table that a run can write to. [`LakeTable`] is the one of `pipeline.toml`.
pub trait Table: Send + Sync {
    /// Opens it for rows of these columns.
    fn open(&self, columns: SchemaRef) -> Result<Box<dyn Sink>, Error>;

    /// Where its partitions go on by now, whoever wrote it; nothing if it does not exist yet. Takes no lock.
    fn progress(&self) -> Result<Progress, Error>;

    /// Whether several runs may write it at a time.
    fn has_several_writers(&self) -> bool;
}

/// A table of a lake.
#[derive(Clone, Debug)]
pub struct LakeTable {
    /// The folder of the tables.
    pub lake: PathBuf,
    /// The `[sink]` section.
    pub config: SinkConfig,
    /// The pipeline that owns the table.
    pub owner: String,
}

impl Table for LakeTable {
    fn open(&self, columns: SchemaRef) -> Result<Box<dyn Sink>, Error> {
        puddle_sink::open(&self.lake, &self.config, columns, &self.owner)
    }

    fn progress(&self) -> Result<Progress, Error> {
        match puddle_sink::lake::progress(&self.lake, &self.config.table) {
            Err(Error::NoTable { .. }) => Ok(Progress::new()),
            progress => progress,
        }
    }

    fn has_several_writers(&self) -> bool {
        self.config.kind.allows_several_writers()
    }
}

/// The open table of a run.
pub(crate) struct Store {
    table: Arc<dyn Table>,
    columns: SchemaRef,
    /// `None` after a failure, until it is opened again.
    sink: Option<Box<dyn Sink>>,
    /// What was committed when the sink was dropped.
    last: Progress,
    /// Where partitions go on behind a gap that the user accepted, until a commit covers it.
    gaps: Targets,
}

impl Store {
    /// Opens the table.
    pub(crate) fn open(table: Arc<dyn Table>, columns: SchemaRef) -> Result<Self, Error> {
        let sink = table.open(columns.clone())?;
        Ok(Self { table, columns, sink: Some(sink), last: Progress::new(), gaps: Targets::new() })
    }

    /// The open sink.
    pub(crate) fn sink(&mut self) -> Result<&mut dyn Sink, Error> {
        if self.sink.is_none() {
            let mut sink = self.table.open(self.columns.clone())?;
            accept(&mut *sink, &mut self.gaps)?;
            self.sink = Some(sink);
        }
        Ok(&mut **self.sink.as_mut().expect("opened above"))
    }

    /// What is committed, as far as this run knows.
    pub(crate) fn progress(&self) -> &Progress {
        self.sink.as_ref().map_or(&self.last, |sink| sink.progress())
    }

    /// Where each partition is to be read from.
    pub(crate) fn resume(&self) -> Progress {
        let mut progress = self.progress().clone();
        for (partition, next) in &self.gaps {
            let position = progress.entry(partition.clone()).or_insert(Position { next: *next, last: None });
            if position.next < *next {
                *position = Position { next: *next, last: None };
            }
        }
        progress
    }

    /// Lets a partition go on at `next`, behind what the topic no longer holds.
    pub(crate) fn accept_gap(&mut self, partition: &TopicPartition, next: Offset) -> Result<(), Error> {
        self.sink()?.accept_gap(partition, next)?;
        self.gaps.insert(partition.clone(), next);
        Ok(())
    }

    /// Throws away what was written since the last commit, whatever state that leaves the sink in.
    pub(crate) fn abort(&mut self) {
        let Some(sink) = &mut self.sink else { return };
        if let Err(error) = sink.abort() {
            tracing::debug!(%error, "the table is opened anew, to see what is committed");
            self.last = sink.progress().clone();
            self.sink = None;
        }
    }

    /// Reads again what is committed, by whomever. Only between epochs.
    pub(crate) fn reload(&mut self) -> Result<(), Error> {
        if self.sink.is_none() {
            return self.sink().map(drop);
        }
        let Self { sink, gaps, .. } = self;
        let sink = sink.as_mut().expect("looked at above");
        sink.reload()?;
        accept(&mut **sink, gaps)
    }
}

/// Tells a sink of gaps again, but for those that a commit has covered.
fn accept(sink: &mut dyn Sink, gaps: &mut Targets) -> Result<(), Error> {
    let progress = sink.progress().clone();
    gaps.retain(|partition, next| progress.get(partition).is_none_or(|position| position.next < *next));
    gaps.iter().try_for_each(|(partition, next)| sink.accept_gap(partition, *next))
}
