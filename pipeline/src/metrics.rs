//! Counts, lag and latency of one run: for the Prometheus page, the progress bar and the summary.
//!
//! The run loop reports each event once, here; the log line of an event is written in the same place.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMillisecondType;
use hdrhistogram::Histogram;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use puddle_sink::{Committed, Room};
use puddle_types::metadata;

use crate::epoch::EpochCounts;
use crate::{Latency, Summary};

pub mod page;

/// How many distinct reasons for rejections a summary shows.
const REASONS_SHOWN: usize = 5;
/// Latencies above a day are recorded as a day: a replayed or skewed clock, not a slow pipeline.
const LATENCY_CAP_MS: u64 = 86_400_000;

type Labels = [(&'static str, String); 2];

/// The metrics of one run. All methods may be called from any thread.
pub struct Metrics {
    pipeline: String,
    registry: Registry,
    read: Counter,
    records: Counter,
    written: Counter,
    filtered: Counter,
    rejected: Counter,
    bytes_read: Counter,
    bytes_written: Counter,
    files: Counter,
    commits: Counter,
    lag: Family<Labels, Gauge>,
    last_commit: Gauge,
    p50: Gauge<f64, AtomicU64>,
    p99: Gauge<f64, AtomicU64>,
    lag_total: AtomicI64,
    paused: Gauge,
    stalled: Gauge,
    /// What hinders the run, in a few words.
    note: Mutex<Option<String>>,
    timed: Mutex<Timed>,
}

struct Timed {
    latency: Histogram<u64>,
    reasons: BTreeSet<String>,
    start: Instant,
    first_record: Option<Instant>,
    last_commit: Option<Instant>,
}

impl Metrics {
    /// Metrics of a run that begins now.
    pub fn new(pipeline: &str) -> Self {
        let mut registry =
            Registry::with_labels([("pipeline".into(), pipeline.to_owned().into())].into_iter());
        let mut counter = |name: &str, help: &str, unit: Option<Unit>| {
            let counter = Counter::default();
            match unit {
                Some(unit) => registry.register_with_unit(name, help, unit, counter.clone()),
                None => registry.register(name, help, counter.clone()),
            }
            counter
        };
        let read = counter("puddle_records_read", "Records read, committed or not", None);
        let records = counter("puddle_records_committed", "Records accounted for by a commit", None);
        let written = counter("puddle_records_written", "Records whose row is in the table", None);
        let filtered = counter("puddle_records_filtered", "Records that the SQL left out", None);
        let rejected = counter("puddle_records_rejected", "Records in the rejected table", None);
        let bytes_read = counter("puddle_read", "Keys and values read", Some(Unit::Bytes));
        let bytes_written = counter("puddle_written", "Files made visible", Some(Unit::Bytes));
        let files = counter("puddle_files", "Files made visible", None);
        let commits = counter("puddle_commits", "Commits made", None);
        let lag = Family::<Labels, Gauge>::default();
        registry.register(
            "puddle_lag_records",
            "Records of the topic that are not committed yet",
            lag.clone(),
        );
        let last_commit = Gauge::<i64, AtomicI64>::default();
        registry.register(
            "puddle_last_commit_timestamp_seconds",
            "When the last commit was made",
            last_commit.clone(),
        );
        let p50 = Gauge::<f64, AtomicU64>::default();
        registry.register(
            "puddle_latency_p50_seconds",
            "Record timestamp to visible row, median",
            p50.clone(),
        );
        let p99 = Gauge::<f64, AtomicU64>::default();
        registry.register(
            "puddle_latency_p99_seconds",
            "Record timestamp to visible row, 99th percentile",
            p99.clone(),
        );
        let paused = Gauge::<i64, AtomicI64>::default();
        registry.register(
            "puddle_paused",
            "1 while the disk is full and the run waits for room",
            paused.clone(),
        );
        let stalled = Gauge::<i64, AtomicI64>::default();
        registry.register(
            "puddle_stalled",
            "1 while records wait and nothing was committed for too long",
            stalled.clone(),
        );
        let latency = Histogram::new_with_bounds(1, LATENCY_CAP_MS, 3).expect("constant bounds are valid");
        Self {
            pipeline: pipeline.to_owned(),
            registry,
            read,
            records,
            written,
            filtered,
            rejected,
            bytes_read,
            bytes_written,
            files,
            commits,
            lag,
            last_commit,
            p50,
            p99,
            lag_total: AtomicI64::new(0),
            paused,
            stalled,
            note: Mutex::new(None),
            timed: Mutex::new(Timed {
                latency,
                reasons: BTreeSet::new(),
                start: Instant::now(),
                first_record: None,
                last_commit: None,
            }),
        }
    }

    /// Records arrived; they are not committed yet.
    pub(crate) fn on_read(&self, records: usize, bytes: usize) {
        if records > 0 {
            self.read.inc_by(records as u64);
            self.bytes_read.inc_by(bytes as u64);
            self.timed.lock().expect("metrics lock").first_record.get_or_insert_with(Instant::now);
        }
    }

    /// Records were rejected for these reasons.
    pub(crate) fn on_rejected(&self, rejected: &RecordBatch) {
        let Some(reasons) = rejected.column_by_name(metadata::REASON) else { return };
        let mut timed = self.timed.lock().expect("metrics lock");
        for reason in reasons.as_string::<i32>().iter().flatten() {
            if timed.reasons.len() >= REASONS_SHOWN {
                return;
            }
            if !timed.reasons.contains(reason) {
                tracing::warn!(
                    pipeline = self.pipeline,
                    reason,
                    "a record was rejected; further ones are counted"
                );
                timed.reasons.insert(reason.to_owned());
            }
        }
    }

    /// An epoch became visible at `now_ms` (milliseconds since 1970); `timestamps` are those of its records.
    pub(crate) fn on_commit<'a>(
        &self,
        counts: EpochCounts,
        committed: &Committed,
        timestamps: impl Iterator<Item = &'a dyn Array>,
        now_ms: i64,
    ) {
        tracing::debug!(
            pipeline = self.pipeline,
            epoch = committed.epoch,
            records = counts.records,
            written = counts.written,
            filtered = counts.filtered,
            rejected = counts.rejected,
            files = committed.files,
            "committed"
        );
        self.records.inc_by(counts.records);
        self.written.inc_by(counts.written);
        self.filtered.inc_by(counts.filtered);
        self.rejected.inc_by(counts.rejected);
        self.files.inc_by(committed.files as u64);
        self.bytes_written.inc_by(committed.bytes);
        self.commits.inc();
        self.last_commit.set(now_ms / 1000);
        let mut timed = self.timed.lock().expect("metrics lock");
        timed.last_commit = Some(Instant::now());
        for timestamps in timestamps {
            for timestamp in timestamps.as_primitive::<TimestampMillisecondType>().iter().flatten() {
                timed.latency.saturating_record(now_ms.saturating_sub(timestamp).max(1) as u64);
            }
        }
        if let Some(latency) = timed.latency() {
            self.p50.set(latency.p50_ms as f64 / 1000.0);
            self.p99.set(latency.p99_ms as f64 / 1000.0);
        }
    }

    /// How many records of each partition are not committed yet.
    pub(crate) fn on_lag<'a>(&self, lags: impl Iterator<Item = (&'a str, i32, i64)>) {
        let mut total = 0;
        for (topic, partition, lag) in lags {
            total += lag;
            self.lag
                .get_or_create(&[("topic", topic.to_owned()), ("partition", partition.to_string())])
                .set(lag);
        }
        self.lag_total.store(total, Ordering::Relaxed);
    }

    /// There is no room in the lake, and has not been for so long.
    pub(crate) fn on_full(
        &self,
        lake: &Path,
        room: Option<Room>,
        error: &puddle_sink::Error,
        since: Duration,
    ) {
        let room = room.map_or_else(|| "how much is free is not known".to_owned(), |room| room.to_string());
        tracing::warn!(
            pipeline = self.pipeline,
            error = error as &dyn std::error::Error,
            "paused: the disk of {} is full ({room}), for {} s now; what was not committed is read again when there \
             is room",
            lake.display(),
            since.as_secs(),
        );
        self.paused.set(1);
        *self.note.lock().expect("metrics lock") = Some("paused: disk full".to_owned());
    }

    /// There is room again, after so long.
    pub(crate) fn on_room(&self, after: Duration) {
        // As loud as what it puts an end to.
        tracing::warn!(
            pipeline = self.pipeline,
            "going on: there is room again, after {} s",
            after.as_secs()
        );
        self.paused.set(0);
        *self.note.lock().expect("metrics lock") = None;
    }

    /// An epoch could not be committed, so many times in a row.
    pub(crate) fn on_read_again(&self, error: &crate::Error, tries: u32) {
        // Once is what a rebalance or a restarted broker may bring. From then on it is said rarely: every tenth time.
        if tries == 3 || tries.is_multiple_of(10) {
            tracing::warn!(pipeline = self.pipeline, %error, tries, "the epoch is read again");
        } else {
            tracing::debug!(pipeline = self.pipeline, %error, tries, "the epoch is read again");
        }
    }

    /// Nothing was committed for so long, while so many records wait.
    pub(crate) fn on_stall(&self, time: Duration, lag: i64, reason: &str) {
        let seconds = time.as_secs();
        tracing::warn!(pipeline = self.pipeline, lag, "nothing was committed for {seconds} s: {reason}");
        self.stalled.set(1);
        *self.note.lock().expect("metrics lock") =
            Some(format!("nothing committed for {seconds} s: {reason}"));
    }

    /// The stall is over, after so long.
    pub(crate) fn on_moving(&self, after: Duration) {
        // As loud as what it puts an end to.
        tracing::warn!(pipeline = self.pipeline, "going on, after {} s", after.as_secs());
        self.stalled.set(0);
        *self.note.lock().expect("metrics lock") = None;
    }

    /// What hinders the run at the moment, in a few words: a full disk, or why nothing is committed.
    pub fn note(&self) -> Option<String> {
        self.note.lock().expect("metrics lock").clone()
    }

    /// Records read so far, committed or not.
    pub fn records_read(&self) -> u64 {
        self.read.get()
    }

    /// Records committed so far.
    pub fn records_committed(&self) -> u64 {
        self.records.get()
    }

    /// Records that are not committed yet, as far as is known.
    pub fn lag(&self) -> u64 {
        self.lag_total.load(Ordering::Relaxed).max(0) as u64
    }

    /// The page in Prometheus' text format (OpenMetrics).
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }

    /// What the run did so far.
    pub fn summary(&self, table: &str) -> Summary {
        let timed = self.timed.lock().expect("metrics lock");
        let end = timed.last_commit;
        let seconds = end.map_or(0.0, |end| end.duration_since(timed.start).as_secs_f64());
        let busy = match (timed.first_record, end) {
            (Some(first), Some(end)) => end.saturating_duration_since(first).as_secs_f64(),
            _ => 0.0,
        };
        Summary {
            pipeline: self.pipeline.clone(),
            table: table.to_owned(),
            records: self.records.get(),
            written: self.written.get(),
            filtered: self.filtered.get(),
            rejected: self.rejected.get(),
            reasons: timed.reasons.iter().cloned().collect(),
            bytes_read: self.bytes_read.get(),
            commits: self.commits.get(),
            files: self.files.get(),
            bytes_written: self.bytes_written.get(),
            seconds,
            first_record_s: timed.first_record.map(|first| first.duration_since(timed.start).as_secs_f64()),
            records_per_second: if busy > 0.0 { self.records.get() as f64 / busy } else { 0.0 },
            latency: timed.latency(),
            lag: self.lag(),
        }
    }
}

impl Timed {
    fn latency(&self) -> Option<Latency> {
        (!self.latency.is_empty()).then(|| Latency {
            p50_ms: self.latency.value_at_quantile(0.5),
            p99_ms: self.latency.value_at_quantile(0.99),
        })
    }
}
