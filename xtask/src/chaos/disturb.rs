//! A trial up to its end: records are produced, a run is started, and what the plan says strikes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};

use super::ledger::Findings;
use super::left::{Lake, Left};
use super::plan::{Change, Fault, Moment, Plan};
use super::process::{PATIENCE, Process, Signal, until};
use super::random::Random;
use super::table::{SESSION, Table};
use super::{TableKind, group};

/// How often a folder is looked at for a change: a commit's steps take milliseconds when synced.
const LOOK: Duration = Duration::from_micros(100);
/// How many times the pace of a run a change is waited for before a fault strikes anyway: all records may be in the
/// table already.
const STRIKE: u32 = 2;
/// How many looks within commits are spent on finding a certain step.
const LOOKS: u32 = 12;

/// What was seen in a trial before its table was brought up to date.
#[derive(Default)]
pub(super) struct Disturbed {
    /// What each kill of a run left.
    pub(super) left: Vec<Left>,
    /// How often the table was looked at meanwhile.
    pub(super) observations: u64,
    /// What was wrong then.
    pub(super) findings: Findings,
}

/// Runs a trial, without comparing what it left.
pub(super) fn disturb(table: &mut Table<'_>, plan: &Plan) -> anyhow::Result<Disturbed> {
    table.write_pipeline(plan)?;
    let lake = Lake::new(table.kind(), &table.lake())?;
    // Before there is a table, asking about it is an error.
    let is_observed = plan.is_observed && lake.newest() > 0;
    let replay = table.produce(plan)?;
    let (table, is_over) = (&*table, AtomicBool::new(false));
    scope(|scope| {
        let observer = is_observed.then(|| scope.spawn(|| observe(table, &is_over)));
        let left = strike(table, plan, &lake, replay);
        is_over.store(true, Ordering::Relaxed);
        let observed = observer.map(|thread| thread.join().expect("the observer does not panic"));
        let (findings, observations) = observed.transpose()?.unwrap_or_default();
        Ok(Disturbed { left: left?, observations, findings })
    })
}

/// Looks at the table until the trial is over, also at what a kill left. Returns what is wrong, and how many looks.
fn observe(table: &Table<'_>, is_over: &AtomicBool) -> anyhow::Result<(Findings, u64)> {
    let mut findings = Findings::default();
    for looks in 1.. {
        // So that the last look begins after the end.
        let is_last = is_over.load(Ordering::Relaxed);
        findings.merge(table.look().context("while the table was being disturbed")?);
        if is_last || !findings.is_empty() {
            return Ok((findings, looks));
        }
    }
    unreachable!("it is over some time")
}

/// Starts the run and disturbs it. Returns what each kill left.
fn strike(table: &Table<'_>, plan: &Plan, lake: &Lake, mut replay: Process) -> anyhow::Result<Vec<Left>> {
    let mut left = Vec::new();
    match plan.fault {
        Fault::Kill | Fault::KillInCommit | Fault::KillInRecovery | Fault::Leftovers => {
            left = kill(table, plan, lake)?;
        }
        Fault::FullDisk => left = fill(table, plan, lake)?,
        Fault::Terminate | Fault::Pause | Fault::KillBroker | Fault::SecondRun => {
            hinder(table, plan, lake, &mut replay)?;
        }
        Fault::Upkeep => upkeep(table, plan, lake)?,
        Fault::KillMember | Fault::MembersComeAndGo | Fault::Zombie | Fault::RebalanceInCommit => {
            group::strike(table, plan, lake)?;
        }
    }
    replay.finish()?;
    Ok(left)
}

