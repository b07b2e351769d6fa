#![doc = include_str!("../README.md")]

mod ask;
pub mod config;
mod epoch;
mod error;
mod gaps;
pub mod lag;
mod member;
pub mod metrics;
pub mod patience;
mod prepare;
pub mod rejected;
mod run;
mod setback;
mod share;
mod stall;
mod summary;
pub mod table;
pub mod verify;

pub use ask::ask;
pub use config::Pipeline;
pub use error::Error;
pub use run::{Gaps, RunOptions, Targets, run, run_into};
pub use summary::{Latency, Summary};
