//! The data plane of a consumer: records, ends and errors of its partitions, all that wait in one call.
//!
//! ```text
//! broker --fetch--> partition queue --+
//! broker --fetch--> partition queue --+--> MessageQueue --serve--> Receive: find(partition), receive(item), ...
//!                                          consumer.poll() --> rebalances, errors, log lines
//! ```
//!
//! Records have a queue of their own for three reasons. An end of partition arrives with its topic and its offset:
//! rdkafka's safe interface passes on neither, and the offset is what accounts for control records behind the last
//! record. Back-pressure is to leave this queue alone while the group is still served: librdkafka stops fetching at
//! its queue bounds, and unlike with `pause` nothing that was fetched is thrown away. And a record costs no event, no
//! lock and no look at the clock of its own: one call takes all that wait off the queue at once.
//!
//! This module and [`identity`](crate::identity) are the only ones with unsafe code. It relies on these promises of
//! librdkafka: its handles may be used from any thread; a message that is handed out stays valid until the call that
//! got it returns; a queue must be destroyed before its client.

use std::any::Any;
use std::ffi::{CStr, CString, c_void};
use std::ops::ControlFlow;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use puddle_types::{Offset, TopicPartition};
use rdkafka::bindings as ffi;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaRespErr;

use crate::client::Context;

/// The queue into which a consumer's partitions are led.
pub(crate) struct MessageQueue {
    queue: *mut ffi::rd_kafka_queue_t,
    consumer: Arc<BaseConsumer<Context>>,
}

// SAFETY: librdkafka's handles may be used from any thread.
unsafe impl Send for MessageQueue {}

/// Takes what a queue hands out.
pub(crate) trait Receive {
    /// Finds a partition: asked once for consecutive messages of one partition, whose messages are thrown away when
    /// there is no such place. Places must stay what they are while the queue is served.
    fn find(&self, topic: &str, partition: i32) -> Option<usize>;

    /// Takes a message of the partition at `place`. Breaking off leaves the messages behind it in the queue.
    fn receive(&mut self, place: usize, item: Item<'_>) -> ControlFlow<()>;
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
    Error(ItemError),
}

/// What went wrong with a partition.
#[derive(Debug)]
pub(crate) struct ItemError {
    pub(crate) code: RDKafkaRespErr,
    /// Where the partition was to be read.
    pub(crate) offset: Offset,
    pub(crate) text: String,
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

