#![doc = include_str!("../README.md")]

mod ask;
pub mod config;
mod epoch;
mod error;
mod gaps;
pub mod lag;
pub mod metrics;
mod prepare;
mod rejected;
mod run;
mod share;
mod summary;
pub mod verify;

pub use ask::ask;
pub use config::Pipeline;
pub use error::Error;
pub use run::{Gaps, RunOptions, Targets, run};
pub use summary::{Latency, Summary};
