//! What can be typed: commands, arguments and their help.

mod table;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub(crate) use table::{Table, TableAction, TableOptimize, TableVacuum};

/// A data lake small enough to jump into: Kafka to Polars to Parquet, on one laptop.
#[derive(Debug, Parser)]
#[command(name = "puddle", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Begin with:  puddle demo")]
pub(crate) struct Cli {
    /// Say more on standard error: -v what happens, -vv details, -vvv everything (or set RUST_LOG)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The main job, whole: real flights and weather from Kafka to Parquet, audited, with a look at the result
    #[command(
        after_help = "Example:  puddle demo\nIt may be run again: it replaces the topics and tables that it made, and no others."
    )]
    Demo(Demo),
    /// Run a pipeline folder
    #[command(
        after_help = "Examples:\n  puddle run pipelines/flights --until-caught-up\n  puddle run pipelines/flights --brokers localhost:9092 --set commit.every=1s"
    )]
    Run(Run),
    /// Play a data set into a topic, as JSON records
    #[command(
        after_help = "Examples:\n  puddle replay flights\n  puddle replay flights --rate 1000 --topic live\n  puddle replay flights --speed 3600x --rows 5000\n  puddle replay events.ndjson --topic events --partitions 4"
    )]
    Replay(Replay),
    /// Run the embedded broker in the foreground
    #[command(
        after_help = "Example:  puddle broker\nSingle node, no replication, no access control: it listens on loopback unless told otherwise."
    )]
    Broker(Broker),
    /// Ask the lake in SQL
    #[command(
        after_help = "Examples:\n  puddle query 'SELECT airline, count(*) AS flights FROM flights GROUP BY airline ORDER BY flights DESC'\n  puddle query 'SELECT * FROM \"flights.rejected\"' --format json\n  puddle query 'SHOW TABLES'"
    )]
    Query(Query),
    /// Audit a pipeline: every offset of its topics written, filtered or rejected, exactly once
    #[command(after_help = "Example:  puddle verify pipelines/flights")]
    Verify(Verify),
    /// The records that did not fit: which, why, and another try once the schema or the SQL is mended
    #[command(
        after_help = "Examples:\n  puddle rejected pipelines/flights\n  puddle rejected pipelines/flights --reason 'not JSON' --limit 100\n  puddle rejected pipelines/flights --partition 0 --offset 4711\n  puddle rejected pipelines/flights --retry\n--retry decodes them by the schema of now and applies the SQL of now. What fits moves into the table,\nexactly once; what does not stays. Stop the pipeline's run first. In SQL they are \"flights.rejected\"."
    )]
    Rejected(Rejected),
    /// What is in the broker
    #[command(
        after_help = "Examples:\n  puddle topics\n  puddle topics create events --partitions 4\n  puddle topics delete events"
    )]
    Topics(Topics),
    /// How far a pipeline's table is behind its topics
    #[command(after_help = "Example:  puddle lag pipelines/flights")]
    Lag(Lag),
    /// What tables there are; small files joined, old ones deleted
    #[command(
        after_help = "Examples:\n  puddle table list\n  puddle table optimize flights\n  puddle table vacuum flights --dry-run"
    )]
    Table(Table),
    /// What this machine has, what is missing, and how to get it
    #[command(after_help = "Example:  puddle doctor")]
    Doctor(Doctor),
}

/// Where the broker is.
#[derive(Args, Debug)]
pub(crate) struct BrokerArgs {
    /// Kafka's bootstrap servers; without it 127.0.0.1:9092, or else the embedded broker on ./.puddle/broker
    #[arg(long, env = "PUDDLE_BROKERS", hide_env_values = true, value_name = "HOST:PORT")]
    pub(crate) brokers: Option<String>,
}

/// Where the tables are.
#[derive(Args, Debug)]
pub(crate) struct LakeArgs {
    /// The folder of the tables
    #[arg(long, env = "PUDDLE_LAKE", hide_env_values = true, default_value = "lake", value_name = "DIR")]
    pub(crate) lake: PathBuf,
}

