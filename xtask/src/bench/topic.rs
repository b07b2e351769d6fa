//! The topics that contenders read: flights as JSON objects, 19 fields and about 300 bytes each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::ensure;

use crate::tools::{root, run};

/// Flights in the data set.
pub(super) const FLIGHTS: u64 = 336_776;

/// The data set, relative to the workspace.
pub(super) const DATA: &str = "data/nycflights13";

/// Where topics are made, and how.
pub(super) struct Topics<'b> {
    pub(super) puddle: &'b Path,
    pub(super) brokers: &'b str,
    pub(super) partitions: u32,
    pub(super) compression: &'b str,
    /// What their names begin with.
    pub(super) prefix: String,
    made: BTreeSet<String>,
}

impl<'b> Topics<'b> {
    pub(super) fn new(puddle: &'b Path, brokers: &'b str, partitions: u32, compression: &'b str) -> Self {
        // A broker that was given may have topics of another bench.
        let prefix = format!("bench-{}", std::process::id());
        Self { puddle, brokers, partitions, compression, prefix, made: BTreeSet::new() }
    }

    /// A topic with exactly so many flights: the data set as often as it fits, and its first rows.
    pub(super) fn flights(&mut self, records: u64) -> anyhow::Result<String> {
        let data = root().join(DATA).join("flights.parquet");
        self.filled("flights", &data, FLIGHTS, records)
    }

    /// A topic with exactly so many records of a file that has `rows`, made unless it is there.
    pub(super) fn filled(
        &mut self,
        kind: &str,
        data: &Path,
        rows: u64,
        records: u64,
    ) -> anyhow::Result<String> {
        let topic = format!("{}-{kind}-{}-{records}", self.prefix, self.partitions);
        if self.made.insert(topic.clone()) {
            eprintln!("filling {topic}: {records} records in {} partitions", self.partitions);
            for (repeat, rows) in passes(rows, records) {
                let repeat = repeat.to_string();
                let mut replay = self.replay(data, &topic);
                replay.args(["--repeat", &repeat, "--rows", &rows.to_string()]);
                // Not of interest unless it fails.
                run(replay.stdout(Stdio::null()).stderr(Stdio::null()))?;
            }
        }
        Ok(topic)
    }

    /// `puddle replay` of a file to a topic.
    pub(super) fn replay(&self, data: &Path, topic: &str) -> Command {
        let mut replay = Command::new(self.puddle);
        replay.arg("replay").arg(data).args(["--brokers", self.brokers, "--topic", topic]);
        replay.args(["--partitions", &self.partitions.to_string(), "--compression", self.compression]);
        replay
    }

    /// Deletes a topic, to have its room again.
    pub(super) fn delete(&mut self, topic: &str) -> anyhow::Result<()> {
        let mut delete = Command::new(self.puddle);
        delete.args(["topics", "delete", topic, "--brokers", self.brokers]).stdout(Stdio::null());
        ensure!(delete.status()?.success(), "cannot delete {topic}");
        self.made.remove(topic);
        Ok(())
    }

    /// Deletes all that it made.
    pub(super) fn delete_all(mut self) -> anyhow::Result<()> {
        let made: Vec<String> = self.made.iter().cloned().collect();
        made.iter().try_for_each(|topic| self.delete(topic))
    }
}

/// The reference table.
pub(super) fn airlines() -> PathBuf {
    root().join(DATA).join("airlines.parquet")
}

/// How often to play how many rows, to get exactly so many records.
fn passes(rows: u64, records: u64) -> Vec<(u64, u64)> {
    let all = [(records / rows, rows), (1, records % rows)];
    all.into_iter().filter(|(repeat, rows)| repeat * rows > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_add_up_to_the_records() {
        assert_eq!(passes(10, 35), [(3, 10), (1, 5)]);
        assert_eq!(passes(10, 30), [(3, 10)]);
        assert_eq!(passes(10, 7), [(1, 7)]);
        assert_eq!(passes(10, 0), []);
    }
}
