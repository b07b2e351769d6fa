//! One run of one contender.
//!
//! ```text
//! start ──start-up──► ready ──────────── rate ────────────► last commit ──► end
//!   CPU: of the start-up │ of the work, until the end, so that nothing is done behind the finish line
//! ```

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use super::contender::Contender;
use super::event::{Event, Progress, now};
use super::install::{Installed, tail};
use super::reaper::Reaper;
use super::tree::{self, LOOK, Tree};

/// How long a contender that has committed everything may take to end.
const GRACE: Duration = Duration::from_secs(30);

/// What all runs have in common.
pub(super) struct Setting<'b> {
    pub(super) brokers: &'b str,
    /// The broker's process, if we started it.
    pub(super) server: Option<u32>,
    pub(super) partitions: u32,
    pub(super) limit: Duration,
    /// The folder of the programs that were built for the bench.
    pub(super) programs: &'b Path,
    /// The reference table.
    pub(super) airlines: &'b Path,
    pub(super) reaper: &'b Reaper,
}

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    pub(super) outcome: Outcome,
    /// From the process's start to its first record, in seconds.
    pub(super) start_up: Option<f64>,
    /// Records that are visible.
    pub(super) records: u64,
    /// From the first record to the last commit.
    pub(super) seconds: Option<f64>,
    /// CPU time until the first record, in seconds.
    pub(super) cpu_start_up: f64,
    /// CPU time from then on.
    pub(super) cpu: f64,
    /// The broker's CPU time meanwhile, in seconds.
    pub(super) cpu_broker: Option<f64>,
    /// In bytes.
    pub(super) peak_memory: u64,
    /// Data files, and their bytes.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// What the check of the table found wrong; empty if nothing, `None` if it was not checked.
    pub(super) wrong: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Finished,
    /// It was too slow; what it had committed until then counts.
    Stopped,
    /// With its last words.
    Failed(String),
}

impl Run {
    pub(super) fn rate(&self) -> Option<f64> {
        Some(self.records as f64 / self.seconds?)
    }

    /// Of the work, without the start-up, in seconds.
    pub(super) fn cpu_per_million(&self) -> Option<f64> {
        (self.records > 0).then(|| self.cpu / self.records as f64 * 1e6)
    }

    pub(super) fn broker_cpu_per_million(&self) -> Option<f64> {
        Some(self.cpu_broker? / self.records as f64 * 1e6).filter(|cpu| cpu.is_finite())
    }
}

/// Runs it on a topic of so many records; its table is then in `folder/out`.
///
/// # Errors
/// When it cannot even be started. That it fails is an [`Outcome`].
pub(super) fn run(
    setting: &Setting<'_>,
    contender: &Contender,
    installed: &Installed,
    topic: &str,
    records: u64,
    folder: &Path,
) -> anyhow::Result<Run> {
    let (out, work, log) = (folder.join("out"), folder.join("work"), folder.join("log"));
    for folder in [&out, &work] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut command = command(setting, contender, installed);
    command
        .env("BENCH_TOPIC", topic)
        .env("BENCH_RECORDS", records.to_string())
        .env("BENCH_OUT", &out)
        .env("BENCH_WORK", &work)
        .stderr(File::create(&log).with_context(|| format!("cannot write {}", log.display()))?);
    // What the one before has written must not be written back during this one's time.
    let _ = Command::new("sync").status();

    let broker_before = setting.server.and_then(tree::cpu);
    let begin = now();
    let child = command.spawn();
    let child = child.with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let watched = watch(setting, child, records)?;
    let broker_after = setting.server.and_then(tree::cpu);

    let progress = watched.progress;
    let outcome = match watched.status {
        None => Outcome::Stopped,
        _ if progress.committed >= records && progress.seconds().is_some() => Outcome::Finished,
        Some(status) => {
            let said = fs::read(&log).unwrap_or_default();
            let said = tail(&String::from_utf8_lossy(&said), 5);
            let committed = progress.committed;
            Outcome::Failed(format!(
                "ended with {status}, {committed} of {records} records committed: {said}"
            ))
        }
    };
    let (files, bytes) = data_files(&out);
    Ok(Run {
        outcome,
        start_up: progress.ready.map(|ready| ready - begin),
        records: progress.committed,
        seconds: progress.seconds(),
        cpu_start_up: watched.cpu_start_up,
        cpu: watched.cpu - watched.cpu_start_up,
        cpu_broker: broker_before.zip(broker_after).map(|(before, after)| after - before),
        peak_memory: watched.peak_memory,
        files,
        bytes,
        wrong: None,
    })
}

