//! Reads ranges of offsets without a group: to audit a table, to look at one record, to sample a topic.
//!
//! ```
//! # fn f() -> Result<(), puddle_ingest::Error> {
//! use puddle_ingest::reader::{Range, Reader};
//! use puddle_types::TopicPartition;
//!
//! let ranges = vec![Range::new(TopicPartition::new("flights", 0), 0, 1000)];
//! let mut reader = Reader::open("127.0.0.1:9092", &Default::default(), ranges)?.offsets_only();
//! while let Some(batch) = reader.next()? {
//!     println!("{}: {} records below {}", batch.partition, batch.len(), batch.next);
//! }
//! # Ok(())
//! # }
//! ```

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use puddle_types::{Offset, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use crate::client::{self, ClientSettings, Context};
use crate::error::{Error, reason};
use crate::queue::{Item, ItemError, MessageQueue, Receive};
use crate::raw::RawBatch;

/// How long [`Reader::open`] waits for the first answer of a broker.
pub const OPEN_PATIENCE: Duration = Duration::from_secs(5);

/// How long a reader goes without any record or end before it gives up.
pub const STALL: Duration = Duration::from_secs(30);

/// A batch is handed on at so many records, or bytes in memory.
const BATCH_RECORDS: usize = 16_384;
const BATCH_BYTES: usize = 2 << 20;

/// Bounds on what librdkafka fetches ahead; its defaults would allow more than 100 MB.
const BOUNDS: [(&str, &str); 6] = [
    ("queued.max.messages.kbytes", "8192"),
    ("queued.min.messages", "100000"),
    ("fetch.max.bytes", "4194304"),
    ("fetch.message.max.bytes", "524288"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.wait.max.ms", "50"),
];

/// Offsets of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Which partition.
    pub partition: TopicPartition,
    /// The first offset.
    pub from: Offset,
    /// The exclusive end.
    pub next: Offset,
}

impl Range {
    /// The offsets of `partition` from `from` up to and without `next`.
    pub fn new(partition: TopicPartition, from: Offset, next: Offset) -> Self {
        Self { partition, from, next }
    }
}

/// Reads committed records of ranges of offsets, each range in order, ranges interleaved.
pub struct Reader {
    // Dropped before the consumer that it belongs to.
    queue: MessageQueue,
    consumer: Arc<BaseConsumer<Context>>,
    open: Vec<Progressing>,
    ready: Vec<RawBatch>,
    values: bool,
    heard: Instant,
}

/// A range that is not read to its end.
struct Progressing {
    end: Offset,
    batch: RawBatch,
    /// Whether nothing of the range lies ahead any more.
    passed: bool,
}

impl Reader {
    /// Begins to read these ranges, at most one a partition.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Authentication`], [`Error::UnknownTopic`], [`Error::MissingPartition`].
    pub fn open(brokers: &str, settings: &ClientSettings, ranges: Vec<Range>) -> Result<Reader, Error> {
        let mut config = settings.config(brokers)?;
        for (key, value) in BOUNDS {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        }
        // librdkafka wants a group's name even from consumers that never join one.
        config.set("group.id", "puddle-reader");
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "error");
        config.set("isolation.level", "read_committed");
        config.set("check.crcs", "true");
        config.set("enable.partition.eof", "true");
        let consumer: Arc<BaseConsumer<Context>> = Arc::new(client::create(&config, Context::default())?);
        let metadata = client::metadata(&consumer, brokers, OPEN_PATIENCE)?;

        let queue = MessageQueue::new(Arc::clone(&consumer));
        let mut open = Vec::new();
        let mut assignment = TopicPartitionList::with_capacity(ranges.len());
        for Range { partition, from, next } in ranges {
            if !client::partitions_of(&metadata, &partition.topic, brokers)?.contains(&partition.partition) {
                return Err(Error::MissingPartition { partition });
            }
            if from >= next {
                continue;
            }
            queue.lead_here(&partition);
            assignment
                .add_partition_offset(&partition.topic, partition.partition, KafkaOffset::Offset(from))
                .map_err(|error| Error::kafka(format!("read {partition} from offset {from}"), &error))?;
            open.push(Progressing { end: next, batch: RawBatch::new(partition, 0, from), passed: false });
        }
        consumer.assign(&assignment).map_err(|error| Error::kafka("assign partitions", &error))?;
        Ok(Reader { queue, consumer, open, ready: Vec::new(), values: true, heard: Instant::now() })
    }

    /// Leaves keys and values out: batches hold offsets and timestamps.
    pub fn offsets_only(mut self) -> Self {
        self.values = false;
        self
    }

    /// The next batch, of generation 0; `None` when all ranges are read. The last batch of a range ends at the range's
    /// end, also when no record is left there; it may hold none.
    ///
    /// # Errors
    /// [`Error::Gap`] when a partition does not hold the range; [`Error::Kafka`] on a damaged record, or when nothing was
    /// heard for [`STALL`].
    #[allow(clippy::should_implement_trait, reason = "an iterator of results would go on after an error")]
    pub fn next(&mut self) -> Result<Option<RawBatch>, Error> {
        loop {
            if let Some(batch) = self.ready.pop() {
                return Ok(Some(batch));
            }
            if self.open.is_empty() {
                return Ok(None);
            }
            self.poll()?;
        }
    }

    fn poll(&mut self) -> Result<(), Error> {
        if let Some(Err(error)) = self.consumer.poll(Duration::ZERO)
            && let KafkaError::MessageConsumptionFatal(_) = error
        {
            return Err(Error::Kafka { doing: "read".into(), reason: reason(&error) });
        }
        let mut reading = Reading {
            open: &mut self.open,
            ready: &mut self.ready,
            values: self.values,
            heard: false,
            error: None,
        };
        self.queue.serve(Duration::from_millis(50), &mut reading);
        let error = reading.error.take();
        if reading.heard {
            self.heard = Instant::now();
        }
        if let Some((place, trouble)) = error {
            self.fail(&self.open[place], trouble)?;
        }
        while let Some(place) = self.open.iter().position(Progressing::is_done) {
            let range = self.open.remove(place);
            self.finish(range)?;
        }
        if self.heard.elapsed() >= STALL {
            let range = self.open.first().expect("a range is open");
            let doing = format!("read {} from offset {}", range.batch.partition, range.batch.next);
            let reason = format!("nothing was heard for {} s; {}", STALL.as_secs(), self.last_reason());
            return Err(Error::Kafka { doing, reason });
        }
        // Handed out from the back: the oldest first.
        self.ready.reverse();
        Ok(())
    }

    /// Hands on what is left of a range, and fetches no more of its partition.
    fn finish(&mut self, mut range: Progressing) -> Result<(), Error> {
        range.batch.next = range.end;
        let partition = range.batch.partition.clone();
        self.ready.push(range.batch);
        let mut done = TopicPartitionList::with_capacity(1);
        done.add_partition(&partition.topic, partition.partition);
        self.consumer
            .incremental_unassign(&done)
            .map_err(|error| Error::kafka(format!("finish {partition}"), &error))
    }

    /// Turns a partition's error into ours, unless librdkafka will try again by itself.
    fn fail(&self, range: &Progressing, trouble: Trouble) -> Result<(), Error> {
        let partition = &range.batch.partition;
        match trouble {
            Trouble::EndsEarly { high } => {
                let (low, expected) = (range.batch.from, range.end - 1);
                Err(Error::Gap { partition: partition.clone(), expected, low, high })
            }
            Trouble::Item(ItemError { code, offset, text }) => match code {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET => {
                    let (low, high) = self.queue.watermarks(partition).unwrap_or_default();
                    Err(Error::Gap { partition: partition.clone(), expected: offset, low, high })
                }
                code if is_damage(code) => {
                    Err(Error::Kafka { doing: format!("read offset {offset} of {partition}"), reason: text })
                }
                _ => {
                    tracing::debug!("{partition} at offset {offset}: {text}");
                    Ok(())
                }
            },
        }
    }

    fn last_reason(&self) -> String {
        self.consumer.context().last_reason()
    }
}

