//! What one commit covers.

use std::collections::BTreeMap;

use puddle_types::{Fingerprint, Offset, Position, Progress, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What one commit covers: for each partition that moved on, how far; and what became of rejected records that were
/// run again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// The partitions that moved on.
    pub partitions: BTreeMap<TopicPartition, Span>,
    /// What became of the records in the files that were given to [`Sink::retry`](crate::Sink::retry). Offsets do
    /// not move for it.
    pub retried: BTreeMap<TopicPartition, Retried>,
}

/// A stretch of one partition, and what became of its records.
/// `records` = `written` + `filtered` + `rejected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Where it begins (inclusive): the `next` of the commit before it.
    pub from: Offset,
    /// Where it ends (exclusive).
    pub next: Offset,
    /// The last record, if there is any.
    pub last: Option<Fingerprint>,
    /// Records read.
    pub records: u64,
    /// Records that became a row of the table.
    pub written: u64,
    /// Records that the query left out.
    pub filtered: u64,
    /// Records that became a row of the table of rejected records.
    pub rejected: u64,
}

/// Rejected records of one partition that were run again, and what became of them.
/// `records` = `written` + `filtered` + `rejected`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// Records run again; each was a row of a file that the commit removes.
    pub records: u64,
    /// Records that became a row of the table.
    pub written: u64,
    /// Records that the query left out.
    pub filtered: u64,
    /// Records that became a row of the table of rejected records once more.
    pub rejected: u64,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The number of the table's newest commit, from 1; 0 when it has none. A commit with nothing new does not
    /// raise it.
    pub epoch: u64,
    /// Files that became visible, of rejected records too.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// Rows that became visible, without the rejected ones.
    pub rows: u64,
}

impl Epoch {
    /// Whether a commit of this would change `progress` at all.
    pub(crate) fn is_news(&self, progress: &Progress) -> bool {
        !self.retried.is_empty()
            || self.partitions.iter().any(|(partition, span)| {
                span.records > 0 || progress.get(partition).is_none_or(|position| position.next != span.next)
            })
    }

    /// Checks that the epoch goes on exactly where `progress` ends (but for the `gaps` that were accepted), and
    /// that it accounts for the `rows` and `rejected` rows that were handed to the sink, and for the `retried` rows
    /// of the files that it takes away, and for nothing else.
    pub(crate) fn check(
        &self,
        progress: &Progress,
        gaps: &BTreeMap<TopicPartition, Offset>,
        rows: u64,
        rejected: u64,
        retried: u64,
    ) -> Result<(), Error> {
        for (partition, span) in &self.partitions {
            let expected =
                gaps.get(partition).copied().or(progress.get(partition).map(|position| position.next));
            if let Some(expected) = expected.filter(|expected| *expected != span.from) {
                return Err(Error::Discontinuous { partition: partition.clone(), from: span.from, expected });
            }
            let Span { from, next, records, written, filtered, rejected, .. } = *span;
            let counts = format!("{partition} [{from}, {next}): {records} records read");
            if next < from {
                return Err(Error::Counts { reason: format!("{counts}, but it ends before it begins") });
            }
            // A record has an offset of its own, so a span cannot hold more of them than offsets.
            if records > from.abs_diff(next) {
                return Err(Error::Counts { reason: format!("{counts}, but it has fewer offsets") });
            }
            adds_up(&counts, records, [written, filtered, rejected])?;
        }
        for (partition, again) in &self.retried {
            let Retried { records, written, filtered, rejected } = *again;
            let counts = format!("{partition}: {records} records run again");
            if !progress.contains_key(partition) {
                return Err(Error::Counts { reason: format!("{counts}, but none was read before") });
            }
            adds_up(&counts, records, [written, filtered, rejected])?;
        }
        let spans = |count: fn(&Span) -> u64| self.partitions.values().map(count).sum::<u64>();
        let again = |count: fn(&Retried) -> u64| self.retried.values().map(count).sum::<u64>();
        for (what, counted, given) in [
            ("written", spans(|span| span.written) + again(|again| again.written), rows),
            ("rejected", spans(|span| span.rejected) + again(|again| again.rejected), rejected),
            ("run again", again(|again| again.records), retried),
        ] {
            if counted != given {
                return Err(Error::Counts {
                    reason: format!("{counted} {what} by the epoch, {given} rows given"),
                });
            }
        }
        Ok(())
    }
}

