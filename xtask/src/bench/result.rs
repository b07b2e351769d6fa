//! What the runs of a contender came to, and the table of all of them.

use serde::Serialize;

use super::chart::{Bar, bars};
use super::contender::{Contender, Kind};
use super::run::{Outcome, Run};
use super::stats::Spread;

/// A contender and its runs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) kind: Kind,
    pub(super) versions: String,
    pub(super) notes: Vec<String>,
    /// How many records its topic had, if fewer than the others'.
    pub(super) fewer: Option<u64>,
    /// Why there are no runs.
    pub(super) missing: Option<String>,
    pub(super) runs: Vec<Run>,
}

impl Measured {
    /// Before its first run on a bench of so many records.
    pub(super) fn new(contender: &Contender, records: u64) -> Self {
        Self {
            name: contender.name.clone(),
            title: contender.title.clone(),
            kind: contender.kind,
            versions: contender.versions.to_string(),
            notes: contender.notes.clone(),
            fewer: contender.records.filter(|fewer| *fewer < records),
            missing: contender.missing.clone(),
            runs: Vec::new(),
        }
    }

    /// Whether another run could say more: not once it was stopped or has failed.
    pub(super) fn is_worth_another(&self) -> bool {
        self.missing.is_none() && self.runs.iter().all(|run| run.outcome == Outcome::Finished)
    }

    /// Whether every run finished, with a table in which nothing was found wrong.
    pub(super) fn is_good(&self) -> bool {
        let is_right = |run: &Run| run.wrong.as_ref().is_none_or(Vec::is_empty);
        self.is_worth_another() && self.runs.iter().all(is_right)
    }

    /// Records a second.
    pub(super) fn rate(&self) -> Option<Spread> {
        self.spread(Run::rate)
    }

    fn spread(&self, value: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
        let good = self.runs.iter().filter(|run| !matches!(run.outcome, Outcome::Failed(_)));
        Spread::of(good.filter_map(value))
    }

    /// What a reader must know besides the figures.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(missing) = &self.missing {
            remarks.push(format!("not measured: {missing}"));
        }
        if let Some(fewer) = self.fewer {
            remarks.push(format!("on a topic of {} records", thousands(fewer as f64)));
        }
        for run in &self.runs {
            match &run.outcome {
                Outcome::Finished => {}
                Outcome::Stopped => remarks.push(format!(
                    "stopped for being too slow; measured are the {} records that it had committed by then",
                    thousands(run.records as f64)
                )),
                Outcome::Failed(reason) => remarks.push(format!("failed: {reason}")),
            }
        }
        let mut wrong: Vec<&String> = self.runs.iter().flat_map(|run| run.wrong.iter().flatten()).collect();
        wrong.dedup();
        if !wrong.is_empty() {
            let wrong: Vec<&str> = wrong.into_iter().map(String::as_str).collect();
            remarks.push(format!("**its table is wrong**: {}", wrong.join("; ")));
        }
        remarks.extend(self.notes.iter().cloned());
        remarks
    }
}

/// The table, in Markdown; below it a line for each contender with versions and remarks.
pub(super) fn markdown(all: &[Measured]) -> String {
    let median =
        |name: &str| all.iter().find(|m| m.name == name).and_then(Measured::rate).map(|rate| rate.median);
    let limit = median("limit");
    let puddle = median("puddle");
    let mut lines = vec![
        "| contender | records/s | of the limit | Puddle is faster by | CPU s per M | start-up | memory | files | written | broker's CPU s per M |".to_owned(),
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |".to_owned(),
    ];
    for measured in all.iter().filter(|measured| measured.rate().is_some()) {
        let rate = measured.rate().map(|rate| rate.median);
        let ratio = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a / b);
        let of_limit = ratio(rate, limit).map(|part| format!("{:.0}%", part * 100.0));
        let slower = ratio(puddle, rate).filter(|_| measured.kind != Kind::Limit);
        let slower =
            slower.map(|times| if times < 10.0 { format!("{times:.1}×") } else { format!("{times:.0}×") });
        let start_up = measured.spread(|run| run.start_up).map(|start| {
            let cpu = measured.spread(|run| Some(run.cpu_start_up)).map_or(0.0, |cpu| cpu.median);
            format!("{:.2} s, {cpu:.1} CPU s", start.median)
        });
        let writes = measured.kind != Kind::Limit;
        let cells = [
            Some(measured.title.clone()),
            measured.rate().map(|rate| spread(rate, thousands)),
            of_limit,
            slower,
            measured.spread(Run::cpu_per_million).map(|cpu| spread(cpu, |cpu| format!("{cpu:.2}"))),
            start_up,
            measured.spread(|run| Some(run.peak_memory as f64)).map(|peak| spread(peak, megabytes)),
            measured
                .spread(|run| Some(run.files as f64))
                .filter(|_| writes)
                .map(|files| thousands(files.median)),
            measured
                .spread(|run| Some(run.bytes as f64))
                .filter(|_| writes)
                .map(|bytes| megabytes(bytes.median)),
            measured.spread(Run::broker_cpu_per_million).map(|cpu| format!("{:.2}", cpu.median)),
        ];
        let cells: Vec<String> = cells.into_iter().map(|cell| cell.unwrap_or_default()).collect();
        lines.push(format!("| {} |", cells.join(" | ")));
    }
    lines.push(String::new());
    for measured in all {
        let versions = Some(&measured.versions).filter(|versions| !versions.is_empty()).cloned();
        let remarks: Vec<String> = versions.into_iter().chain(measured.remarks()).map(sentence).collect();
        let script = format!("../{}/{}", super::contender::FOLDER, measured.name);
        lines.push(format!("- **{}** ([how it runs]({script})): {}", measured.title, remarks.join(" ")));
    }
    lines.join("\n")
}

