//! The data plane of a consumer: records, ends and errors of its partitions, a few hundred a call.
//!
//! ```text
//! broker --fetch--> partition queue --+
//! broker --fetch--> partition queue --+--> MessageQueue --poll--> runs of one partition
//!                                          consumer.poll() --> rebalances, errors, log lines
//! ```
//!
//! Records have a queue of their own for three reasons. An end of partition arrives with its topic and its offset:
//! rdkafka's safe interface passes on neither, and the offset is what accounts for control records behind the last
//! record. Back-pressure is to leave this queue alone while the group is still served: librdkafka stops fetching at
//! its queue bounds, and unlike with `pause` nothing that was fetched is thrown away. And a record costs no event of
//! its own, only a look at the queue.
//!
//! This module and [`identity`](crate::identity) are the only ones with unsafe code. It relies on three promises of librdkafka: its handles may be used from
//! any thread; a message stays valid until it is destroyed; a queue must be destroyed before its client.

use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use puddle_types::{Offset, TopicPartition};
use rdkafka::bindings as ffi;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaRespErr;

use crate::client::Context;

/// The most messages that one call takes.
const TAKE: usize = 1024;

/// The queue into which a consumer's partitions are led.
pub(crate) struct MessageQueue {
    queue: *mut ffi::rd_kafka_queue_t,
    consumer: Arc<BaseConsumer<Context>>,
}

// SAFETY: librdkafka's handles may be used from any thread.
unsafe impl Send for MessageQueue {}

/// What one call took; consecutive messages of one partition are a [`Run`].
pub(crate) struct Taken<'q> {
    messages: Vec<*mut ffi::rd_kafka_message_t>,
    /// A message must not outlive its client.
    client: PhantomData<&'q MessageQueue>,
}

/// Consecutive messages of one partition.
pub(crate) struct Run<'t> {
    pub(crate) topic: &'t str,
    pub(crate) partition: i32,
    messages: &'t [*mut ffi::rd_kafka_message_t],
}

/// What a partition has to say next.
#[derive(Debug)]
pub(crate) enum Item<'t> {
    Record {
        offset: Offset,
        timestamp_ms: Option<i64>,
        key: Option<&'t [u8]>,
        value: Option<&'t [u8]>,
    },
    /// There is nothing more yet; the next record will have this offset or a higher one.
    End {
        next: Offset,
    },
    Error {
        code: RDKafkaRespErr,
        offset: Offset,
        text: String,
    },
}

impl MessageQueue {
    pub(crate) fn new(consumer: Arc<BaseConsumer<Context>>) -> Self {
        // SAFETY: the client outlives the queue, because `Drop` destroys the queue before `consumer` is dropped.
        let queue = unsafe { ffi::rd_kafka_queue_new(consumer.client().native_ptr()) };
        Self { queue, consumer }
    }