/// Does to the run what it must survive.
fn hinder(table: &Table<'_>, plan: &Plan, lake: &Lake, replay: &mut Process) -> anyhow::Result<()> {
    let before = lake.newest();
    let mut run = table.run("run.log")?;
    wait_for(table, plan, lake, &mut run)?;
    match plan.fault {
        Fault::Pause => {
            run.signal(Signal::Stop)?;
            sleep(SESSION + Duration::from_secs(1) + share_of(table, plan.then));
            run.signal(Signal::Cont)?;
        }
        Fault::KillBroker => {
            let embedded = table.broker.embedded().context("only the embedded broker can be killed")?;
            embedded.kill()?;
            sleep(share_of(table, plan.then));
            embedded.restart()?;
            replay.finish()?;
        }
        Fault::SecondRun => {
            wait_for_commit(before, lake, &mut run)?;
            let words = table.run("second-run.log")?.be_refused()?;
            ensure!(words.contains("chaos"), "a second run was not refused by the table's name: {words}");
            replay.finish()?;
        }
        // The end itself is the fault.
        _ => {}
    }
    end(run)
}

/// Waits for a commit after the one with this number. There is one in every trial, since there are new records.
fn wait_for_commit(before: u64, lake: &Lake, run: &mut Process) -> anyhow::Result<()> {
    until("the run to commit", || {
        run.must_run()?;
        Ok(lake.newest() > before)
    })
}

/// Kills the run, and perhaps the next one too.
fn kill(table: &Table<'_>, plan: &Plan, lake: &Lake) -> anyhow::Result<Vec<Left>> {
    let before = lake.newest();
    let mut run = table.run("run.log")?;
    wait_for(table, plan, lake, &mut run)?;
    run.kill()?;
    let mut left = vec![lake.left(before)?];
    if plan.fault == Fault::KillInRecovery {
        let before = lake.newest();
        let mut next = table.run("run.log")?;
        sleep(share_of(table, plan.then));
        next.must_run()?;
        next.kill()?;
        left.push(lake.left(before)?);
    }
    if plan.fault == Fault::Leftovers {
        leave_files(table.kind(), &table.lake())?;
    }
    Ok(left)
}

/// Fills the disk for a while. A run must wait for room, and one that is killed meanwhile must not harm the table.
fn fill(table: &Table<'_>, plan: &Plan, lake: &Lake) -> anyhow::Result<Vec<Left>> {
    let mut random = Random::new(plan.stream, 0);
    let disk = table.disk().context("only a small disk can be filled")?;
    // Less than the files of one epoch take.
    let filler = disk.fill(random.within(0..12_000))?;
    let before = lake.newest();
    let mut run = table.run("run.log")?;
    run.wait_until_said("is full")?;
    wait_for(table, plan, lake, &mut run)?;
    if random.percent(50) {
        run.kill()?;
        return Ok(vec![lake.left(before)?]);
    }
    let before = lake.newest();
    drop(filler);
    wait_for_commit(before, lake, &mut run)?;
    end(run)?;
    Ok(Vec::new())
}

/// Joins files while the run adds some, then ends or kills the run, and deletes what no version needs.
fn upkeep(table: &Table<'_>, plan: &Plan, lake: &Lake) -> anyhow::Result<()> {
    let mut random = Random::new(plan.stream, 0);
    let mut run = table.run("run.log")?;
    wait_for(table, plan, lake, &mut run)?;
    wait_for_commit(0, lake, &mut run)?;
    finish_or_kill(table, table.upkeep(&["optimize", "chaos"])?, &mut random)?;
    if random.percent(50) {
        run.kill()?;
    } else {
        end(run)?;
    }
    // With nobody at work, all that the newest version does not name may go.
    finish_or_kill(table, table.upkeep(&["vacuum", "chaos", "--older-than", "0s", "--force"])?, &mut random)
}

fn finish_or_kill(table: &Table<'_>, mut process: Process, random: &mut Random) -> anyhow::Result<()> {
    if random.percent(50) {
        return process.finish();
    }
    sleep(share_of(table, random.within(0..300)));
    process.kill()
}

