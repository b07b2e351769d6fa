//! The events of a source, taken where they are worked on, while whoever commits keeps the [`Source`].
//!
//! ```text
//! Source ──take_events──► Events::next ─► another thread ─► Source::is_current? ─► the pipeline
//! ```
//!
//! Between the two a generation may end, so what was taken must be looked at again before it is used.

use std::mem;
use std::sync::{Arc, Mutex};

use puddle_types::TopicPartition;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::budget::Budget;
use super::decode::Delivery;
use super::shared::Shared;
use super::{Event, Source};
use crate::client::lock;
use crate::error::Error;

/// The events of one source, in their order.
#[derive(Debug)]
pub struct Events {
    deliveries: UnboundedReceiver<Delivery>,
    shared: Arc<Mutex<Shared>>,
    budget: Arc<Budget>,
}

/// The place of an event that was taken: the partition and the generation that it speaks of, if it means nothing after
/// them.
#[derive(Clone, Debug)]
pub struct Origin(Option<(TopicPartition, u64)>);

impl Events {
    /// The next event and where it stems from, as [`Source::next`] gives it. `None` after an error, and when the source is
    /// closed and its threads have ended, which they may fail to. Cancel-safe.
    pub async fn next(&mut self) -> Option<(Result<Event, Error>, Origin)> {
        loop {
            let Delivery { event, origin, cost } = self.deliveries.recv().await?;
            self.budget.give_back(cost);
            if is_current(&self.shared, &origin) {
                return Some((event, Origin(origin)));
            }
        }
    }
}

impl Source {
    /// Takes the events away, for a thread of their own. [`next`](Self::next) then has none: it waits for the source's
    /// end.
    pub fn take_events(&mut self) -> Events {
        let (_, none) = unbounded_channel();
        Events {
            deliveries: mem::replace(&mut self.events, none),
            shared: Arc::clone(&self.shared),
            budget: Arc::clone(&self.budget),
        }
    }

    /// Whether what stems from there still counts: no [`rewind`](Self::rewind), [`pause`](Self::pause) or loss of the
    /// partition came since.
    pub fn is_current(&self, origin: &Origin) -> bool {
        is_current(&self.shared, &origin.0)
    }
}

fn is_current(shared: &Mutex<Shared>, origin: &Option<(TopicPartition, u64)>) -> bool {
    origin.as_ref().is_none_or(|(partition, generation)| lock(shared).is_current(partition, *generation))
}
