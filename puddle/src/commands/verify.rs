//! `puddle verify`: audits a pipeline's table against its topics.

use puddle_pipeline::verify;

use super::run::load;
use crate::broker::Brokers;
use crate::cli;
use crate::output;

/// Prints the verdict; a broken guarantee is a failure.
pub(crate) async fn verify(args: cli::Verify) -> anyhow::Result<()> {
    let pipeline = load(&args.pipeline)?;
    let brokers = Brokers::find(&args.broker).await?;
    let report = verify::verify(&pipeline, &brokers.address, &args.lake.lake).await;
    brokers.close().await;
    let report = report?;
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print(&output::verdict(&report))?;
    }
    anyhow::ensure!(
        report.problems.is_empty(),
        "table {} is not what its log and its topics say",
        report.table
    );
    Ok(())
}
