//! `cargo xtask bench`: contenders do the same work on the same topic, one after the other, and are compared.
//!
//! ```text
//! Apache Kafka, filled topics ─► contenders, in turn, round by round ─► medians ─► table and chart
//!   contender  its folder and what contender.toml says     run     one run: start, watch, end
//!   install    its Python environment and jars             event   what it says of its progress
//!   topic      what it reads                               tree    what it costs, with its children
//!   check      whether its table is right                  reaper  ends what it leaves running
//!   result     medians and the table; chart: the picture; page: docs/benchmarks.md
//! ```
//!
//! `growth` and `latency` are about Puddle alone: more partitions, larger records and so on; and the time from a record
//! to its row.
//!
//! `xtask/bench/README.md` says what a contender is asked to do.

mod chart;
mod check;
mod contender;
mod event;
mod growth;
mod install;
mod latency;
mod machine;
mod page;
mod reaper;
mod result;
mod run;
mod stats;
mod synthetic;
mod topic;
mod tree;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use tempfile::TempDir;

use crate::apache::Apache;
use crate::python;
use crate::tools::{cargo, run as run_program};
use contender::{Contender, Kind};
use install::Installed;
use machine::Machine;
use reaper::Reaper;
use result::{Measured, markdown, thousands};
use run::{Outcome, Setting};
use topic::Topics;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    contest: Contest,
}

#[derive(clap::Subcommand)]
enum What {
    /// Puddle alone: more partitions, larger records, more columns, other commits, more records
    Growth(growth::Args),
    /// Puddle alone: from a record's timestamp to its row being visible, at half of the peak rate
    Latency(latency::Args),
}

/// Everybody on one topic.
#[derive(clap::Args)]
struct Contest {
    /// How many records the topic has
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// How many partitions
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
    /// How often each contender runs; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only these contenders
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    only: Vec<String>,
    /// How the records in the topic are compressed: none, lz4, gzip, snappy or zstd
    #[arg(long, default_value = "none")]
    compression: String,
    /// Stop a contender that is not done so long after its first record
    #[arg(long, default_value_t = 180, value_name = "SECONDS")]
    limit_seconds: u64,
    #[command(flatten)]
    tested: Tested,
    /// Print all runs as one JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Put table and chart into docs/benchmarks.md
    #[arg(long)]
    write: bool,
}

/// Instead of what the bench builds and starts.
#[derive(clap::Args)]
struct Tested {
    /// A Kafka that runs, instead of one that the bench starts
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// Measure this program instead of building one
    #[arg(long, value_name = "PROGRAM")]
    puddle: Option<PathBuf>,
}

impl Args {
    /// The part that every test run has: small, but whole, on a Kafka that runs.
    pub(crate) fn small(brokers: &str) -> Self {
        let contest = Contest {
            records: 20_000,
            partitions: 8,
            runs: 1,
            only: ["limit", "puddle", "puddle-delta"].map(str::to_owned).into(),
            compression: "none".to_owned(),
            limit_seconds: 60,
            tested: Tested { brokers: Some(brokers.to_owned()), puddle: None },
            json: false,
            write: false,
        };
        Self { what: None, contest }
    }
}

/// Runs the bench. That a contender fails is part of the result; that Puddle fails, or its table is wrong, is an error.
pub(crate) fn bench(args: Args) -> anyhow::Result<()> {
    match &args.what {
        None => contest(&args.contest),
        Some(What::Growth(args)) => growth::growth(args),
        Some(What::Latency(args)) => latency::latency(args),
    }
}

