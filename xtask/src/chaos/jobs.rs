//! Tables side by side: each job takes the next table, runs its trials, and reports.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::scope;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::broker::{Broker, Embedded};
use super::disk::SmallDisk;
use super::disturb::{Disturbed, disturb};
use super::plan::{Setting, plan};
use super::random::Random;
use super::readers::Scanner;
use super::report::Report;
use super::table::Table;
use super::{Args, BrokerKind, TRIALS_OF_A_TABLE};
use crate::apache::Apache;

/// Of so many tables, one is on a disk that can be filled.
const TABLES_OF_A_SMALL_DISK: u64 = 8;

/// What all jobs share.
pub(super) struct Jobs<'a> {
    pub(super) args: &'a Args,
    /// Where each table gets a folder.
    pub(super) folder: &'a Path,
    /// The `puddle` to test.
    pub(super) binary: &'a Path,
    /// The broker of all tables; without it each has an embedded one.
    pub(super) kafka: Option<&'a Apache>,
    /// The Python that scans, if there is one.
    pub(super) python: Option<&'a Path>,
    /// Whether there can be disks that are filled.
    pub(super) can_fill: bool,
}

impl Jobs<'_> {
    /// Runs all trials. Returns what they came to, and whether the folder of a table was kept.
    pub(super) fn run(&self) -> anyhow::Result<(Report, bool)> {
        let first = self.args.first - self.args.first % TRIALS_OF_A_TABLE;
        let next = AtomicU64::new(first);
        let (report, kept) = (Mutex::new(Report::default()), AtomicBool::new(false));
        scope(|scope| {
            let jobs = 0..self.args.jobs;
            let threads: Vec<_> = jobs
                .map(|job| {
                    scope.spawn({
                        let (next, report, kept) = (&next, &report, &kept);
                        move || self.work(job, next, report, kept)
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a job does not panic"))
        })?;
        Ok((report.into_inner().unwrap_or_else(PoisonError::into_inner), kept.into_inner()))
    }

    /// Takes table after table.
    fn work(
        &self,
        job: u64,
        next: &AtomicU64,
        report: &Mutex<Report>,
        kept: &AtomicBool,
    ) -> anyhow::Result<()> {
        let own = self.folder.join(format!("job-{job}"));
        std::fs::create_dir(&own)?;
        let mut scanner = self.python.map(|python| Scanner::start(python, &own)).transpose()?;
        let end = self.args.first + self.args.trials;
        loop {
            let begin = next.fetch_add(TRIALS_OF_A_TABLE, Ordering::Relaxed);
            if begin >= end {
                return Ok(());
            }
            let folder = self.folder.join(format!("table-{begin}"));
            std::fs::create_dir(&folder)?;
            let mut table = self.table(&folder, begin)?;
            let trials = begin..end.min(begin + TRIALS_OF_A_TABLE);
            let is_last = trials.end == end;
            if !self.trials(trials, &mut table, scanner.as_mut(), report) {
                kept.store(true, Ordering::Relaxed);
                table.keep()?;
                continue;
            }
            if self.args.plant && is_last {
                find_planted(&mut table, scanner.as_mut().context("it was checked that there is one")?)?;
            }
            table.remove()?;
        }
    }

    fn table(&self, folder: &Path, begin: u64) -> anyhow::Result<Table<'_>> {
        let broker = match self.kafka {
            Some(kafka) => Broker::Apache(kafka),
            None => Broker::Embedded(Embedded::start(self.binary, folder)?),
        };
        let topic = format!("chaos-{}-{begin}", self.args.seed);
        let mut random = Random::new(self.args.seed, begin);
        // Other records for each table.
        let seed = random.next();
        let is_small = self.can_fill && random.within(0..TABLES_OF_A_SMALL_DISK) == 0;
        let disk = if is_small { Some(SmallDisk::mount(&folder.join("disk"))?) } else { None };
        Table::create(self.binary, folder, broker, topic, seed, self.args.table, disk)
    }

    /// Runs a table's trials up to the first that is not good. Returns whether all were.
    fn trials(
        &self,
        trials: Range<u64>,
        table: &mut Table<'_>,
        mut scanner: Option<&mut Scanner>,
        report: &Mutex<Report>,
    ) -> bool {
        let setting = Setting {
            kind: self.args.table,
            can_kill_broker: self.args.broker == BrokerKind::Embedded,
            has_small_disk: table.disk().is_some(),
        };
        for trial in trials {
            let begin = Instant::now();
            let plan = plan(self.args.seed, trial, setting);
            let mut seen = Disturbed::default();
            let result = disturb(table, &plan).and_then(|disturbed| {
                seen = disturbed;
                table.check(scanner.as_deref_mut())
            });
            match result {
                Ok(findings) => seen.findings.merge(findings),
                Err(error) => seen.findings.add_wrong(format!("it did not come to its end: {error:#}")),
            }
            let Disturbed { left, observations, findings } = &seen;
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.add(plan.fault, findings, left, *observations);
            drop(report);
            let verdict = if findings.is_empty() { "good" } else { "NOT GOOD" };
            let left: Vec<&str> = left.iter().map(|left| left.name()).collect();
            eprintln!(
                "trial {trial}: {} [{}]: {verdict}, {:.1} s",
                plan.fault.name(),
                left.join("; "),
                begin.elapsed().as_secs_f64()
            );
            if !findings.is_empty() {
                let words: String = findings.words.iter().map(|words| format!("  {words}\n")).collect();
                let (folder, seed) = (table.folder().display(), self.args.seed);
                eprintln!(
                    "  {plan:?}\n{words}  left in {folder}; again: --seed {seed} --first {trial} --trials 1"
                );
                return false;
            }
        }
        true
    }
}

/// Damages a good table, and fails unless each check finds what it can.
fn find_planted(table: &mut Table<'_>, scanner: &mut Scanner) -> anyhow::Result<()> {
    scanner.plant(table.kind(), &table.lake())?;
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
