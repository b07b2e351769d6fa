//! Record batches for tests, written by the protocol library rather than by the code under test.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

/// A batch of `count` small records whose timestamps rise by 1 ms.
pub(crate) struct BatchBuilder {
    count: i32,
    base_offset: i64,
    timestamp: i64,
    producer: (i64, i16, i32),
    value_len: usize,
    compression: Compression,
}

impl BatchBuilder {
    pub(crate) fn new(count: i32) -> BatchBuilder {
        BatchBuilder {
            count,
            base_offset: 0,
            timestamp: 0,
            producer: (-1, -1, -1),
            value_len: 10,
            compression: Compression::None,
        }
    }

    pub(crate) fn base_offset(mut self, offset: i64) -> Self {
        self.base_offset = offset;
        self
    }

    pub(crate) fn timestamp(mut self, first: i64) -> Self {
        self.timestamp = first;
        self
    }

    pub(crate) fn producer(mut self, id: i64, epoch: i16, sequence: i32) -> Self {
        self.producer = (id, epoch, sequence);
        self
    }

    pub(crate) fn value_len(mut self, bytes: usize) -> Self {
        self.value_len = bytes;
        self
    }

    pub(crate) fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    pub(crate) fn build(self) -> Bytes {
        let (producer_id, producer_epoch, base_sequence) = self.producer;
        let records: Vec<Record> = (0..self.count)
            .map(|n| Record {
                transactional: false,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: 0,
                producer_id,
                producer_epoch,
                timestamp_type: TimestampType::Creation,
                offset: self.base_offset + i64::from(n),
                sequence: base_sequence.wrapping_add(n),
                timestamp: self.timestamp + i64::from(n),
                key: None,
                value: Some(Bytes::from(vec![b'x'; self.value_len])),
                headers: Default::default(),
            })
            .collect();
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: self.compression };
        RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("an encodable batch");
        bytes.freeze()
    }
}
