//! The audit: every offset of the topics is accounted for exactly once, as written, filtered or rejected.
//!
//! ```text
//! log    spans of a partition follow one another; records = written + filtered + rejected;
//!        what was run again had been rejected before                                          (history)
//! files  the table's folder holds the files that the log names, byte for byte, and no others  (lake::check)
//! topic  the records that the topic holds in the spans are as many as the log says, and the
//!        last of each partition is the one that was committed                                  (topic)
//! rows   where the table has `_partition` and `_offset`: no row twice, none that the
//!        topic does not hold, and none missing that was not filtered                          (offsets)
//! ```
//!
//! Reading the log and the topic is independent of the run loop that wrote them, and safe while it runs: what is
//! committed after the audit began is not looked at.

mod history;
mod offsets;
mod rows;
mod topic;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use puddle_ingest::admin::Admin;
use puddle_ingest::reader::Range;
use puddle_sink::{Retried, lake};
use puddle_types::{Offset, TopicPartition};
use serde::Serialize;

use crate::ask::while_files_move;
use crate::prepare::blocking;
use crate::{Error, Pipeline};
use history::History;
use offsets::Ledger;

/// What an audit found. The guarantee holds if there are no problems.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The pipeline's name.
    pub pipeline: String,
    /// The table's name.
    pub table: String,
    /// Records in the table's log.
    pub records: u64,
    /// Of these, written to the table.
    pub written: u64,
    /// Of these, left out by the SQL.
    pub filtered: u64,
    /// Of these, in the rejected table.
    pub rejected: u64,
    /// What became of rejected records that were run again, once for each time. It is in the counts above already.
    pub retried: Retried,
    /// Offsets that the topics hold beyond what is committed.
    pub behind: u64,
    /// Commits in the log.
    pub commits: u64,
    /// How closely was looked: by each record's offset, or by counts where the table has no `_partition` and `_offset`.
    pub depth: Depth,
    /// Each partition.
    pub partitions: Vec<PartitionReport>,
    /// Offsets that were given up on the user's word.
    pub gaps: Vec<Gap>,
    /// What is not as it should be, in words.
    pub problems: Vec<String>,
}

/// Offsets that a run was told to give up, since the topic no longer held them.
#[derive(Clone, Debug, Serialize)]
pub struct Gap {
    /// The partition.
    #[serde(flatten)]
    pub partition: TopicPartition,
    /// The first offset given up.
    pub from: Offset,
    /// The exclusive end.
    pub next: Offset,
    /// The commit that went on behind the gap.
    pub commit: u64,
}

/// How closely an audit looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Each record by its offset.
    Offsets,
    /// The number of records in each partition.
    Counts,
}

impl std::fmt::Display for Depth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Offsets => "checked offset by offset",
            Self::Counts => "checked by counts: the table has no _partition and _offset",
        })
    }
}

/// What an audit found in one partition.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionReport {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The first offset that the log covers.
    pub from: Offset,
    /// The exclusive end of what the log covers.
    pub next: Offset,
    /// Records in the log.
    pub records: u64,
    /// Of these, written, filtered and rejected.
    pub written: u64,
    /// Left out by the SQL.
    pub filtered: u64,
    /// In the rejected table.
    pub rejected: u64,
    /// Rejected records that were run again.
    pub retried: Retried,
    /// Offsets below this one are gone from the topic and could not be compared.
    pub compared_from: Offset,
}

/// Audits the table of `pipeline` against its topics.
///
/// # Errors
/// A broker, log or file that cannot be read. A broken guarantee is no error: it is in the report.
pub async fn verify(pipeline: &Pipeline, brokers: &str, lake: &Path) -> Result<Report, Error> {
    let (brokers, lake) = (brokers.to_owned(), lake.to_owned());
    let (name, table) = (pipeline.name.clone(), pipeline.sink.table.clone());
    let (topics, client) = (pipeline.ingest.topics.clone(), pipeline.ingest.client.clone());
    let audit = move || {
        let mut problems = Vec::new();
        let tables = <[lake::Table; 2]>::from(lake::with_rejected(&lake, &table)?);
        let history = History::read(&lake, &table, tables[0].epoch, &mut problems)?;
        let admin = Admin::connect(&brokers, &client)?;
        let mut names: BTreeSet<String> = topics.iter().cloned().collect();
        names.extend(history.partitions.keys().map(|partition| partition.topic.to_string()));
        let held = topic::held(&admin, &names)?;

        let ranges: Vec<Range> = history
            .partitions
            .iter()
            .map(|(partition, account)| {
                let low = held.get(partition).map_or(account.next, |held| held.low);
                Range::new(partition.clone(), account.from.max(low).min(account.next), account.next)
            })
            .collect();
        let mut ledgers: BTreeMap<TopicPartition, Ledger> = ranges
            .iter()
            .map(|range| (range.partition.clone(), Ledger::new(range.from, range.next)))
            .collect();
        // A topic that lost its end holds nothing there to wait for.
        let readable = ranges
            .iter()
            .filter(|range| held.get(&range.partition).is_some_and(|held| held.high >= range.next));
        topic::enter(&brokers, &client, readable.cloned().collect(), &mut ledgers)?;
        topic::compare_last(&brokers, &client, &lake::progress(&lake, &table)?, &held, &mut problems)?;
        let damage = lake::check(&lake, &table)?;
        let depth = match damage.is_empty() {
            true => rows::enter(tables, &mut ledgers, &mut problems)?,
            false => Depth::Counts,
        };
        problems.extend(damage);

        // All of a partition that the log does not know yet is still to come.
        let unknown = held.iter().filter(|(partition, _)| !history.partitions.contains_key(partition));
        let mut behind: u64 = unknown.map(|(_, held)| (held.high - held.low) as u64).sum();
        let mut partitions = Vec::new();
        for (range, (partition, account)) in ranges.iter().zip(&history.partitions) {
            match held.get(partition) {
                None => {
                    problems.push(format!("{partition}: the topic does not have this partition any more"))
                }
                Some(held) if held.high < account.next => problems.push(format!(
                    "{partition}: the topic ends at {}, before the log's {}: it was truncated or made again",
                    held.high, account.next
                )),
                Some(held) => {
                    behind += (held.high - account.next) as u64;
                    let whole = range.from == account.from;
                    ledgers[partition].judge(partition, account, whole, depth, &mut problems);
                }
            }
            partitions.push(PartitionReport {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                from: account.from,
                next: account.next,
                records: account.records,
                written: account.written,
                filtered: account.filtered,
                rejected: account.rejected,
                retried: account.retried,
                compared_from: range.from,
            });
        }
        let sum = |pick: fn(&PartitionReport) -> u64| partitions.iter().map(pick).sum();
        Ok(Report {
            pipeline: name.clone(),
            table: table.clone(),
            records: sum(|p| p.records),
            written: sum(|p| p.written),
            filtered: sum(|p| p.filtered),
            rejected: sum(|p| p.rejected),
            retried: Retried {
                records: sum(|p| p.retried.records),
                written: sum(|p| p.retried.written),
                filtered: sum(|p| p.retried.filtered),
                rejected: sum(|p| p.retried.rejected),
            },
            behind,
            commits: history.commits,
            depth,
            partitions,
            gaps: history.gaps,
            problems,
        })
    };
    blocking(move || while_files_move(audit)).await
}
