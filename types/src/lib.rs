//! What crosses the seams between Puddle's crates, and nothing else.
//!
//! ```text
//! ingest --Batch--> pipeline --RecordBatch--> transform --RecordBatch--> sink
//!                                   sink --Progress--> pipeline --Progress--> ingest
//! ```
//!
//! The language between crates is the Arrow [`RecordBatch`](arrow::array::RecordBatch). A [`Batch`] adds what a
//! commit must know of where its rows came from; [`Progress`] is what a commit leaves behind.

mod batch;
pub mod metadata;
mod progress;

pub use batch::Batch;
pub use progress::{Fingerprint, Offset, Position, Progress, TopicPartition};
