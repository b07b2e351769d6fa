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

#[cfg(test)]
mod tests {
    use puddle_testkit::{Apache, Embedded, Record, produce, topics, unique};
    use rdkafka::config::ClientConfig;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::*;

    fn consumer(brokers: &str, isolation: &str) -> BaseConsumer<Context> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("isolation.level", isolation);
        config.create_with_context(Context::default()).unwrap()
    }

    /// A topic of 3 partitions, the first with 10 records and the others without any.
    fn topic(brokers: &str) -> (String, Vec<TopicPartition>) {
        let topic = unique("watermarks");
        topics::create(brokers, &topic, 3);
        produce(brokers, &topic, (0..10).map(|id| Record::new(id.to_string()).to(0)));
        // Not in the order in which librdkafka would list them.
        let partitions = [2, 0, 1].map(|partition| TopicPartition::new(&*topic, partition));
        (topic, partitions.into())
    }

    fn marks(low: Offset, high: Offset) -> Watermarks {
        Watermarks { low, high }
    }

    #[test]
    fn partitions_asked_together_answer_as_one_by_one() {
        let embedded = Embedded::start();
        let (_, partitions) = topic(&embedded.brokers());
        let consumer = consumer(&embedded.brokers(), "read_committed");
        let expected = vec![marks(0, 0), marks(0, 10), marks(0, 0)];
        assert_eq!(ask_together(&consumer, &partitions).unwrap(), Some(expected.clone()));
        for (partition, expected) in partitions.iter().zip(&expected) {
            assert_eq!(ask(&consumer, std::slice::from_ref(partition)).unwrap(), [*expected]);
        }
    }

    #[test]
    fn the_partition_in_trouble_is_named() {
        let embedded = Embedded::start();
        let (topic, mut partitions) = topic(&embedded.brokers());
        partitions.insert(1, TopicPartition::new(&*topic, 7));
        let consumer = consumer(&embedded.brokers(), "read_committed");
        let (partition, _) = ask(&consumer, &partitions).unwrap_err();
        assert_eq!(partition, partitions[1]);
    }

    #[test]
    fn apache_deleted_records_and_open_transactions_count_as_one_by_one() {
        let Some(apache) = Apache::shared() else { return };
        let brokers = apache.brokers();
        let (topic, partitions) = topic(brokers);
        topics::delete_records(brokers, &topic, 0, 4);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("transactional.id", unique("open"));
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(REQUEST_TIMEOUT).unwrap();
        producer.begin_transaction().unwrap();
        let record: BaseRecord<'_, (), _> = BaseRecord::to(&topic).partition(1).payload("open");
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(REQUEST_TIMEOUT).unwrap();
        for (isolation, end) in [("read_committed", 0), ("read_uncommitted", 1)] {
            let consumer = consumer(brokers, isolation);
            let expected = vec![marks(0, 0), marks(4, 10), marks(0, end)];
            assert_eq!(ask_together(&consumer, &partitions).unwrap(), Some(expected.clone()), "{isolation}");
            for (partition, expected) in partitions.iter().zip(&expected) {
                assert_eq!(ask(&consumer, std::slice::from_ref(partition)).unwrap(), [*expected]);
            }
        }
    }
}
