//! Records as they came from Kafka, before anyone looks into them.
//!
//! ```text
//! poll --push--> RawBatch { one buffer: key value key value ... } --records--> Decoder
//! ```
//!
//! A poll loop appends record after record to one buffer, so the raw side of the pipeline allocates per batch and
//! never per record, and the whole batch moves to the decoding thread as one value.

use std::fmt;
use std::mem::size_of;

use puddle_types::{Fingerprint, Offset, TopicPartition};
use xxhash_rust::xxh3::Xxh3;

/// Undecoded records of one partition, in offset order. Its `Debug` shows sizes, never what the records hold.
#[derive(Clone)]
pub struct RawBatch {
    /// Where the records came from.
    pub partition: TopicPartition,
    /// Which assignment of the partition read them.
    pub generation: u64,
    /// The offset at which the batch begins (inclusive).
    pub from: Offset,
    /// The offset at which the next batch begins. [`push`](Self::push) keeps it above the last record; a reader that
    /// knows of control records or a gap behind it moves it further.
    pub next: Offset,
    data: Vec<u8>,
    spans: Vec<Span>,
}

/// One record of a [`RawBatch`], borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// The record's offset.
    pub offset: Offset,
    /// Milliseconds since 1970 (UTC), if the record has a timestamp.
    pub timestamp_ms: Option<i64>,
    /// The key, if the record has one; an empty key is not the same as none.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

/// Where a record's bytes lie: the key at `start`, the value behind it.
#[derive(Clone, Copy, Debug)]
struct Span {
    offset: Offset,
    /// [`NO_TIMESTAMP`] where there is none.
    timestamp_ms: i64,
    start: u32,
    /// Lengths; [`NO_BYTES`] where there is nothing, not even nothing of length 0.
    key: u32,
    value: u32,
}

/// Kafka's own mark for a record without a timestamp.
const NO_TIMESTAMP: i64 = -1;

/// Beyond [`RawBatch::MAX_BYTES`].
const NO_BYTES: u32 = u32::MAX;

impl RawBatch {
    /// The most bytes of keys and values that a batch can hold: what Arrow's 32-bit offsets can address.
    pub const MAX_BYTES: usize = i32::MAX as usize;

    /// An empty batch that begins at `from`.
    pub fn new(partition: TopicPartition, generation: u64, from: Offset) -> Self {
        Self { partition, generation, from, next: from, data: Vec::new(), spans: Vec::new() }
    }

    /// As [`new`](Self::new), with room for so many records and so many bytes of keys and values.
    pub fn with_capacity(
        partition: TopicPartition,
        generation: u64,
        from: Offset,
        records: usize,
        bytes: usize,
    ) -> Self {
        let (data, spans) = (Vec::with_capacity(bytes), Vec::with_capacity(records));
        Self { partition, generation, from, next: from, data, spans }
    }

    /// An empty batch with the buffers of this one, whose pages are in memory already.
    pub(crate) fn reuse(mut self, partition: TopicPartition, generation: u64, from: Offset) -> Self {
        self.data.clear();
        self.spans.clear();
        Self { partition, generation, from, next: from, ..self }
    }

    /// Size of the buffers, in bytes, however much of them is used.
    pub(crate) fn capacity(&self) -> usize {
        self.data.capacity() + self.spans.capacity() * size_of::<Span>()
    }

    /// Appends a record and moves `next` behind it. A timestamp of -1 is Kafka's mark for none.
    ///
    /// # Panics
    /// When the batch would outgrow [`MAX_BYTES`](Self::MAX_BYTES). Kafka's records are far smaller, so a poll loop
    /// that closes its batches at some megabytes never comes near.
    pub fn push(
        &mut self,
        offset: Offset,
        timestamp_ms: Option<i64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) {
        let start = self.data.len();
        let added = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        assert!(added <= Self::MAX_BYTES - start, "a raw batch holds at most {} bytes", Self::MAX_BYTES);
        self.data.extend_from_slice(key.unwrap_or_default());
        self.data.extend_from_slice(value.unwrap_or_default());
        let length = |part: Option<&[u8]>| part.map_or(NO_BYTES, |part| part.len() as u32);
        self.spans.push(Span {
            offset,
            timestamp_ms: timestamp_ms.unwrap_or(NO_TIMESTAMP),
            start: start as u32,
            key: length(key),
            value: length(value),
        });
        self.next = self.next.max(offset.saturating_add(1));
    }

    /// How many records the batch holds.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether the batch holds no record.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Size of the keys and values, in bytes.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// What the batch weighs in memory, in bytes: keys, values, and a fixed part for each record, so that a bound on
    /// it also holds for a flood of tombstones.
    pub fn memory(&self) -> usize {
        self.data.len() + self.spans.len() * size_of::<Span>()
    }