    /// Leads a partition's records here. To be called before the partition is assigned, so that none goes elsewhere.
    pub(crate) fn lead_here(&self, partition: &TopicPartition) {
        let topic = CString::new(&*partition.topic).expect("topic names hold no NUL");
        // SAFETY: both handles are valid; librdkafka keeps the forwarding when our reference to the partition's
        // queue goes, and keeps `self.queue` alive for as long as it is forwarded to.
        unsafe {
            let client = self.consumer.client().native_ptr();
            let source = ffi::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition.partition);
            if !source.is_null() {
                ffi::rd_kafka_queue_forward(source, self.queue);
                ffi::rd_kafka_queue_destroy(source);
            }
        }
    }

    /// Takes what there is, up to some hundred messages, after waiting up to `timeout` for a first one.
    pub(crate) fn poll(&self, timeout: Duration) -> Taken<'_> {
        let mut timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let mut messages = Vec::new();
        while messages.len() < TAKE {
            // SAFETY: the queue is valid. A message that is returned is ours to destroy.
            //
            // Not `rd_kafka_consume_batch_queue`: it takes an end of partition for a record at that offset, and
            // when a rebalance then pauses the partition for a moment, librdkafka goes on one record too far.
            let message = unsafe { ffi::rd_kafka_consume_queue(self.queue, timeout) };
            if message.is_null() {
                break;
            }
            if messages.is_empty() {
                messages.reserve(TAKE);
            }
            messages.push(message);
            timeout = 0;
        }
        Taken { messages, client: PhantomData }
    }

    /// Whether the consumer is in its group, as far as it knows: it has an id there until it leaves.
    pub(crate) fn is_member(&self) -> bool {
        // SAFETY: the client is valid. The id is a string that librdkafka allocated for us, or null; it is not used
        // after it is freed, by the allocator that made it.
        unsafe {
            let client = self.consumer.client().native_ptr();
            let id = ffi::rd_kafka_memberid(client);
            let is_member = !id.is_null() && *id != 0;
            if !id.is_null() {
                ffi::rd_kafka_mem_free(client, id.cast());
            }
            is_member
        }
    }

    /// The partition's oldest offset and exclusive end, as the newest fetch told; `None` before the first.
    pub(crate) fn watermarks(&self, partition: &TopicPartition) -> Option<(Offset, Offset)> {
        let topic = CString::new(&*partition.topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client and the name are valid, and the two integers are written before the call returns.
        let error = unsafe {
            let client = self.consumer.client().native_ptr();
            ffi::rd_kafka_get_watermark_offsets(
                client,
                topic.as_ptr(),
                partition.partition,
                &mut low,
                &mut high,
            )
        };
        (error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some((low.max(0), high))
    }
}

impl Drop for MessageQueue {
    fn drop(&mut self) {
        // SAFETY: destroyed once, and before the client.
        unsafe { ffi::rd_kafka_queue_destroy(self.queue) }
    }
}

impl Taken<'_> {
    /// What was taken, in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        // SAFETY: each pointer is a message that is valid until `self` is dropped. As the messages keep their
        // topics alive, equal topic pointers mean the same topic.
        let same = |a: &*mut ffi::rd_kafka_message_t, b: &*mut ffi::rd_kafka_message_t| unsafe {
            (**a).rkt == (**b).rkt && (**a).partition == (**b).partition
        };
        self.messages.chunk_by(same).map(|messages| {
            // SAFETY: as above; a topic's name lives as long as the topic.
            let (topic, partition) = unsafe {
                let first = &*messages[0];
                let name = match first.rkt.is_null() {
                    true => c"",
                    false => CStr::from_ptr(ffi::rd_kafka_topic_name(first.rkt)),
                };
                (name.to_str().unwrap_or_default(), first.partition)
            };
            Run { topic, partition, messages }
        })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for message in self.messages.drain(..) {
            // SAFETY: ours since `poll`, and destroyed once. Nothing borrowed from it outlives `self`.
            unsafe { ffi::rd_kafka_message_destroy(message) }
        }
    }
}

impl<'t> Run<'t> {
    /// The messages, in offset order.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item<'t>> + use<'t> {
        // SAFETY: the messages are valid for 't.
        self.messages.iter().map(|message| unsafe { item(&**message) })
    }
}

/// # Safety
/// The message must be valid for 't.
unsafe fn item<'t>(message: &'t ffi::rd_kafka_message_t) -> Item<'t> {
    // SAFETY: the caller's promise; librdkafka's lengths belong to its pointers.
    unsafe {
        match message.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Item::Record {
                offset: message.offset,
                timestamp_ms: timestamp(message),
                key: bytes(message.key, message.key_len),
                value: bytes(message.payload, message.len),
            },
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => Item::End { next: message.offset },
            code => {
                let text = ffi::rd_kafka_message_errstr(message);
                let text = match text.is_null() {
                    true => String::new(),
                    false => CStr::from_ptr(text).to_string_lossy().into_owned(),
                };
                Item::Error { code, offset: message.offset, text }
            }
        }
    }
}

/// # Safety
/// As [`item`].
unsafe fn timestamp(message: &ffi::rd_kafka_message_t) -> Option<i64> {
    let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the caller's promise.
    let millis = unsafe { ffi::rd_kafka_message_timestamp(message, &mut kind) };
    let none = kind == ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || millis == -1;
    (!none).then_some(millis)
}

/// # Safety
/// `data` must be null or point to `len` bytes that are valid for 't.
unsafe fn bytes<'t>(data: *const std::ffi::c_void, len: usize) -> Option<&'t [u8]> {
    // SAFETY: the caller's promise.
    (!ptr::eq(data, ptr::null())).then(|| unsafe { slice::from_raw_parts(data.cast::<u8>(), len) })
}
