//! Records in the formats of their producers, to Arrow columns.
//!
//! ```text
//!                    +-> json   text, one object a record
//! RawBatch -> Decoder +-> avro   a schema registry's wire format, or bare records of one schema
//!                    +-> csv    one line a record
//!                    +-> bytes  the value as it is
//!                           |
//!                           v
//!            columns that can be cut back + metadata columns -> Batch.rows
//!            what does not fit, raw, with a reason           -> Batch.rejected
//! ```
//!
//! Every format keeps the same promises: a record becomes one row or one rejected row, in the order of offsets; what
//! does not fit leaves nothing behind in the columns; the schema decides the types, and a value of another kind is never
//! made to fit. What a format makes of a record is in the format's own module.

mod avro;
mod bytes;
pub(crate) mod column;
mod config;
pub(crate) mod csv;
mod decoder;
pub(crate) mod origin;
pub(crate) mod reason;
pub(crate) mod rejected;
mod rows;
pub(crate) mod scalar;

pub use config::{AvroConfig, CsvConfig, DEFAULT_DELIMITER, DEFAULT_QUOTE, Format, RegistryConfig};
pub use decoder::{Decoder, Unknown};
