//! The seam between the formats and everyone who decodes records.

use arrow::datatypes::SchemaRef;
use puddle_types::Batch;

use super::{Format, avro, bytes, config, csv};
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
    Avro(Box<avro::Decoder>),
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
    /// A decoder of records in the format of `config` with the fields of `schema`. Blocks while it asks a schema registry,
    /// if there is one: for some ten seconds at most when it does not answer.
    ///
    /// # Errors
    /// [`Error::Format`] when the format cannot be read by this schema; [`Error::Registry`].
    pub fn new(config: &IngestConfig, schema: &SchemaDecl) -> Result<Self, Error> {
        config::check(config, schema)?;
        Ok(Self(match config.format {
            Format::Json => Inner::Json(Box::new(json::Decoder::new(schema, config.unknown_fields))),
            Format::Avro => Inner::Avro(Box::new(avro::Decoder::new(config, schema)?)),
            Format::Csv => {
                Inner::Csv(Box::new(csv::Decoder::new(&config.csv.clone().unwrap_or_default(), schema)))
            }
            Format::Bytes => Inner::Bytes(Box::new(bytes::Decoder::new(schema))),
        }))
    }

    /// Lets [`decode`](Self::decode) wait for a registry only as long as `wanted` says so.
    pub(crate) fn wait_while(&mut self, wanted: impl Fn() -> bool + Send + 'static) {
        if let Inner::Avro(decoder) = &mut self.0 {
            decoder.wait_while(wanted);
        }
    }

    /// The schema of [`Batch::rows`]: the declared fields, then the metadata columns.
    pub fn schema(&self) -> &SchemaRef {
        match &self.0 {
            Inner::Json(decoder) => decoder.schema(),
            Inner::Avro(decoder) => decoder.rows.schema(),
            Inner::Csv(decoder) => decoder.rows.schema(),
            Inner::Bytes(decoder) => decoder.rows.schema(),
        }
    }

    /// The undeclared fields met so far.
    pub fn unknown_fields(&self) -> Unknown<'_> {
        match &self.0 {
            Inner::Json(decoder) => decoder.unknown_fields(),
            Inner::Avro(decoder) => decoder.unknown_fields(),
            Inner::Csv(_) | Inner::Bytes(_) => Unknown::default(),
        }
    }

    /// Decodes a raw batch. Every record of it becomes either a row or a rejected row.
    ///
    /// # Errors
    /// [`Error::Registry`] when a record has a schema that is not known yet, and no registry answered for a minute; nothing
    /// is decoded then, and the same batch may be tried again.
    pub fn decode(&mut self, raw: &RawBatch) -> Result<Batch, Error> {
        match &mut self.0 {
            Inner::Json(decoder) => Ok(decoder.decode(raw)),
            Inner::Avro(decoder) => decoder.decode(raw),
            Inner::Csv(decoder) => decoder.decode(raw),
            Inner::Bytes(decoder) => decoder.decode(raw),
        }
    }
}
