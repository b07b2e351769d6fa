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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use puddle_types::{Offset, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use crate::client::{self, ClientSettings, Context};
use crate::error::{Error, reason};
use crate::queue::{Item, MessageQueue};
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
    open: BTreeMap<TopicPartition, Progressing>,
    ready: Vec<RawBatch>,
    values: bool,
    heard: Instant,
}

/// A range that is not read to its end.
struct Progressing {
    end: Offset,
    batch: RawBatch,
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
        let mut open = BTreeMap::new();
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
            let batch = RawBatch::new(partition.clone(), 0, from);
            open.insert(partition, Progressing { end: next, batch });
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
        let taken = self.queue.poll(Duration::from_millis(50));
        let mut ended = Vec::new();
        for run in taken.runs() {
            let partition = TopicPartition::new(run.topic, run.partition);
            let Some(range) = self.open.get_mut(&partition) else { continue };
            self.heard = Instant::now();
            for item in run.items() {
                match item {
                    Item::Record { offset, timestamp_ms, key, value } if offset < range.end => {
                        let (key, value) = if self.values { (key, value) } else { (None, None) };
                        if offset >= range.batch.next {
                            range.batch.push(offset, timestamp_ms, key, value);
                        }
                    }
                    Item::Record { .. } => ended.push(partition.clone()),
                    Item::End { next } if next >= range.end => ended.push(partition.clone()),
                    Item::End { next: high } => {
                        let (low, expected) = (range.batch.from, range.end - 1);
                        return Err(Error::Gap { partition, expected, low, high });
                    }
                    Item::Error { code, offset, text } => fail(&self.queue, &partition, code, offset, text)?,
                }
            }
            if range.batch.next >= range.end {
                ended.push(partition);
            } else if range.batch.len() >= BATCH_RECORDS || range.batch.memory() >= BATCH_BYTES {
                let rest = RawBatch::new(partition, 0, range.batch.next);
                self.ready.push(std::mem::replace(&mut range.batch, rest));
            }
        }
        drop(taken);
        for partition in ended {
            self.finish(&partition)?;
        }
        if self.heard.elapsed() >= STALL {
            let (partition, range) = self.open.first_key_value().expect("a range is open");
            let doing = format!("read {partition} from offset {}", range.batch.next);
            let reason = format!("nothing was heard for {} s; {}", STALL.as_secs(), self.last_reason());
            return Err(Error::Kafka { doing, reason });
        }
        // Handed out from the back: the oldest first.
        self.ready.reverse();
        Ok(())
    }

    /// Hands on what is left of a range, and fetches no more of its partition.
    fn finish(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        let Some(mut range) = self.open.remove(partition) else { return Ok(()) };
        range.batch.next = range.end;
        self.ready.push(range.batch);
        let mut done = TopicPartitionList::with_capacity(1);
        done.add_partition(&partition.topic, partition.partition);
        self.consumer
            .incremental_unassign(&done)
            .map_err(|error| Error::kafka(format!("finish {partition}"), &error))
    }

    fn last_reason(&self) -> String {
        self.consumer.context().last_reason()
    }
}

/// Turns a partition's error into ours, unless librdkafka will try again by itself.
fn fail(
    queue: &MessageQueue,
    partition: &TopicPartition,
    code: RDKafkaRespErr,
    offset: Offset,
    text: String,
) -> Result<(), Error> {
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET => {
            let (low, high) = queue.watermarks(partition).unwrap_or_default();
            Err(Error::Gap { partition: partition.clone(), expected: offset, low, high })
        }
        code if is_damage(code) => {
            Err(Error::Kafka { doing: format!("read offset {offset} of {partition}"), reason: text })
        }
        _ => {
            tracing::debug!("{partition} at offset {offset}: {text}");
            Ok(())
        }
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
