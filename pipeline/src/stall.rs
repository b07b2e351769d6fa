//! No silent stall: says why nothing was committed for too long while records wait.
//!
//! ```text
//! run loop --Facts, Doing, commits--> Watch <--look, every second-- a task of its own
//!                                       '--> one warning, again ever more rarely; one line when it goes on
//! ```
//!
//! The watch has its own task because the loop itself may be what is stuck, in SQL or on a disk that hangs.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use puddle_ingest::Outage;
use puddle_types::{Offset, TopicPartition};
use tokio::task::JoinHandle;

use crate::metrics::Metrics;
use crate::patience::Reminder;

/// How often the watch looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a thread of the run is busy with: the run loop, or that of the SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Sql,
    /// Reads the raw values of rejected records again.
    Reread,
    Write,
    Commit,
}

/// What the run loop knows of what hinders it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Records of our partitions that are not committed yet, as far as known.
    pub(crate) lag: i64,
    /// How many partitions are ours.
    pub(crate) ours: usize,
    /// Whether the group has said that none is for us.
    pub(crate) spare: bool,
    /// Partitions of others that are to be waited for.
    pub(crate) others: usize,
    /// No broker answers.
    pub(crate) outage: Option<Outage>,
    /// A partition of which all that may be read is committed, and which holds more.
    pub(crate) transaction: Option<(TopicPartition, Offset)>,
    /// Whether the run waits for its table, which it tells by itself.
    pub(crate) set_back: bool,
}

impl Facts {
    /// Whether there is something to commit, as far as anybody can tell.
    fn is_waiting(&self) -> bool {
        let unknown = self.outage.is_some() || (self.ours == 0 && !self.spare);
        !self.set_back && (self.lag > 0 || self.others > 0 || unknown)
    }
}

/// Why nothing is committed.
struct Reason<'a> {
    facts: &'a Facts,
    doing: Option<(Doing, Duration)>,
    brokers: &'a str,
    group: &'a str,
    now: Instant,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { facts, brokers, group, .. } = self;
        if let Some((doing, time)) = self.doing.filter(|(_, time)| *time >= BUSY) {
            let what = match doing {
                Doing::Sql => "the SQL has been at work on one batch",
                Doing::Reread => "the raw values of rejected records have been read again from the broker",
                Doing::Write => "rows have been written to the disk",
                Doing::Commit => "one commit has been waiting for the disk or the broker",
            };
            return write!(f, "{what} for {} s", time.as_secs());
        }
        if let Some(Outage { since, reason }) = &facts.outage {
            let seconds = self.now.saturating_duration_since(*since).as_secs();
            write!(f, "no broker has answered at {brokers} for {seconds} s")?;
            return if reason.is_empty() { Ok(()) } else { write!(f, " ({reason})") };
        }
        if facts.ours == 0 && !facts.spare {
            return write!(
                f,
                "no partition is assigned to us: the group {group:?} is dividing them, or waits for a member that has \
                 died (session.timeout.ms of [ingest.client], 45 s by default)"
            );
        }
        if let Some((partition, offset)) = &facts.transaction {
            return write!(
                f,
                "{partition} waits at offset {offset} for a producer to end its transaction \
                 (transaction.timeout.ms of the producer bounds it)"
            );
        }
        if facts.lag > 0 {
            return write!(f, "no record comes, although a broker answers at {brokers}");
        }
        write!(f, "other runs of the pipeline have not committed {} partitions yet", facts.others)
    }
}

/// From then on what the loop is doing is the reason, and not a moment of ordinary work.
const BUSY: Duration = Duration::from_secs(1);

/// Watches one run.
#[derive(Clone)]
pub(crate) struct Watch {
    state: Arc<Mutex<State>>,
    metrics: Arc<Metrics>,
    brokers: Arc<str>,
    group: Arc<str>,
    patience: Duration,
}

struct State {
    facts: Facts,
    /// At most one thing for each thread of the run.
    doing: Vec<(Doing, Instant)>,
    /// Since when there was no commit while something waited.
    quiet: Instant,
    reminder: Option<Reminder>,
    told: bool,
}

impl Watch {
    /// Watches a run of `group` that begins now; a stall begins after `patience`.
    pub(crate) fn new(metrics: Arc<Metrics>, brokers: &str, group: &str, patience: Duration) -> Self {
        let state = State {
            facts: Facts::default(),
            doing: Vec::new(),
            quiet: Instant::now(),
            reminder: None,
            told: false,
        };
        let state = Arc::new(Mutex::new(state));
        Self { state, metrics, brokers: brokers.into(), group: group.into(), patience }
    }