    /// The records, in offset order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = RawRecord<'_>> + DoubleEndedIterator {
        self.spans.iter().map(|span| self.record(span))
    }

    fn record(&self, span: &Span) -> RawRecord<'_> {
        let bytes = |start: usize, length: u32| match length {
            NO_BYTES => None,
            length => Some(&self.data[start..start + length as usize]),
        };
        let start = span.start as usize;
        let key = bytes(start, span.key);
        RawRecord {
            offset: span.offset,
            timestamp_ms: (span.timestamp_ms != NO_TIMESTAMP).then_some(span.timestamp_ms),
            key,
            value: bytes(start + key.map_or(0, <[u8]>::len), span.value),
        }
    }
}

impl fmt::Debug for RawBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawBatch")
            .field("partition", &format_args!("{}", self.partition))
            .field("generation", &self.generation)
            .field("from", &self.from)
            .field("next", &self.next)
            .field("records", &self.len())
            .field("bytes", &self.bytes())
            .finish()
    }
}

impl RawRecord<'_> {
    /// What a commit keeps of this record; see [`fingerprint`].
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(self.offset, self.timestamp_ms, self.key, self.value)
    }
}

/// The fingerprint of a record.
///
/// Its hash is XXH3-64 (seed 0) of: the key's length, the key, the value's length, the value. A length is a
/// little-endian `i64`, and -1 where there is no key or no value (Kafka's own mark), so that none and empty, or a byte
/// moved from the key to the value, hash differently. Stored in commit logs: it must never change.
pub fn fingerprint(
    offset: Offset,
    timestamp_ms: Option<i64>,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Fingerprint {
    let mut hasher = Xxh3::new();
    for part in [key, value] {
        let length = part.map_or(-1, |bytes| bytes.len() as i64);
        hasher.update(&length.to_le_bytes());
        hasher.update(part.unwrap_or_default());
    }
    Fingerprint { offset, timestamp: timestamp_ms.unwrap_or(-1), hash: hasher.digest() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn gives_back_what_was_pushed() {
        let mut batch = RawBatch::new(TopicPartition::new("t", 1), 7, 40);
        let records = [
            RawRecord { offset: 41, timestamp_ms: Some(5), key: Some(b"k"), value: Some(b"value") },
            RawRecord { offset: 42, timestamp_ms: None, key: None, value: Some(b"") },
            RawRecord { offset: 45, timestamp_ms: Some(-3), key: Some(b""), value: None },
            RawRecord { offset: 50, timestamp_ms: Some(6), key: Some(b"key"), value: Some(b"v") },
        ];
        assert_eq!((batch.from, batch.next, batch.is_empty()), (40, 40, true));
        for r in records {
            batch.push(r.offset, r.timestamp_ms, r.key, r.value);
        }
        assert_eq!(batch.records().collect::<Vec<_>>(), records);
        assert_eq!((batch.len(), batch.bytes(), batch.next), (4, 10, 51));
        assert!(batch.memory() > batch.bytes());
    }

    #[test]
    fn nothing_is_left_of_what_a_reused_batch_held() {
        let mut old = RawBatch::new(TopicPartition::new("t", 1), 7, 40);
        old.push(41, Some(5), Some(b"key"), Some(b"value"));
        let capacity = old.capacity();
        let mut batch = old.reuse(TopicPartition::new("u", 2), 8, 3);
        assert!(batch.is_empty() && batch.memory() == 0 && batch.capacity() == capacity);
        batch.push(3, None, None, Some(b"v"));
        let record = RawRecord { offset: 3, timestamp_ms: None, key: None, value: Some(b"v") };
        assert_eq!(batch.records().collect::<Vec<_>>(), [record]);
        assert_eq!(
            (batch.partition.to_string(), batch.generation, batch.from, batch.next),
            ("u-2".into(), 8, 3, 4)
        );
    }

    #[test]
    fn debug_does_not_show_what_records_hold() {
        let mut batch = RawBatch::new(TopicPartition::new("t", 1), 7, 0);
        batch.push(5, None, Some(b"secret"), Some(b"secret"));
        let shown = "RawBatch { partition: t-1, generation: 7, from: 0, next: 6, records: 1, bytes: 12 }";
        assert_eq!(format!("{batch:?}"), shown);
    }

    #[test]
    fn next_never_moves_back() {
        let mut batch = RawBatch::with_capacity(TopicPartition::new("t", 0), 0, 10, 1, 1);
        batch.next = 100;
        batch.push(12, None, None, None);
        assert_eq!(batch.next, 100);
    }

    #[test]
    fn fingerprints_tell_none_from_empty_and_key_from_value() {
        let parts: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"a"), Some(b"ab")];
        let hashes: BTreeSet<u64> = parts
            .iter()
            .flat_map(|key| parts.iter().map(move |value| fingerprint(1, None, *key, *value).hash))
            .collect();
        assert_eq!(hashes.len(), parts.len() * parts.len());
    }

    #[test]
    fn a_fingerprint_is_for_ever() {
        let found = fingerprint(9, Some(1_700_000_000_000), Some(b"key"), Some(b"value"));
        assert_eq!((found.offset, found.timestamp), (9, 1_700_000_000_000));
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(b"key");
        bytes.extend_from_slice(&[5, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(b"value");
        assert_eq!(found.hash, xxhash_rust::xxh3::xxh3_64(&bytes));
        assert_eq!(fingerprint(9, None, None, None).timestamp, -1);
    }
}
