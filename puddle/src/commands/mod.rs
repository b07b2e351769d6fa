//! One file a command: from arguments to calls of the libraries, and from results to output.

mod broker;
mod demo;
mod doctor;
mod lag;
mod query;
mod rejected;
mod replay;
mod run;
mod table;
mod topics;
mod verify;

use crate::cli::{Cli, Command};

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => demo::demo(args).await,
            Command::Run(args) => run::run(args).await,
            Command::Replay(args) => replay::replay(args).await,
            Command::Broker(args) => broker::broker(args).await,
            Command::Query(args) => query::query(args),
            Command::Verify(args) => verify::verify(args).await,
            Command::Rejected(args) => rejected::rejected(args).await,
            Command::Topics(args) => topics::topics(args).await,
            Command::Table(args) => table::table(args).await,
            Command::Lag(args) => lag::lag(args).await,
            Command::Doctor(args) => doctor::doctor(args),
        }
    });
    // A blocking read in another thread must not keep the process alive.
    runtime.shutdown_background();
    result
}

/// Runs blocking work off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}
