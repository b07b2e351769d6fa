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
    /// Offsets of rows that are not the first of theirs.
    doubled: Listed,
    /// Offsets in the tables that lie outside what the log covers.
    outside: Listed,
}

/// Offsets of which the first few are known, and the others counted.
#[derive(Default)]
struct Listed {
    first: Vec<Offset>,
    count: u64,
}

impl Ledger {
    pub(super) fn new(from: Offset, next: Offset) -> Self {
        let bits = Bits::new((next - from).max(0) as usize);
        let (topic, tables) = (bits.clone(), bits);
        Self {
            from,
            next,
            topic,
            tables,
            written: 0,
            rejected: 0,
            doubled: Listed::default(),
            outside: Listed::default(),
        }
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
        if self.doubled.count > 0 {
            problem(format!("{} offsets are there more than once: {}", self.doubled.count, self.doubled));
        }
        if self.outside.count > 0 {
            problem(format!(
                "{} rows come from offsets that the log does not cover: {}",
                self.outside.count, self.outside
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

impl Listed {
    fn push(&mut self, offset: Offset) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(offset);
        }
    }
}

impl std::fmt::Display for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let offsets: Vec<String> = self.first.iter().map(Offset::to_string).collect();
        let more = if self.count > self.first.len() as u64 { ", ..." } else { "" };
        write!(f, "{}{more}", offsets.join(", "))
    }
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
        let account = Account {
            from: 100,
            next: 120,
            records: 10,
            written: 6,
            filtered: 1,
            rejected: 3,
            ..Account::default()
        };
        (ledger, account)
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
        let account = Account { next: 4, records: 4, written: 4, ..Account::default() };
        let found = problems(&ledger, &account);
        assert!(found.iter().any(|p| p.contains("more than once: 1")), "{found:?}");
        assert!(found.iter().any(|p| p.contains("1 records of the topic are in no table")), "{found:?}");
    }

    #[test]
    fn a_table_that_is_all_wrong_takes_no_more_memory_for_it() {
        let mut ledger = Ledger::new(0, 1);
        for offset in 0..100_000 {
            ledger.in_table(0, false);
            ledger.in_table(offset, true);
        }
        assert_eq!(
            (ledger.doubled.to_string(), ledger.doubled.count),
            ("0, 0, 0, 0, 0, ...".into(), 100_000)
        );
        assert_eq!((ledger.outside.to_string(), ledger.outside.count), ("1, 2, 3, 4, 5, ...".into(), 99_999));
        assert!(ledger.doubled.first.capacity() + ledger.outside.first.capacity() < 100);
    }

    #[test]
    fn a_record_that_is_in_the_table_and_rejected_is_found_though_the_counts_are_right() {
        let (mut ledger, mut account) = honest();
        ledger.in_table(118, false);
        account.written += 1;
        let found = problems(&ledger, &account);
        assert!(found.len() == 1 && found[0].contains("more than once: 118"), "{found:?}");
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
