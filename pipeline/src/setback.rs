//! What a run does when an epoch cannot be committed now: it throws the epoch away, waits, and reads it again.
//!
//! ```text
//!            full disk, another writer, no answer from the brokers
//! running ------------------------------> waiting --time is up--> running --commit--> forgotten
//!    ^                                       '---- bound reached ----> the run ends
//! ```
//!
//! The group is served all the while, so a full disk costs no partition.

use std::path::Path;
use std::time::Instant;

use puddle_sink::Room;

use crate::Error;
use crate::metrics::Metrics;
use crate::patience::{Patience, Reminder, pause};

/// One or more failures in a row, with no commit between them.
#[derive(Debug)]
pub(crate) struct Setback {
    cause: Cause,
    since: Instant,
    tries: u32,
    /// When to go on; `None` once that was tried.
    again: Option<Instant>,
    reminder: Reminder,
}

/// What may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// No room on the disk.
    Full,
    /// Another writer was faster.
    Stale,
    /// The brokers do not say whether the topics are the same. As for records, they are waited for without end.
    Unanswered,
}

impl Cause {
    fn of(error: &Error) -> Option<Cause> {
        match error {
            Error::Sink(error) if error.is_full() => Some(Self::Full),
            Error::Sink(error) if error.is_stale() => Some(Self::Stale),
            Error::Unanswered(_) => Some(Self::Unanswered),
            _ => None,
        }
    }
}

/// Whether an epoch that failed so is worth another try.
pub(crate) fn may_pass(error: &Error) -> bool {
    Cause::of(error).is_some()
}

impl Setback {
    /// A commit failed with `error`, after `before`.
    ///
    /// # Errors
    /// The same error, if it will not pass, or has not passed for too long.
    pub(crate) fn after(
        before: Option<Setback>,
        error: Error,
        lake: &Path,
        patience: &Patience,
        metrics: &Metrics,
    ) -> Result<Setback, Error> {
        let now = Instant::now();
        let Some(cause) = Cause::of(&error) else { return Err(error) };
        let mut setback = before.filter(|before| before.cause == cause).unwrap_or_else(|| Setback {
            cause,
            since: now,
            tries: 0,
            again: None,
            reminder: Reminder::new(now, std::time::Duration::from_secs(60)),
        });
        setback.tries += 1;
        let bounds = match (cause, error) {
            (Cause::Full, Error::Sink(source)) => {
                if now.duration_since(setback.since) >= patience.full {
                    return Err(Error::Lake { lake: lake.to_owned(), source });
                }
                if setback.reminder.is_due(now) {
                    metrics.on_full(lake, Room::at(lake).ok(), &source, now.duration_since(setback.since));
                }
                patience.full_pause
            }
            (Cause::Stale, error) if setback.tries > patience.stale_tries => return Err(error),
            (_, error) => {
                metrics.on_read_again(&error, setback.tries);
                patience.stale_pause
            }
        };
        setback.again = Some(now + pause(setback.tries, bounds));
        Ok(setback)
    }

    /// Until when to wait.
    pub(crate) fn again(&self) -> Option<Instant> {
        self.again
    }

    /// Whether the wait is over at `now`.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.again.is_some_and(|again| again <= now)
    }

    /// The epoch is read again; only a commit tells whether that helps.
    pub(crate) fn go_on(&mut self) {
        self.again = None;
    }

    /// Whether it says itself, again and again, that nothing is committed.
    pub(crate) fn is_said(&self) -> bool {
        self.cause == Cause::Full
    }

    /// A commit was made.
    pub(crate) fn passed(self, metrics: &Metrics) {
        if self.cause == Cause::Full {
            metrics.on_room(self.since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use puddle_sink::Error as SinkError;
    use puddle_types::TopicPartition;

    use super::*;
    use crate::config::CommitConfig;

    fn full() -> SinkError {
        let source = io::Error::from(io::ErrorKind::StorageFull);
        SinkError::Io { action: "write", path: "t".into(), source }
    }

    fn stale() -> SinkError {
        SinkError::Stale { partition: TopicPartition::new("t", 0), from: 1, found: 2 }
    }

    fn after(
        before: Option<Setback>,
        error: impl Into<Error>,
        patience: &Patience,
    ) -> Result<Setback, Error> {
        Setback::after(before, error.into(), Path::new("/"), patience, &Metrics::new("p"))
    }

    #[test]
    fn a_disk_that_stays_full_ends_the_run_in_the_end() {
        let patience = Patience { full: Duration::ZERO, ..Patience::of(&CommitConfig::default()) };
        let error = after(None, full(), &patience).unwrap_err();
        assert!(matches!(error, Error::Lake { .. }) && !error.is_usage(), "{error}");
    }

    #[test]
    fn another_writer_may_be_faster_so_often_and_no_more() {
        let patience = Patience::of(&CommitConfig::default());
        let mut setback = None;
        for _ in 0..patience.stale_tries {
            setback = Some(after(setback, stale(), &patience).unwrap());
        }
        assert!(setback.as_ref().is_some_and(|setback| !setback.is_over(Instant::now())));
        let error = after(setback, stale(), &patience).unwrap_err();
        assert!(matches!(error, Error::Sink(SinkError::Stale { .. })), "{error}");
    }

    #[test]
    fn what_will_not_pass_is_not_waited_for() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = SinkError::Io { action: "write", path: "t".into(), source };
        assert!(after(None, error, &Patience::of(&CommitConfig::default())).is_err());
    }

    #[test]
    fn brokers_that_do_not_answer_are_waited_for() {
        let patience = Patience::of(&CommitConfig::default());
        let mut setback = None;
        for _ in 0..10 * patience.stale_tries {
            let source = puddle_ingest::Error::Kafka { doing: "ask".into(), reason: "no answer".into() };
            setback = Some(after(setback, Error::Unanswered(source), &patience).unwrap());
        }
        assert!(setback.is_some_and(|setback| !setback.is_said()));
    }

    #[test]
    fn a_full_disk_after_a_faster_writer_is_counted_anew() {
        let patience = Patience::of(&CommitConfig::default());
        let before = after(None, stale(), &patience).unwrap();
        assert_eq!(after(Some(before), full(), &patience).unwrap().tries, 1);
    }
}
