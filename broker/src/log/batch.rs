//! The record batch, format version 2: the unit that is produced, stored and fetched.
//!
//! The broker reads the 61 header bytes and never the records. Field positions are those of the Kafka protocol guide,
//! "Record Batch". The checksum covers everything from the attributes on, so the two fields before it that the broker
//! sets (base offset and partition leader epoch) can be changed without computing it anew.

use kafka_protocol::error::ResponseError;

/// Bytes of a batch before its records.
pub(crate) const HEADER_LEN: usize = 61;
/// Bytes of a batch that its own length field does not count: base offset and the length itself.
const LENGTH_PREFIX: usize = 12;
/// Bytes at the front that the broker rewrites: base offset, length, partition leader epoch.
pub(crate) const REWRITTEN_LEN: usize = 16;

const CODEC_MASK: i16 = 0b111;
const HIGHEST_CODEC: i16 = 4;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// What the header of a batch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    /// Bytes of the whole batch, this header included.
    pub(crate) len: usize,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) record_count: i32,
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BatchError {
    #[error("the batch is cut short")]
    Truncated,
    #[error("the batch's length field is impossible")]
    Length,
    #[error("the batch is of format version {0}, only 2 is supported")]
    Magic(i8),
    #[error("the batch's checksum does not match its bytes")]
    Checksum,
    #[error("the batch's record count and offset range disagree")]
    Records,
    #[error("a produce request must hold exactly one batch per partition")]
    NotOne,
    #[error("unknown compression codec {0}")]
    Codec(i16),
    #[error("transactions are not supported")]
    Transactional,
    #[error("log append time is not supported")]
    LogAppendTime,
}

