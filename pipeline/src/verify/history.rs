//! The table's log, added up: what it says was read, and whether it says so without gap or overlap.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use puddle_sink::Retried;
use puddle_sink::lake::{self, Commit, Moved, RetriedPartition};
use puddle_types::{Offset, TopicPartition};

use super::Gap;
use crate::Error;

/// What the log says of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) from: Offset,
    pub(super) next: Offset,
    pub(super) records: u64,
    pub(super) written: u64,
    pub(super) filtered: u64,
    /// Those that are rejected still.
    pub(super) rejected: u64,
    /// Of all records, those that were rejected and run again, once for each time.
    pub(super) retried: Retried,
}

/// What the log says of all partitions.
#[derive(Default)]
pub(super) struct History {
    pub(super) partitions: BTreeMap<TopicPartition, Account>,
    pub(super) commits: u64,
    /// What was given up on the user's word.
    pub(super) gaps: Vec<Gap>,
    /// The rows of each file of rejected records that is there.
    rejected_files: HashMap<String, u64>,
}

impl History {
    /// Reads the log up to this epoch, and reports what does not follow from what was before, or does not add up.
    pub(super) fn read(
        lake: &Path,
        table: &str,
        epoch: u64,
        problems: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let mut history = Self::default();
        for entry in lake::history(lake, table)? {
            let entry = entry?;
            if entry.epoch > epoch {
                break;
            }
            history.add(entry, problems);
        }
        Ok(history)
    }

    fn add(&mut self, entry: Commit, problems: &mut Vec<String>) {
        self.commits += 1;
        // First, since only what was rejected before can have been run again.
        self.take_back(&entry, problems);
        for file in entry.files.into_iter().filter(|file| file.rejected) {
            self.rejected_files.insert(file.destination, file.rows);
        }
        for Moved { partition, span } in entry.partitions {
            let begin = Account { from: span.from, next: span.from, ..Account::default() };
            let account = self.partitions.entry(partition.clone()).or_insert(begin);
            if span.from > account.next {
                // The sink lets no commit skip offsets unless it was told to.
                let (from, next) = (account.next, span.from);
                self.gaps.push(Gap { partition: partition.clone(), from, next, commit: entry.epoch });
            } else if span.from < account.next {
                problems.push(format!(
                    "{partition}: commit {} begins at {}, the one before it ended at {}",
                    entry.epoch, span.from, account.next
                ));
            }
            if span.records != span.written + span.filtered + span.rejected {
                problems.push(format!("{partition}: commit {} does not add up", entry.epoch));
            }
            account.next = span.next;
            account.records += span.records;
            account.written += span.written;
            account.filtered += span.filtered;
            account.rejected += span.rejected;
        }
    }

    /// Moves rejected records that were run again to where they are now.
    fn take_back(&mut self, entry: &Commit, problems: &mut Vec<String>) {
        let commit = entry.epoch;
        let mut rows = 0;
        for path in &entry.removed {
            match self.rejected_files.remove(path) {
                Some(there) => rows += there,
                None => problems.push(format!("commit {commit} takes {path} away, which is not there")),
            }
        }
        let records: u64 = entry.retried.iter().map(|again| again.retried.records).sum();
        if rows != records {
            problems.push(format!(
                "commit {commit} takes {rows} rejected records away, but accounts for {records}"
            ));
        }
        for RetriedPartition { partition, retried } in &entry.retried {
            let Retried { records, written, filtered, rejected } = *retried;
            if records != written + filtered + rejected {
                problems.push(format!("{partition}: the records run again in commit {commit} do not add up"));
            }
            let account = self.partitions.entry(partition.clone()).or_default();
            if records > account.rejected {
                problems.push(format!(
                    "{partition}: commit {commit} ran {records} rejected records again, but there were {}",
                    account.rejected
                ));
            }
            account.written += written;
            account.filtered += filtered;
            account.rejected = account.rejected.saturating_sub(records) + rejected;
            account.retried.records += records;
            account.retried.written += written;
            account.retried.filtered += filtered;
            account.retried.rejected += rejected;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of three commits: ten records of which four are rejected, then two retries.
    fn log() -> Vec<String> {
        let entry = |epoch: u32, rest: &str| {
            format!(r#"{{"version":2,"epoch":{epoch},"table":"u","owner":"p","time":0,{rest}}}"#)
        };
        let file = |name: &str, rows: u32| {
            format!(
                r#"{{"source":"s","destination":"{name}","rejected":true,"rows":{rows},"bytes":1,"hash":""}}"#
            )
        };
        vec![
            entry(
                1,
                &format!(
                    r#""partitions":[{{"topic":"t","partition":0,"from":0,"next":10,"last":null,"records":10,"written":5,"filtered":1,"rejected":4}}],"files":[{}]"#,
                    file("a", 4)
                ),
            ),
            entry(
                2,
                &format!(
                    r#""partitions":[],"files":[{}],"retried":[{{"topic":"t","partition":0,"records":4,"written":1,"filtered":1,"rejected":2}}],"removed":["a"]"#,
                    file("b", 2)
                ),
            ),
            entry(
                3,
                r#""partitions":[],"files":[],"retried":[{"topic":"t","partition":0,"records":2,"written":2,"filtered":0,"rejected":0}],"removed":["b"]"#,
            ),
        ]
    }

    fn add_up(log: &[String]) -> (Account, String) {
        let (mut history, mut problems) = (History::default(), Vec::new());
        for entry in log {
            history.add(serde_json::from_str(entry).unwrap(), &mut problems);
        }
        (history.partitions[&TopicPartition::new("t", 0)], problems.join("\n"))
    }

    #[test]
    fn records_run_again_move_from_rejected_to_where_they_are_now() {
        let (account, problems) = add_up(&log());
        assert_eq!(problems, "");
        assert_eq!((account.records, account.next), (10, 10));
        assert_eq!([account.written, account.filtered, account.rejected], [8, 2, 0]);
        assert_eq!(account.retried, Retried { records: 6, written: 3, filtered: 1, rejected: 2 });
    }

    #[test]
    fn a_retry_that_does_not_follow_from_what_was_rejected_is_found() {
        for (entry, from, to, expected) in [
            (1, r#""removed":["a"]"#, r#""removed":["c"]"#, "takes c away, which is not there"),
            (1, r#""removed":["a"]"#, r#""removed":[]"#, "takes 0 rejected records away, but accounts for 4"),
            (1, r#""written":1"#, r#""written":2"#, "run again in commit 2 do not add up"),
            (2, r#""removed":["b"]"#, r#""removed":["a"]"#, "takes a away, which is not there"),
            (
                0,
                r#""written":5,"filtered":1,"rejected":4"#,
                r#""written":9,"filtered":1,"rejected":0"#,
                "but there were 0",
            ),
        ] {
            let mut log = log();
            assert!(log[entry].contains(from), "{}", log[entry]);
            log[entry] = log[entry].replace(from, to);
            let (_, problems) = add_up(&log);
            assert!(problems.contains(expected), "{from} -> {to}: {problems}");
        }
    }
}
