#![doc = include_str!("../README.md")]

// What tests of this crate and tests beside it share names the crate as the latter do.
#[cfg(test)]
extern crate self as puddle_ingest;

pub mod admin;
mod client;
mod config;
mod error;
pub mod format;
pub mod identity;
pub mod json;
mod nearest;
mod queue;
pub mod raw;
pub mod reader;
pub mod replay;
pub mod schema;
mod security;
mod source;
mod watermarks;

pub use client::{ClientSettings, DEFAULT_SOCKET_TIMEOUT};
pub use config::{DEFAULT_START, DEFAULT_UNKNOWN_FIELDS, IngestConfig, Start, UnknownFields};
pub use error::Error;
pub use format::Format;
pub use source::{
    Ack, DEFAULT_BUDGET_BYTES, DEFAULT_REVOKE_WAIT, Event, Events, FreshProgress, Origin, Outage,
    START_PATIENCE, Source, SourceSettings, Watermarks,
};
