//! The decode thread: raw batches become Arrow, everything else passes through in order.

use std::sync::mpsc::Receiver;

use puddle_types::TopicPartition;
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

use super::Event;
use crate::error::Error;
use crate::json::Decoder;
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
pub(super) fn decode(mut decoder: Decoder, raw: Receiver<Envelope>, events: UnboundedSender<Delivery>) {
    let mut told = false;
    for envelope in raw {
        let delivery = match envelope {
            Envelope::Batch(raw) => {
                let batch = decoder.decode(&raw);
                told = told || tell_unknown_fields(&decoder, &raw.partition);
                let origin = Some((raw.partition.clone(), raw.generation));
                Delivery { event: Ok(Event::Batch(batch)), origin, cost: raw.memory() }
            }
            Envelope::Event(event, origin) => Delivery { event: Ok(event), origin, cost: 0 },
            Envelope::Failed(error) => Delivery { event: Err(error), origin: None, cost: 0 },
        };
        if events.send(delivery).is_err() {
            return;
        }
    }
}

/// Says once that records have fields which are left out; which ones is told by the first.
fn tell_unknown_fields(decoder: &Decoder, partition: &TopicPartition) -> bool {
    let unknown = decoder.unknown_fields();
    if let Some(first) = unknown.first {
        let topic = &partition.topic;
        warn!("records of {topic} have fields that the schema does not declare, such as `{first}`: left out");
    }
    unknown.first.is_some()
}
