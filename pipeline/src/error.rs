//! What can go wrong between a pipeline folder and a committed epoch.

use std::path::PathBuf;

/// An error of a pipeline: what happened, where, and what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pipeline folder or a file in it cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no such pipeline folder.
    #[error("there is no pipeline at {}: a pipeline is a folder with a pipeline.toml{}", path.display(), near(nearest))]
    NoPipeline {
        /// The folder that was asked for.
        path: PathBuf,
        /// The pipelines that are there.
        nearest: Vec<String>,
    },
    /// `pipeline.toml` says something that it cannot mean.
    #[error("{place}: {message}")]
    Config {
        /// File and line, or the `--set` that said it.
        place: String,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// There is nothing yet that tells a schema.
    #[error("topic {topic} has no {lacks}: produce some records first, or declare [ingest.schema] in {}", file.display())]
    NothingToInfer {
        /// The topic.
        topic: String,
        /// What would tell it.
        lacks: &'static str,
        /// The pipeline's file.
        file: PathBuf,
    },
    /// Rejected records cannot be run again before there is a schema to decode them by.
    #[error(
        "there is no schema to run rejected records by: run the pipeline once, so that {} is made, or declare \
         [ingest.schema] in {}", pinned.display(), file.display()
    )]
    NoSchema {
        /// Where the inferred schema would be.
        pinned: PathBuf,
        /// The pipeline's file.
        file: PathBuf,
    },
    /// Rejected records cannot be run again while someone writes their table.
    #[error(
        "table {table:?} is being written by {holder}: stop the run first, then run the rejected records again. \
         Listing them needs no stop"
    )]
    Running {
        /// The table.
        table: String,
        /// Pipeline and process id of the writer.
        holder: String,
    },
    /// A file of rejected records cannot be read.
    #[error("cannot read the rejected records in {}", path.display())]
    RejectedFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: parquet::errors::ParquetError,
    },
    /// The metrics page cannot be served.
    #[error("cannot serve metrics on {address}: {source}; choose another port with --metrics")]
    Metrics {
        /// The address that was asked for.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The lake cannot be used.
    #[error("cannot use the lake {}: {source}; choose another with --lake, or make room or rights for this one", lake.display())]
    Lake {
        /// The folder of the tables.
        lake: PathBuf,
        /// Why not.
        source: puddle_sink::Error,
    },
    /// The members of a consumer group share its partitions, and a table with one writer needs all of them.
    #[error(
        "{held} of {all} partitions are read by another member of the consumer group {group:?}: stop the other run, or \
         give this one a group of its own with --set ingest.group=NAME. Several runs can share a table of kind = \
         \"delta\""
    )]
    Shared {
        /// How many partitions are not ours.
        held: usize,
        /// How many there are.
        all: usize,
        /// The group.
        group: String,
    },
    /// A run that shares a table has no name in the group.
    #[error("cannot take a place among the runs of the table, in {}", folder.display())]
    Members {
        /// The folder of the places.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The brokers do not say whether the topics are still those that were read.
    #[error("nothing is committed until a broker says that the topics are still the same: {0}")]
    Unanswered(#[source] puddle_ingest::Error),
    /// Reading from Kafka failed.
    #[error(transparent)]
    Ingest(#[from] puddle_ingest::Error),
    /// The schema cannot be used.
    #[error(transparent)]
    Schema(#[from] puddle_ingest::schema::SchemaError),
    /// The SQL or a reference table cannot be used, or the SQL failed on a batch.
    #[error(transparent)]
    Transform(#[from] puddle_transform::Error),
    /// The table cannot be read or written.
    #[error(transparent)]
    Sink(#[from] puddle_sink::Error),
}

impl Error {
    /// Whether the user asked for something wrong (exit code 2) rather than something failing (exit code 1).
    pub fn is_usage(&self) -> bool {
        match self {
            Self::NoPipeline { .. } | Self::Config { .. } | Self::NoSchema { .. } => true,
            Self::Read { .. }
            | Self::Lake { .. }
            | Self::Shared { .. }
            | Self::Members { .. }
            | Self::NothingToInfer { .. }
            | Self::RejectedFile { .. }
            | Self::Running { .. }
            | Self::Metrics { .. } => false,
            Self::Ingest(e) | Self::Unanswered(e) => e.is_usage(),
            Self::Schema(e) => e.is_usage(),
            Self::Transform(e) => e.is_usage(),
            Self::Sink(e) => e.is_usage(),
        }
    }
}

fn near(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(". Here are: {}", names.join(", ")) }
}
