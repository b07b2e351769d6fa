//! Plays a data set into a topic: as fast as possible, at a rate, or as the events once happened.
//!
//! ```text
//! Parquet, CSV ─► Arrow ─► JSON objects ─┐
//!                                        ├─► pace ─► idempotent producer ─► topic
//! JSON, NDJSON ─► values as they are ────┘
//! ```
//!
//! ```no_run
//! # fn f() -> Result<(), puddle_ingest::Error> {
//! use std::path::Path;
//! use std::sync::atomic::AtomicBool;
//! use puddle_ingest::replay::{Dataset, Pace, Replay};
//!
//! let dataset = Dataset::open(Path::new("data/nycflights13/flights.parquet"))?;
//! let mut replay = Replay::new("127.0.0.1:9092", "flights");
//! replay.key = Some("carrier".into());
//! replay.pace = Pace::Rate(10_000.0);
//! let summary = replay.run(&dataset, |so_far| eprintln!("{} records", so_far.records), &AtomicBool::new(false))?;
//! println!("{} records in {:?}", summary.records, summary.elapsed);
//! # Ok(())
//! # }
//! ```

mod chunk;
mod collect;
mod csv;
mod dataset;
mod json;
mod lines;
mod produce;
mod schedule;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracing::warn;

pub use self::dataset::Dataset;
pub use self::schedule::Pace;

use self::chunk::{Chunk, Columns};
use self::produce::{Outcome, Sender};
use self::schedule::Schedule;
use crate::admin::{Admin, check_partitions};
use crate::client::ClientSettings;
use crate::config::check_topic_name;
use crate::error::Error;

/// How many partitions a topic gets that a replay creates: enough for a second member of a group to have work, and
/// for keys to show their effect.
pub const DEFAULT_PARTITIONS: i32 = 4;

/// How often progress is told, and cancelling is noticed, at the least.
const TICK: Duration = Duration::from_millis(100);

/// A replay: into which topic, what of the data set, and how fast.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Addresses of brokers, `host:port`, separated by commas.
    pub brokers: String,
    /// The topic; created if it does not exist.
    pub topic: String,
    /// Further librdkafka settings.
    pub client: ClientSettings,
    /// Only so many rows, from the first on; all by default.
    pub rows: Option<u64>,
    /// How many times over; once by default.
    pub repeat: u32,
    /// How fast; as fast as possible by default.
    pub pace: Pace,
    /// The column whose text becomes the records' key. Without it records have no key and are spread over the
    /// partitions.
    pub key: Option<String>,
    /// How many partitions the topic gets if it is created; [`DEFAULT_PARTITIONS`].
    pub partitions: i32,
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayProgress {
    /// Records handed to the producer.
    pub records: u64,
    /// Size of their keys and values, in bytes.
    pub bytes: u64,
    /// How many records it will be in the end, where the data set can tell.
    pub total: Option<u64>,
}

/// What a replay did. Every record that it counts as such was acknowledged by the broker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplaySummary {
    /// Records.
    pub records: u64,
    /// Size of their keys and values, in bytes.
    pub bytes: u64,
    /// From the first record's turn to the last acknowledgement.
    pub elapsed: Duration,
    /// Whether it was cancelled before its end.
    pub cancelled: bool,
    /// Records that were sent when it was cancelled, and not acknowledged: nobody knows whether the topic has them.
    pub unacknowledged: u64,
    /// Whether it created the topic.
    pub created: bool,
}