fn contest(args: &Contest) -> anyhow::Result<()> {
    let contenders = contender::all(&args.only)?;
    let stage = Stage::build(&args.tested)?;
    let setting = stage.setting(args.partitions, Duration::from_secs(args.limit_seconds));
    let mut topics = Topics::new(&stage.puddle, &stage.brokers, args.partitions, &args.compression);

    let mut all: Vec<Measured> = contenders.iter().map(|c| Measured::new(c, args.records)).collect();
    let mut installed = Vec::new();
    for (contender, measured) in contenders.iter().zip(&mut all) {
        installed.push(match &measured.missing {
            Some(_) => None,
            None => match install::install(contender) {
                Ok(installed) => Some(installed),
                Err(error) => {
                    measured.missing = Some(format!("{error:#}"));
                    None
                }
            },
        });
    }
    let runnable = installed.iter().flatten().count() as u32;
    eprintln!(
        "{runnable} contenders, {} runs each; at most {} minutes, most need a small part of that",
        args.runs,
        1 + u64::from(runnable * args.runs) * (args.limit_seconds + 60) / 60
    );
    stage.warm_up(&setting, &mut topics, args.records)?;
    for round in 1..=args.runs {
        let begin = Instant::now();
        for ((contender, installed), measured) in contenders.iter().zip(&installed).zip(&mut all) {
            let Some(installed) = installed.as_ref().filter(|_| measured.is_worth_another()) else {
                continue;
            };
            let records = measured.fewer.unwrap_or(args.records);
            let topic = topics.flights(records)?;
            let run = stage.run(&setting, contender, installed, &topic, records)?;
            eprintln!("round {round}: {:<20} {}", contender.name, said(&run));
            measured.runs.push(run);
        }
        let left = begin.elapsed() * (args.runs - round);
        if !left.is_zero() {
            eprintln!("round {round} of {} is done; about {} s to go", args.runs, left.as_secs());
        }
    }
    topics.delete_all()?;

    let machine = Machine::this();
    if args.json {
        let all = serde_json::json!({ "machine": machine, "command": command_line(), "contenders": all });
        println!("{all}");
    } else {
        println!("{machine}\n\n{}", markdown(&all));
    }
    if args.write {
        let text = format!("{machine}\n\n```console\n$ {}\n```\n\n", command_line());
        let chart = "![Records per second of each contender](benchmarks.svg)\n\n";
        std::fs::write(crate::tools::root().join("docs/benchmarks.svg"), result::chart(&all))?;
        page::write("contenders", &(text + chart + &markdown(&all)))?;
    }
    let puddle = all.iter().filter(|measured| measured.kind == Kind::Puddle);
    let bad: Vec<&str> =
        puddle.filter(|measured| !measured.is_good()).map(|measured| &*measured.name).collect();
    anyhow::ensure!(bad.is_empty(), "not as it must be: {}", bad.join(", "));
    Ok(())
}

/// What was asked for, for the record.
fn command_line() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--write").collect();
    format!("cargo xtask {}", arguments.join(" "))
}

/// A run in a line.
fn said(run: &run::Run) -> String {
    let figures = format!(
        "{:>9} records/s, {:.2} CPU s per M, {} MB, start-up {:.2} s",
        thousands(run.rate().unwrap_or(0.0)),
        run.cpu_per_million().unwrap_or(0.0),
        run.peak_memory / 1_000_000,
        run.start_up.unwrap_or(0.0),
    );
    let outcome = match &run.outcome {
        Outcome::Finished => String::new(),
        Outcome::Stopped => ", stopped".to_owned(),
        Outcome::Failed(reason) => format!(", FAILED: {reason}"),
    };
    let wrong = match run.wrong.as_deref() {
        Some([]) | None => String::new(),
        Some(wrong) => format!(", WRONG: {}", wrong.join("; ")),
    };
    figures + &outcome + &wrong
}

/// The broker, the programs and the folder of a bench. Its fields are dropped in this order: whatever still runs ends
/// before its broker and its folder go.
struct Stage {
    reaper: Reaper,
    kafka: Option<Apache>,
    brokers: String,
    puddle: PathBuf,
    programs: PathBuf,
    airlines: PathBuf,
    /// What checks tables, where it can be had.
    python: Option<PathBuf>,
    folder: TempDir,
}

