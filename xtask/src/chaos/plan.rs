//! What happens in a trial, decided by the seed before it begins.

use std::time::Duration;

use super::TableKind;
use super::left::Left;
use super::random::Random;

/// A disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// kill -9 of the run, at any moment.
    Kill,
    /// kill -9 of the run, within milliseconds of a change in its staged files or its log.
    KillInCommit,
    /// kill -9 of the run in a commit, and of the next one while it starts and recovers.
    KillInRecovery,
    /// Files that nobody named where files are staged, and kill -9.
    Leftovers,
    /// SIGTERM: the run must commit what it has in hand and end well.
    Terminate,
    /// SIGSTOP past the session time-out, then SIGCONT: a member that the group gave up comes back.
    Pause,
    /// kill -9 of the embedded broker and a new one on its folder, while run and producer go on.
    KillBroker,
    /// A second run on a table with one writer: it must be refused, and the first go on.
    SecondRun,
    /// The disk is full for a while; then there is room again, or the run is killed first.
    FullDisk,
    /// Of several runs that share the partitions, one is killed with -9, and the others take over.
    KillMember,
    /// Runs that share the partitions come and go.
    MembersComeAndGo,
    /// Of several runs, one is stopped past the session time-out, while the others take over, and goes on.
    Zombie,
    /// A run is stopped in a commit while another joins, and then goes on.
    RebalanceInCommit,
    /// Files are joined during a run, and what is not needed any more is deleted after it; each may be killed.
    Upkeep,
}

/// What a trial can have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) kind: TableKind,
    /// Whether the broker is ours to kill.
    pub(super) can_kill_broker: bool,
    /// Whether the lake is on a disk that can be filled.
    pub(super) has_small_disk: bool,
}

impl Fault {
    /// Each fault, and how often it comes up in comparison to the others. A pause costs seconds, so it is rare.
    const WEIGHTS: [(Fault, u64); 14] = [
        (Fault::Kill, 28),
        (Fault::KillInCommit, 36),
        (Fault::KillInRecovery, 16),
        (Fault::Leftovers, 6),
        (Fault::Terminate, 5),
        (Fault::Pause, 2),
        (Fault::KillBroker, 4),
        (Fault::SecondRun, 3),
        (Fault::FullDisk, 30),
        (Fault::KillMember, 12),
        (Fault::MembersComeAndGo, 5),
        (Fault::Zombie, 3),
        (Fault::RebalanceInCommit, 5),
        (Fault::Upkeep, 4),
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9, any moment",
            Self::KillInCommit => "kill -9, in a commit",
            Self::KillInRecovery => "kill -9 twice, in recovery",
            Self::Leftovers => "kill -9, and leftovers in staging",
            Self::Terminate => "SIGTERM",
            Self::Pause => "SIGSTOP past the session",
            Self::KillBroker => "kill -9 of the broker",
            Self::SecondRun => "a second run by mistake",
            Self::FullDisk => "a full disk",
            Self::KillMember => "kill -9 of one of several runs",
            Self::MembersComeAndGo => "runs that come and go",
            Self::Zombie => "one of several runs stopped past the session",
            Self::RebalanceInCommit => "another run joins during a commit",
            Self::Upkeep => "optimize and vacuum, kill -9 of each",
        }
    }

    /// Whether a run is killed in it.
    pub(super) fn kills_a_run(self) -> bool {
        match self {
            Self::Kill | Self::KillInCommit | Self::KillInRecovery | Self::Leftovers | Self::KillMember => {
                true
            }
            Self::Terminate
            | Self::Pause
            | Self::KillBroker
            | Self::SecondRun
            | Self::FullDisk
            | Self::MembersComeAndGo
            | Self::Zombie
            | Self::RebalanceInCommit
            | Self::Upkeep => false,
        }
    }

    fn is_possible(self, setting: Setting) -> bool {
        match self {
            Self::KillBroker => setting.can_kill_broker,
            Self::SecondRun => !setting.kind.allows_several_writers(),
            Self::FullDisk => setting.has_small_disk,
            Self::KillMember
            | Self::MembersComeAndGo
            | Self::Zombie
            | Self::RebalanceInCommit
            | Self::Upkeep => setting.kind == TableKind::Delta,
            _ => true,
        }
    }

    fn draw(random: &mut Random, setting: Setting) -> Self {
        let possible = || Self::WEIGHTS.iter().filter(|(fault, _)| fault.is_possible(setting));
        let mut lot = random.within(0..possible().map(|(_, weight)| weight).sum());
        for (fault, weight) in possible() {
            match lot.checked_sub(*weight) {
                None => return *fault,
                Some(rest) => lot = rest,
            }
        }
        unreachable!("the lot is below the sum of the weights")
    }
}

/// When a disturbance strikes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// So long after the start of the run, in thousandths of the time that an undisturbed run takes from its start to
    /// its end: a busy machine stretches both.
    Start(u64),
    /// Soon after a change of the folder of staged files: an epoch's files are being written, synced or moved.
    Staging(Change),
    /// Soon after a change of the log's folder: the commit point, and what comes before and after it.
    Log(Change),
    /// When the run, stopped now and then to look at its disk, is found at this step; or after a while at any step
    /// within a commit.
    Step(Left),
}

/// A change of a folder that is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// How many changes to let pass first.
    pub(super) skip: u64,
    /// How long after it to strike.
    pub(super) delay: Duration,
}