fn command(setting: &Setting<'_>, contender: &Contender, installed: &Installed) -> Command {
    let own = |program: &str| setting.programs.join(program);
    let program = &*contender.command[0];
    let mut command = match (program, &installed.python) {
        ("python", Some(python)) => Command::new(python),
        _ if own(program).is_file() => Command::new(own(program)),
        _ => Command::new(program),
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(setting.programs.to_owned()).chain(std::env::split_paths(&path));
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    command
        .args(&contender.command[1..])
        .current_dir(&contender.folder)
        .env("PATH", std::env::join_paths(path).unwrap_or_default())
        .env("BENCH_BROKERS", setting.brokers)
        .env("BENCH_PARTITIONS", setting.partitions.to_string())
        .env("BENCH_AIRLINES", setting.airlines)
        .env("BENCH_CORES", cores.to_string())
        // Nothing is to be left in the checkout.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0);
    if let Some(jars) = &installed.jars {
        command.env("BENCH_JARS", jars);
    }
    setting.reaper.mark(&mut command);
    command
}

/// What was seen of a process until its end.
struct Watched {
    progress: Progress,
    /// `None` when it was stopped for being too slow.
    status: Option<ExitStatus>,
    cpu_start_up: f64,
    cpu: f64,
    peak_memory: u64,
}

/// Watches a child until it ends, or ends it.
fn watch(setting: &Setting<'_>, mut child: Child, records: u64) -> anyhow::Result<Watched> {
    let mut tree = Tree::of(child.id());
    let events = events(&mut child);
    let (mut progress, mut cpu_start_up, mut is_open) = (Progress::default(), 0.0, true);
    let mut deadline = Instant::now() + setting.limit;
    let mut was_stopped = false;
    let status = loop {
        match events.recv_timeout(LOOK) {
            Ok(event) => {
                let (was_ready, was_done) = (progress.ready.is_some(), progress.committed >= records);
                progress.on(event, now());
                if !was_ready && progress.ready.is_some() {
                    tree.look();
                    cpu_start_up = tree.cpu_seen();
                    deadline = Instant::now() + setting.limit;
                }
                if !was_done && progress.committed >= records {
                    deadline = Instant::now() + GRACE;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                is_open = false;
                std::thread::sleep(LOOK / 10);
            }
        }
        tree.look();
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > deadline {
            was_stopped = progress.committed < records;
            // With all that it started.
            setting.reaper.reap()?;
            break Some(child.wait()?);
        }
    };
    // What it left running would keep its standard output open.
    setting.reaper.reap()?;
    while is_open && let Ok(event) = events.recv() {
        progress.on(event, now());
    }
    let (cpu, peak_memory) = tree.ended();
    let status = status.filter(|_| !was_stopped);
    Ok(Watched { progress, status, cpu_start_up, cpu, peak_memory })
}

/// What the child says, until it closes its standard output.
fn events(child: &mut Child) -> Receiver<Event> {
    let (sender, receiver) = channel();
    let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    std::thread::spawn(move || {
        for line in stdout.split(b'\n') {
            let Ok(line) = line else { return };
            let Some(event) = Event::parse(&String::from_utf8_lossy(&line)) else { continue };
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The number of Parquet files below a folder, and their bytes; hidden folders and logs (`_delta_log`) hold no data.
fn data_files(folder: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(['.', '_']) {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            let (more, larger) = data_files(&path);
            (files, bytes) = (files + more, bytes + larger);
        } else if path.extension().is_some_and(|ending| ending == "parquet") {
            (files, bytes) = (files + 1, bytes + entry.metadata().map_or(0, |metadata| metadata.len()));
        }
    }
    (files, bytes)
}
