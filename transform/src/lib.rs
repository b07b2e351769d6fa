#![doc = include_str!("../README.md")]

mod bridge;
mod config;
mod engine;
mod error;
mod plan;
mod program;
pub mod query;
mod reference;
mod reject;
mod sql;
mod transform;

pub use config::{ReferenceConfig, TransformConfig};
pub use error::{Error, Problem};
pub use reject::Rejected;
pub use transform::Transform;
