//! Puddle: a data lake small enough to jump into. The command line; glue only.

mod allocator;
mod broker;
mod cli;
mod commands;
mod datasets;
mod interrupt;
mod output;
mod places;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe must not turn help into a failure.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    trace(cli.verbose);
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error);
            ExitCode::from(if output::is_usage(&error) { 2 } else { 1 })
        }
    }
}

/// Sends traces to standard error: warnings by default, more with each `-v`, or as `RUST_LOG` says.
fn trace(verbose: u8) {
    let default = match verbose {
        // The Delta library calls errors what Puddle tries again, and tells of every snapshot.
        0 => "warn,delta_kernel=off",
        1 => "info,delta_kernel=off",
        // The SQL parser tells of every word.
        2 => "debug,delta_kernel=info,sqlparser=info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(output::is_terminal())
        .init();
}