/// Notes in `gaps` that the next commit may begin at `next`, unless that lies before where `progress` ends.
pub(crate) fn accept_gap(
    progress: &Progress,
    gaps: &mut BTreeMap<TopicPartition, Offset>,
    partition: &TopicPartition,
    next: Offset,
) -> Result<(), Error> {
    if let Some(position) = progress.get(partition).filter(|position| position.next > next) {
        let expected = position.next;
        return Err(Error::Discontinuous { partition: partition.clone(), from: next, expected });
    }
    gaps.insert(partition.clone(), next);
    Ok(())
}

impl Span {
    /// Moves `progress` of `partition` to the end of this.
    pub(crate) fn advance(&self, partition: &TopicPartition, progress: &mut Progress) {
        let before = progress.get(partition).and_then(|position| position.last);
        progress.insert(partition.clone(), Position { next: self.next, last: self.last.or(before) });
    }
}

fn adds_up(counts: &str, records: u64, [written, filtered, rejected]: [u64; 3]) -> Result<(), Error> {
    if written.checked_add(filtered).and_then(|n| n.checked_add(rejected)) == Some(records) {
        return Ok(());
    }
    let reason = format!("{counts}, but {written} written, {filtered} filtered and {rejected} rejected");
    Err(Error::Counts { reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(span: Span) -> Epoch {
        Epoch { partitions: BTreeMap::from([(TopicPartition::new("t", 0), span)]), ..Epoch::default() }
    }

    const SPAN: Span =
        Span { from: 5, next: 9, last: None, records: 3, written: 1, filtered: 1, rejected: 1 };

    #[test]
    fn an_epoch_goes_on_where_the_table_ends() {
        let at = |next| Progress::from([(TopicPartition::new("t", 0), Position { next, last: None })]);
        let none = BTreeMap::new();
        epoch(SPAN).check(&Progress::new(), &none, 1, 1, 0).unwrap();
        epoch(SPAN).check(&at(5), &none, 1, 1, 0).unwrap();
        for next in [4, 6, 9] {
            let error = epoch(SPAN).check(&at(next), &none, 1, 1, 0).unwrap_err();
            assert!(matches!(error, Error::Discontinuous { from: 5, .. }), "{error}");
        }
        let accepted = BTreeMap::from([(TopicPartition::new("t", 0), 5)]);
        epoch(SPAN).check(&at(2), &accepted, 1, 1, 0).unwrap();
    }

    #[test]
    fn counts_must_add_up() {
        let none = BTreeMap::new();
        for (span, rows, rejected) in [
            (SPAN, 2, 1),
            (SPAN, 1, 0),
            (Span { filtered: 2, ..SPAN }, 1, 1),
            (Span { filtered: u64::MAX, ..SPAN }, 1, 1),
            (Span { next: 4, ..SPAN }, 1, 1),
            (Span { next: 7, ..SPAN }, 1, 1),
        ] {
            let error = epoch(span).check(&Progress::new(), &none, rows, rejected, 0).unwrap_err();
            assert!(matches!(error, Error::Counts { .. }), "{error}");
        }
    }

    #[test]
    fn what_was_run_again_must_add_up_too() {
        let (partition, none) = (TopicPartition::new("t", 0), BTreeMap::new());
        let known = Progress::from([(partition.clone(), Position { next: 9, last: None })]);
        const AGAIN: Retried = Retried { records: 4, written: 2, filtered: 1, rejected: 1 };
        let epoch =
            |again| Epoch { retried: BTreeMap::from([(partition.clone(), again)]), ..Epoch::default() };
        epoch(AGAIN).check(&known, &none, 2, 1, 4).unwrap();
        for (again, progress, rows, rejected, retried) in [
            (AGAIN, &known, 1, 1, 4),
            (AGAIN, &known, 2, 0, 4),
            (AGAIN, &known, 2, 1, 3),
            (AGAIN, &known, 2, 1, 5),
            (Retried { records: 5, ..AGAIN }, &known, 2, 1, 5),
            (AGAIN, &Progress::new(), 2, 1, 4),
        ] {
            let error = epoch(again).check(progress, &none, rows, rejected, retried).unwrap_err();
            assert!(matches!(error, Error::Counts { .. }), "{error}");
        }
    }
}
