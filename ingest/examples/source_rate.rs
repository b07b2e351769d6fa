//! How fast a source reads a topic, and what that costs:
//! `cargo run -p puddle-ingest --example source_rate -- BROKERS TOPIC RECORDS [SETTING=VALUE ...]`.
//!
//! Records are decoded as JSON of which one field is wanted that none of them has. Prints what each thread used of the
//! processor, how large batches were, and how long the first took to come. A librdkafka setting replaces Puddle's own.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use puddle_ingest::{ClientSettings, Event, IngestConfig, Source, SourceSettings};
use puddle_types::{Position, Progress};

/// Kernel ticks a second, in which /proc counts (`getconf CLK_TCK`).
const TICKS: f64 = 100.0;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("BROKERS TOPIC RECORDS [SETTING=VALUE ...]");
    let (brokers, topic, records) = (next()?, next()?, next()?.parse::<usize>()?);
    let client: BTreeMap<String, String> = arguments
        .filter_map(|argument| {
            argument.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
        })
        .collect();
    let mut config: IngestConfig = serde_json::from_value(serde_json::json!({ "topics": [topic] }))?;
    config.client = ClientSettings::new(client);
    let schema = serde_json::from_str(r#"{"no_such_field": "bool"}"#)?;
    let group = format!("source-rate-{}", std::process::id());

    let settings = SourceSettings::new(brokers, group, config, schema);
    let begin = Instant::now();
    let mut source = Source::start(settings.clone(), Progress::new())?;
    let started = begin.elapsed();
    let (mut assigned, mut first, mut seen, mut batches, mut waiting) = (None, None, 0, 0, 0);
    let mut progress = Progress::new();
    while seen < records {
        match source.next().await.ok_or("the source ended")?? {
            Event::Assigned(_) => assigned = Some(begin.elapsed()),
            Event::Batch(batch) => {
                first.get_or_insert_with(|| begin.elapsed());
                seen += batch.records();
                progress.insert(batch.partition, Position { next: batch.next, last: batch.last });
                batches += 1;
                waiting = waiting.max(source.bytes_waiting());
            }
            _ => {}
        }
    }
    let took = begin.elapsed() - first.unwrap_or_default();
    println!(
        "start {started:.0?}, assigned {:.0?}, first batch {:.0?}",
        assigned.unwrap_or_default(),
        first.unwrap_or_default()
    );
    println!(
        "{:.2} M records/s, {seen} records, {} a batch, at most {} kB waiting",
        seen as f64 / took.as_secs_f64() / 1e6,
        seen / batches.max(1),
        waiting / 1000
    );
    let threads = threads();
    let all: f64 = threads.values().sum();
    let list: Vec<_> = threads.iter().map(|(name, seconds)| format!("{name} {seconds:.2}")).collect();
    let peak = fs::read_to_string("/proc/self/status")?;
    let peak = peak.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned();
    println!("{:.3} s a million: {} s; {peak}", all / (seen as f64 / 1e6), list.join(", "));

    source.close();
    let begin = Instant::now();
    let mut source = Source::start(settings, progress)?;
    let started = begin.elapsed();
    while !matches!(source.next().await, Some(Ok(Event::Batch(_) | Event::EndOfPartition { .. })) | None) {}
    println!("again: start {started:.0?}, first batch or end {:.0?}", begin.elapsed());
    Ok(())
}

/// What each thread used of the processor, in seconds, by name.
fn threads() -> BTreeMap<String, f64> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
        let Some((before, after)) = stat.rsplit_once(')') else { continue };
        let name = before.split_once('(').map_or("", |(_, name)| name);
        // User and system time are the fields 14 and 15, see proc(5).
        let ticks: f64 =
            after.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        *threads.entry(name.to_owned()).or_default() += ticks / TICKS;
    }
    threads
}
