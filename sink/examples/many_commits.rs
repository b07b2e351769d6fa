//! What a log of a million commits costs: `cargo run -p puddle-sink --example many_commits -- DIR 1000000`.
//!
//! Makes the commits as a pipeline does whose SQL leaves every record out, but for syncing, and goes on where an
//! earlier call ended. Then opens the table, asks for its progress and reads it whole, each in a process of its own, and
//! prints the time and the most memory that each had at a time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use puddle_sink::{Epoch, Error, Sink, SinkConfig, Span, lake};
use puddle_types::TopicPartition;

const TABLE: &str = "t";
/// What is measured, and the argument that asks for it.
const LOOKS: [&str; 5] = ["open", "progress", "history", "table", "check"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(what)) = (args.next(), args.next()) else {
        return Err("usage: many_commits DIR COMMITS".into());
    };
    let dir = Path::new(&dir);
    if LOOKS.contains(&what.as_str()) {
        return Ok(look(dir, &what)?);
    }
    let commits = what.parse()?;
    let begin = Instant::now();
    let made = commit(&mut *open(dir)?, commits)?;
    println!("{made} commits in {:.1} s", begin.elapsed().as_secs_f64());
    let (names, files, bytes) = size(&dir.join(".puddle").join(TABLE).join("log"))?;
    println!("{names} names in the log's folder, {files} files with the history, {} MB", bytes / 1_000_000);
    for what in LOOKS {
        let status = Command::new(std::env::current_exe()?).arg(dir).arg(what).status()?;
        if !status.success() {
            return Err(format!("{what} failed").into());
        }
    }
    Ok(())
}

fn open(dir: &Path) -> Result<Box<dyn Sink>, Error> {
    let config = SinkConfig { durable: false, ..SinkConfig::new(TABLE) };
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    puddle_sink::open(dir, &config, schema, "many_commits")
}

/// Commits until the table has so many, each with a hundred records of each of four partitions. Returns how many it made.
fn commit(sink: &mut dyn Sink, commits: u64) -> Result<u64, Error> {
    let mut made = 0;
    loop {
        let mut partitions = BTreeMap::new();
        for number in 0..4 {
            let partition = TopicPartition::new("records", number);
            let from = sink.progress().get(&partition).map_or(0, |position| position.next);
            if from >= i64::try_from(commits).unwrap_or(i64::MAX).saturating_mul(100) {
                return Ok(made);
            }
            let span = Span {
                from,
                next: from + 100,
                last: None,
                records: 100,
                written: 0,
                filtered: 100,
                rejected: 0,
            };
            partitions.insert(partition, span);
        }
        sink.commit(Epoch { partitions, ..Epoch::default() })?;
        made += 1;
    }
}

fn look(dir: &Path, what: &str) -> Result<(), Error> {
    let begin = Instant::now();
    match what {
        "open" => drop(open(dir)?),
        "progress" => drop(lake::progress(dir, TABLE)?),
        "history" => lake::history(dir, TABLE)?.try_for_each(|commit| commit.map(drop))?,
        "table" => drop(lake::table(dir, TABLE)?),
        _ => drop(lake::check(dir, TABLE)?),
    }
    let took = begin.elapsed();
    println!("{what}: {:.3} s, {} kB", took.as_secs_f64(), most_memory().unwrap_or_default());
    Ok(())
}

/// The most memory that this process had at a time, in kB.
fn most_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// The names in a folder, the files in and below it, and their bytes.
fn size(folder: &Path) -> io::Result<(u64, u64, u64)> {
    let (mut names, mut files, mut bytes) = (0, 0, 0);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        names += 1;
        if entry.file_type()?.is_dir() {
            let below = size(&entry.path())?;
            (files, bytes) = (files + below.1, bytes + below.2);
        } else {
            (files, bytes) = (files + 1, bytes + entry.metadata()?.len());
        }
    }
    Ok((names, files, bytes))
}