/// A pipeline folder.
#[derive(Args, Debug)]
pub(crate) struct PipelineArgs {
    /// The pipeline's folder (or its name, for one in pipelines/)
    pub(crate) pipeline: PathBuf,
    /// Override a key of pipeline.toml, as in commit.every=1s; may be given again
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    #[command(flatten)]
    pub(crate) lake: LakeArgs,
    /// Replay only the first ROWS flights and hours of weather
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rows: Option<u64>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) lake: LakeArgs,
    /// End when everything that is in the topics now is committed
    #[arg(long)]
    pub(crate) until_caught_up: bool,
    /// Where retention has overtaken the table, give up what is gone and go on at the oldest offset there is
    #[arg(long)]
    pub(crate) accept_gap: bool,
    /// Serve Prometheus metrics on this address, as http://ADDRESS/metrics
    #[arg(long, value_name = "127.0.0.1:PORT")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Replay {
    /// A name under data/ (flights, weather), or a Parquet, CSV or NDJSON file
    pub(crate) dataset: String,
    /// The topic; the data set's own by default. It is made if it does not exist
    #[arg(long)]
    pub(crate) topic: Option<String>,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    /// Replay only the first ROWS rows
    #[arg(long)]
    pub(crate) rows: Option<u64>,
    /// Play the data set this many times
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// Records per second; as fast as possible by default
    #[arg(long, conflicts_with = "speed", value_name = "RECORDS")]
    pub(crate) rate: Option<f64>,
    /// A multiple of event time: 60x plays an hour of events in a minute
    #[arg(long, value_name = "MULTIPLE")]
    pub(crate) speed: Option<String>,
    /// The column that --speed takes as event time
    #[arg(long, value_name = "COLUMN")]
    pub(crate) event_time: Option<String>,
    /// The column that becomes the record's key
    #[arg(long, value_name = "COLUMN")]
    pub(crate) key: Option<String>,
    /// Partitions of the topic, if it is made
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) partitions: i32,
    /// How the records are compressed on their way and in the topic
    #[arg(long, value_enum, default_value_t = Compression::Lz4)]
    pub(crate) compression: Compression,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// A producer's compression, as Kafka knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    None,
    Gzip,
    Lz4,
    Snappy,
    Zstd,
}

impl Compression {
    /// Its name in librdkafka's `compression.type`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Broker {
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "ADDRESS:PORT")]
    pub(crate) listen: SocketAddr,
    /// The folder of the topics
    #[arg(long, default_value = ".puddle/broker")]
    pub(crate) dir: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Query {
    /// The question; tables by name
    pub(crate) sql: String,
    #[command(flatten)]
    pub(crate) lake: LakeArgs,
    /// How to print the rows
    #[arg(long, value_enum, default_value_t = QueryFormat::Table)]
    pub(crate) format: QueryFormat,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueryFormat {
    /// Aligned columns; long results are cut
    Table,
    /// Comma-separated, with a header
    Csv,
    /// One JSON object a line
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) lake: LakeArgs,
    /// Print the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Rejected {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    #[command(flatten)]
    pub(crate) lake: LakeArgs,
    /// Show this many, the newest first
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) limit: usize,
    /// Only those whose reason has this text in it
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Only those of this partition
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) partition: Option<i32>,
    /// Only the one at this offset, whole
    #[arg(long, value_name = "O", allow_negative_numbers = true)]
    pub(crate) offset: Option<i64>,
    /// Run all of them again, by the schema and the SQL of now
    #[arg(long, conflicts_with_all = ["limit", "reason", "partition", "offset"])]
    pub(crate) retry: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Topics {
    #[command(subcommand)]
    pub(crate) action: Option<TopicsAction>,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicsAction {
    /// Make a topic
    Create {
        /// Its name
        topic: String,
        /// How many partitions
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: i32,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Delete a topic and its records
    Delete {
        /// Its name
        topic: String,
        #[command(flatten)]
        broker: BrokerArgs,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Lag {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) lake: LakeArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) lake: LakeArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault matrix 49.
    #[test]
    fn nothing_listens_beyond_loopback_unless_told() {
        let parse = |args: &[&str]| Cli::try_parse_from(args).unwrap().command;
        let Command::Broker(broker) = parse(&["puddle", "broker"]) else { panic!("another command") };
        assert!(broker.listen.ip().is_loopback(), "{}", broker.listen);
        let Command::Run(run) = parse(&["puddle", "run", "flights"]) else { panic!("another command") };
        assert!(run.metrics.is_none(), "{:?}", run.metrics);
    }
}
