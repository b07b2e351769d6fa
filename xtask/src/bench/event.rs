//! What a contender says of its own progress: JSON lines on standard output.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

/// A line. `at` is in seconds since 1970; without it the line's arrival counts.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Event {
    /// The first record is there, or is about to be.
    Ready { at: Option<f64> },
    /// Records are visible: so many so far, or so many more.
    Committed { at: Option<f64>, records: Option<u64>, more: Option<u64> },
}

impl Event {
    /// The event of a line; `None` for anything else that a contender prints.
    pub(super) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

/// How far a contender is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Progress {
    /// When the first record was there, in seconds since 1970.
    pub(super) ready: Option<f64>,
    /// When the last commit was made.
    pub(super) last_commit: Option<f64>,
    /// Records that are visible.
    pub(super) committed: u64,
}

impl Progress {
    /// Takes note of an event that arrived `now`.
    pub(super) fn on(&mut self, event: Event, now: f64) {
        match event {
            Event::Ready { at } => self.ready = self.ready.or(Some(at.unwrap_or(now))),
            Event::Committed { at, records, more } => {
                self.last_commit = Some(at.unwrap_or(now));
                self.committed = records.unwrap_or(self.committed) + more.unwrap_or(0);
            }
        }
    }

    /// From ready to the last commit.
    pub(super) fn seconds(&self) -> Option<f64> {
        Some(self.last_commit? - self.ready?).filter(|seconds| *seconds > 0.0)
    }
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_are_events() {
        let ready = Event::parse(r#"{"event":"ready","at":1.5}"#).unwrap();
        assert_eq!(ready, Event::Ready { at: Some(1.5) });
        for other in ["", "hello", "{}", r#"{"event":"begun"}"#, r#"{"event":"ready","at":"now"}"#] {
            assert_eq!(Event::parse(other), None, "{other}");
        }
    }

    #[test]
    fn totals_and_increments_both_add_up() {
        let mut progress = Progress::default();
        let mut hear = |line: &str, now| {
            progress.on(Event::parse(line).unwrap(), now);
            progress
        };
        assert_eq!(hear(r#"{"event":"committed","more":5}"#, 1.0).seconds(), None, "it never was ready");
        hear(r#"{"event":"ready"}"#, 2.0);
        assert_eq!(hear(r#"{"event":"ready","at":1}"#, 3.0).ready, Some(2.0), "the first one counts");
        assert_eq!(hear(r#"{"event":"committed","at":4.0,"more":5}"#, 9.0).committed, 10);
        let end = hear(r#"{"event":"committed","at":6.0,"records":30}"#, 9.0);
        assert_eq!((end.committed, end.seconds()), (30, Some(4.0)));
    }
}
