//! `cargo xtask bench latency`: how long a record takes to become visible, at half of the rate that Puddle can keep up.
//!
//! ```text
//! replay at a steady rate ─► topic ─► puddle run ─► its summary: record's timestamp to row visible, p50 and p99
//! ```

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::install::{Installed, tail};
use super::result::thousands;
use super::topic::Topics;
use super::{Stage, Tested, command_line, contender, machine, page};
use crate::tools::{root, run as run_program};

/// A row is to be visible so long after its record's commit interval at the latest.
const ALLOWED: u64 = 250;

/// Commit intervals that are tried, in milliseconds.
const INTERVALS: [u64; 3] = [250, 1000, 5000];

#[derive(clap::Args)]
pub(super) struct Args {
    /// How long each commit interval is watched
    #[arg(long, default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(2..))]
    seconds: u64,
    /// Records per second; by default half of what a run on a full topic reaches
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    #[command(flatten)]
    tested: Tested,
    /// Put the table into docs/benchmarks.md
    #[arg(long)]
    write: bool,
}

/// What both programs print with `--json`.
#[derive(Deserialize)]
struct Replayed {
    records_per_second: f64,
}

#[derive(Deserialize)]
struct Summary {
    records: u64,
    latency: Option<Latency>,
}

#[derive(Deserialize)]
struct Latency {
    p50_ms: u64,
    p99_ms: u64,
}

/// Measures every interval, and prints the table.
pub(super) fn latency(args: &Args) -> anyhow::Result<()> {
    let stage = Stage::build(&args.tested)?;
    let mut topics = Topics::new(&stage.puddle, &stage.brokers, 8, "none");
    let rate = match args.rate {
        Some(rate) => rate,
        None => half_of_peak(&stage)?,
    };
    let mut lines = vec![
        "| commit every | records/s asked for | records/s sent | p50 | p99 | allowed |".to_owned(),
        "| ---: | ---: | ---: | ---: | ---: | ---: |".to_owned(),
    ];
    for interval in INTERVALS {
        let (sent, latency) = watch(&stage, &mut topics, rate, rate * args.seconds, interval)?;
        let (p50, p99, allowed) = (latency.p50_ms, latency.p99_ms, interval + ALLOWED);
        eprintln!("every {interval} ms: p50 {p50} ms, p99 {p99} ms, allowed {allowed} ms");
        let [asked, sent] = [rate as f64, sent].map(thousands);
        lines.push(format!("| {interval} ms | {asked} | {sent} | {p50} ms | {p99} ms | {allowed} ms |"));
    }
    let table = lines.join("\n");
    println!("{table}");
    if args.write {
        let text =
            format!("{}\n\n```console\n$ {}\n```\n\n{table}", machine::Machine::this(), command_line());
        page::write("latency", &text)?;
    }
    Ok(())
}

fn half_of_peak(stage: &Stage) -> anyhow::Result<u64> {
    let records = 2_000_000;
    let mut topics = Topics::new(&stage.puddle, &stage.brokers, 8, "none");
    let topic = topics.flights(records)?;
    let setting = stage.setting(8, Duration::from_secs(180));
    let puddle = contender::read(&root().join(contender::FOLDER).join("puddle"))?;
    let nothing = Installed { python: None, jars: None };
    let run = stage.run_unchecked(&setting, &puddle, &nothing, &topic, records)?;
    topics.delete_all()?;
    let peak = run.rate().context("Puddle did not finish")?;
    eprintln!("the peak is {} records/s", thousands(peak));
    Ok((peak / 2.0) as u64)
}

