//! A Delta Lake table: files, offsets and rejected records in one commit of its log, which other tools read too.
//!
//! ```text
//! lake/flights/_delta_log/<version>.json, <version>.checkpoint.parquet     the log
//! lake/flights/month=2013-01/flights-<uuid>.parquet                        files; the log says which are the table
//! lake/flights.rejected/flights.rejected-<uuid>.parquet
//! lake/.puddle/flights/{staging/<writer>/, writers/<writer>, placed, lock}
//!
//!          write            commit: 1                2                    3                   4
//! rows ----------> staging ---------> synced files ---> in the table's --> <version>.json ---> rejected records
//!          abort: removed                               folder, unseen     the commit point    into place
//! ```
//!
//! The version adds the files, moves the offsets (a `txn` for each partition, and domain metadata with what is known of
//! it), and carries the commit as [`lake::history`](crate::lake::history) tells it. Several writers may have a table
//! open. Each looks, before it commits, whether another has moved one of its partitions on; a version is taken by one
//! of them, and the others begin again on top of it.
//!
//! Files that a crash left without a commit are seen by no reader of the log; a vacuum removes them.

use std::time::Duration;

mod bins;
mod commit;
pub(crate) mod engine;
mod land;
mod live;
pub mod optimize;
pub(crate) mod read;
mod rejected;
mod rewrite;
mod schema;
mod sink;
mod staging;
mod state;
mod swap;
mod upkeep;
pub mod vacuum;
mod version;

pub use sink::DeltaSink;

/// Versions between two checkpoints: as many as between those of a [Parquet table](crate::parquet).
pub const CHECKPOINT_EVERY: u64 = crate::parquet::log::SPAN;
/// How often a commit begins again because another writer was faster.
pub const MAX_ATTEMPTS: u32 = 30;
/// The longest wait before it does; the first ones are milliseconds.
const MAX_DELAY: Duration = Duration::from_millis(200);