impl Progressing {
    fn is_done(&self) -> bool {
        self.passed || self.batch.next >= self.end
    }
}

/// One look at the queue.
struct Reading<'r> {
    open: &'r mut [Progressing],
    ready: &'r mut Vec<RawBatch>,
    values: bool,
    /// Whether there was anything.
    heard: bool,
    /// What is wrong with the range at a place.
    error: Option<(usize, Trouble)>,
}

enum Trouble {
    /// The partition ends within the range.
    EndsEarly {
        high: Offset,
    },
    Item(ItemError),
}

impl Receive for Reading<'_> {
    fn find(&self, topic: &str, partition: i32) -> Option<usize> {
        let is_it = |p: &TopicPartition| p.partition == partition && &*p.topic == topic;
        self.open.iter().position(|range| is_it(&range.batch.partition))
    }

    fn receive(&mut self, place: usize, item: Item<'_>) -> ControlFlow<()> {
        self.heard = true;
        let range = &mut self.open[place];
        let trouble = match item {
            Item::Record { offset, timestamp_ms, key, value } if offset < range.end => {
                let (key, value) = if self.values { (key, value) } else { (None, None) };
                if offset >= range.batch.next {
                    range.batch.push(offset, timestamp_ms, key, value);
                }
                if range.batch.len() >= BATCH_RECORDS || range.batch.memory() >= BATCH_BYTES {
                    let rest = RawBatch::new(range.batch.partition.clone(), 0, range.batch.next);
                    self.ready.push(std::mem::replace(&mut range.batch, rest));
                }
                return ControlFlow::Continue(());
            }
            Item::Record { .. } => {
                range.passed = true;
                return ControlFlow::Continue(());
            }
            Item::End { next } if next >= range.end => {
                range.passed = true;
                return ControlFlow::Continue(());
            }
            Item::End { next: high } => Trouble::EndsEarly { high },
            Item::Error(error) => Trouble::Item(error),
        };
        self.error = Some((place, trouble));
        ControlFlow::Break(())
    }
}

