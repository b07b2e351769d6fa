//! One partition's offsets: which the topic holds, and which are in the tables.

use puddle_types::{Offset, TopicPartition};

use super::Depth;
use super::history::Account;

/// At most this many offsets are listed in a problem.
const SHOWN: usize = 5;

/// Two bits for each offset of a range, so that ten million records take 2.5 MB.
pub(super) struct Ledger {
    from: Offset,
    next: Offset,
    topic: Bits,
    tables: Bits,
    written: u64,
    rejected: u64,
    /// Offsets that are in the tables more than once.
    doubled: Vec<Offset>,
    /// Offsets in the tables that lie outside what the log covers.
    outside: Vec<Offset>,
}

impl Ledger {
    pub(super) fn new(from: Offset, next: Offset) -> Self {
        let bits = Bits::new((next - from).max(0) as usize);
        let (topic, tables) = (bits.clone(), bits);
        Self { from, next, topic, tables, written: 0, rejected: 0, doubled: Vec::new(), outside: Vec::new() }
    }

    /// The topic holds a record at this offset.
    pub(super) fn in_topic(&mut self, offset: Offset) {
        if self.covers(offset) {
            self.topic.set((offset - self.from) as usize);
        }
    }

    /// A row of the table, or of the rejected table, comes from this offset.
    pub(super) fn in_table(&mut self, offset: Offset, rejected: bool) {
        if rejected {
            self.rejected += 1;
        } else {
            self.written += 1;
        }
        if offset >= self.next {
            self.outside.push(offset);
        } else if self.covers(offset) && self.tables.set((offset - self.from) as usize) {
            self.doubled.push(offset);
        }
    }

    /// Compares with what the log says. `whole` is whether the topic still holds all that the log covers.
    pub(super) fn judge(
        &self,
        partition: &TopicPartition,
        account: &Account,
        whole: bool,
        depth: Depth,
        problems: &mut Vec<String>,
    ) {
        let mut problem = |what: String| problems.push(format!("{partition}: {what}"));
        let records = self.topic.count();
        if whole && records != account.records {
            problem(format!(
                "the topic holds {records} records in [{}, {}), the log accounts for {}",
                self.from, self.next, account.records
            ));
        }
        if depth == Depth::Counts {
            return;
        }
        if self.written != account.written {
            problem(format!("the table has {} rows, the log says {}", self.written, account.written));
        }
        if self.rejected != account.rejected {
            problem(format!(
                "the rejected table has {} rows, the log says {}",
                self.rejected, account.rejected
            ));
        }
        if !self.doubled.is_empty() {
            problem(format!(
                "{} offsets are there more than once: {}",
                self.doubled.len(),
                list(&self.doubled)
            ));
        }
        if !self.outside.is_empty() {
            problem(format!(
                "{} rows come from offsets that the log does not cover: {}",
                self.outside.len(),
                list(&self.outside)
            ));
        }
        let unknown = self.tables.minus(&self.topic);
        if unknown > 0 {
            problem(format!("{unknown} rows come from offsets at which the topic has no record"));
        }
        let missing = self.topic.minus(&self.tables);
        if whole && missing != account.filtered {
            problem(format!(
                "{missing} records of the topic are in no table, but {} were filtered",
                account.filtered
            ));
        }
    }

    fn covers(&self, offset: Offset) -> bool {
        (self.from..self.next).contains(&offset)
    }
}

fn list(offsets: &[Offset]) -> String {
    let mut text = offsets.iter().take(SHOWN).map(Offset::to_string).collect::<Vec<_>>().join(", ");
    if offsets.len() > SHOWN {
        text.push_str(", ...");
    }
    text
}

#[derive(Clone)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(bits: usize) -> Self {
        Self(vec![0; bits.div_ceil(64)])
    }

    /// Sets a bit; returns whether it was set before.
    fn set(&mut self, i: usize) -> bool {
        let (word, bit) = (&mut self.0[i / 64], 1 << (i % 64));
        let before = *word & bit != 0;
        *word |= bit;
        before
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// How many bits are set here and not there.
    fn minus(&self, other: &Self) -> u64 {
        self.0.iter().zip(&other.0).map(|(a, b)| u64::from((a & !b).count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten records at the even offsets from 100: six written, one filtered (108), three rejected.
    fn honest() -> (Ledger, Account) {
        let mut ledger = Ledger::new(100, 120);
        (100..120).step_by(2).for_each(|offset| ledger.in_topic(offset));
        for offset in [100, 102, 104, 106, 110, 112] {
            ledger.in_table(offset, false);
        }
        for offset in [114, 116, 118] {
            ledger.in_table(offset, true);
        }
        (ledger, Account { from: 100, next: 120, records: 10, written: 6, filtered: 1, rejected: 3 })
    }

    fn problems(ledger: &Ledger, account: &Account) -> Vec<String> {
        let mut problems = Vec::new();
        ledger.judge(&TopicPartition::new("t", 0), account, true, Depth::Offsets, &mut problems);
        problems
    }

    #[test]
    fn an_honest_table_has_no_problems() {
        let (ledger, account) = honest();
        assert_eq!(problems(&ledger, &account), Vec::<String>::new());
    }

    #[test]
    fn a_doubled_row_is_found_even_when_another_is_lost() {
        let mut ledger = Ledger::new(0, 4);
        (0..4).for_each(|offset| ledger.in_topic(offset));
        for offset in [0, 1, 1, 3] {
            ledger.in_table(offset, false);
        }
        let account = Account { from: 0, next: 4, records: 4, written: 4, filtered: 0, rejected: 0 };
        let found = problems(&ledger, &account);
        assert!(found.iter().any(|p| p.contains("more than once: 1")), "{found:?}");
        assert!(found.iter().any(|p| p.contains("1 records of the topic are in no table")), "{found:?}");
    }

    #[test]
    fn a_lost_row_a_foreign_row_and_a_row_too_far_are_found() {
        let (mut ledger, mut account) = honest();
        ledger.in_table(101, false);
        ledger.in_table(130, false);
        account.written = 8;
        let found = problems(&ledger, &account).join("\n");
        assert!(found.contains("1 rows come from offsets at which the topic has no record"), "{found}");
        assert!(found.contains("1 rows come from offsets that the log does not cover: 130"), "{found}");

        let (ledger, mut account) = honest();
        account.filtered = 0;
        account.records = 9;
        let found = problems(&ledger, &account).join("\n");
        assert!(
            found.contains("the topic holds 10 records") && found.contains("but 0 were filtered"),
            "{found}"
        );
    }
}
