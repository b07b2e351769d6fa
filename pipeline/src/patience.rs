//! How long a run puts up with what hinders it, and how often it says so.

use std::time::{Duration, Instant};

use puddle_ingest::DEFAULT_REVOKE_WAIT;

use crate::config::CommitConfig;

/// How long a run waits for room on a full disk before it ends: time for a person to notice and make room.
pub const DEFAULT_FULL: Duration = Duration::from_secs(3600);
/// The shortest time without a commit that a run explains, and how many `commit.every` it is at least.
pub const DEFAULT_STALL: Duration = Duration::from_secs(30);
const STALL_EPOCHS: u32 = 10;
/// The first pause after the disk was full, which doubles each time, and the longest.
pub const DEFAULT_FULL_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The same after another writer was faster.
pub const DEFAULT_STALE_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often in a row another writer may be faster. Two that both believe to have a partition know better after the
/// next heartbeat, and ten pauses take half a minute.
pub const DEFAULT_STALE_TRIES: u32 = 10;
/// The longest time between two lines that say the same.
const LONGEST_SILENCE: Duration = Duration::from_secs(600);

/// The bounds of a run on everything that it waits for.
#[derive(Clone, Debug)]
pub struct Patience {
    /// How long to wait for room ([`DEFAULT_FULL`]).
    pub full: Duration,
    /// The first and the longest pause while there is none ([`DEFAULT_FULL_PAUSE`]).
    pub full_pause: (Duration, Duration),
    /// How often in a row another writer may be faster ([`DEFAULT_STALE_TRIES`]).
    pub stale_tries: u32,
    /// The first and the longest pause after that ([`DEFAULT_STALE_PAUSE`]).
    pub stale_pause: (Duration, Duration),
    /// After how long without a commit to say why, while records wait: [`DEFAULT_STALL`], or ten times `commit.every`.
    pub stall: Duration,
    /// How long partitions that another member is to have wait for our commit ([`DEFAULT_REVOKE_WAIT`]).
    pub revoke: Duration,
}

impl Patience {
    /// The default bounds for a pipeline that commits like this.
    pub fn of(commit: &CommitConfig) -> Self {
        Self {
            full: DEFAULT_FULL,
            full_pause: DEFAULT_FULL_PAUSE,
            stale_tries: DEFAULT_STALE_TRIES,
            stale_pause: DEFAULT_STALE_PAUSE,
            stall: DEFAULT_STALL.max(commit.every.saturating_mul(STALL_EPOCHS)),
            revoke: DEFAULT_REVOKE_WAIT,
        }
    }
}

/// The pause before attempt `tries + 1`, where the first attempt is number 1.
pub(crate) fn pause(tries: u32, (first, longest): (Duration, Duration)) -> Duration {
    first.saturating_mul(1_u32 << tries.saturating_sub(1).min(16)).min(longest)
}

/// Says something at once, and again ever more rarely.
#[derive(Debug)]
pub(crate) struct Reminder {
    next: Instant,
    interval: Duration,
}

impl Reminder {
    /// Due from `first` on, again after `interval`, then after twice that, and so on.
    pub(crate) fn new(first: Instant, interval: Duration) -> Self {
        Self { next: first, interval }
    }

    /// Whether to say it now.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + self.interval;
        self.interval = self.interval.saturating_mul(2).min(LONGEST_SILENCE.max(self.interval));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let bounds = (Duration::from_secs(1), Duration::from_secs(30));
        let pauses: Vec<u64> = (1..=8).map(|tries| pause(tries, bounds).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(pause(u32::MAX, bounds).as_secs(), 30);
    }

    #[test]
    fn a_line_is_said_at_once_and_then_ever_more_rarely() {
        let start = Instant::now();
        let mut reminder = Reminder::new(start, Duration::from_secs(60));
        let said: Vec<u64> = (0..7200).filter(|s| reminder.is_due(start + Duration::from_secs(*s))).collect();
        assert_eq!(said[..5], [0, 60, 180, 420, 900]);
        assert!(said.windows(2).all(|pair| pair[1] - pair[0] <= LONGEST_SILENCE.as_secs()), "{said:?}");
    }

    #[test]
    fn a_pipeline_that_commits_rarely_is_not_said_to_stall() {
        let every = |seconds| CommitConfig { every: Duration::from_secs(seconds), ..CommitConfig::default() };
        assert_eq!(Patience::of(&every(1)).stall, DEFAULT_STALL);
        assert_eq!(Patience::of(&every(60)).stall, Duration::from_secs(600));
    }
}
