//! Developer commands: `cargo xtask test`, `cargo xtask check`, `cargo xtask chaos`,
//! `cargo xtask guards`, `cargo xtask bench`.

mod apache;
mod bench;
mod chaos;
mod check;
mod guards;
mod python;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Puddle's developer commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every test: pure, in process, against Apache Kafka, and the notebooks
    Test(test::Args),
    /// Check format, lints, documentation, licences and duplicate dependencies
    Check,
    /// Kill, stop and disturb running pipelines at random moments, and compare what they wrote with what was produced
    #[command(after_help = "Example:  cargo xtask chaos --trials 200 --seed 7 --broker apache")]
    Chaos(chaos::Args),
    /// Switch each guard of `xtask/guards.toml` off, one at a time, and see its test fail
    #[command(after_help = "Example:  cargo xtask guards fsync")]
    Guards(guards::Args),
    /// Compare contenders that land the same topic in the same table: records per second, CPU time and memory
    #[command(after_help = "Example:  cargo xtask bench --only limit,puddle,python --records 1000000")]
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test(args) => test::test(args),
        Command::Check => check::check(),
        Command::Chaos(args) => chaos::chaos(args),
        Command::Guards(args) => guards::guards(args),
        Command::Bench(args) => bench::bench(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