/// One trial.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) fault: Fault,
    pub(super) moment: Moment,
    /// For faults with a second step: so long after the first, in thousandths as for [`Moment::Start`].
    pub(super) then: u64,
    /// Whether audit and query are asked again and again meanwhile.
    pub(super) is_observed: bool,
    /// Records that are produced meanwhile.
    pub(super) records: u64,
    /// How many of them a second.
    pub(super) rate: u64,
    pub(super) commit_rows: u64,
    pub(super) commit_every: Duration,
    pub(super) durable: bool,
    /// For chance while it runs.
    pub(super) stream: u64,
    /// Of runs that share the partitions, how many.
    pub(super) members: u64,
}

/// The steps of a commit that kills aim at. Those that pass fastest come up most: they are not always hit.
const STEPS: [Left; 10] = [
    Left::Staged,
    Left::Unnamed,
    Left::Unnamed,
    Left::Entry,
    Left::Entry,
    Left::Logged,
    Left::Logged,
    Left::Moving,
    Left::Moving,
    Left::Placed,
];

/// The plan of the trial with this number.
pub(super) fn plan(seed: u64, trial: u64, setting: Setting) -> Plan {
    let mut random = Random::new(seed, trial);
    let fault = Fault::draw(&mut random, setting);
    let skip = random.within(0..6);
    // The steps of a commit take from some microseconds to, when synced, some milliseconds.
    let longest = *random.pick(&[300, 2_000, 8_000]);
    let change = Change { skip, delay: random.micros(0..longest) };
    let in_commit = match random.within(0..6) {
        0 => Moment::Staging(change),
        1 => Moment::Log(change),
        _ => Moment::Step(*random.pick(&STEPS)),
    };
    let is_in_commit =
        matches!(fault, Fault::KillInCommit | Fault::KillInRecovery | Fault::RebalanceInCommit);
    let records = random.within(60..360);
    Plan {
        fault,
        moment: match fault {
            Fault::KillInCommit | Fault::KillInRecovery => in_commit,
            Fault::RebalanceInCommit => Moment::Step(*random.pick(&STEPS)),
            // Records must have flowed for the end to be a clean one.
            Fault::Terminate | Fault::Pause | Fault::Zombie | Fault::FullDisk => {
                Moment::Start(random.within(700..1_800))
            }
            Fault::KillMember | Fault::MembersComeAndGo | Fault::Upkeep => {
                Moment::Start(random.within(400..2_000))
            }
            Fault::Kill | Fault::KillBroker | Fault::Leftovers | Fault::SecondRun => {
                Moment::Start(random.within(200..1_600))
            }
        },
        then: random.within(0..700),
        // A question that is under way fails when the broker dies, or when the files that it reads are deleted.
        is_observed: !matches!(fault, Fault::KillBroker | Fault::Upkeep) && random.percent(25),
        records,
        // Some are there before the run has begun, and some still to come when it is struck.
        rate: records * *random.pick(&[2, 4, 8]),
        // A run that makes many commits is more often within one.
        commit_rows: if is_in_commit { 7 } else { *random.pick(&[7, 30, 80, 100_000]) },
        commit_every: Duration::from_millis(*random.pick(&[10, 40, 150])),
        durable: random.percent(if is_in_commit { 80 } else { 50 }),
        stream: random.next(),
        members: random.within(2..4),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Args;
    use super::*;

    const PARQUET: Setting =
        Setting { kind: TableKind::Parquet, can_kill_broker: true, has_small_disk: true };
    const DELTA: Setting = Setting { kind: TableKind::Delta, ..PARQUET };

    #[test]
    fn every_fault_comes_up_and_only_where_it_is_possible() {
        let faults = |setting| (0..1_000).map(|trial| plan(1, trial, setting).fault).collect::<BTreeSet<_>>();
        let (parquet, delta) = (faults(PARQUET), faults(DELTA));
        assert_eq!(parquet.union(&delta).count(), Fault::WEIGHTS.len());
        assert!(!parquet.contains(&Fault::Zombie) && !delta.contains(&Fault::SecondRun));
        let least = faults(Setting { can_kill_broker: false, has_small_disk: false, ..PARQUET });
        assert!(!least.contains(&Fault::KillBroker) && !least.contains(&Fault::FullDisk));
    }

    #[test]
    fn most_trials_kill_a_run() {
        for kind in [TableKind::Parquet, TableKind::Delta] {
            let setting = Setting { kind, can_kill_broker: true, has_small_disk: false };
            let kills = (0..1_000).filter(|trial| plan(1, *trial, setting).fault.kills_a_run()).count();
            assert!(kills > 750, "{kills}");
        }
    }

    #[test]
    fn the_small_part_has_nearly_every_fault() {
        for (setting, expected) in [(PARQUET, 8), (DELTA, 9)] {
            let Args { seed, trials, .. } = Args::small(setting.kind);
            let setting = Setting { has_small_disk: false, ..setting };
            let faults: BTreeSet<_> = (0..trials).map(|trial| plan(seed, trial, setting).fault).collect();
            assert!(faults.len() >= expected, "{faults:?}");
        }
    }

    #[test]
    fn a_plan_repeats() {
        assert_eq!(format!("{:?}", plan(3, 4, DELTA)), format!("{:?}", plan(3, 4, DELTA)));
    }
}
