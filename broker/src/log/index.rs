//! The sparse index of one segment: from an offset, or from a timestamp, to a position to start scanning at.
//!
//! ```text
//! segment    | batch 0-9 | batch 10-29 | batch 30-31 | batch 32-90 | ...
//! index        ^ offset 0, position 0, no time before it
//!                                        ^ offset 30, position 17000, latest time before it
//! ```
//!
//! An entry stands for a batch; it is made once at least [`INTERVAL`] bytes have passed since the last one. Since an
//! entry keeps the latest timestamp of everything *before* it, timestamps rise along the index even if the
//! records' do not, and one table serves both look-ups.

/// Bytes of log between two entries: what a look-up may have to scan. Kafka's `index.interval.bytes` is 4096; batches
/// are scanned by their headers alone, so that a wider interval costs little time and saves memory.
pub(crate) const INTERVAL: u64 = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    offset: i64,
    position: u64,
    /// The latest timestamp of any batch before `position`; `i64::MIN` for the first entry.
    latest_before: i64,
}

/// Sparse look-up table of one segment.
#[derive(Debug, Default)]
pub(crate) struct SparseIndex {
    entries: Vec<Entry>,
}

impl SparseIndex {
    /// Notes a batch that starts at `position`; `latest_before` is the latest timestamp of the batches before it.
    pub(crate) fn note(&mut self, offset: i64, position: u64, latest_before: i64) {
        if self.entries.last().is_none_or(|last| position - last.position >= INTERVAL) {
            self.entries.push(Entry { offset, position, latest_before });
        }
    }

    /// A position at or before the batch that holds `offset`.
    pub(crate) fn before_offset(&self, offset: i64) -> u64 {
        let after = self.entries.partition_point(|entry| entry.offset <= offset);
        self.position(after)
    }

    /// A position at or before the first batch with a record at `timestamp` or later.
    pub(crate) fn before_time(&self, timestamp: i64) -> u64 {
        let after = self.entries.partition_point(|entry| entry.latest_before < timestamp);
        self.position(after)
    }

    fn position(&self, after: usize) -> u64 {
        after.checked_sub(1).map_or(0, |at| self.entries[at].position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// (records, bytes, latest timestamp) of each batch of a segment.
    fn batches() -> impl Strategy<Value = Vec<(i64, u64, i64)>> {
        prop::collection::vec((1..50i64, 61..20_000u64, 0..1_000i64), 1..200)
    }

    proptest! {
        #[test]
        fn look_ups_agree_with_a_linear_scan(batches in batches(), base in 0..1_000i64, wanted_time in -1..1_001i64) {
            let mut index = SparseIndex::default();
            let mut starts = Vec::new();
            let (mut offset, mut position, mut latest) = (base, 0, i64::MIN);
            for &(records, bytes, time) in &batches {
                index.note(offset, position, latest);
                starts.push((offset, position));
                (offset, position, latest) = (offset + records, position + bytes, latest.max(time));
            }
            for wanted in base..offset {
                let truth = starts.iter().rev().find(|(first, _)| *first <= wanted).unwrap().1;
                let found = index.before_offset(wanted);
                prop_assert!(found <= truth);
                prop_assert!(truth - found < INTERVAL, "scan of {} bytes", truth - found);
            }
            let truth = batches.iter().position(|(_, _, time)| *time >= wanted_time).map(|at| starts[at].1);
            if let Some(truth) = truth {
                let found = index.before_time(wanted_time);
                prop_assert!(found <= truth);
                prop_assert!(truth - found < INTERVAL);
            }
        }
    }
}