/// Errors after which librdkafka would go on behind the records that it could not read.
pub(crate) fn is_damage(code: RDKafkaRespErr) -> bool {
    matches!(
        code,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__BAD_MSG
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR__BAD_COMPRESSION
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNDERFLOW
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_MSG
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
    )
}

/// The first records of a topic, at most `limit` in all, as the partitions offer them: what a schema is inferred from.
///
/// # Errors
/// As [`Reader::open`] and [`Reader::next`].
pub fn sample(
    brokers: &str,
    settings: &ClientSettings,
    topic: &str,
    limit: usize,
) -> Result<Vec<RawBatch>, Error> {
    let held = crate::admin::Admin::connect(brokers, settings)?.stable_watermarks(topic)?;
    let range =
        |(p, w): (&i32, &crate::Watermarks)| Range::new(TopicPartition::new(topic, *p), w.low, w.high);
    let mut reader = Reader::open(brokers, settings, held.iter().map(range).collect())?;
    let (mut batches, mut count) = (Vec::new(), 0);
    while count < limit
        && let Some(batch) = reader.next()?
    {
        let wanted = limit - count;
        let batch = if batch.len() > wanted { shorten(&batch, wanted) } else { batch };
        count += batch.len();
        batches.push(batch);
    }
    Ok(batches)
}

fn shorten(batch: &RawBatch, records: usize) -> RawBatch {
    let mut short = RawBatch::new(batch.partition.clone(), batch.generation, batch.from);
    batch.records().take(records).for_each(|r| short.push(r.offset, r.timestamp_ms, r.key, r.value));
    short
}
