//! What idempotent producers have written to one partition, so that a batch sent twice is stored once.
//!
//! A producer numbers its records per partition. A batch is *next* if its first sequence number follows the last
//! stored one, a *duplicate* if it is one of the last [`REMEMBERED`] batches, and out of order otherwise.

use std::collections::{HashMap, VecDeque};

use kafka_protocol::error::ResponseError;

use super::batch::BatchHeader;

/// Batches remembered per producer: the most that a client may have in flight with idempotence on (Kafka's limit).
const REMEMBERED: usize = 5;
/// Producers remembered per partition; beyond it the one that wrote longest ago is forgotten.
const MAX_PRODUCERS: usize = 10_000;

#[derive(Debug)]
struct Producer {
    epoch: i16,
    batches: VecDeque<Written>,
}

#[derive(Debug, Clone, Copy)]
struct Written {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
}

/// What to do with a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Store it.
    Append,
    /// It is stored already, from this offset on.
    Duplicate(i64),
}

/// The idempotent producers of a partition.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    by_id: HashMap<i64, Producer>,
}

impl Producers {
    /// Judges a batch before it is stored.
    pub(crate) fn judge(&self, batch: &BatchHeader) -> Result<Verdict, ResponseError> {
        // A producer that is unknown (new, forgotten, or its records deleted) may start anywhere, as in Kafka.
        let Some(producer) = self.by_id.get(&batch.producer_id) else { return Ok(Verdict::Append) };
        if batch.producer_epoch < producer.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        if batch.producer_epoch > producer.epoch {
            return if batch.base_sequence == 0 {
                Ok(Verdict::Append)
            } else {
                Err(ResponseError::OutOfOrderSequenceNumber)
            };
        }
        let (first, last) = (batch.base_sequence, batch.last_sequence());
        if let Some(same) =
            producer.batches.iter().find(|seen| (seen.first_sequence, seen.last_sequence) == (first, last))
        {
            return Ok(Verdict::Duplicate(same.base_offset));
        }
        let newest = producer.batches.back().expect("a producer is remembered with its first batch");
        if first == newest.last_sequence.wrapping_add(1) & i32::MAX {
            Ok(Verdict::Append)
        } else {
            Err(ResponseError::OutOfOrderSequenceNumber)
        }
    }

    /// Remembers a batch that was stored at `base_offset`.
    pub(crate) fn note(&mut self, batch: &BatchHeader, base_offset: i64) {
        if batch.producer_id < 0 {
            return;
        }
        let written = Written {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset,
        };
        let producer = self
            .by_id
            .entry(batch.producer_id)
            .or_insert_with(|| Producer { epoch: batch.producer_epoch, batches: VecDeque::new() });
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(written);
        if self.by_id.len() > MAX_PRODUCERS {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .by_id
            .iter()
            .min_by_key(|(_, producer)| producer.batches.back().map(|batch| batch.base_offset))
            .map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_batch::BatchBuilder;
    use super::*;

    fn batch(epoch: i16, sequence: i32, count: i32) -> BatchHeader {
        BatchHeader::parse(&BatchBuilder::new(count).producer(7, epoch, sequence).build()).unwrap()
    }

    #[test]
    fn the_last_five_batches_are_known_again_and_older_ones_are_out_of_order() {
        let mut producers = Producers::default();
        for n in 0..6 {
            assert_eq!(producers.judge(&batch(0, n * 10, 10)), Ok(Verdict::Append));
            producers.note(&batch(0, n * 10, 10), i64::from(n) * 10);
        }
        assert_eq!(producers.judge(&batch(0, 10, 10)), Ok(Verdict::Duplicate(10)));
        assert_eq!(producers.judge(&batch(0, 0, 10)), Err(ResponseError::OutOfOrderSequenceNumber));
    }

    #[test]
    fn a_gap_is_out_of_order() {
        let mut producers = Producers::default();
        producers.note(&batch(0, 0, 10), 0);
        assert_eq!(producers.judge(&batch(0, 11, 1)), Err(ResponseError::OutOfOrderSequenceNumber));
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
        let mut producers = Producers::default();
        producers.note(&batch(1, 0, 10), 0);
        assert_eq!(producers.judge(&batch(2, 5, 1)), Err(ResponseError::OutOfOrderSequenceNumber));
        assert_eq!(producers.judge(&batch(2, 0, 1)), Ok(Verdict::Append));
        assert_eq!(producers.judge(&batch(0, 10, 1)), Err(ResponseError::InvalidProducerEpoch));
    }

    #[test]
    fn sequence_numbers_go_on_from_zero_after_the_largest() {
        let mut producers = Producers::default();
        producers.note(&batch(0, i32::MAX, 1), 0);
        assert_eq!(producers.judge(&batch(0, 0, 1)), Ok(Verdict::Append));
    }

    #[test]
    fn the_number_of_producers_is_bounded() {
        let mut producers = Producers::default();
        for id in 0..MAX_PRODUCERS as i64 + 10 {
            let header = BatchHeader { producer_id: id, ..batch(0, 0, 1) };
            producers.note(&header, id);
        }
        assert_eq!(producers.by_id.len(), MAX_PRODUCERS);
        assert!(!producers.by_id.contains_key(&0));
    }
}