impl ReplaySummary {
    /// Records a second.
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

impl Replay {
    /// A replay of all rows, once, without keys, as fast as possible.
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: topic.into(),
            client: ClientSettings::default(),
            rows: None,
            repeat: 1,
            pace: Pace::AsFastAsPossible,
            key: None,
            partitions: DEFAULT_PARTITIONS,
        }
    }

    /// Runs it, and returns when the broker has acknowledged every record. `progress` is called about ten times a
    /// second; setting `cancel` ends the replay early and in order, within about a second whether a broker answers or not.
    ///
    /// # Errors
    /// Usage errors before anything is sent: [`Error::UnknownColumn`], [`Error::Pace`], [`Error::TopicName`],
    /// [`Error::Partitions`]. Then [`Error::Unreachable`]. After [`Error::Dataset`], [`Error::ReadDataset`],
    /// [`Error::RecordTooLarge`] and [`Error::Delivery`] some records are in the topic.
    pub fn run(
        &self,
        dataset: &Dataset,
        mut progress: impl FnMut(&ReplayProgress),
        cancel: &AtomicBool,
    ) -> Result<ReplaySummary, Error> {
        let columns = self.columns(dataset)?;
        let (created, max_message_bytes) = self.ensure_topic()?;
        let mut sender = Sender::new(self, max_message_bytes)?;
        let mut run = Run {
            begin: Instant::now(),
            schedule: Schedule::new(self.pace.clone()),
            so_far: ReplayProgress { total: self.total(dataset), ..Default::default() },
            told: Instant::now(),
        };
        let mut cancelled = false;
        for _ in 0..self.repeat {
            run.schedule.begin_pass(run.begin.elapsed());
            let mut left = self.rows.unwrap_or(u64::MAX);
            for chunk in dataset.chunks(&columns)? {
                let chunk = chunk?;
                let rows = left.min(chunk.len() as u64);
                cancelled = !run.send(&mut sender, &chunk, rows as usize, &mut progress, cancel)?;
                left -= rows;
                if left == 0 || cancelled {
                    break;
                }
            }
            if cancelled {
                break;
            }
        }
        let Outcome { records, bytes, .. } =
            sender.finish(&mut || run.is_cancelled(&mut progress, cancel))?;
        progress(&run.so_far);
        let unacknowledged = sender.sent() - records;
        if unacknowledged > 0 {
            cancelled = true;
            let topic = &self.topic;
            warn!(
                "{unacknowledged} records were sent to {topic} and not acknowledged: it may have them, or not"
            );
        }
        let elapsed = run.begin.elapsed();
        Ok(ReplaySummary { records, bytes, elapsed, cancelled, unacknowledged, created })
    }

    fn columns(&self, dataset: &Dataset) -> Result<Columns, Error> {
        check_topic_name(&self.topic)?;
        check_partitions(&self.topic, self.partitions)?;
        self.pace.validate()?;
        let time = match &self.pace {
            Pace::EventTime { column, .. } => Some(column),
            _ => None,
        };
        for column in self.key.iter().chain(time) {
            dataset.check_column(column)?;
        }
        Ok(Columns { key: self.key.clone(), time: time.cloned() })
    }

    /// Whether the topic was created, and the largest batch that it takes, if the cluster tells.
    fn ensure_topic(&self) -> Result<(bool, Option<u64>), Error> {
        let admin = Admin::connect(&self.brokers, &self.client)?;
        let created = match admin.partitions(&self.topic) {
            Ok(partitions) => {
                if let Some(news) = self.other_partitions(partitions.len()) {
                    warn!("{news}");
                }
                false
            }
            Err(Error::UnknownTopic { .. }) => match admin.create_topic(&self.topic, self.partitions) {
                Ok(()) => true,
                // Somebody was faster.
                Err(Error::TopicExists { .. }) => false,
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        };
        let max_message_bytes = admin.topic_setting(&self.topic, "max.message.bytes");
        Ok((created, max_message_bytes.and_then(|bytes| bytes.parse().ok())))
    }

    /// What to say of a topic that has another number of partitions than it was asked for. The default is nothing that
    /// somebody asked for.
    fn other_partitions(&self, existing: usize) -> Option<String> {
        let (topic, asked) = (&self.topic, self.partitions);
        (asked != DEFAULT_PARTITIONS && existing != asked as usize).then(|| {
            format!("the topic {topic} exists and keeps its {existing} partitions; {asked} were asked for")
        })
    }

    fn total(&self, dataset: &Dataset) -> Option<u64> {
        let rows = dataset.rows()?;
        Some(self.rows.map_or(rows, |wanted| wanted.min(rows)) * u64::from(self.repeat))
    }
}

/// A replay that is under way.
struct Run {
    begin: Instant,
    schedule: Schedule,
    so_far: ReplayProgress,
    told: Instant,
}

impl Run {
    /// Sends the first `rows` records of a chunk, each when its turn comes. Returns `false` when cancelled.
    fn send(
        &mut self,
        sender: &mut Sender<'_>,
        chunk: &Chunk,
        rows: usize,
        progress: &mut impl FnMut(&ReplayProgress),
        cancel: &AtomicBool,
    ) -> Result<bool, Error> {
        for (value, key, time) in chunk.records().take(rows) {
            if let Some(due) = self.schedule.due(time) {
                while let Some(wait) = due.checked_sub(self.begin.elapsed()).filter(|wait| !wait.is_zero()) {
                    sender.serve(wait.min(TICK));
                    if self.is_cancelled(progress, cancel) {
                        return Ok(false);
                    }
                }
            }
            let mut is_cancelled = || self.is_cancelled(progress, cancel);
            if !sender.send(key, value, &mut is_cancelled)? {
                return Ok(false);
            }
            self.so_far.records += 1;
            self.so_far.bytes += (value.len() + key.map_or(0, <[u8]>::len)) as u64;
            if self.so_far.records.is_multiple_of(1024) {
                let mut is_cancelled = || self.is_cancelled(progress, cancel);
                sender.check(&mut is_cancelled)?;
                if is_cancelled() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Also tells the progress, when it is time to.
    fn is_cancelled(&mut self, progress: &mut impl FnMut(&ReplayProgress), cancel: &AtomicBool) -> bool {
        self.tell(progress);
        cancel.load(Ordering::Relaxed)
    }

    fn tell(&mut self, progress: &mut impl FnMut(&ReplayProgress)) {
        if self.told.elapsed() >= TICK {
            progress(&self.so_far);
            self.told = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_partitions_than_asked_for_are_told() {
        let mut replay = Replay::new("127.0.0.1:1", "flights");
        assert_eq!(replay.other_partitions(2), None);
        replay.partitions = 3;
        assert_eq!(replay.other_partitions(3), None);
        let news = replay.other_partitions(2).unwrap();
        assert!(
            news.contains("flights") && news.contains("keeps its 2") && news.contains("3 were"),
            "{news}"
        );
    }
}