/// Ends a run: it must still be there, and end well when it is asked to.
pub(super) fn end(mut run: Process) -> anyhow::Result<()> {
    // Before that, a signal ends it as it ends any program.
    run.wait_until_said("stop with Ctrl-C")?;
    run.signal(Signal::Term)?;
    run.finish()
}

/// Waits until the moment has come.
pub(super) fn wait_for(table: &Table<'_>, plan: &Plan, lake: &Lake, run: &mut Process) -> anyhow::Result<()> {
    let end = Instant::now() + table.pace() * STRIKE;
    match plan.moment {
        Moment::Start(thousandths) => sleep(share_of(table, thousandths)),
        Moment::Staging(change) => wait_for_change(&lake.staging(), change, end),
        Moment::Log(change) => wait_for_change(&lake.log(), change, end),
        Moment::Step(step) => stop_at(step, plan, table, lake, run)?,
    }
    run.must_run()
}

fn wait_for_change(folder: &Path, Change { skip, delay }: Change, end: Instant) {
    let mut seen = changed(folder);
    for _ in 0..=skip {
        while changed(folder) == seen && Instant::now() < end {
            sleep(LOOK);
        }
        seen = changed(folder);
    }
    sleep(delay);
}

/// Stops the run again and again for a look at its disk, and leaves it stopped where it is to be killed.
fn stop_at(step: Left, plan: &Plan, table: &Table<'_>, lake: &Lake, run: &mut Process) -> anyhow::Result<()> {
    let before = lake.newest();
    let mut random = Random::new(plan.stream, 0);
    let (mut busy, mut idle_since) = (0, None);
    let begin = Instant::now();
    loop {
        sleep(random.micros(0..5_000));
        run.must_run()?;
        run.signal(Signal::Stop)?;
        let found = lake.left(before)?;
        busy += u32::from(found.is_within_a_commit());
        if found == step || (busy > LOOKS && found.is_within_a_commit()) {
            return Ok(());
        }
        // All records may be in the table already.
        idle_since = (found == Left::Between).then(|| idle_since.unwrap_or_else(Instant::now));
        if idle_since.is_some_and(|since| since.elapsed() > table.pace()) || begin.elapsed() > PATIENCE {
            return Ok(());
        }
        run.signal(Signal::Cont)?;
    }
}

pub(super) fn share_of(table: &Table<'_>, thousandths: u64) -> Duration {
    table.pace().mul_f64(thousandths as f64 / 1000.0)
}

fn changed(folder: &Path) -> Option<SystemTime> {
    fs::metadata(folder).and_then(|metadata| metadata.modified()).ok()
}

/// Leaves files as a killed writer may: half written, whole, and unheard of.
fn leave_files(kind: TableKind, lake: &Path) -> anyhow::Result<()> {
    let mut staging = lake.join(".puddle/chaos/staging");
    if kind.allows_several_writers() {
        // Each writer has a folder of its own.
        staging.push("00000000-dead-4000-8000-000000000000");
    }
    fs::create_dir_all(&staging)?;
    if let Some(file) = any_file(&lake.join("chaos"))? {
        let bytes = fs::read(&file)?;
        fs::write(staging.join("half.parquet"), &bytes[..bytes.len() / 2])?;
        fs::write(staging.join("whole.parquet"), &bytes)?;
        if kind == TableKind::Delta {
            // In the table's folder, before a version names it.
            fs::write(file.with_file_name("chaos-of-a-dead-run.parquet"), &bytes)?;
        }
    }
    Ok(fs::write(staging.join("stranger"), b"not Parquet")?)
}

/// A file of the table, if there is any yet.
fn any_file(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    if !folder.is_dir() {
        return Ok(None);
    }
    for bucket in fs::read_dir(folder)? {
        let bucket = bucket?;
        if bucket.file_name().to_string_lossy().starts_with("bucket=")
            && let Some(file) = fs::read_dir(bucket.path())?.next()
        {
            return Ok(Some(file?.path()));
        }
    }
    Ok(None)
}
