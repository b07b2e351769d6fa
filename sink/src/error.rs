//! What can go wrong between an Arrow batch and a committed table.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::error::ArrowError;
use delta_kernel::KernelError;
use parquet::errors::ParquetError;
use puddle_types::{Offset, TopicPartition};

use crate::SinkKind;

/// A failure of a sink or of reading a lake. Its text says what, where, and what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot be used.
    #[error("[sink] {key}: {reason}")]
    Config {
        /// The key of the `[sink]` section.
        key: &'static str,
        /// Why not, and what is allowed.
        reason: String,
    },
    /// A column cannot be stored.
    #[error("column {column:?} cannot be stored in Parquet: {reason}")]
    Column {
        /// Its name.
        column: String,
        /// Why not, and what to try.
        reason: String,
    },
    /// The rows' schema does not fit the one that the table was made with.
    #[error(
        "column {column:?} of table {table:?}: the table has {pinned}, the pipeline now gives {found}; only \
         nullable columns may be added. Change the query back, or choose a new [sink] table"
    )]
    Schema {
        /// The table.
        table: String,
        /// The first column that differs.
        column: String,
        /// What the table's log says.
        pinned: String,
        /// What was asked for.
        found: String,
    },
    /// A batch does not have the schema that the sink was opened with.
    #[error("a batch for table {table:?} does not have the schema that the sink was opened with: {reason}")]
    Batch {
        /// The table.
        table: String,
        /// The first difference.
        reason: String,
    },
    /// Another pipeline made the table.
    #[error(
        "table {table:?} belongs to pipeline {owner:?}, not to {asked:?}: two pipelines cannot share a table; \
         choose another [sink] table"
    )]
    Owner {
        /// The table.
        table: String,
        /// The pipeline that made it.
        owner: String,
        /// The pipeline that asked.
        asked: String,
    },
    /// The table is partitioned by other columns.
    #[error(
        "table {table:?} is partitioned by {pinned:?}, not by {asked:?}: set partition_by back, or choose a new \
         [sink] table"
    )]
    PartitionBy {
        /// The table.
        table: String,
        /// What the table's log says.
        pinned: Vec<String>,
        /// What was asked for.
        asked: Vec<String>,
    },
    /// The table is of another kind.
    #[error(
        "table {table:?} is of kind = \"{pinned}\", not \"{asked}\": set kind back, or choose a new [sink] table"
    )]
    Kind {
        /// The table.
        table: String,
        /// Its kind.
        pinned: SinkKind,
        /// What was asked for.
        asked: SinkKind,
    },
    /// Another writer has the table open.
    #[error(
        "table {table:?} is being written by {holder}, and a table of this kind has one writer: stop that one, or \
         choose another [sink] table. Several runs can share a table of kind = \"delta\""
    )]
    Locked {
        /// The table.
        table: String,
        /// Pipeline and process id of the writer.
        holder: String,
    },
    /// The table's folder holds files that no log knows.
    #[error(
        "{} holds files but Puddle has no log of them, so it cannot know which records they cover: move the \
         folder away, or choose another [sink] table", path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// The table's folder is gone although the log names files in it.
    #[error(
        "{} is gone, but the table's log names files in it: put the folder back, or remove {} too and start anew",
        path.display(), log.display()
    )]
    Gone {
        /// The table's folder.
        path: PathBuf,
        /// The folder of its log.
        log: PathBuf,
    },
    /// The table's folder holds a file of an epoch that its log does not have.
    #[error(
        "{} is of epoch {epoch}, but the table's log ends with epoch {last}: the log lost its newest entries. Put {} \
         back as it was; or move the table's files of later epochs away, and their records are read again from Kafka",
        path.display(), log.display()
    )]
    Ahead {
        /// The file.
        path: PathBuf,
        /// The epoch that its name carries.
        epoch: u64,
        /// The log's newest epoch.
        last: u64,
        /// The folder of the log.
        log: PathBuf,
    },
    /// A file that is to be run again is not one of the table's rejected records.
    #[error(
        "{} is not a file of rejected records of table {table:?}, or its records were run again already: list them \
         anew", path.display()
    )]
    NotRejected {
        /// The table.
        table: String,
        /// The file.
        path: PathBuf,
    },
    /// There is no such table.
    #[error("there is no table {table:?} in {}", lake.display())]
    NoTable {
        /// The table.
        table: String,
        /// The lake.
        lake: PathBuf,
    },
    /// A file of the log, or a staged data file, is not what was written.
    #[error("{} is damaged: {reason}. The data was left as it is", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// How it shows, and what to try.
        reason: String,
    },
    /// Another writer created the next log entry first.
    #[error("another writer committed epoch {epoch} first ({}): only one may write a table", path.display())]
    Conflict {
        /// The epoch.
        epoch: u64,
        /// The log entry that was there already.
        path: PathBuf,
    },
    /// An epoch does not begin where the table's progress ends.
    #[error("epoch of {partition} begins at offset {from}, but the table has everything below {expected}")]
    Discontinuous {
        /// The partition.
        partition: TopicPartition,
        /// Where the epoch begins.
        from: Offset,
        /// Where it must begin.
        expected: Offset,
    },
    /// Another writer has moved a partition of the epoch on. Abort, reload, and read again from progress.
    #[error(
        "another writer has moved {partition} on to offset {found}, and this epoch begins at {from}: it must be read \
         again from there"
    )]
    Stale {
        /// The partition.
        partition: TopicPartition,
        /// Where the epoch begins.
        from: Offset,
        /// Where the table goes on.
        found: Offset,
    },
    /// Other writers took every version that this commit tried to take.
    #[error("other writers of table {table:?} were faster {attempts} times in a row: commit the epoch again")]
    Contended {
        /// The table.
        table: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// An epoch's counts contradict one another or the rows that were written.
    #[error("the epoch's counts do not add up: {reason}")]
    Counts {
        /// Which ones.
        reason: String,
    },
    /// The epoch in hand has failed; it must be aborted and written again.
    #[error("the epoch failed before and must be aborted first ({cause})")]
    Broken {
        /// The first failure.
        cause: String,
    },
    /// The sink's state is not known for certain; it must be opened again.
    #[error("the sink is closed after a failure and must be opened again ({cause})")]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// The file system did not make a file or folder durable.
    #[error("could not sync {} to disk; what it holds is written again from Kafka after a restart", path.display())]
    Sync {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file operation failed.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The Delta kernel could not read or write a table's log.
    #[error("could not {action} the Delta log {}", path.display())]
    Delta {
        /// What was tried.
        action: &'static str,
        /// The folder of the log, or a file of it.
        path: PathBuf,
        /// What the kernel said.
        source: Box<KernelError>,
    },
    /// A table has no versions, and so there is nothing in it to look after.
    #[error(
        "table {table:?} is of kind \"parquet\", whose files are never rewritten: there is nothing to {action}. \
         Tables of [sink] kind = \"delta\" have versions; choose it for a new table"
    )]
    NotDelta {
        /// The table.
        table: String,
        /// What was asked for.
        action: &'static str,
    },
    /// Files were to be deleted before their time.
    #[error(
        "table {table:?} keeps files for {} after their removal, for readers of older versions and for writers at \
         work; {} is less. Ask for at least that, or force it",
        age(least),
        age(asked)
    )]
    Retention {
        /// The table.
        table: String,
        /// What was asked for.
        asked: Duration,
        /// The table's own.
        least: Duration,
    },
    /// A Delta table has a feature that the upkeep cannot keep.
    #[error("table {table:?} cannot be optimized: {reason}")]
    Feature {
        /// The table.
        table: String,
        /// Which one.
        reason: String,
    },
    /// Parquet could not encode the rows.
    #[error("could not encode {} as Parquet", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        source: ParquetError,
    },
    /// Arrow could not convert or split the rows.
    #[error("could not convert a batch for table {table:?}")]
    Arrow {
        /// The table.
        table: String,
        /// What Arrow said.
        source: ArrowError,
    },
}

