//! `cargo xtask chaos`: disturbs running pipelines at random moments, and after each time compares what is in the
//! table with what was produced, record by record.
//!
//! ```text
//! jobs      several tables side by side: a trial waits more than it computes
//!  table    one topic and table, through twenty trials one after the other: what a fault leaves, the next one meets
//!   plan    seed and number of a trial -> fault, moment, commit settings
//!   disturb the trial itself, and group, where several runs share a table
//!   left    where a kill struck, by what it left on the disk
//! records   seed and number of a record -> its bytes, and what must become of it
//! readers   puddle query, and Python without Puddle
//! ledger    known records against the rows of a reader: lost, doubled, otherwise wrong
//! ```

mod broker;
mod disk;
mod disturb;
mod group;
mod jobs;
mod ledger;
mod left;
mod plan;
mod process;
mod random;
mod readers;
mod records;
mod report;
mod table;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;

use crate::apache::Apache;
use crate::python;
use crate::tools::{cargo, commit, puddle, run};
use disk::SmallDisk;
use jobs::Jobs;

/// Trials that a table goes through before the next one begins. Some hundreds of commits, so that the log is
/// checkpointed and bundled several times; more would only make each check slower.
const TRIALS_OF_A_TABLE: u64 = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many disturbances
    #[arg(long, default_value_t = 100)]
    trials: u64,
    /// What decides about faults, moments and records
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The number of the first trial, to repeat one without those before it; rounded down to the first of its table
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many tables side by side
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    jobs: u64,
    /// Which broker
    #[arg(long, value_enum, default_value_t = BrokerKind::Embedded)]
    broker: BrokerKind,
    /// Which kind of table
    #[arg(long, value_enum, default_value_t = TableKind::Parquet)]
    table: TableKind,
    /// Test this program instead of building one
    #[arg(long)]
    puddle: Option<PathBuf>,
    /// In the end, double a row and remove another, and fail unless the checks find both
    #[arg(long, hide = true)]
    plant: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BrokerKind {
    Embedded,
    Apache,
}

/// The `kind` of the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableKind {
    Parquet,
    Delta,
}

impl TableKind {
    fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Delta => "delta",
        }
    }

    fn allows_several_writers(self) -> bool {
        self == Self::Delta
    }
}

impl Args {
    /// The part that every test run has: always the same trials, and the proof that the checks see damage. The seeds are
    /// ones that bring up nearly every fault in so few trials.
    pub(crate) fn small(table: TableKind) -> Self {
        let (seed, trials) = match table {
            TableKind::Parquet => (2242, TRIALS_OF_A_TABLE),
            TableKind::Delta => (2250, 12),
        };
        let broker = BrokerKind::Embedded;
        Self { trials, seed, first: 0, jobs: 1, broker, table, puddle: None, plant: true }
    }
}

/// Runs the trials and prints their table. A trial that finds anything ends its table, whose folder is kept; the run
/// goes on with the next table and fails in the end.
pub(crate) fn chaos(args: Args) -> anyhow::Result<()> {
    let begin = Instant::now();
    // For the record.
    let (built, tested) = match &args.puddle {
        Some(path) => (path.clone(), path.display().to_string()),
        None => {
            run(cargo().args(["build", "--locked", "--package", "puddle"]))?;
            (puddle()?, format!("commit {}", commit()))
        }
    };
    let folder = tempfile::Builder::new().prefix("puddle-chaos-").tempdir()?;
    // A copy: a build meanwhile must not change what is tested.
    let binary = folder.path().join("puddle");
    std::fs::copy(&built, &binary).with_context(|| format!("cannot copy {}", built.display()))?;
    let kafka = match args.broker {
        BrokerKind::Embedded => None,
        BrokerKind::Apache => Some(Apache::start()?.map_err(anyhow::Error::msg)?),
    };
    let python = match python::available() {
        Ok(()) => Some(python::interpreter()?),
        Err(missing) => {
            eprintln!("**** WITHOUT the independent scan: {missing}");
            ensure!(!args.plant, "planted damage is made by Python");
            None
        }
    };
    let can_fill = SmallDisk::try_out(folder.path());
    if let Err(error) = &can_fill {
        eprintln!("**** WITHOUT full disks: {error:#}");
    }
    eprintln!("{args}, {tested}, in {}", folder.path().display());

    let jobs = Jobs {
        args: &args,
        folder: folder.path(),
        binary: &binary,
        kafka: kafka.as_ref(),
        python: python.as_deref(),
        can_fill: can_fill.is_ok(),
    };
    let (report, kept) = jobs.run()?;
    println!("{args}, {tested}, {} s\n\n{report}", begin.elapsed().as_secs());
    if kept {
        bail!("not every trial was good; what they left is in {}", folder.keep().display());
    }
    ensure!(report.is_good(), "not every trial was good");
    Ok(())
}

impl std::fmt::Display for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { trials, seed, first, jobs, broker, table, .. } = self;
        write!(
            f,
            "{trials} trials from {first} of seed {seed}, {table:?} tables, {broker:?} broker, {jobs} jobs"
        )
    }
}
