//! `puddle lag`: how far a table is behind its topics.

use super::run::load;
use crate::broker::Brokers;
use crate::cli;
use crate::output::{self, aligned, count};

/// Prints a line for each partition, and the sum.
pub(crate) async fn lag(args: cli::Lag) -> anyhow::Result<()> {
    let pipeline = load(&args.pipeline)?;
    let brokers = Brokers::find(&args.broker).await?;
    let lags = puddle_pipeline::lag::lag(&pipeline, &brokers.address, &args.lake.lake).await;
    brokers.close().await;
    let lags = lags?;
    if args.json {
        return output::print_json(&lags);
    }
    let mut rows = vec![["topic", "partition", "low", "high", "next", "lag"].map(str::to_owned)];
    rows.extend(lags.iter().map(|lag| {
        let next = lag.next.map_or_else(|| "-".to_owned(), |next| next.to_string());
        let [low, high] = [lag.low, lag.high].map(|offset| offset.to_string());
        [lag.topic.clone(), lag.partition.to_string(), low, high, next, count(lag.lag as u64)]
    }));
    let total: i64 = lags.iter().map(|lag| lag.lag).sum();
    output::print(&format!("{}  {} records behind\n", aligned(&rows), count(total as u64)))
}