    /// Hands all that waits to `receiver`, in order, after waiting up to `timeout` for a first message. That is at most
    /// what librdkafka's bounds let it fetch ahead.
    ///
    /// # Panics
    /// When the receiver does.
    pub(crate) fn serve<R: Receive>(&self, timeout: Duration, receiver: &mut R) {
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let client = self.consumer.client().native_ptr();
        let mut call = Call { receiver, client, run: None, panic: None };
        // SAFETY: the queue is valid, and holds nothing but records, ends and errors of partitions, which are what
        // this function can hand out. `call` is only used, by `deliver::<R>`, until the function returns.
        //
        // Not `rd_kafka_consume_batch_queue`: it takes an end of partition for a record at that offset, and when a
        // rebalance then pauses the partition for a moment, librdkafka goes on one record too far. Here the position
        // moves with each record, just before the record is handed over, and with nothing else.
        unsafe {
            ffi::rd_kafka_consume_callback_queue(
                self.queue,
                timeout,
                Some(deliver::<R>),
                ptr::from_mut(&mut call).cast(),
            );
        }
        if let Some(panic) = call.panic {
            panic::resume_unwind(panic);
        }
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

/// A call of [`MessageQueue::serve`].
struct Call<'r, R> {
    receiver: &'r mut R,
    client: *mut ffi::rd_kafka_t,
    /// The topic and the partition of the message before, and their place.
    run: Option<(*mut ffi::rd_kafka_topic_t, i32, Option<usize>)>,
    /// To go on with once librdkafka's frames are left: nothing may unwind through them.
    panic: Option<Box<dyn Any + Send>>,
}

/// # Safety
/// To be called by librdkafka only, with a [`Call<R>`] that nothing else uses.
unsafe extern "C" fn deliver<R: Receive>(message: *mut ffi::rd_kafka_message_t, call: *mut c_void) {
    // SAFETY: `serve` passes its call, and librdkafka a message that is valid until we return.
    let (message, call) = unsafe { (&*message, &mut *call.cast::<Call<'_, R>>()) };
    let delivered = panic::catch_unwind(AssertUnwindSafe(|| call.deliver(message)));
    let broken_off = match delivered {
        Ok(flow) => flow.is_break(),
        Err(panic) => {
            call.panic = Some(panic);
            true
        }
    };
    if broken_off {
        // SAFETY: the client is valid. It puts back what it took off the queue and did not hand out.
        unsafe { ffi::rd_kafka_yield(call.client) }
    }
}

impl<R: Receive> Call<'_, R> {
    fn deliver(&mut self, message: &ffi::rd_kafka_message_t) -> ControlFlow<()> {
        let place = match self.run {
            // All messages of a call, and with each its topic, are alive when it begins: where two that follow one
            // another have equal topic pointers, they have the same topic.
            Some((topic, partition, place)) if topic == message.rkt && partition == message.partition => {
                place
            }
            _ => {
                // SAFETY: a message keeps its topic alive, and the topic its name.
                let topic = match message.rkt.is_null() {
                    true => c"",
                    false => unsafe { CStr::from_ptr(ffi::rd_kafka_topic_name(message.rkt)) },
                };
                let place = self.receiver.find(topic.to_str().unwrap_or_default(), message.partition);
                self.run = Some((message.rkt, message.partition, place));
                place
            }
        };
        match place {
            // SAFETY: librdkafka handed out the message, and it is valid until we return.
            Some(place) => self.receiver.receive(place, unsafe { item(message) }),
            None => ControlFlow::Continue(()),
        }
    }
}

/// # Safety
/// The message must be one that librdkafka handed out, and valid for 't.
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
                Item::Error(ItemError { code, offset: message.offset, text })
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

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::time::Instant;

    use puddle_testkit::{Embedded, Record, produce, topics, unique};
    use rdkafka::TopicPartitionList;
    use rdkafka::config::ClientConfig;

    use super::*;

    const RECORDS: i64 = 100;

    /// Writes down offsets, and an end as the negative of its offset.
    #[derive(Default)]
    struct Notes {
        offsets: Vec<Offset>,
        break_at: Option<Offset>,
        panic_at: Option<Offset>,
    }

    impl Receive for Notes {
        fn find(&self, _: &str, partition: i32) -> Option<usize> {
            (partition == 0).then_some(0)
        }

        fn receive(&mut self, _: usize, item: Item<'_>) -> ControlFlow<()> {
            let offset = match item {
                Item::Record { offset, .. } => offset,
                Item::End { next } => -next,
                Item::Error(error) => panic!("{error:?}"),
            };
            self.offsets.push(offset);
            assert!(self.panic_at != Some(offset), "as told");
            match self.break_at == Some(offset) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }

    /// A queue to which all records of partition 0, and those of one more, are on their way.
    fn queue(embedded: &Embedded) -> MessageQueue {
        let (brokers, topic) = (embedded.brokers(), unique("queue"));
        topics::create(&brokers, &topic, 2);
        produce(&brokers, &topic, (0..2 * RECORDS).map(|id| Record::new(id.to_string()).to((id % 2) as i32)));
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &brokers)
            .set("group.id", "queue")
            .set("enable.partition.eof", "true");
        let consumer: BaseConsumer<Context> = config.create_with_context(Context::default()).unwrap();
        let queue = MessageQueue::new(Arc::new(consumer));
        let mut assignment = TopicPartitionList::new();
        for partition in 0..2 {
            queue.lead_here(&TopicPartition::new(&*topic, partition));
            assignment.add_partition_offset(&topic, partition, rdkafka::Offset::Beginning).unwrap();
        }
        queue.consumer.assign(&assignment).unwrap();
        queue
    }

    /// Serves until partition 0 ends.
    fn to_the_end(queue: &MessageQueue, notes: &mut Notes) {
        let begin = Instant::now();
        while notes.offsets.last() != Some(&-RECORDS) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", notes.offsets);
            queue.serve(Duration::from_millis(20), notes);
        }
    }

    fn all() -> Vec<Offset> {
        (0..RECORDS).chain([-RECORDS]).collect()
    }

    #[test]
    fn breaking_off_leaves_the_rest_in_its_order() {
        let embedded = Embedded::start();
        let queue = queue(&embedded);
        let mut notes = Notes { break_at: Some(41), ..Notes::default() };
        let begin = Instant::now();
        while notes.offsets.last() != Some(&41) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", notes.offsets);
            queue.serve(Duration::from_millis(20), &mut notes);
        }
        to_the_end(&queue, &mut notes);
        assert_eq!(notes.offsets, all());
    }

    #[test]
    fn a_panic_comes_through_and_loses_nothing_that_was_not_handed_over() {
        let embedded = Embedded::start();
        let queue = queue(&embedded);
        let mut notes = Notes { panic_at: Some(41), ..Notes::default() };
        let panic = catch_unwind(AssertUnwindSafe(|| to_the_end(&queue, &mut notes))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"as told"));
        assert_eq!(notes.offsets, (0..=41).collect::<Vec<_>>());
        notes.panic_at = None;
        to_the_end(&queue, &mut notes);
        assert_eq!(notes.offsets, all());
    }
}