/// Sends so many records at a rate while Puddle runs. Returns the rate that the producer kept, and the latency.
fn watch(
    stage: &Stage,
    topics: &mut Topics<'_>,
    rate: u64,
    records: u64,
    interval: u64,
) -> anyhow::Result<(f64, Latency)> {
    let folder = tempfile::tempdir_in(stage.folder.path())?;
    let at = |name: &str| folder.path().join(name);
    let topic = format!("{}-latency-{interval}", topics.prefix);
    let mut create = Command::new(&stage.puddle);
    create.args(["topics", "create", &topic, "--partitions", "8", "--brokers", &stage.brokers]);
    run_program(create.stdout(Stdio::null()))?;

    // As the bench runs it, but for the end: it runs until it is told to stop.
    let pipeline = root().join(contender::FOLDER).join("puddle");
    fs::copy(pipeline.join("pipeline.toml"), at("pipeline.toml"))?;
    let sql = fs::read_to_string(pipeline.join("transform.sql"))?;
    fs::write(at("transform.sql"), sql.replace("FROM flights", &format!("FROM \"{topic}\"")))?;
    let mut run = Command::new(&stage.puddle);
    run.arg("run").arg(folder.path()).args(["--brokers", &stage.brokers, "--json", "--lake"]).arg(at("lake"));
    run.args(["--set", &format!("ingest.topics=[\"{topic}\"]"), "--set", "commit.rows=100000000"]);
    // Kafka gives a member that comes back what it had, and that was another topic.
    run.args(["--set", &format!("ingest.group=\"{topic}\"")]);
    run.args(["--set", &format!("commit.every=\"{interval}ms\"")]);
    run.args(["--set", &format!("reference.airlines.path=\"{}\"", stage.airlines.display())]);
    run.env("RUST_LOG", "warn,puddle_ingest=debug,puddle_pipeline=debug");
    run.stdin(Stdio::null()).stdout(File::create(at("summary"))?).stderr(File::create(at("log"))?);
    let mut run = stage.reaper.mark(&mut run).spawn().context("cannot run puddle")?;
    until(&mut run, &at("log"), "the partitions", |log| log.contains(" is ours from offset "))?;

    let data = root().join(super::topic::DATA).join("flights.parquet");
    let mut replay = topics.replay(&data, &topic);
    let passes = records.div_ceil(super::topic::FLIGHTS);
    let rows = records.div_ceil(passes);
    replay.args(["--rate", &rate.to_string(), "--json", "--repeat", &passes.to_string()]);
    replay.args(["--rows", &rows.to_string()]).stderr(Stdio::null());
    let replayed = stage.reaper.mark(&mut replay).output().context("cannot run puddle replay")?;
    ensure!(replayed.status.success(), "the replay ended with {}", replayed.status);
    let replayed: Replayed = serde_json::from_slice(&replayed.stdout).context("the replay prints JSON")?;

    until(&mut run, &at("log"), "the last commit", |log| committed(log) >= rows * passes)?;
    Command::new("sh").args(["-c", &format!("kill -s TERM {}", run.id())]).status()?;
    let status = run.wait()?;
    topics.delete(&topic)?;
    let log = fs::read_to_string(at("log")).unwrap_or_default();
    ensure!(status.success(), "puddle ended with {status}: {}", tail(&log, 5));
    let summary: Summary = serde_json::from_str(&fs::read_to_string(at("summary"))?)?;
    ensure!(summary.records == rows * passes, "{} of {} records arrived", summary.records, rows * passes);
    Ok((replayed.records_per_second, summary.latency.context("there were records")?))
}

/// Waits until the log of a child says so.
fn until(child: &mut Child, log: &Path, what: &str, is_so: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        if is_so(&text) {
            return Ok(());
        }
        let ended: Option<ExitStatus> = child.try_wait()?;
        ensure!(ended.is_none(), "puddle ended before {what}: {}", tail(&text, 5));
        ensure!(begin.elapsed() < Duration::from_secs(120), "{what} did not come: {}", tail(&text, 5));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Records that the commits in a log made visible.
fn committed(log: &str) -> u64 {
    let records = |line: &str| line.split_once(" records=")?.1.split(' ').next()?.parse::<u64>().ok();
    log.lines().filter(|line| line.contains(" committed pipeline=")).filter_map(records).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_in_a_log_add_up() {
        let line = |records: &str| {
            format!(
                "DEBUG puddle_pipeline::metrics: committed pipeline=\"x\" epoch=1 records={records} written=2\n"
            )
        };
        let log = line("40") + "DEBUG puddle: assigned records=9\n" + &line("2");
        assert_eq!(committed(&log), 42);
        assert_eq!(committed(""), 0);
    }
}
