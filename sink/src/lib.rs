#![doc = include_str!("../README.md")]

pub mod config;
pub mod delta;
mod epoch;
mod error;
pub mod hive;
pub mod lake;
pub mod memory;
pub mod parquet;
mod room;
mod schema;
pub mod storage;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use puddle_types::{Offset, Progress, TopicPartition};

pub use config::{SinkConfig, SinkKind};
pub use epoch::{Committed, Epoch, Retried, Span};
pub use error::Error;
pub use room::Room;

/// Where rows go. Each commit makes rows and the progress they stand for visible together, or neither.
///
/// ```text
/// write, write_rejected ... commit    an epoch
/// write ... abort                     an epoch that did not happen; read again from progress()
/// retry, write ... commit             rejected records come back: their files go, and what became of them appears
/// ```
///
/// After an error from `write` or `write_rejected`, abort. After one from `commit`, try to abort; if that too is an
/// error, or if [`Error::needs_reopen`], drop the sink and open it again: only then is it known whether the commit
/// took place. Either way, go on from [`progress`](Self::progress), and nothing is lost or doubled.
pub trait Sink: Send {
    /// Where each partition goes on, by the last commit.
    fn progress(&self) -> &Progress;

    /// Takes rows of the schema that the sink was opened with.
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error>;

    /// Takes rejected records, of the schema [`rejected_schema`](puddle_types::metadata::rejected_schema).
    fn write_rejected(&mut self, rows: &RecordBatch) -> Result<(), Error>;

    /// Makes what was written since the last commit or abort visible, together with the epoch's progress. An epoch
    /// without rows moves progress only; one with nothing new at all does nothing.
    ///
    /// Each partition must begin where it ended before, and the counts must add up to the rows that were written.
    fn commit(&mut self, epoch: Epoch) -> Result<Committed, Error>;

    /// Throws away what was written since the last commit.
    fn abort(&mut self) -> Result<(), Error>;

    /// Lets the next commit begin at `next` although the table ends before: the records between are given up, on
    /// the user's word. It never lets a partition go back.
    fn accept_gap(&mut self, partition: &TopicPartition, next: Offset) -> Result<(), Error>;

    /// Takes whole files out of the table of rejected records with the next commit: their records were run again.
    /// What now fits is handed to [`write`](Self::write), what still does not to
    /// [`write_rejected`](Self::write_rejected), and [`Epoch::retried`] accounts for every row of the files.
    /// Paths are those of [`lake::table`]. An abort forgets it; after an error, nothing has changed.
    fn retry(&mut self, files: &[PathBuf]) -> Result<(), Error>;

    /// Reads again what is committed, where other writers may have moved the table on, so that
    /// [`progress`](Self::progress) is up to date. Only between epochs: after a commit or an abort.
    fn reload(&mut self) -> Result<(), Error>;
}

/// Opens a table of a lake for rows of this schema, on the local disk, for the pipeline `owner`.
///
/// What a crash cut short is brought to its end first. A table has one writer at a time, one pipeline for good, and
/// keeps its partition columns; nullable columns may be added to its schema.
pub fn open(
    lake: &Path,
    config: &SinkConfig,
    schema: SchemaRef,
    owner: &str,
) -> Result<Box<dyn Sink>, Error> {
    match config.kind {
        SinkKind::Parquet => {
            let storage = Arc::new(storage::LocalStorage { durable: config.durable });
            Ok(Box::new(parquet::ParquetSink::open(lake, config, schema, owner, storage)?))
        }
        SinkKind::Delta => {
            let storage = Arc::new(storage::LocalStorage { durable: config.durable });
            Ok(Box::new(delta::DeltaSink::open(lake, config, schema, owner, storage)?))
        }
    }
}
