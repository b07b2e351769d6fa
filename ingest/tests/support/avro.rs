//! What the tests of Avro records share: an encoder of single values, and decoding with a schema of a file.

#![allow(dead_code, reason = "each test file uses a part of it")]

use arrow::array::{AsArray, RecordBatch};
use arrow::json::LineDelimitedWriter;
use puddle_ingest::format::Decoder;
use puddle_ingest::raw::RawBatch;
use puddle_ingest::schema::SchemaDecl;
use puddle_ingest::{Error, IngestConfig};
use puddle_types::{Batch, TopicPartition, metadata};
use serde_json::Value;

/// Avro's binary form, value behind value.
#[derive(Clone, Default)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// An int, a long, a length, a count or an index.
    pub(crate) fn long(mut self, value: i64) -> Self {
        let mut left = (value << 1 ^ value >> 63) as u64;
        while left >= 0x80 {
            self.0.push(left as u8 | 0x80);
            left >>= 7;
        }
        self.0.push(left as u8);
        self
    }

    /// A string or bytes.
    pub(crate) fn text(self, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        self.long(text.len() as i64).raw(text)
    }

    pub(crate) fn double(self, value: f64) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// A record's Avro schema with these fields, as JSON says them.
pub(crate) fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

/// The schema of a record with one field `f` of this type.
pub(crate) fn of_one(kind: &str) -> String {
    record(&format!(r#"{{"name":"f","type":{kind}}}"#))
}

/// Records, in order from offset 0 on.
pub(crate) fn raw<T: AsRef<[u8]>>(values: &[T]) -> RawBatch {
    let mut raw = RawBatch::new(TopicPartition::new("t", 0), 1, 0);
    for (offset, value) in values.iter().enumerate() {
        raw.push(offset as i64, Some(1_357_000_000_000), None, Some(value.as_ref()));
    }
    raw
}

/// Settings for the format, with more lines.
pub(crate) fn config(more: &str) -> IngestConfig {
    toml::from_str(&format!("topics = ['t']\nformat = 'avro'\n{more}")).unwrap()
}

/// Decodes bare records of this Avro schema by this declaration.
pub(crate) fn decode<T: AsRef<[u8]>>(avro: &str, declared: &str, values: &[T]) -> Result<Batch, Error> {
    decode_with("", avro, declared, values)
}

/// As [`decode`], with more lines of settings.
pub(crate) fn decode_with<T: AsRef<[u8]>>(
    more: &str,
    avro: &str,
    declared: &str,
    values: &[T],
) -> Result<Batch, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.avsc");
    std::fs::write(&path, avro).unwrap();
    let config = config(&format!("{more}\navro = {{ schema = {:?} }}", path.display().to_string()));
    let schema: SchemaDecl = toml::from_str(declared).unwrap();
    Decoder::new(&config, &schema)?.decode(&raw(values))
}

/// The rows as JSON, without the metadata columns.
pub(crate) fn rows(batch: &RecordBatch) -> Vec<Value> {
    let payload = batch.num_columns() - metadata::fields().len();
    let payload = batch.project(&(0..payload).collect::<Vec<_>>()).unwrap();
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(&payload).unwrap();
    writer.finish().unwrap();
    let text = String::from_utf8(writer.into_inner()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Why records were rejected.
pub(crate) fn reasons(batch: &Batch) -> Vec<String> {
    let reasons = batch.rejected.column_by_name(metadata::REASON).unwrap().as_string::<i32>();
    reasons.iter().map(|reason| reason.unwrap().to_owned()).collect()
}
