//! `puddle demo`: the main job, whole.
//!
//! ```text
//! data/nycflights13 --replay--> embedded broker --pipelines/flights, weather--> lake --audit, query--> terminal
//! ```

mod ground;
mod look;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use puddle_ingest::replay::{Dataset, Replay};
use puddle_pipeline::metrics::Metrics;
use puddle_pipeline::verify::{Report, verify};
use puddle_pipeline::{Gaps, Pipeline, RunOptions, Summary, lag};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::replay;
use crate::broker::Brokers;
use crate::interrupt::interrupted;
use crate::output::{self, Progress};
use crate::{cli, datasets, places};

/// The pipelines that run; each reads the topic, and the data set, of its own name.
const PIPELINES: [&str; 2] = ["flights", "weather"];
/// Shorter than the default, so that a run of seconds has more than one commit.
const COMMIT_EVERY: &str = "commit.every=1s";

/// Replays, runs, audits and shows.
pub(crate) async fn demo(args: cli::Demo) -> anyhow::Result<()> {
    let lake = args.lake.lake.clone();
    let jobs =
        PIPELINES.iter().map(|name| Job::load(name).map(Arc::new)).collect::<anyhow::Result<Vec<_>>>()?;
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let brokers = Brokers::embedded(any_port, &places::broker_dir()).await?;
    let result = run(&jobs, &brokers.address, &lake, args.rows, args.json).await;
    brokers.close().await;
    let Some((summaries, reports)) = result? else {
        eprintln!("stopped; puddle demo begins anew");
        return Ok(());
    };
    if args.json {
        output::print_json(&json!({ "runs": summaries, "audits": reports }))?;
    } else {
        output::print(&look::text(&lake, &summaries, &reports)?)?;
    }
    anyhow::ensure!(reports.iter().all(|report| report.problems.is_empty()), "the audit found problems");
    Ok(())
}

/// One pipeline and the data set that feeds it.
struct Job {
    pipeline: Pipeline,
    dataset: datasets::DatasetChoice,
    metrics: Arc<Metrics>,
}

impl Job {
    fn load(name: &str) -> anyhow::Result<Self> {
        let folder = places::pipeline(Path::new(name));
        let pipeline = Pipeline::load(&folder, &[COMMIT_EVERY.to_owned()], &places::roots())?;
        let metrics = Arc::new(Metrics::new(&pipeline.name));
        Ok(Self { dataset: datasets::find(name)?, pipeline, metrics })
    }
}

/// Replays every data set while every pipeline runs, then audits. `None` if interrupted.
async fn run(
    jobs: &[Arc<Job>],
    brokers: &str,
    lake: &Path,
    rows: Option<u64>,
    quiet: bool,
) -> anyhow::Result<Option<(Vec<Summary>, Vec<Report>)>> {
    ground::clear(jobs.iter().map(|job| &job.pipeline), brokers, lake).await?;
    if !quiet {
        eprintln!(
            "replaying New York's departures of 2013 and the weather into Kafka, and from there into {}",
            lake.display()
        );
    }
    let mut total = 0;
    for job in jobs {
        let all = Dataset::open(&job.dataset.path)?.rows().unwrap_or(0);
        total += rows.map_or(all, |rows| rows.min(all));
    }
    let done = || jobs.iter().map(|job| job.metrics.records_committed()).sum::<u64>();
    let note = || jobs.iter().find_map(|job| job.metrics.note());
    let progress =
        Progress { title: "committed".into(), unit: "records", state: || (done(), Some(total)), note };
    let mut running = JoinSet::new();
    for job in jobs {
        running.spawn(feed_and_run(job.clone(), brokers.to_owned(), lake.to_owned(), rows));
    }
    let work = async {
        let mut summaries = Vec::new();
        while let Some(ended) = running.join_next().await {
            summaries.push(ended??);
        }
        anyhow::Ok(summaries)
    };
    let Some(mut summaries) = progress.show(work).await?.into_iter().collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    summaries.sort_by(|a, b| a.pipeline.cmp(&b.pipeline));
    let mut reports = Vec::new();
    for job in jobs {
        reports.push(verify(&job.pipeline, brokers, lake).await?);
    }
    Ok(Some((summaries, reports)))
}

/// Replays one data set while its pipeline runs, until the pipeline has committed all of it. `None` if interrupted.
async fn feed_and_run(
    job: Arc<Job>,
    brokers: String,
    lake: PathBuf,
    rows: Option<u64>,
) -> anyhow::Result<Option<Summary>> {
    let (targets, until) = watch::channel(None);
    let feed = async {
        let [topic] = job.pipeline.ingest.topics.as_slice() else {
            anyhow::bail!("the demo's pipelines read one topic each")
        };
        let dataset = Dataset::open(&job.dataset.path)?;
        let replay = Replay { rows, key: job.dataset.key.clone(), ..Replay::new(&brokers, topic) };
        let replayed = replay::run(replay, dataset, None).await?;
        if !replayed.cancelled {
            targets.send_replace(Some(lag::ends(&job.pipeline, &brokers).await?));
        }
        Ok(!replayed.cancelled)
    };
    let options = RunOptions {
        brokers: brokers.clone(),
        lake,
        metrics: job.metrics.clone(),
        until,
        gaps: Gaps::Refuse,
    };
    let run = async { Ok(puddle_pipeline::run(&job.pipeline, options, interrupted()).await?) };
    let (complete, summary) = tokio::try_join!(feed, run)?;
    Ok(complete.then_some(summary))
}
