//! The decode thread: raw batches become Arrow, everything else passes through in order.

use std::sync::mpsc::Receiver;

use puddle_types::{Batch, TopicPartition};
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

use super::Event;
use super::spare::Spare;
use crate::error::Error;
use crate::format::{Decoder, Unknown};
use crate::raw::RawBatch;

/// What the poll thread sends.
pub(super) enum Envelope {
    Batch(RawBatch),
    /// An event; with the partition and the generation it speaks of, if it means nothing after them.
    Event(Event, Option<(TopicPartition, u64)>),
    Failed(Error),
}

/// What the pipeline's side receives.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) event: Result<Event, Error>,
    /// The partition and the generation it speaks of, if it means nothing after them.
    pub(super) origin: Option<(TopicPartition, u64)>,
    /// What it takes of the budget.
    pub(super) cost: usize,
}

/// Runs until one of the two sides is gone. The channels have no bound of their own: the budget is their bound.
pub(super) fn decode(
    mut decoder: Decoder,
    raw: Receiver<Envelope>,
    spare: &Spare,
    events: UnboundedSender<Delivery>,
) {
    let receiver = events.clone();
    decoder.wait_while(move || !receiver.is_closed());
    let mut seen = Seen::default();
    for envelope in raw {
        let delivery = match envelope {
            Envelope::Batch(raw) => match decoder.decode(&raw) {
                Ok(batch) => {
                    if let Some(news) = seen.first(&decoder, &batch) {
                        warn!("{news}");
                    }
                    let origin = Some((raw.partition.clone(), raw.generation));
                    let cost = raw.memory();
                    spare.give_back(raw);
                    Delivery { event: Ok(Event::Batch(batch)), origin, cost }
                }
                Err(error) => {
                    let _ = events.send(Delivery { event: Err(error), origin: None, cost: raw.memory() });
                    break;
                }
            },
            Envelope::Event(event, origin) => Delivery { event: Ok(event), origin, cost: 0 },
            Envelope::Failed(error) => Delivery { event: Err(error), origin: None, cost: 0 },
        };
        if events.send(delivery).is_err() {
            break;
        }
    }
    if let Some(news) = seen.last(&decoder) {
        warn!("{news}");
    }
}

/// What there is to say of records with fields that are left out: once when the first come, and once how many they
/// were. Nothing where such records are rejected, for then each has its reason.
#[derive(Debug, Default)]
struct Seen {
    records: u64,
    /// Those with undeclared fields when it was said first.
    said: u64,
}

impl Seen {
    fn first(&mut self, decoder: &Decoder, batch: &Batch) -> Option<String> {
        self.records += batch.records() as u64;
        let Unknown { left_out, first, .. } = decoder.unknown_fields();
        if self.said > 0 || left_out == 0 {
            return None;
        }
        self.said = left_out;
        let (records, topic, first) = (self.records, &batch.partition.topic, first.unwrap_or_default());
        Some(format!(
            "{left_out} of the first {records} records have fields that the schema does not declare, such as \
             `{first}` of {topic}: left out"
        ))
    }

    fn last(&self, decoder: &Decoder) -> Option<String> {
        let left_out = decoder.unknown_fields().left_out;
        let records = self.records;
        (left_out > self.said)
            .then(|| format!("{left_out} of {records} records had fields that the schema does not declare"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::SchemaDecl;
    use crate::{IngestConfig, UnknownFields};

    /// What is said of two batches of these records, and then at the end.
    fn said(policy: UnknownFields, values: [&[&str]; 2]) -> [Option<String>; 3] {
        let schema: SchemaDecl = toml::from_str("id = 'int64'").unwrap();
        let mut config: IngestConfig = toml::from_str("topics = ['flights']").unwrap();
        config.unknown_fields = policy;
        let mut decoder = Decoder::new(&config, &schema).unwrap();
        let mut seen = Seen::default();
        let [first, second] = values.map(|values| {
            let mut raw = RawBatch::new(TopicPartition::new("flights", 0), 1, 0);
            for (offset, value) in values.iter().enumerate() {
                raw.push(offset as i64, None, None, Some(value.as_bytes()));
            }
            let batch = decoder.decode(&raw).unwrap();
            seen.first(&decoder, &batch)
        });
        [first, second, seen.last(&decoder)]
    }

    #[test]
    fn fields_that_are_left_out_are_told_of_at_first_and_at_the_end() {
        let odd = r#"{"id":1,"gate":{"a":1},"tail":2}"#;
        let values: [&[&str]; 2] = [&[r#"{"id":1}"#, odd, odd, r#"{"id":"x","y":1}"#], &[odd]];
        let [first, second, last] = said(UnknownFields::Ignore, values);
        let first = first.unwrap();
        assert!(first.contains("2 of the first 4") && first.contains("`gate` of flights"), "{first}");
        assert_eq!(second, None);
        let last = last.unwrap();
        assert!(last.contains("3 of 5"), "{last}");
        assert_eq!(said(UnknownFields::Reject, values), [None, None, None]);
        let [first, _, last] = said(UnknownFields::Ignore, [&[odd], &[]]);
        assert!(first.is_some() && last.is_none());
    }
}
