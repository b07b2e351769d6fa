//! The table's log, added up: what it says was read, and whether it says so without gap or overlap.

use std::collections::BTreeMap;
use std::path::Path;

use puddle_sink::lake::{self, Moved};
use puddle_types::{Offset, TopicPartition};

use super::Gap;
use crate::Error;

/// What the log says of one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) from: Offset,
    pub(super) next: Offset,
    pub(super) records: u64,
    pub(super) written: u64,
    pub(super) filtered: u64,
    pub(super) rejected: u64,
}

/// What the log says of all partitions.
pub(super) struct History {
    pub(super) partitions: BTreeMap<TopicPartition, Account>,
    pub(super) commits: u64,
    /// What was given up on the user's word.
    pub(super) gaps: Vec<Gap>,
}

impl History {
    /// Reads the log up to this epoch, and reports spans that do not follow one another or do not add up.
    pub(super) fn read(
        lake: &Path,
        table: &str,
        epoch: u64,
        problems: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let mut history = Self { partitions: BTreeMap::new(), commits: 0, gaps: Vec::new() };
        for entry in lake::history(lake, table)? {
            let entry = entry?;
            if entry.epoch > epoch {
                break;
            }
            history.commits += 1;
            for Moved { partition, span } in entry.partitions {
                let account = history.partitions.entry(partition.clone()).or_insert(Account {
                    from: span.from,
                    next: span.from,
                    records: 0,
                    written: 0,
                    filtered: 0,
                    rejected: 0,
                });
                if span.from > account.next {
                    // The sink lets no commit skip offsets unless it was told to.
                    let (from, next) = (account.next, span.from);
                    history.gaps.push(Gap { partition: partition.clone(), from, next, commit: entry.epoch });
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
        Ok(history)
    }
}
