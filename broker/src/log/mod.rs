//! The log: where records live on disk.
//!
//! ```text
//! topics/flights/3/                     one folder per partition          partition.rs
//!   00000000000000000000.log            sealed segments, never written to again   segment.rs
//!   00000000000000131072.log            the active segment, appended to
//! ```
//!
//! A segment is nothing but record batches one after the other, exactly as producers sent them (`batch.rs`); its
//! name is the offset of its first record. To find an offset or a timestamp without reading everything, each segment
//! has a sparse index in memory (`index.rs`), rebuilt when the broker starts. What an idempotent producer has already
//! written is remembered per partition (`producers.rs`) and rebuilt in the same pass.

pub(crate) mod batch;
mod index;
mod partition;
mod producers;
mod records;
mod segment;
#[cfg(test)]
pub(crate) mod test_batch;

pub(crate) use partition::{AppendError, Closed, LEADER_EPOCH, Partition, Settings};
pub(crate) use segment::sync_dir;