impl BatchError {
    /// The code a producer is answered with.
    pub(crate) fn code(self) -> ResponseError {
        match self {
            BatchError::Truncated | BatchError::Length | BatchError::Checksum => {
                ResponseError::CorruptMessage
            }
            BatchError::Magic(_) => ResponseError::UnsupportedForMessageFormat,
            BatchError::Records | BatchError::NotOne => ResponseError::InvalidRecord,
            BatchError::Codec(_) => ResponseError::UnsupportedCompressionType,
            BatchError::Transactional => ResponseError::InvalidTxnState,
            BatchError::LogAppendTime => ResponseError::InvalidTimestamp,
        }
    }
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`; the batch itself may reach beyond them.
    pub(crate) fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let head: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(BatchError::Truncated)?;
        let magic = i8::from_be_bytes(at(head, 16));
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        let length = i32::from_be_bytes(at(head, 8));
        let len = usize::try_from(length).map_err(|_| BatchError::Length)? + LENGTH_PREFIX;
        if len < HEADER_LEN {
            return Err(BatchError::Length);
        }
        let header = BatchHeader {
            base_offset: i64::from_be_bytes(at(head, 0)),
            len,
            crc: u32::from_be_bytes(at(head, 17)),
            attributes: i16::from_be_bytes(at(head, 21)),
            last_offset_delta: i32::from_be_bytes(at(head, 23)),
            base_timestamp: i64::from_be_bytes(at(head, 27)),
            max_timestamp: i64::from_be_bytes(at(head, 35)),
            producer_id: i64::from_be_bytes(at(head, 43)),
            producer_epoch: i16::from_be_bytes(at(head, 51)),
            base_sequence: i32::from_be_bytes(at(head, 53)),
            record_count: i32::from_be_bytes(at(head, 57)),
        };
        if header.last_offset_delta < 0 || header.base_offset < 0 {
            return Err(BatchError::Records);
        }
        Ok(header)
    }

    /// Reads the header and checks the checksum of the batch at the front of `bytes`.
    pub(crate) fn checked(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let batch = bytes.get(..header.len).ok_or(BatchError::Truncated)?;
        if crc32c::crc32c(&batch[21..]) != header.crc {
            return Err(BatchError::Checksum);
        }
        Ok(header)
    }

    /// Checks what a producer sent for one partition: exactly one sound batch that this broker can keep.
    pub(crate) fn of_producer(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let header = BatchHeader::checked(bytes)?;
        if header.len != bytes.len() {
            return Err(BatchError::NotOne);
        }
        // A producer numbers records without gaps; only compaction, which does not exist here, makes some.
        if header.record_count < 1 || header.last_offset_delta != header.record_count - 1 {
            return Err(BatchError::Records);
        }
        let codec = header.codec();
        if codec > HIGHEST_CODEC {
            return Err(BatchError::Codec(codec));
        }
        if header.attributes & (TRANSACTIONAL | CONTROL) != 0 {
            return Err(BatchError::Transactional);
        }
        if header.attributes & LOG_APPEND_TIME != 0 {
            return Err(BatchError::LogAppendTime);
        }
        Ok(header)
    }

    /// How the records are packed; 0 is not at all.
    pub(crate) fn codec(&self) -> i16 {
        self.attributes & CODEC_MASK
    }

    /// The offset after the batch's last record.
    pub(crate) fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    /// The sequence number of the batch's last record. Sequence numbers wrap from `i32::MAX` to 0.
    pub(crate) fn last_sequence(&self) -> i32 {
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// The first 16 bytes of the batch as they are stored.
    pub(crate) fn rewritten(&self, base_offset: i64, leader_epoch: i32) -> [u8; REWRITTEN_LEN] {
        let mut front = [0; REWRITTEN_LEN];
        front[..8].copy_from_slice(&base_offset.to_be_bytes());
        front[8..12].copy_from_slice(&((self.len - LENGTH_PREFIX) as i32).to_be_bytes());
        front[12..].copy_from_slice(&leader_epoch.to_be_bytes());
        front
    }
}

/// How many bytes at the front of `bytes` are whole batches.
pub(crate) fn whole_batches(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Ok(header) = BatchHeader::parse(&bytes[end..]) {
        if bytes.len() - end < header.len {
            break;
        }
        end += header.len;
    }
    end
}

fn at<const N: usize>(head: &[u8; HEADER_LEN], position: usize) -> [u8; N] {
    *head[position..].first_chunk().expect("a field within the header")
}

#[cfg(test)]
mod tests {
    use super::super::test_batch::BatchBuilder;
    use super::*;

    #[test]
    fn reads_what_the_protocol_library_writes() {
        let bytes = BatchBuilder::new(3).base_offset(70).timestamp(1_000).producer(9, 2, 40).build();
        let header = BatchHeader::of_producer(&bytes).unwrap();
        assert_eq!((header.base_offset, header.next_offset(), header.record_count), (70, 73, 3));
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 2, 40));
        assert_eq!((header.last_sequence(), header.max_timestamp, header.len), (42, 1_002, bytes.len()));
    }

    #[test]
    fn rewriting_the_front_keeps_the_checksum_valid() {
        let mut bytes = BatchBuilder::new(2).build().to_vec();
        let front = BatchHeader::parse(&bytes).unwrap().rewritten(1_234, 5);
        bytes[..REWRITTEN_LEN].copy_from_slice(&front);
        assert_eq!(BatchHeader::checked(&bytes).unwrap().base_offset, 1_234);
    }

    #[test]
    fn any_flipped_bit_after_the_front_is_noticed() {
        let sound = BatchBuilder::new(2).build();
        for position in 16..sound.len() {
            let mut broken = sound.to_vec();
            broken[position] ^= 1;
            assert!(BatchHeader::of_producer(&broken).is_err(), "byte {position}");
        }
    }

    #[test]
    fn two_batches_in_one_request_are_refused() {
        let twice = [BatchBuilder::new(1).build(), BatchBuilder::new(1).build()].concat();
        assert_eq!(BatchHeader::of_producer(&twice), Err(BatchError::NotOne));
    }

    #[test]
    fn sequence_numbers_wrap_to_zero() {
        let bytes = BatchBuilder::new(3).producer(1, 0, i32::MAX - 1).build();
        assert_eq!(BatchHeader::parse(&bytes).unwrap().last_sequence(), 0);
    }

    #[test]
    fn a_partial_batch_at_the_end_is_not_counted() {
        let one = BatchBuilder::new(1).build();
        let two = [&one[..], &one[..]].concat();
        assert_eq!(whole_batches(&two), two.len());
        assert_eq!(whole_batches(&two[..two.len() - 1]), one.len());
        assert_eq!(whole_batches(&one[..10]), 0);
    }
}