impl Stage {
    fn build(tested: &Tested) -> anyhow::Result<Self> {
        let built = |program| anyhow::Ok(std::env::current_exe()?.with_file_name(program));
        let puddle = match &tested.puddle {
            Some(puddle) => puddle.clone(),
            None => {
                run_program(cargo().args(["build", "--locked", "--package", "puddle"]))?;
                built("puddle")?
            }
        };
        run_program(cargo().args([
            "build",
            "--locked",
            "--package",
            "puddle-testkit",
            "--bin",
            "consume-only",
        ]))?;
        let folder = tempfile::Builder::new().prefix("puddle-bench-").tempdir()?;
        let reaper = Reaper::start(folder.path())?;
        let programs = folder.path().join("programs");
        std::fs::create_dir(&programs)?;
        for (name, program) in [("puddle", puddle), ("consume-only", built("consume-only")?)] {
            // A copy: a build meanwhile must not change what is measured.
            std::fs::copy(&program, programs.join(name))
                .with_context(|| format!("cannot copy {}", program.display()))?;
        }
        let brokers = tested.brokers.as_deref();
        let kafka = match brokers {
            Some(_) => None,
            None => Some(Apache::start_for_production()?.map_err(anyhow::Error::msg)?),
        };
        let brokers = brokers.or(kafka.as_ref().map(Apache::address)).expect("one of the two").to_owned();
        let python = match python::available() {
            Ok(()) => Some(python::interpreter()?),
            Err(missing) => {
                eprintln!("**** tables are NOT CHECKED: {missing}");
                None
            }
        };
        let puddle = programs.join("puddle");
        Ok(Self { reaper, kafka, brokers, puddle, programs, airlines: topic::airlines(), python, folder })
    }

    fn setting(&self, partitions: u32, limit: Duration) -> Setting<'_> {
        Setting {
            brokers: &self.brokers,
            server: self.kafka.as_ref().map(Apache::server),
            partitions,
            limit,
            programs: &self.programs,
            airlines: &self.airlines,
            reaper: &self.reaper,
        }
    }

    /// Reads the topic once, so that not the first contender alone meets a cold broker.
    fn warm_up(&self, setting: &Setting<'_>, topics: &mut Topics<'_>, records: u64) -> anyhow::Result<()> {
        let topic = topics.flights(records)?;
        let limit = contender::read(&crate::tools::root().join(contender::FOLDER).join("limit"))?;
        let nothing = Installed { python: None, jars: None };
        self.run(setting, &limit, &nothing, &topic, records).map(|_| ())
    }

    /// Runs a contender in a folder of its own, checks its table, and removes it.
    fn run(
        &self,
        setting: &Setting<'_>,
        contender: &Contender,
        installed: &Installed,
        topic: &str,
        records: u64,
    ) -> anyhow::Result<run::Run> {
        let folder = tempfile::tempdir_in(self.folder.path())?;
        let mut run = run::run(setting, contender, installed, topic, records, folder.path())?;
        // What was stopped has some of the records, nobody knows which.
        if contender.kind != Kind::Limit && run.outcome == Outcome::Finished {
            run.wrong = self.check(&folder.path().join("out"), records)?;
        }
        Ok(run)
    }

    /// As [`run`](Self::run), for tables that are not of flights.
    fn run_unchecked(
        &self,
        setting: &Setting<'_>,
        contender: &Contender,
        installed: &Installed,
        topic: &str,
        records: u64,
    ) -> anyhow::Result<run::Run> {
        let folder = tempfile::tempdir_in(self.folder.path())?;
        run::run(setting, contender, installed, topic, records, folder.path())
    }

    fn check(&self, table: &Path, records: u64) -> anyhow::Result<Option<Vec<String>>> {
        self.python.as_ref().map(|python| check::check(python, table, records)).transpose()
    }
}