    /// Looks by itself until the guard is dropped. To be called within a runtime.
    pub(crate) fn start(&self) -> Looking {
        let watch = self.clone();
        Looking(tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                watch.look(Instant::now());
            }
        }))
    }

    /// What hinders the run, by now.
    pub(crate) fn note(&self, facts: Facts) {
        let waiting = facts.is_waiting();
        self.lock().facts = facts;
        if !waiting {
            self.moved();
        }
    }

    /// What a thread of the run does from here to the end of `work`.
    pub(crate) fn during<T>(&self, doing: Doing, work: impl FnOnce() -> T) -> T {
        self.begin(doing);
        let done = work();
        self.end(doing);
        done
    }

    /// What a thread of the run does from here to [`end`](Self::end).
    pub(crate) fn begin(&self, doing: Doing) {
        self.lock().doing.push((doing, Instant::now()));
    }

    pub(crate) fn end(&self, doing: Doing) {
        self.lock().doing.retain(|(other, _)| *other != doing);
    }

    /// Something was committed, or nothing waits.
    pub(crate) fn moved(&self) {
        let mut state = self.lock();
        let quiet = std::mem::replace(&mut state.quiet, Instant::now()).elapsed();
        state.reminder = None;
        if std::mem::take(&mut state.told) {
            self.metrics.on_moving(quiet);
        }
    }

    fn look(&self, now: Instant) {
        let patience = self.patience;
        let mut state = self.lock();
        let State { facts, doing, quiet, reminder, told } = &mut *state;
        let time = now.saturating_duration_since(*quiet);
        // Of two, the one that takes longer is what the other waits for.
        let longest = doing.iter().min_by_key(|(_, since)| *since);
        let doing = longest.map(|(doing, since)| (*doing, now.saturating_duration_since(*since)));
        if time < patience || (!facts.is_waiting() && doing.is_none()) || facts.set_back {
            return;
        }
        if reminder.get_or_insert_with(|| Reminder::new(now, patience)).is_due(now) {
            let reason = Reason { facts, doing, brokers: &self.brokers, group: &self.group, now }.to_string();
            self.metrics.on_stall(time, facts.lag, &reason);
            *told = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the watch's task when dropped.
pub(crate) struct Looking(JoinHandle<()>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn watch() -> Watch {
        Watch::new(Arc::new(Metrics::new("p")), "127.0.0.1:9", "puddle-p", PATIENCE)
    }

    /// What is said after so many seconds of these facts.
    fn said(watch: &Watch, seconds: u64) -> Option<String> {
        watch.look(Instant::now() + Duration::from_secs(seconds));
        watch.metrics.note()
    }

    #[test]
    fn each_reason_is_told_and_only_after_a_while() {
        let lag = Facts { lag: 7, ours: 1, ..Facts::default() };
        let outage = Outage { since: Instant::now(), reason: "Connection refused".into() };
        let transaction = Some((TopicPartition::new("t", 3), 42));
        for (facts, expected) in [
            (Facts { outage: Some(outage), ours: 1, ..Facts::default() }, "Connection refused"),
            (Facts::default(), "no partition is assigned"),
            (Facts { transaction, ..lag.clone() }, "t-3 waits at offset 42"),
            (lag.clone(), "no record comes"),
            (Facts { others: 2, spare: true, ..Facts::default() }, "2 partitions"),
        ] {
            let watch = watch();
            watch.note(facts);
            assert_eq!(said(&watch, 29), None);
            let text = said(&watch, 31).unwrap();
            assert!(text.contains(expected), "{text}");
            watch.moved();
            assert_eq!(watch.metrics.note(), None, "it goes on again");
        }
    }

    #[test]
    fn nothing_is_said_where_nothing_waits() {
        for facts in [
            Facts { ours: 1, ..Facts::default() },
            Facts { spare: true, ..Facts::default() },
            Facts { lag: 7, set_back: true, ..Facts::default() },
        ] {
            let watch = watch();
            watch.note(facts.clone());
            assert_eq!(said(&watch, 3_600), None, "{facts:?}");
        }
    }

    #[test]
    fn work_that_does_not_end_is_the_reason() {
        let watch = watch();
        watch.note(Facts { ours: 1, ..Facts::default() });
        watch.during(Doing::Sql, || {
            let text = said(&watch, 31).unwrap();
            assert!(text.contains("the SQL") && text.contains("31 s"), "{text}");
        });
    }

    #[test]
    fn of_two_threads_the_one_that_has_been_at_work_for_longer_is_the_reason() {
        let watch = watch();
        watch.note(Facts { ours: 1, ..Facts::default() });
        watch.begin(Doing::Commit);
        watch.during(Doing::Sql, || {});
        watch.begin(Doing::Sql);
        let text = said(&watch, 31).unwrap();
        assert!(text.contains("commit"), "{text}");
        watch.end(Doing::Commit);
        let text = said(&watch, 3_600).unwrap();
        assert!(text.contains("the SQL"), "{text}");
    }
}