/// A bar for the rate of each contender.
pub(super) fn chart(all: &[Measured]) -> String {
    let bar = |measured: &Measured| {
        let rate = measured.rate()?.median;
        let color = match measured.kind {
            Kind::Limit => "#8c959f",
            Kind::Puddle => "#0969da",
            Kind::Script => "#bf8700",
            Kind::Packaged => "#a475f9",
        };
        Some(Bar { label: measured.title.clone(), value: rate, text: thousands(rate), color })
    };
    let all: Vec<Bar> = all.iter().filter_map(bar).collect();
    bars("Flights from Kafka to Parquet: records per second", &all)
}

/// With a full stop.
fn sentence(text: String) -> String {
    if text.ends_with(['.', '!', '?']) { text } else { format!("{text}.") }
}

/// The median, and the least and the most where there are several.
fn spread(spread: Spread, show: impl Fn(f64) -> String) -> String {
    let Spread { median, min, max } = spread;
    match (show(min), show(max)) {
        (min, max) if min == max => show(median),
        (min, max) => format!("{} ({min} to {max})", show(median)),
    }
}

/// `1,234,567`.
pub(super) fn thousands(number: f64) -> String {
    let digits = format!("{:.0}", number.max(0.0));
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn megabytes(bytes: f64) -> String {
    format!("{} MB", thousands(bytes / 1e6))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn measured(name: &str, kind: Kind, seconds: &[f64]) -> Measured {
        let run = |seconds: &f64| Run {
            outcome: Outcome::Finished,
            start_up: Some(0.2),
            records: 1_000_000,
            seconds: Some(*seconds),
            cpu_start_up: 0.1,
            cpu: 1.5,
            cpu_broker: None,
            peak_memory: 123_456_789,
            files: 12,
            bytes: 20_000_000,
            wrong: Some(vec![]),
        };
        Measured {
            name: name.into(),
            title: name.to_uppercase(),
            kind,
            versions: "some 1.0".into(),
            notes: vec!["It differs.".into()],
            fewer: None,
            missing: None,
            runs: seconds.iter().map(run).collect(),
        }
    }

    #[test]
    fn rates_are_compared_with_the_limit_and_with_puddle() {
        let mut slow = measured("slow", Kind::Packaged, &[40.0]);
        slow.runs[0].outcome = Outcome::Stopped;
        let table = markdown(&[
            measured("limit", Kind::Limit, &[0.5]),
            measured("puddle", Kind::Puddle, &[1.0, 0.8, 1.25]),
            slow,
        ]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[2].starts_with("| LIMIT | 2,000,000 | 100% |  | 1.50 |"), "{table}");
        let puddle = "| PUDDLE | 1,000,000 (800,000 to 1,250,000) | 50% | 1.0× | 1.50 | 0.20 s, 0.1 CPU s | 123 MB | 12 | 20 MB |  |";
        assert_eq!(lines[3], puddle);
        assert!(lines[4].starts_with("| SLOW | 25,000 | 1% | 40× |"), "{table}");
        assert!(
            table.contains("some 1.0. stopped for being too slow; measured are the 1,000,000 records"),
            "{table}"
        );
    }

    #[test]
    fn what_failed_or_is_missing_is_named_and_has_no_row() {
        let mut failed = measured("failed", Kind::Packaged, &[1.0]);
        failed.runs[0].outcome = Outcome::Failed("no memory".into());
        assert!(!failed.is_worth_another() && !failed.is_good());
        let mut missing = measured("missing", Kind::Packaged, &[]);
        missing.missing = Some("no wheel".into());
        let table = markdown(&[failed, missing]);
        assert!(!table.contains("| FAILED |") && !table.contains("| MISSING |"), "{table}");
        assert!(table.contains("failed: no memory.") && table.contains("not measured: no wheel."), "{table}");
    }

    #[test]
    fn the_chart_has_a_bar_for_each_that_was_measured() {
        let missing = measured("missing", Kind::Packaged, &[]);
        let svg = chart(&[measured("puddle", Kind::Puddle, &[1.0]), missing]);
        assert!(svg.contains("PUDDLE") && svg.contains("1,000,000") && !svg.contains("MISSING"), "{svg}");
    }

    #[test]
    fn a_wrong_table_is_said_once() {
        let mut wrong = measured("wrong", Kind::Script, &[1.0, 1.0]);
        assert!(wrong.is_good());
        wrong.runs.iter_mut().for_each(|run| run.wrong = Some(vec!["rows: 1 instead of 2".into()]));
        assert!(!wrong.is_good());
        assert_eq!(markdown(&[wrong]).matches("rows: 1 instead of 2").count(), 1);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0.4, 999.0, 1000.0, 1_234_567.0].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
