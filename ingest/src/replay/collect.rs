//! Records of text files, collected into chunks with the keys and times that stand in their fields.

use std::collections::BTreeMap;

use arrow::array::StringBuilder;
use chrono::DateTime;
use serde_json::value::RawValue;

use super::chunk::{Chunk, Columns};

/// A chunk ends after so many records, or bytes.
pub(super) const CHUNK_RECORDS: usize = 8192;
const CHUNK_BYTES: usize = 4 << 20;

/// The longest record that is read. Beyond it a broker refuses the record by far, and without a bound a file without
/// an end of a record would be read into memory whole.
pub(super) const MAX_RECORD: u64 = 64 << 20;

/// Fills a chunk.
#[derive(Debug)]
pub(super) struct Collector {
    /// Where the bytes of the next record are appended.
    pub(super) values: Vec<u8>,
    columns: Columns,
    ends: Vec<usize>,
    keys: Option<StringBuilder>,
    times: Option<Vec<Option<i64>>>,
}

impl Collector {
    pub(super) fn new(columns: Columns) -> Self {
        let keys = columns.key.is_some().then(StringBuilder::new);
        let times = columns.time.is_some().then(Vec::new);
        Self { values: Vec::new(), columns, ends: Vec::new(), keys, times }
    }

    /// Makes a record of what was appended to `values` since the last one.
    pub(super) fn end_record(&mut self) {
        let record = &self.values[self.ends.last().copied().unwrap_or(0)..];
        let wanted = self.keys.is_some() || self.times.is_some();
        let fields = if wanted { fields(record) } else { BTreeMap::new() };
        let field = |name: &Option<String>| name.as_ref().and_then(|name| fields.get(name).copied());
        if let Some(keys) = &mut self.keys {
            keys.append_option(field(&self.columns.key).and_then(text));
        }
        if let Some(times) = &mut self.times {
            times.push(field(&self.columns.time).and_then(millis));
        }
        self.ends.push(self.values.len());
    }

    pub(super) fn is_full(&self) -> bool {
        self.ends.len() >= CHUNK_RECORDS || self.values.len() >= CHUNK_BYTES
    }

    /// What was collected, unless that is nothing.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        let full = std::mem::replace(self, Self::new(self.columns.clone()));
        let Self { values, ends, keys, times, .. } = full;
        let keys = keys.map(|mut keys| keys.finish());
        (!ends.is_empty()).then_some(Chunk { values, ends, gap: 0, keys, times })
    }
}

/// A record's fields; none when it is not a JSON object.
pub(super) fn fields(record: &[u8]) -> BTreeMap<String, &RawValue> {
    serde_json::from_slice(record).unwrap_or_default()
}

/// The text of a value: of a string what it says, of anything else its JSON; none of null.
fn text(value: &RawValue) -> Option<String> {
    match value.get() {
        "null" => None,
        string if string.starts_with('"') => serde_json::from_str(string).ok(),
        other => Some(other.to_owned()),
    }
}

/// RFC 3339, or integer milliseconds.
fn millis(value: &RawValue) -> Option<i64> {
    let text = text(value)?;
    text.parse().ok().or_else(|| DateTime::parse_from_rfc3339(&text).ok().map(|t| t.timestamp_millis()))
}
