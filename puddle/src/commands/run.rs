//! `puddle run`: runs a pipeline folder.

use std::future::Future;
use std::sync::Arc;

use puddle_pipeline::metrics::{Metrics, page};
use puddle_pipeline::{Gaps, Pipeline, RunOptions, Summary};
use tokio::sync::watch;

use crate::broker::Brokers;
use crate::interrupt::interrupted;
use crate::output::{self, Progress};
use crate::{cli, places};

/// Runs the pipeline until interrupted, or until it has caught up with its topics.
pub(crate) async fn run(args: cli::Run) -> anyhow::Result<()> {
    let pipeline = load(&args.pipeline)?;
    let metrics = Arc::new(Metrics::new(&pipeline.name));
    let page = match args.metrics {
        Some(address) => Some(page::serve(address, metrics.clone()).await?),
        None => None,
    };
    if let Some((address, _)) = &page {
        eprintln!("metrics on http://{address}/metrics");
    }
    let brokers = Brokers::find(&args.broker).await?;
    let targets = if args.until_caught_up {
        Some(puddle_pipeline::lag::ends(&pipeline, &brokers.address).await?)
    } else {
        None
    };
    let stop = interrupted();
    if targets.is_none() {
        eprintln!("running {}; stop with Ctrl-C", pipeline.name);
    }
    let options = RunOptions {
        brokers: brokers.address.clone(),
        lake: args.lake.lake,
        metrics,
        until: watch::channel(targets).1,
        gaps: if args.accept_gap { Gaps::Accept } else { Gaps::Refuse },
    };
    let summary = run_with_progress(&pipeline, options, stop).await;
    if let Some((_, task)) = page {
        task.abort();
    }
    brokers.close().await;
    let summary = summary?;
    if args.json {
        return output::print_json(&summary);
    }
    output::print(&output::summaries(&[summary]))
}

/// Reads the pipeline that was named.
pub(crate) fn load(args: &cli::PipelineArgs) -> anyhow::Result<Pipeline> {
    Ok(Pipeline::load(&places::pipeline(&args.pipeline), &args.overrides, &places::roots())?)
}

async fn run_with_progress(
    pipeline: &Pipeline,
    options: RunOptions,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<Summary> {
    let metrics = options.metrics.clone();
    let progress = Progress {
        title: pipeline.name.clone(),
        unit: "records",
        state: || (metrics.records_read(), Some(metrics.records_committed() + metrics.lag())),
        note: || metrics.note(),
    };
    Ok(progress.show(puddle_pipeline::run(pipeline, options, stop)).await?)
}
