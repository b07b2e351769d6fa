//! The SQL's own thread, between the source and the run loop.
//!
//! ```text
//! Source --Events--> puddle-transform --Staged, in the same order--> run loop
//!                    batches go through the SQL, all else passes
//! ```
//!
//! So the SQL goes on while the loop writes, and while a commit waits for the disk. What is ready and not taken yet is
//! bounded in bytes; when the bound is reached, the source's own fills up behind it.
//!
//! A generation may end while a batch waits here. The loop learns of what it takes only if it still counts.

use std::sync::Arc;
use std::thread::JoinHandle;

use arrow::array::RecordBatch;
use puddle_ingest::{Event, Events, Origin, Source};
use puddle_transform::{Rejected, Transform};
use puddle_types::{Batch, metadata};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Error;
use crate::stall::{Doing, Watch};

/// How many bytes of rows may be ready and not taken yet: some 200,000 of the flights, which is what is read at full
/// speed while a commit waits for a disk.
const READY_BYTES: usize = 32 << 20;
/// The unit in which they are counted.
const UNIT: usize = 1 << 10;

/// What the run loop is told.
pub(super) enum Work {
    /// A batch and what the SQL made of it.
    Batch(Transformed),
    /// What the source says, but for batches.
    Event(Event),
}

/// A batch that went through the SQL.
pub(super) struct Transformed {
    /// Of the rows, only the metadata columns are left.
    pub(super) batch: Batch,
    /// The rows of the table.
    pub(super) rows: RecordBatch,
    /// The records that the SQL failed on.
    pub(super) failed: Vec<Rejected>,
}

struct Staged {
    work: Result<Work, Error>,
    origin: Origin,
    /// Its part of what may be ready.
    _room: Option<OwnedSemaphorePermit>,
}

/// The thread and what it has made ready.
pub(super) struct Stage {
    ready: UnboundedReceiver<Staged>,
    thread: JoinHandle<Transform>,
}

impl Stage {
    /// Starts the thread. To be called within a runtime.
    pub(super) fn start(transform: Transform, events: Events, watch: Watch) -> Result<Self, Error> {
        let (sender, ready) = unbounded_channel();
        let runtime = Handle::current();
        let thread = std::thread::Builder::new().name("puddle-transform".to_owned());
        let thread = thread.spawn(move || run(transform, events, &sender, &watch, &runtime));
        let failed = |error: std::io::Error| puddle_ingest::Error::Kafka {
            doing: "start a thread".into(),
            reason: error.to_string(),
        };
        Ok(Self { ready, thread: thread.map_err(failed)? })
    }

    /// What comes next and still counts; `None` after an error. Cancel-safe.
    pub(super) async fn next(&mut self, source: &Source) -> Option<Result<Work, Error>> {
        loop {
            let Staged { work, origin, .. } = self.ready.recv().await?;
            if source.is_current(&origin) {
                return Some(work);
            }
        }
    }

    /// Throws away what is ready, leaves the group, and ends the thread. Blocks until a batch that is at work is through.
    pub(super) fn close(self, source: Source) -> Transform {
        let Self { ready, thread } = self;
        // Ends the thread, whether the source's own end or not. The source may wait for an `Ack` that it holds.
        drop(ready);
        let transform = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        source.close();
        transform
    }
}

fn run(
    mut transform: Transform,
    mut events: Events,
    ready: &UnboundedSender<Staged>,
    watch: &Watch,
    runtime: &Handle,
) -> Transform {
    let room = Arc::new(Semaphore::new(READY_BYTES / UNIT));
    let mut next = || {
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = ready.closed() => None,
                event = events.next() => event,
            }
        })
    };
    while let Some((event, origin)) = next() {
        let work = match event {
            Ok(Event::Batch(batch)) => {
                watch.during(Doing::Sql, || apply(&mut transform, batch)).map(Work::Batch)
            }
            Ok(other) => Ok(Work::Event(other)),
            Err(error) => Err(error.into()),
        };
        let units = match &work {
            // One that is larger than all there is goes alone.
            Ok(Work::Batch(batch)) => (batch.bytes() / UNIT).min(READY_BYTES / UNIT) as u32,
            _ => 0,
        };
        // Whoever takes the rows, or throws them away, makes room.
        let room = runtime.block_on(Arc::clone(&room).acquire_many_owned(units)).ok();
        if ready.send(Staged { work, origin, _room: room }).is_err() {
            break;
        }
    }
    transform
}

fn apply(transform: &mut Transform, batch: Batch) -> Result<Transformed, Error> {
    let (rows, failed) = transform.apply_or_reject(&batch.rows)?;
    let schema = batch.rows.schema_ref();
    let kept: Vec<usize> =
        metadata::fields().iter().filter_map(|field| schema.index_of(field.name()).ok()).collect();
    let batch = Batch { rows: batch.rows.project(&kept).expect("the columns are its own"), ..batch };
    Ok(Transformed { batch, rows, failed })
}

impl Transformed {
    fn bytes(&self) -> usize {
        let parts = [&self.rows, &self.batch.rows, &self.batch.rejected];
        parts.iter().map(|rows| rows.get_array_memory_size()).sum()
    }
}
