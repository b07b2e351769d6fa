//! `puddle broker`: the embedded broker in the foreground.

use crate::broker::Brokers;
use crate::cli;
use crate::interrupt::interrupted;

/// Serves until interrupted.
pub(crate) async fn broker(args: cli::Broker) -> anyhow::Result<()> {
    let brokers = Brokers::embedded(args.listen, &args.dir).await?;
    let stop = interrupted();
    eprintln!("listening on {}, topics in {}; stop with Ctrl-C", brokers.address, args.dir.display());
    stop.await;
    brokers.close().await;
    Ok(())
}
