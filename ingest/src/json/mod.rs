//! JSON records to Arrow columns, straight from bytes.
//!
//! ```text
//! RawBatch --record--> fast: bytes, led by the keys of the records before --+--> column buffers --finish--> Batch.rows
//!                        | odd: truncate                                    |
//!                        +----> general: serde_json's tokens ---visit-------+
//!                                 | does not fit: truncate
//!                                 +--> Batch.rejected
//! ```
//!
//! The [`Decoder`] walks each record once, led by the schema, and appends values to the buffers of the columns; no
//! tree of the record is ever built and nothing is allocated for a record that fits. There are two ways: the fast one
//! knows only what fits, and leaves the rest to the general one, which knows all rules below and their reasons. What the
//! fast way takes, the general one would take alike. When a record does not fit, all buffers are cut back to where they
//! were before it, nested ones included, so it leaves nothing behind; its raw bytes and a reason such as
//! ``field `a.b[2].c`: expected int64, found string "x"`` become a rejected row, and the batch goes on.
//!
//! # What fits
//! - The value is one JSON object in UTF-8 (RFC 8259), with whitespace around it and nothing else. A leading byte
//!   order mark is ignored, as RFC 8259 allows. No value (a tombstone) and an empty value are rejected.
//! - **Missing and null** are the same: a null, or a rejection where the field is `not null`.
//! - **Duplicate names** of declared fields within one object are rejected, for readers disagree on which one counts.
//! - **Unknown fields** are skipped and counted ([`Decoder::unknown_fields`]), or rejected, as [`UnknownFields`] says.
//! - **Integers** have no fraction and no exponent: `1.0` and `1e0` are not integers, and neither is `"1"`. Beyond the
//!   type's range they are rejected. `-0` is 0.
//! - **float64** takes any number, and the nearest double to it; beyond the range of doubles it is rejected. An integer
//!   is a number too.
//! - **timestamp** takes an RFC 3339 string, in which an offset (`Z`, `+01:00`) must stand and digits beyond
//!   microseconds are cut off, or integer milliseconds since 1970 within the years -262143 to 262142, which are those
//!   that calendar functions compute with.
//! - **The record's own timestamp** lies within the same years, or the record is rejected, without it.
//! - **date** takes `YYYY-MM-DD`.
//! - **json** takes anything that nests no deeper than other readers follow ([`MAX_JSON_DEPTH`]), and keeps its text
//!   as it stands, without the whitespace around it. What is inside is not looked at: duplicates, numbers of any size.
//! - **Lists** may lack many values of their objects, but not so many that the nulls in their place fill the memory
//!   ([`MAX_FILLED`]).
//! - **Depth** is bounded by the schema, whose depth is; skipped values are walked without recursion. The reader itself
//!   gives up at 128 levels.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use puddle_types::{Batch, metadata};
use serde_json::Deserializer;

use self::context::Context;
use self::fast::Fast;
use self::visit::RecordSeed;
use crate::UnknownFields;
use crate::format::Unknown;
use crate::format::column::Object;
use crate::format::origin::Origin;
use crate::format::reason::Problem;
use crate::format::rejected::Rejected;
use crate::format::scalar;
use crate::raw::{RawBatch, RawRecord};
use crate::schema::SchemaDecl;

mod context;
mod fast;
#[cfg(test)]
mod tests;
mod visit;

pub use context::MAX_FILLED;
pub use visit::MAX_JSON_DEPTH;

/// Decodes the JSON records of raw batches by a schema.
#[derive(Debug)]
pub struct Decoder {
    schema: SchemaRef,
    record: Object,
    /// None in tests of what the general way makes of records.
    fast: Option<Fast>,
    context: Context,
    /// Rows that lack undeclared fields of their records.
    left_out: u64,
}

impl Decoder {
    /// A decoder of records with these fields.
    pub fn new(schema: &SchemaDecl, unknown_fields: UnknownFields) -> Self {
        let mut fields: Vec<_> = schema.to_arrow().fields().iter().cloned().collect();
        fields.extend(metadata::fields().into_iter().map(Arc::new));
        Self {
            schema: Arc::new(Schema::new(fields)),
            record: Object::new(schema.fields(), ""),
            fast: Some(Fast::new(schema.fields())),
            context: Context::new(unknown_fields),
            left_out: 0,
        }
    }

