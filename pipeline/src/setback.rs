//! What a run does when its table cannot take an epoch now: it throws the epoch away, waits, and reads it again.
//!
//! ```text
//!            full disk, another writer
//! running ------------------------------> waiting --time is up--> running --commit--> forgotten
//!    ^                                       '---- bound reached ----> the run ends
//! ```
//!
//! The group is served all the while, so a full disk costs no partition.

use std::path::Path;
use std::time::Instant;

use puddle_sink::{Error as SinkError, Room};

use crate::Error;
use crate::metrics::Metrics;
use crate::patience::{Patience, Reminder, pause};

/// One or more failures in a row, with no commit between them.
#[derive(Debug)]
pub(crate) struct Setback {
    full: bool,
    since: Instant,
    tries: u32,
    /// When to go on; `None` once that was tried.
    again: Option<Instant>,
    reminder: Reminder,
}

impl Setback {
    /// The table failed with `error`, after `before`.
    ///
    /// # Errors
    /// The same error, if it will not pass, or has not passed for too long.
    pub(crate) fn after(
        before: Option<Setback>,
        error: SinkError,
        lake: &Path,
        patience: &Patience,
        metrics: &Metrics,
    ) -> Result<Setback, Error> {
        let (full, now) = (error.is_full(), Instant::now());
        if !full && !error.is_stale() {
            return Err(Error::Sink(error));
        }
        let mut setback = before.filter(|before| before.full == full).unwrap_or_else(|| Setback {
            full,
            since: now,
            tries: 0,
            again: None,
            reminder: Reminder::new(now, std::time::Duration::from_secs(60)),
        });
        setback.tries += 1;
        if full && now.duration_since(setback.since) >= patience.full {
            return Err(Error::Lake { lake: lake.to_owned(), source: error });
        }
        if !full && setback.tries > patience.stale_tries {
            return Err(Error::Sink(error));
        }
        let bounds = if full { patience.full_pause } else { patience.stale_pause };
        setback.again = Some(now + pause(setback.tries, bounds));
        if !full {
            metrics.on_stale(&error, setback.tries);
        } else if setback.reminder.is_due(now) {
            metrics.on_full(lake, Room::at(lake).ok(), &error, now.duration_since(setback.since));
        }
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

    /// A commit was made.
    pub(crate) fn passed(self, metrics: &Metrics) {
        if self.full {
            metrics.on_room(self.since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

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

    fn after(before: Option<Setback>, error: SinkError, patience: &Patience) -> Result<Setback, Error> {
        Setback::after(before, error, Path::new("/"), patience, &Metrics::new("p"))
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
    fn a_full_disk_after_a_faster_writer_is_counted_anew() {
        let patience = Patience::of(&CommitConfig::default());
        let before = after(None, stale(), &patience).unwrap();
        assert_eq!(after(Some(before), full(), &patience).unwrap().tries, 1);
    }
}
