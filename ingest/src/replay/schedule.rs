//! When each record's turn comes. Pure: time goes in and comes out as durations since the replay began.

use std::time::Duration;

use crate::error::Error;

/// How fast a data set is replayed.
#[derive(Clone, Debug, PartialEq)]
pub enum Pace {
    /// As fast as the broker takes it.
    AsFastAsPossible,
    /// So many records a second, evenly.
    Rate(f64),
    /// As the events happened: the first record at once, each other one as much later as its event was.
    EventTime {
        /// The column with the events' time.
        column: String,
        /// How many times faster than it happened.
        multiple: f64,
    },
}

impl Pace {
    pub(super) fn validate(&self) -> Result<(), Error> {
        let possible = |x: f64| x.is_finite() && x > 0.0;
        match self {
            Pace::Rate(rate) if !possible(*rate) => {
                Err(Error::Pace { reason: "must be a number of records a second above 0" })
            }
            Pace::EventTime { multiple, .. } if !possible(*multiple) => {
                Err(Error::Pace { reason: "must be a multiple of event time above 0" })
            }
            _ => Ok(()),
        }
    }
}

/// Hands out turns.
#[derive(Debug)]
pub(super) struct Schedule {
    pace: Pace,
    given: u64,
    pass_begin: Duration,
    first_event: Option<i64>,
    newest: Duration,
}

/// No record waits longer: a century, so that sums of durations cannot overflow.
const FOREVER_SECONDS: f64 = 100.0 * 365.25 * 86_400.0;

impl Schedule {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, given: 0, pass_begin: Duration::ZERO, first_event: None, newest: Duration::ZERO }
    }

    /// The data set begins (again): its first event is now.
    pub(super) fn begin_pass(&mut self, now: Duration) {
        self.pass_begin = now;
        self.newest = now;
        self.first_event = None;
    }

    /// When the next record is due; `None` is at once. `event_ms` is its event's time, in milliseconds since 1970. A
    /// record without one goes with the record before it, and so does one that is out of order: time does not run
    /// backwards.
    pub(super) fn due(&mut self, event_ms: Option<i64>) -> Option<Duration> {
        let given = self.given;
        self.given += 1;
        match &self.pace {
            Pace::AsFastAsPossible => None,
            Pace::Rate(rate) => Some(seconds(given as f64 / rate)),
            Pace::EventTime { multiple, .. } => {
                if let Some(event) = event_ms {
                    let first = *self.first_event.get_or_insert(event);
                    let later = event.saturating_sub(first) as f64 / 1000.0 / multiple;
                    self.newest = self.newest.max(self.pass_begin + seconds(later));
                }
                Some(self.newest)
            }
        }
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, FOREVER_SECONDS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event_time(multiple: f64) -> Schedule {
        Schedule::new(Pace::EventTime { column: "at".into(), multiple })
    }

    #[test]
    fn a_rate_spreads_records_evenly_whatever_the_batches() {
        let mut schedule = Schedule::new(Pace::Rate(4.0));
        let turns: Vec<_> = (0..6).map(|_| schedule.due(None).unwrap().as_millis()).collect();
        assert_eq!(turns, [0, 250, 500, 750, 1000, 1250]);
    }

    #[test]
    fn a_rate_goes_on_evenly_over_passes() {
        let mut schedule = Schedule::new(Pace::Rate(10.0));
        schedule.due(None);
        schedule.begin_pass(Duration::from_millis(90));
        assert_eq!(schedule.due(None), Some(Duration::from_millis(100)));
    }

    #[test]
    fn event_time_keeps_the_distances_divided_by_the_multiple() {
        let mut schedule = event_time(60.0);
        let events = [1_000_000, 1_060_000, 1_060_000, 1_180_000];
        let turns: Vec<_> = events.iter().map(|e| schedule.due(Some(*e)).unwrap().as_secs()).collect();
        assert_eq!(turns, [0, 1, 1, 3]);
    }

    #[test]
    fn events_without_time_or_out_of_order_do_not_hold_up_the_rest() {
        let mut schedule = event_time(1.0);
        assert_eq!(schedule.due(None), Some(Duration::ZERO));
        schedule.due(Some(10_000));
        assert_eq!(schedule.due(Some(15_000)), Some(Duration::from_secs(5)));
        assert_eq!(schedule.due(None), Some(Duration::from_secs(5)));
        assert_eq!(schedule.due(Some(3_000)), Some(Duration::from_secs(5)));
        assert_eq!(schedule.due(Some(16_000)), Some(Duration::from_secs(6)));
    }

    #[test]
    fn another_pass_begins_now() {
        let mut schedule = event_time(1.0);
        schedule.due(Some(1_000));
        schedule.due(Some(9_000));
        schedule.begin_pass(Duration::from_secs(8));
        assert_eq!(schedule.due(Some(1_000)), Some(Duration::from_secs(8)));
        assert_eq!(schedule.due(Some(2_000)), Some(Duration::from_secs(9)));
    }

    #[test]
    fn impossible_paces_are_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Pace::Rate(bad).validate().unwrap_err().is_usage());
            let pace = Pace::EventTime { column: "at".into(), multiple: bad };
            assert!(pace.validate().unwrap_err().is_usage());
        }
        Pace::Rate(0.5).validate().unwrap();
    }

    proptest! {
        #[test]
        fn turns_never_go_back_and_never_overflow(
            events in prop::collection::vec(prop::option::of(any::<i64>()), 1..50),
            multiple in 1e-9..1e9,
        ) {
            let mut schedule = event_time(multiple);
            let turns: Vec<_> = events.into_iter().map(|event| schedule.due(event).unwrap()).collect();
            prop_assert!(turns.is_sorted());
        }
    }
}