    /// The schema of [`Batch::rows`]: the declared fields, then the metadata columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The undeclared fields met so far.
    pub fn unknown_fields(&self) -> Unknown<'_> {
        Unknown {
            count: self.context.unknown,
            left_out: self.left_out,
            first: self.context.first_unknown.as_deref(),
        }
    }

    /// Decodes a raw batch. Every record of it becomes either a row or a rejected row.
    pub fn decode(&mut self, raw: &RawBatch) -> Batch {
        self.record.reserve(raw.len());
        let mut origin = Origin::with_capacity(raw.len());
        let mut rejected = Rejected::new();
        for record in raw.records() {
            let before = self.context.unknown;
            match self.decode_record(&record, origin.len()) {
                Ok(()) => {
                    origin.push(&record);
                    self.left_out += u64::from(self.context.unknown > before);
                }
                Err(problem) => {
                    self.record.truncate(origin.len());
                    // No reader of the table could make a date of such a timestamp.
                    let timestamp_ms = record.timestamp_ms.filter(|millis| scalar::in_calendar(*millis));
                    rejected.push(&RawRecord { timestamp_ms, ..record }, &problem.to_string());
                }
            }
        }
        Batch {
            partition: raw.partition.clone(),
            generation: raw.generation,
            from: raw.from,
            next: raw.next,
            rows: self.finish(origin, raw),
            rejected: rejected.finish(&raw.partition),
            last: raw.records().next_back().map(|record| record.fingerprint()),
            bytes: raw.bytes(),
        }
    }

    /// Appends the record's fields to the columns, which hold so many rows; on an error they are left in any state.
    fn decode_record(&mut self, record: &RawRecord<'_>, rows: usize) -> Result<(), Problem> {
        if let Some(beyond) = record.timestamp_ms.filter(|millis| !scalar::in_calendar(*millis)) {
            return Err(Problem::beyond_calendar(beyond));
        }
        let value = record.value.ok_or_else(|| Problem::new("tombstone: the record has no value"))?;
        if value.is_empty() {
            return Err(Problem::new("empty value"));
        }
        // The first unknown field is left to the general way, which remembers its name.
        let skip_unknown = self.context.skips_unknown() && self.context.first_unknown.is_some();
        if let Some(fast) = &mut self.fast {
            if let Some(unknown) = fast.read(value, &mut self.record, skip_unknown) {
                self.context.unknown += unknown;
                return Ok(());
            }
            self.record.truncate(rows);
        }
        // Checked once as a whole, which is faster than string by string and covers what is skipped, too.
        let text = str::from_utf8(without_bom(value)).map_err(Problem::not_utf8)?;
        let before = self.context.unknown;
        self.read(text)?;
        if std::mem::take(&mut self.context.minus_zero) {
            // Rare enough to read the record once more, slowly.
            self.record.truncate(rows);
            self.context.unknown = before;
            self.context.exact = true;
            let read = self.read(text);
            (self.context.exact, self.context.minus_zero) = (false, false);
            read?;
        }
        Ok(())
    }

    fn read(&mut self, text: &str) -> Result<(), Problem> {
        let mut reader = Deserializer::from_str(text);
        self.context.filled = 0;
        let read = RecordSeed { record: &mut self.record, context: &mut self.context }.read(&mut reader);
        read.and_then(|()| reader.end()).map_err(|error| {
            self.context.minus_zero = false;
            // The visitor leaves a problem when a value did not fit; else the reader itself gave up.
            self.context.problem.take().unwrap_or_else(|| Problem::not_json(&error))
        })
    }

    fn finish(&mut self, origin: Origin, raw: &RawBatch) -> RecordBatch {
        let mut columns: Vec<ArrayRef> = self.record.finish_columns();
        columns.extend(origin.finish(&raw.partition));
        RecordBatch::try_new(self.schema.clone(), columns).expect("columns are built by the schema")
    }
}

/// The bytes behind a leading byte order mark, if there is one.
pub(crate) fn without_bom(value: &[u8]) -> &[u8] {
    value.strip_prefix(BOM).unwrap_or(value)
}

/// The byte order mark that some programs write before UTF-8.
pub(crate) const BOM: &[u8] = b"\xEF\xBB\xBF";