impl Error {
    /// Whether the user asked for something wrong (exit code 2), rather than something having failed (1).
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Config { .. }
                | Self::Column { .. }
                | Self::Schema { .. }
                | Self::Owner { .. }
                | Self::PartitionBy { .. }
                | Self::Kind { .. }
                | Self::Foreign { .. }
                | Self::NoTable { .. }
                | Self::NotDelta { .. }
                | Self::Retention { .. }
                | Self::Feature { .. }
        )
    }

    /// Whether the disk has no room or no inodes left, or a quota is used up, so that the same may succeed later.
    pub fn is_full(&self) -> bool {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = next {
            next = match error.downcast_ref::<io::Error>() {
                Some(io) => match io.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => return true,
                    // As its source, it names that of the error that it wraps, and skips the error itself.
                    _ => io.get_ref().map(|inner| inner as _),
                },
                None => error.source(),
            };
        }
        false
    }

    /// Whether another writer moved a partition on: nothing is wrong, but the epoch must be read again from there,
    /// after [`abort`](crate::Sink::abort) and [`reload`](crate::Sink::reload).
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Stale { .. })
    }

    /// Whether the sink must be opened again, an [`abort`](crate::Sink::abort) not being enough.
    pub fn needs_reopen(&self) -> bool {
        matches!(self, Self::Poisoned { .. } | Self::Sync { .. } | Self::Conflict { .. } | Self::Ahead { .. })
    }

    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn sync(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Sync { path: path.to_owned(), source }
    }

    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn arrow(table: &str) -> impl FnOnce(ArrowError) -> Self + '_ {
        move |source| Self::Arrow { table: table.to_owned(), source }
    }

    /// An error of the Parquet writer; one that came from the file below it is told as that.
    pub(crate) fn parquet(path: &Path, error: ParquetError) -> Self {
        let path = path.to_owned();
        match error {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(source) => Self::Io { action: "write", path, source: *source },
                Err(inner) => Self::Parquet { path, source: ParquetError::External(inner) },
            },
            source => Self::Parquet { path, source },
        }
    }
}

/// The text of an error and of all its sources, for an error that is told again later.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// A length of time as people say it.
fn age(time: &Duration) -> String {
    match time.as_secs() {
        seconds if seconds.is_multiple_of(86_400) => format!("{} days", seconds / 86_400),
        seconds if seconds.is_multiple_of(3_600) => format!("{} hours", seconds / 3_600),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_seen_however_deep_it_is_wrapped() {
        let path = Path::new("t");
        let io = |kind| Error::Io { action: "write", path: path.to_owned(), source: io::Error::from(kind) };
        assert!(io(io::ErrorKind::StorageFull).is_full());
        assert!(io(io::ErrorKind::QuotaExceeded).is_full());
        assert!(!io(io::ErrorKind::PermissionDenied).is_full());
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert!(Error::sync(path)(io::Error::other(io::Error::other(full()))).is_full());
        let parquet = ParquetError::External(Box::new(ParquetError::External(Box::new(full()))));
        assert!(Error::Parquet { path: path.to_owned(), source: parquet }.is_full());
        let arrow = ArrowError::ExternalError(Box::new(full()));
        assert!(Error::arrow("t")(arrow).is_full());
        assert!(!Error::arrow("t")(ArrowError::DivideByZero).is_full());
    }
}
