//! What the trials came to: a line for each fault.

use std::collections::BTreeMap;

use super::ledger::Findings;
use super::plan::Fault;

/// The sums of all trials with one fault.
#[derive(Default)]
struct Sums {
    trials: u64,
    lost: u64,
    doubled: u64,
    /// Other findings, and trials that did not come to their end.
    wrong: u64,
}

#[derive(Default)]
pub(super) struct Report {
    faults: BTreeMap<Fault, Sums>,
}

impl Report {
    pub(super) fn add(&mut self, fault: Fault, findings: &Findings) {
        let sums = self.faults.entry(fault).or_default();
        sums.trials += 1;
        sums.lost += findings.lost;
        sums.doubled += findings.doubled;
        sums.wrong += findings.wrong;
    }

    pub(super) fn is_good(&self) -> bool {
        self.faults.values().all(|sums| sums.lost + sums.doubled + sums.wrong == 0)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = Sums::default();
        writeln!(
            f,
            "| fault | trials | lost | doubled | otherwise wrong |\n| --- | ---: | ---: | ---: | ---: |"
        )?;
        let mut line = |name: &str, s: &Sums| {
            writeln!(f, "| {name} | {} | {} | {} | {} |", s.trials, s.lost, s.doubled, s.wrong)
        };
        for (fault, sums) in &self.faults {
            line(fault.name(), sums)?;
            all.trials += sums.trials;
            all.lost += sums.lost;
            all.doubled += sums.doubled;
            all.wrong += sums.wrong;
        }
        line("all", &all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_finding_makes_a_bad_report_and_sums_add_up() {
        let mut report = Report::default();
        report.add(Fault::Kill, &Findings::default());
        report.add(Fault::Pause, &Findings::default());
        assert!(report.is_good());
        report.add(Fault::Kill, &Findings { doubled: 2, ..Findings::default() });
        assert!(!report.is_good());
        let text = report.to_string();
        assert!(text.contains("| kill -9, any moment | 2 | 0 | 2 | 0 |"), "{text}");
        assert!(text.ends_with("| all | 3 | 0 | 2 | 0 |\n"), "{text}");
    }
}
