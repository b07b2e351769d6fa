//! One binary for all tests, since linking Polars takes longer than running them.

mod common;
mod cuts;
mod errors;
mod expressions;
mod joins;
mod pipelines;
mod query;
mod refused;
mod reject;
