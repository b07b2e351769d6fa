//! The bound on what was read and not taken yet, in bytes.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Counts the bytes between the poll loop, which spends, and the pipeline, which gives back.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    spent: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, spent: Mutex::new(0), freed: Condvar::new() }
    }

    /// Spends, even beyond the limit: what librdkafka handed over is in memory already.
    pub(super) fn spend(&self, bytes: usize) {
        *self.lock() += bytes;
    }

    pub(super) fn give_back(&self, bytes: usize) {
        let mut spent = self.lock();
        debug_assert!(*spent >= bytes);
        *spent = spent.saturating_sub(bytes);
        if *spent < self.limit {
            self.freed.notify_one();
        }
    }

    /// Whether there is something left; waits up to `patience` for it.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let exhausted = |spent: &mut usize| *spent >= self.limit;
        let result = self.freed.wait_timeout_while(self.lock(), patience, exhausted);
        !result.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    pub(super) fn spent(&self) -> usize {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, usize> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_beyond_the_limit_must_come_back_first() {
        let budget = Budget::new(10);
        assert!(budget.wait(Duration::ZERO));
        budget.spend(25);
        assert!(!budget.wait(Duration::ZERO));
        budget.give_back(15);
        assert!(!budget.wait(Duration::ZERO), "10 of 10 are still spent");
        budget.give_back(1);
        assert!(budget.wait(Duration::ZERO));
        assert_eq!(budget.spent(), 9);
    }

    #[test]
    fn giving_back_wakes_the_waiting() {
        let budget = Budget::new(1);
        budget.spend(1);
        std::thread::scope(|scope| {
            scope.spawn(|| budget.give_back(1));
            assert!(budget.wait(Duration::from_secs(60)));
        });
    }
}
