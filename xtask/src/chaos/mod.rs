//! `cargo xtask chaos`: disturbs running pipelines at random moments, and after each time compares what is in the
//! table with what was produced, record by record.
//!
//! ```text
//! plan      seed and number of a trial -> fault, moment, commit settings
//! table     one topic and table, through twenty trials one after the other: what a fault leaves, the next one meets
//! records   seed and number of a record -> its bytes, and what must become of it
//! readers   puddle query, and pyarrow without the log
//! ledger    known records against the rows of a reader: lost, doubled, otherwise wrong
//! ```

mod broker;
mod ledger;
mod plan;
mod process;
mod random;
mod readers;
mod records;
mod report;
mod table;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;

use crate::apache::Apache;
use crate::python;
use crate::tools::{cargo, puddle, root, run};
use broker::{Broker, Embedded};
use ledger::Findings;
use readers::Scanner;
use report::Report;
use table::Table;

/// Trials that a table goes through before the next one begins. Some 500 commits, so that the log is checkpointed and
/// bundled several times; more would only make each check slower.
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

#[derive(Clone, Copy, ValueEnum)]
enum BrokerKind {
    Embedded,
    Apache,
}

#[derive(Clone, Copy, ValueEnum)]
enum TableKind {
    Parquet,
}

impl Args {
    /// The part that every test run has: always the same trials, and the proof that the checks see damage.
    pub(crate) fn small() -> Self {
        Self {
            trials: TRIALS_OF_A_TABLE,
            seed: 2013,
            first: 0,
            broker: BrokerKind::Embedded,
            table: TableKind::Parquet,
            puddle: None,
            plant: true,
        }
    }
}

/// Runs the trials and prints their table. A trial that finds anything ends its table, whose folder is kept; the run
/// goes on with the next table and fails in the end.
pub(crate) fn chaos(args: Args) -> anyhow::Result<()> {
    let TableKind::Parquet = args.table;
    let commit = commit();
    let built = match &args.puddle {
        Some(path) => path.clone(),
        None => {
            run(cargo().args(["build", "--locked", "--package", "puddle"]))?;
            puddle()?
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
    let mut scanner = match python::available() {
        Ok(()) => Some(Scanner::start(folder.path())?),
        Err(missing) => {
            eprintln!("**** WITHOUT the independent scan: {missing}");
            ensure!(!args.plant, "planted damage is made by pyarrow");
            None
        }
    };
    eprintln!("seed {}, commit {commit}, in {}", args.seed, folder.path().display());

    let mut report = Report::default();
    let mut kept = false;
    let first = args.first - args.first % TRIALS_OF_A_TABLE;
    let end = args.first + args.trials;
    for begin in (first..end).step_by(TRIALS_OF_A_TABLE as usize) {
        let trials = begin..end.min(begin + TRIALS_OF_A_TABLE);
        let of_table = folder.path().join(format!("table-{begin}"));
        std::fs::create_dir(&of_table)?;
        let broker = match &kafka {
            Some(kafka) => Broker::Apache(kafka),
            None => Broker::Embedded(Embedded::start(&binary, &of_table)?),
        };
        let topic = format!("chaos-{}-{begin}", args.seed);
        let mut table = Table::create(&binary, &of_table, broker, topic, args.seed)?;
        let is_good = run_trials(&args, trials, &mut table, scanner.as_mut(), &mut report);
        if is_good && args.plant && end <= begin + TRIALS_OF_A_TABLE {
            find_planted(&table, scanner.as_mut().context("it was checked that there is one")?)?;
        }
        if is_good {
            table.remove()?;
            std::fs::remove_dir_all(&of_table)?;
        }
        kept |= !is_good;
    }
    drop(scanner);
    println!("{report}");
    if kept {
        bail!("not every trial was good; what they left is in {}", folder.keep().display());
    }
    ensure!(report.is_good(), "not every trial was good");
    Ok(())
}

/// Runs a table's trials up to the first that is not good. Returns whether all were.
fn run_trials(
    args: &Args,
    trials: std::ops::Range<u64>,
    table: &mut Table<'_>,
    mut scanner: Option<&mut Scanner>,
    report: &mut Report,
) -> bool {
    for trial in trials {
        let begin = Instant::now();
        let plan = plan::plan(args.seed, trial, matches!(args.broker, BrokerKind::Embedded));
        let result = table.disturb(&plan).and_then(|()| table.check(scanner.as_deref_mut()));
        let findings = result.unwrap_or_else(|error| {
            let mut findings = Findings::default();
            findings.add_wrong(format!("it did not come to its end: {error:#}"));
            findings
        });
        report.add(plan.fault, &findings);
        let verdict = if findings.is_empty() { "good" } else { "NOT GOOD" };
        eprintln!("trial {trial}: {}: {verdict}, {:.1} s", plan.fault.name(), begin.elapsed().as_secs_f64());
        if !findings.is_empty() {
            eprintln!("  {plan:?}");
            findings.words.iter().for_each(|words| eprintln!("  {words}"));
            let folder = table.folder().display();
            eprintln!("  left in {folder}; again: --seed {} --first {trial} --trials 1", args.seed);
            return false;
        }
    }
    true
}

/// Damages a good table, and fails unless each check finds what it can.
fn find_planted(table: &Table<'_>, scanner: &mut Scanner) -> anyhow::Result<()> {
    scanner.plant(&table.lake())?;
    let findings = table.check(Some(scanner))?;
    ensure!(
        (findings.lost, findings.doubled) == (1, 1),
        "1 row was removed and 1 doubled, but the checks found {findings:?}"
    );
    for reader in ["puddle verify", "puddle query", "scan"] {
        ensure!(
            findings.words.iter().any(|words| words.starts_with(reader)),
            "{reader} did not see the planted damage: {findings:?}"
        );
    }
    eprintln!(
        "planted: 1 row doubled, 1 removed; found {} lost, {} doubled",
        findings.lost, findings.doubled
    );
    Ok(())
}

/// What is tested, for the record: the commit, and whether the checkout differs from it.
fn commit() -> String {
    let describe = ["describe", "--always", "--abbrev=9", "--exclude", "*", "--dirty=, changed"];
    match Command::new("git").current_dir(root()).args(describe).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}
