//! `puddle replay`: plays a data set into a topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use puddle_ingest::ClientSettings;
use puddle_ingest::replay::{Dataset, Pace, Replay, ReplaySummary};
use serde_json::json;

use super::blocking;
use crate::broker::Brokers;
use crate::interrupt::interrupted;
use crate::output::{self, Progress, Usage, bytes, count};
use crate::{cli, datasets};

/// Replays until the data set ends or is interrupted.
pub(crate) async fn replay(args: cli::Replay) -> anyhow::Result<()> {
    let choice = datasets::find(&args.dataset)?;
    let dataset = Dataset::open(&choice.path)?;
    let pace = match (args.rate, &args.speed) {
        (Some(rate), _) => Pace::Rate(rate),
        (None, Some(speed)) => Pace::EventTime {
            column: args.event_time.or(choice.event_time).ok_or_else(|| {
                Usage("--speed needs to know the column with the event time: --event-time COLUMN".into())
            })?,
            multiple: multiple(speed)?,
        },
        (None, None) => Pace::AsFastAsPossible,
    };
    let topic = args.topic.or(choice.topic).ok_or_else(|| Usage("name the topic: --topic TOPIC".into()))?;
    let brokers = Brokers::find(&args.broker).await?;
    let replay = Replay {
        rows: args.rows,
        repeat: args.repeat,
        pace,
        key: args.key.or(choice.key),
        partitions: args.partitions,
        client: ClientSettings::default().or("compression.type", args.compression.name()),
        ..Replay::new(&brokers.address, &topic)
    };
    let summary = run(replay, dataset, Some(format!("{} to {topic}", args.dataset))).await;
    brokers.close().await;
    let summary = summary?;
    if args.json {
        return output::print_json(&json!({
            "topic": topic,
            "records": summary.records,
            "bytes": summary.bytes,
            "seconds": summary.elapsed.as_secs_f64(),
            "records_per_second": summary.rate(),
            "cancelled": summary.cancelled,
            "unacknowledged": summary.unacknowledged,
        }));
    }
    output::print(&format!(
        "{} records ({}) to topic {topic} in {:.1} s, {} records/s{}\n",
        count(summary.records),
        bytes(summary.bytes),
        summary.elapsed.as_secs_f64(),
        count(summary.rate() as u64),
        if summary.cancelled { "; stopped before the end" } else { "" },
    ))
}

/// Runs a replay on a thread of its own, with a progress bar if it has a title; an interrupt ends it in order.
pub(crate) async fn run(
    replay: Replay,
    dataset: Dataset,
    title: Option<String>,
) -> anyhow::Result<ReplaySummary> {
    let cancel = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let total = Arc::new(AtomicU64::new(0));
    let work = {
        let (cancel, done, total) = (cancel.clone(), done.clone(), total.clone());
        blocking(move || {
            let report = |progress: &puddle_ingest::replay::ReplayProgress| {
                done.store(progress.records, Ordering::Relaxed);
                total.store(progress.total.unwrap_or(0), Ordering::Relaxed);
            };
            replay.run(&dataset, report, &cancel)
        })
    };
    let cancelling = async {
        tokio::pin!(work);
        tokio::select! {
            result = &mut work => result,
            () = interrupted() => {
                cancel.store(true, Ordering::Relaxed);
                work.await
            }
        }
    };
    let Some(title) = title else { return Ok(cancelling.await?) };
    let state =
        || (done.load(Ordering::Relaxed), Some(total.load(Ordering::Relaxed)).filter(|total| *total > 0));
    Ok(Progress { title, unit: "records", state, note: || None }.show(cancelling).await?)
}

/// Reads `60x`, `60` or `0.5x`.
fn multiple(speed: &str) -> anyhow::Result<f64> {
    let number = speed.strip_suffix('x').unwrap_or(speed).parse::<f64>();
    let wrong = || Usage(format!("--speed {speed:?} is not a multiple of event time: write 1x, 60x or 0.5x"));
    Ok(number.ok().filter(|number| number.is_finite() && *number > 0.0).ok_or_else(wrong)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_positive_multiple() {
        assert_eq!(multiple("60x").unwrap(), 60.0);
        assert_eq!(multiple("0.5").unwrap(), 0.5);
        for wrong in ["", "x", "-1x", "0x", "fast", "infx"] {
            assert!(multiple(wrong).is_err(), "{wrong}");
        }
    }
}
