//! What the trials came to: a line for each fault, and where the kills struck.

use std::collections::BTreeMap;

use super::ledger::Findings;
use super::left::Left;
use super::plan::Fault;

/// The sums of some trials.
#[derive(Default)]
struct Sums {
    trials: u64,
    lost: u64,
    doubled: u64,
    /// Other findings, and trials that did not come to their end.
    wrong: u64,
}

/// How many kills left a table like this.
#[derive(Default)]
struct Kills {
    first: u64,
    /// Of a run that was recovering from the first.
    second: u64,
}

#[derive(Default)]
pub(super) struct Report {
    faults: BTreeMap<Fault, Sums>,
    kills: BTreeMap<Left, Kills>,
    observations: u64,
}

impl Report {
    /// Adds a trial, with what each kill of a run left and how often the table was looked at meanwhile.
    pub(super) fn add(&mut self, fault: Fault, findings: &Findings, left: &[Left], observations: u64) {
        self.faults.entry(fault).or_default().add(findings);
        for (number, left) in left.iter().enumerate() {
            let kills = self.kills.entry(*left).or_default();
            *if number == 0 { &mut kills.first } else { &mut kills.second } += 1;
        }
        self.observations += observations;
    }

    pub(super) fn is_good(&self) -> bool {
        self.faults.values().all(|sums| sums.lost + sums.doubled + sums.wrong == 0)
    }

    fn sum(&self, which: impl Fn(Fault) -> bool) -> Sums {
        let of_these = self.faults.iter().filter(|(fault, _)| which(**fault)).map(|(_, sums)| sums);
        of_these.fold(Sums::default(), |all, sums| Sums {
            trials: all.trials + sums.trials,
            lost: all.lost + sums.lost,
            doubled: all.doubled + sums.doubled,
            wrong: all.wrong + sums.wrong,
        })
    }
}

impl Sums {
    fn add(&mut self, findings: &Findings) {
        self.trials += 1;
        self.lost += findings.lost;
        self.doubled += findings.doubled;
        self.wrong += findings.wrong;
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "| fault | trials | lost | doubled | otherwise wrong |\n| --- | ---: | ---: | ---: | ---: |"
        )?;
        let faults = self.faults.keys().map(|fault| (fault.name(), self.sum(|other| other == *fault)));
        let sums =
            [("all", self.sum(|_| true)), ("of these, a kill -9 of a run", self.sum(Fault::kills_a_run))];
        for (name, s) in faults.chain(sums) {
            writeln!(f, "| {name} | {} | {} | {} | {} |", s.trials, s.lost, s.doubled, s.wrong)?;
        }
        writeln!(f, "\n| what a kill of a run left | first kills | in recovery |\n| --- | ---: | ---: |")?;
        for (left, kills) in &self.kills {
            writeln!(f, "| {} | {} | {} |", left.name(), kills.first, kills.second)?;
        }
        let within = self.kills.iter().filter(|(left, _)| left.is_within_a_commit());
        let (first, second) = within.fold((0, 0), |(a, b), (_, kills)| (a + kills.first, b + kills.second));
        writeln!(f, "| within a commit | {first} | {second} |")?;
        writeln!(f, "\nlooked at {} times meanwhile, by puddle verify and puddle query", self.observations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_finding_makes_a_bad_report_and_sums_add_up() {
        let mut report = Report::default();
        report.add(Fault::Kill, &Findings::default(), &[Left::Moving], 0);
        report.add(Fault::Pause, &Findings::default(), &[], 3);
        assert!(report.is_good());
        let doubled = Findings { doubled: 2, ..Findings::default() };
        report.add(Fault::Kill, &doubled, &[Left::Between, Left::Moving], 2);
        assert!(!report.is_good());
        let text = report.to_string();
        for line in [
            "| kill -9, any moment | 2 | 0 | 2 | 0 |\n",
            "| all | 3 | 0 | 2 | 0 |\n",
            "| of these, a kill -9 of a run | 2 | 0 | 2 | 0 |\n",
            "| whole commits only | 1 | 0 |\n",
            "| a log entry, some of what follows it in place | 1 | 1 |\n",
            "| within a commit | 1 | 1 |\n",
            "looked at 5 times",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
