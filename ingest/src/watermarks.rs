//! What partitions hold: their oldest offsets and their ends, asked from the brokers.

use std::time::Duration;

use puddle_types::{Offset, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use crate::client::{Context, REQUEST_TIMEOUT};
use crate::error::Error;
use crate::source::Watermarks;

/// How long all partitions may take together, before they are asked for one by one.
const TOGETHER: Duration = Duration::from_secs(3);

/// The watermarks of these partitions, in their order; the end is that of what the consumer's isolation level lets it
/// read. Waits while a leader is being elected, as just after a topic's creation.
///
/// Two requests a broker where all goes well, so that a topic of hundreds of partitions is not waited for. Only single
/// questions tell which partition is in trouble: then they are asked.
///
/// # Errors
/// The first partition whose watermarks nobody tells, and why.
pub(crate) fn ask(
    consumer: &BaseConsumer<Context>,
    partitions: &[TopicPartition],
) -> Result<Vec<Watermarks>, (TopicPartition, KafkaError)> {
    if partitions.len() > 1
        && let Ok(Some(all)) = ask_together(consumer, partitions)
    {
        return Ok(all);
    }
    let single = |p: &TopicPartition| match consumer.fetch_watermarks(&p.topic, p.partition, REQUEST_TIMEOUT)
    {
        Ok((low, high)) => Ok(Watermarks { low, high }),
        Err(error) => Err((p.clone(), error)),
    };
    partitions.iter().map(single).collect()
}

/// What [`ask`] says when it fails.
pub(crate) fn untold(partition: &TopicPartition, error: &KafkaError) -> Error {
    Error::kafka(format!("ask for the offsets that {partition} holds"), error)
}

/// `None` when a broker left a partition out.
fn ask_together(
    consumer: &BaseConsumer<Context>,
    partitions: &[TopicPartition],
) -> KafkaResult<Option<Vec<Watermarks>>> {
    let low = offsets(consumer, partitions, KafkaOffset::Beginning)?;
    let high = offsets(consumer, partitions, KafkaOffset::End)?;
    let both = low.into_iter().zip(high);
    Ok(both.map(|(low, high)| Some(Watermarks { low: low?, high: high? })).collect())
}

/// The offsets that these partitions have at one of their ends.
fn offsets(
    consumer: &BaseConsumer<Context>,
    partitions: &[TopicPartition],
    end: KafkaOffset,
) -> KafkaResult<Vec<Option<Offset>>> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        // A question for a time; Kafka's marks for "oldest" and "newest" are such times.
        list.add_partition_offset(&partition.topic, partition.partition, end)?;
    }
    let answer = consumer.offsets_for_times(list, TOGETHER)?;
    let offset = |p: &TopicPartition| {
        let element = answer.find_partition(&p.topic, p.partition)?;
        match (element.error(), element.offset()) {
            (Ok(()), KafkaOffset::Offset(offset)) => Some(offset),
            _ => None,
        }
    };
    Ok(partitions.iter().map(offset).collect())
}
