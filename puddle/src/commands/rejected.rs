//! `puddle rejected`: what was rejected and why, and another try after the schema or the SQL was mended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use puddle_pipeline::Pipeline;
use puddle_pipeline::rejected::{Outcome, Selection, Watch, list, retry};

use super::{blocking, run::load};
use crate::cli;
use crate::interrupt::interrupted;
use crate::output::{self, Progress};

/// Bytes of a key or value that a line of the table has room for.
const LINE_BYTES: usize = 200;

/// Lists the rejected records, or runs them again.
pub(crate) async fn rejected(args: cli::Rejected) -> anyhow::Result<()> {
    let pipeline = load(&args.pipeline)?;
    if args.retry {
        let outcome = run_again(&pipeline, &args.lake.lake).await?;
        return match args.json {
            true => output::print_json(&outcome),
            false => output::print(&output::retried(&outcome)),
        };
    }
    // One record is shown whole, and so are all for machines.
    let whole = args.json || args.offset.is_some();
    let selection = Selection {
        reason: args.reason,
        partition: args.partition,
        offset: args.offset,
        limit: args.limit,
        bytes: if whole { usize::MAX } else { LINE_BYTES },
    };
    let one = selection.offset.is_some();
    let listing = blocking(move || list(&pipeline, &args.lake.lake, &selection)).await?;
    if args.json {
        return output::print_json(&listing);
    }
    output::print(&if one { output::rejected_whole(&listing) } else { output::rejected(&listing) })
}

/// Runs all rejected records again. At an interrupt, what is in hand is committed first.
async fn run_again(pipeline: &Pipeline, lake: &std::path::Path) -> anyhow::Result<Outcome> {
    let watch = Arc::new(Watch::default());
    let progress = Progress {
        title: pipeline.name.clone(),
        unit: "rejected records",
        state: || (watch.done.load(Ordering::Relaxed), Some(watch.whole.load(Ordering::Relaxed))),
        note: || None,
    };
    let stop = async {
        interrupted().await;
        watch.stop.store(true, Ordering::Relaxed);
        std::future::pending::<()>().await;
    };
    Ok(tokio::select! {
        outcome = progress.show(retry(pipeline, lake, watch.clone())) => outcome?,
        () = stop => unreachable!("it never completes"),
    })
}
