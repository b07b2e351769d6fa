//! The seam between the formats and everyone who decodes records.

use arrow::datatypes::SchemaRef;
use puddle_types::Batch;

use super::{Format, bytes, config, csv};
use crate::config::IngestConfig;
use crate::error::Error;
use crate::json;
use crate::raw::RawBatch;
use crate::schema::SchemaDecl;

/// Decodes the records of raw batches in the configured format, by a schema.
#[derive(Debug)]
pub struct Decoder(Inner);

#[derive(Debug)]
enum Inner {
    Json(Box<json::Decoder>),
    Csv(Box<csv::Decoder>),
    Bytes(Box<bytes::Decoder>),
}

/// The fields that were skipped because the schema does not declare them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unknown<'a> {
    /// How many, over all records read so far, rejected ones included.
    pub count: u64,
    /// How many records became rows without some of their fields.
    pub left_out: u64,
    /// The path of the first one.
    pub first: Option<&'a str>,
}

impl Decoder {
    /// A decoder of records in the format of `config` with the fields of `schema`.
    ///
    /// # Errors
    /// [`Error::Format`] when the format cannot be read by this schema.
    pub fn new(config: &IngestConfig, schema: &SchemaDecl) -> Result<Self, Error> {
        config::check(config, schema)?;
        Ok(Self(match config.format {
            Format::Json => Inner::Json(Box::new(json::Decoder::new(schema, config.unknown_fields))),
            Format::Csv => {
                Inner::Csv(Box::new(csv::Decoder::new(&config.csv.clone().unwrap_or_default(), schema)))
            }
            Format::Bytes => Inner::Bytes(Box::new(bytes::Decoder::new(schema))),
        }))
    }

    /// The schema of [`Batch::rows`]: the declared fields, then the metadata columns.
    pub fn schema(&self) -> &SchemaRef {
        match &self.0 {
            Inner::Json(decoder) => decoder.schema(),
            Inner::Csv(decoder) => decoder.rows.schema(),
            Inner::Bytes(decoder) => decoder.rows.schema(),
        }
    }

    /// The undeclared fields met so far.
    pub fn unknown_fields(&self) -> Unknown<'_> {
        match &self.0 {
            Inner::Json(decoder) => decoder.unknown_fields(),
            Inner::Csv(_) | Inner::Bytes(_) => Unknown::default(),
        }
    }

    /// Decodes a raw batch. Every record of it becomes either a row or a rejected row.
    ///
    /// # Errors
    /// When what it takes to decode a record cannot be had now; nothing is decoded then, and the same batch may be tried
    /// again.
    pub fn decode(&mut self, raw: &RawBatch) -> Result<Batch, Error> {
        match &mut self.0 {
            Inner::Json(decoder) => Ok(decoder.decode(raw)),
            Inner::Csv(decoder) => decoder.decode(raw),
            Inner::Bytes(decoder) => decoder.decode(raw),
        }
    }
}
