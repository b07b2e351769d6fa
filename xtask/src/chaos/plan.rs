//! What happens in a trial, decided by the seed before it begins.

use std::time::Duration;

use super::random::Random;

/// A disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// kill -9 of the run, at any moment.
    Kill,
    /// kill -9 of the run, within milliseconds of a change in its staging folder or its log.
    KillInCommit,
    /// kill -9 of the run in a commit, and of the next one while it starts and recovers.
    KillInRecovery,
    /// SIGTERM: the run must commit what it has in hand and end well.
    Terminate,
    /// SIGSTOP past the session time-out, then SIGCONT: a member that the group gave up comes back.
    Pause,
    /// kill -9 of the embedded broker and a new one on its folder, while run and producer go on.
    KillBroker,
    /// Files that nobody named in the staging folder, and kill -9.
    Leftovers,
}

impl Fault {
    /// Each fault, and how many of a hundred trials have it. A pause costs seconds, so it is rare.
    const SHARES: [(Fault, u64); 7] = [
        (Fault::Kill, 30),
        (Fault::KillInCommit, 26),
        (Fault::KillInRecovery, 16),
        (Fault::Terminate, 8),
        (Fault::Pause, 3),
        (Fault::KillBroker, 10),
        (Fault::Leftovers, 7),
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9, any moment",
            Self::KillInCommit => "kill -9, in a commit",
            Self::KillInRecovery => "kill -9 twice, in recovery",
            Self::Terminate => "SIGTERM",
            Self::Pause => "SIGSTOP past the session",
            Self::KillBroker => "kill -9 of the broker",
            Self::Leftovers => "leftovers in staging",
        }
    }
}

/// When a disturbance strikes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// So long after the start of the run.
    Start(Duration),
    /// So long after the first change of the staging folder: an epoch's files are being written, synced or moved.
    Staging(Duration),
    /// So long after the first change of the log folder: the commit point, and what follows it.
    Log(Duration),
}

/// One trial.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) fault: Fault,
    pub(super) moment: Moment,
    /// For faults with a second step: so long after the first.
    pub(super) then: Duration,
    /// Records that are produced meanwhile.
    pub(super) records: u64,
    /// Of these, so many a second.
    pub(super) rate: u64,
    pub(super) commit_rows: u64,
    pub(super) commit_every: Duration,
    pub(super) durable: bool,
}

/// The plan of the trial with this number. Without a broker that can be killed, it is the run that is.
pub(super) fn plan(seed: u64, trial: u64, can_kill_broker: bool) -> Plan {
    let mut random = Random::new(seed, trial);
    let mut lot = random.within(0..100);
    let fault = Fault::SHARES
        .iter()
        .find(|(_, share)| {
            let is_it = lot < *share;
            lot = lot.saturating_sub(*share);
            is_it
        })
        .map_or(Fault::Kill, |(fault, _)| *fault);
    let fault = if fault == Fault::KillBroker && !can_kill_broker { Fault::Kill } else { fault };
    let in_commit = match random.within(0..3) {
        0 => Moment::Staging(random.micros(0..8_000)),
        _ => Moment::Log(random.micros(0..8_000)),
    };
    let records = random.within(300..900);
    Plan {
        fault,
        moment: match fault {
            Fault::KillInCommit | Fault::KillInRecovery => in_commit,
            // Records must have flowed for the end to be a clean one.
            Fault::Terminate | Fault::Pause => Moment::Start(random.micros(300_000..1_000_000)),
            Fault::Kill | Fault::KillBroker | Fault::Leftovers => Moment::Start(random.micros(0..1_200_000)),
        },
        then: random.micros(0..500_000),
        records,
        // All of them within about a second, the time in which the disturbance strikes.
        rate: records,
        commit_rows: *random.pick(&[7, 30, 150, 100_000]),
        commit_every: Duration::from_millis(*random.pick(&[20, 60, 250])),
        durable: random.percent(50),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn shares_are_of_a_hundred_and_every_fault_comes_up() {
        assert_eq!(Fault::SHARES.iter().map(|(_, share)| share).sum::<u64>(), 100);
        let faults = |broker| (0..500).map(|trial| plan(1, trial, broker).fault).collect::<BTreeSet<_>>();
        assert_eq!(faults(true).len(), Fault::SHARES.len());
        assert!(!faults(false).contains(&Fault::KillBroker));
    }

    #[test]
    fn a_plan_repeats() {
        assert_eq!(format!("{:?}", plan(3, 4, true)), format!("{:?}", plan(3, 4, true)));
    }
}
