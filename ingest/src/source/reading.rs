//! From the records queue into batches: what the poll thread does with each message.

use std::ops::ControlFlow;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::Event;
use super::budget::Budget;
use super::decode::Envelope;
use super::held::Partitions;
use super::spare::Spare;
use crate::queue::{Item, ItemError, Receive};
use crate::raw::RawBatch;

/// One look at the queue.
pub(super) struct Reading<'p> {
    partitions: &'p mut Partitions,
    budget: &'p Budget,
    out: &'p Sender<Envelope>,
    spare: &'p Spare,
    /// When batches that begin now began.
    now: Instant,
    /// Bytes that were taken, and that the budget was not told of yet.
    untold: usize,
    /// Why it ended before the queue did.
    pub(super) end: Option<End>,
}

pub(super) enum End {
    /// Nobody wants batches any more.
    Closed,
    /// Something is wrong with the partition at a place.
    Error(usize, ItemError),
}

impl<'p> Reading<'p> {
    pub(super) fn new(
        partitions: &'p mut Partitions,
        budget: &'p Budget,
        spare: &'p Spare,
        out: &'p Sender<Envelope>,
    ) -> Self {
        Self { partitions, budget, out, spare, now: Instant::now(), untold: 0, end: None }
    }

    /// Hands a batch on at once, so that it is decoded while others are filled.
    fn hand_on(&mut self, batch: Option<RawBatch>) -> ControlFlow<()> {
        match batch {
            Some(batch) => self.send(Envelope::Batch(batch)),
            None => ControlFlow::Continue(()),
        }
    }

    fn send(&mut self, envelope: Envelope) -> ControlFlow<()> {
        // First, for whoever takes the batch gives back what it weighs.
        self.tell();
        if self.out.send(envelope).is_ok() {
            return ControlFlow::Continue(());
        }
        self.end = Some(End::Closed);
        ControlFlow::Break(())
    }

    fn tell(&mut self) {
        if self.untold > 0 {
            self.budget.spend(std::mem::take(&mut self.untold));
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.tell();
    }
}

impl Receive for Reading<'_> {
    /// No place: a partition that was just given up, of which librdkafka drops most records itself.
    fn find(&self, topic: &str, partition: i32) -> Option<usize> {
        self.partitions.place(topic, partition)
    }

    fn receive(&mut self, place: usize, item: Item<'_>) -> ControlFlow<()> {
        let held = self.partitions.at(place);
        match item {
            Item::Record { offset, timestamp_ms, key, value } => {
                self.untold += held.push(offset, timestamp_ms, key, value, self.now, self.spare);
                // After each record: a few of 20 MB would overflow what a batch can address.
                match held.is_full() {
                    true => {
                        let batch = held.take();
                        self.hand_on(batch)
                    }
                    false => ControlFlow::Continue(()),
                }
            }
            Item::End { next } => {
                held.skip_to(next);
                let (batch, partition, next) = (held.take(), held.partition.clone(), held.next);
                let origin = Some((partition.clone(), held.generation));
                self.hand_on(batch)?;
                self.send(Envelope::Event(Event::EndOfPartition { partition, next }, origin))
            }
            Item::Error(error) => {
                self.end = Some(End::Error(place, error));
                ControlFlow::Break(())
            }
        }
    }
}
