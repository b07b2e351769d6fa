//! One bad record must not stop a pipeline: which rows of a batch make the SQL fail?
//!
//! Whatever the cause, halving finds them:
//!
//! ```text
//! [0 1 2 3 4 5 6 7] fails
//! [0 1 2 3] works   [4 5 6 7] fails
//!                   [4 5] fails          [6 7] works
//!                   [4] works [5] fails              --> rows 0-4, 6, 7; and 5 with its reason
//! ```
//!
//! Each try takes about a millisecond, so that a batch of nothing but bad records would take half a minute. Nearly always
//! the cause is a conversion of a value, and then two things shorten the search. Rows on which the same conversions
//! seem to fail are tried together, apart from those that seem good. And where the engine says that the conversion
//! failed for as many values as there are rows, each of them is bad. Both only choose what is tried: a record is
//! rejected when the SQL has failed on it, and rows are the result of SQL that has not failed.

use std::collections::BTreeMap;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};

use crate::{Error, Transform};

/// More kinds of suspects in one batch than this are no help; then halving has to do.
const MAX_KINDS: usize = 32;

/// A record that the SQL fails on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its row in the batch that was given, from 0.
    pub row: usize,
    /// Why, in one line. The same for all records that the SQL fails on in the same way.
    pub reason: String,
}

impl Transform {
    /// As [`apply`](Self::apply), but records that the SQL fails on are left out and returned with the reason,
    /// in ascending order of their rows.
    ///
    /// # Errors
    /// All errors of [`apply`](Self::apply) that are not about a record.
    pub fn apply_or_reject(&mut self, rows: &RecordBatch) -> Result<(RecordBatch, Vec<Rejected>), Error> {
        if let Ok(good) = self.attempt(rows)? {
            return Ok((good, Vec::new()));
        }
        let mut rejected = Vec::new();
        for suspects in kinds(&self.suspects(rows)?) {
            let some = take_record_batch(rows, &UInt32Array::from(suspects.clone()))?;
            let mut search = Search { transform: self, rows: &some, good: Vec::new(), rejected: Vec::new() };
            search.run(0, some.num_rows())?;
            let found = search.rejected.into_iter();
            rejected.extend(found.map(|found| Rejected { row: suspects[found.row] as usize, ..found }));
        }
        rejected.sort_unstable_by_key(|rejected| rejected.row);

        // The suspects that were found innocent are among them again, in their place.
        let left = all_but(&rejected, rows.num_rows());
        let rest = take_record_batch(rows, &UInt32Array::from(left.clone()))?;
        let mut search = Search { transform: self, rows: &rest, good: Vec::new(), rejected: Vec::new() };
        search.run(0, rest.num_rows())?;
        let Search { mut good, rejected: more, .. } = search;
        rejected.extend(more.into_iter().map(|found| Rejected { row: left[found.row] as usize, ..found }));
        rejected.sort_unstable_by_key(|rejected| rejected.row);
        let good = match good.len() {
            1 => good.remove(0),
            _ => concat_batches(&self.output_schema(), &good)?,
        };
        Ok((good, rejected))
    }

    /// The result for these rows, or why the SQL fails on one of them.
    fn attempt(&mut self, rows: &RecordBatch) -> Result<Result<RecordBatch, String>, Error> {
        match self.apply(rows) {
            Ok(good) => Ok(Ok(good)),
            // A panic of the engine, too, may come from a value.
            Err(Error::Data(reason) | Error::Engine(reason)) if rows.num_rows() > 0 => Ok(Err(reason)),
            Err(other) => Err(other),
        }
    }
}

struct Search<'a> {
    transform: &'a mut Transform,
    rows: &'a RecordBatch,
    good: Vec<RecordBatch>,
    rejected: Vec<Rejected>,
}

impl Search<'_> {
    /// Searches so many rows from row `first` on.
    fn run(&mut self, first: usize, rows: usize) -> Result<(), Error> {
        let reason = match self.transform.attempt(&self.rows.slice(first, rows))? {
            Ok(good) => {
                self.good.push(good);
                return Ok(());
            }
            Err(reason) => reason,
        };
        let conversion = FailedConversion::read(&reason);
        let alike = || match &conversion {
            Some(conversion) if conversion.failed == conversion.values => {
                self.transform.fails_alike(&self.rows.slice(first, rows))
            }
            _ => Ok(false),
        };
        if rows == 1 || alike()? {
            let reason = conversion.map_or(&*reason, |conversion| conversion.what);
            let reject = |row| Rejected { row, reason: reason.to_owned() };
            self.rejected.extend((first..first + rows).map(reject));
            return Ok(());
        }
        let half = rows / 2;
        self.run(first, half)?;
        self.run(first + half, rows - half)
    }
}

/// A message of the engine such as ``conversion from `str` to `i64` failed in column 'n' for 2 out of 3 values: ["x", "y"]``.
pub(crate) struct FailedConversion<'a> {
    /// Without the counts and the values, which depend on the other rows; the record has its value.
    what: &'a str,
    pub(crate) failed: usize,
    /// Of how many, which are those of one part of the rows.
    pub(crate) values: usize,
}

impl<'a> FailedConversion<'a> {
    pub(crate) fn read(message: &'a str) -> Option<FailedConversion<'a>> {
        let column =
            message.starts_with("conversion from ").then(|| message.find(" failed in column '"))??;
        let end = column + message[column..].find("' for ")? + 1;
        let (what, counts) = message.split_at(end);
        let (failed, rest) = counts.strip_prefix(" for ")?.split_once(" out of ")?;
        let (values, _) = rest.split_once(" values: ")?;
        Some(FailedConversion { what, failed: failed.parse().ok()?, values: values.parse().ok()? })
    }
}

/// The rows of each mark but 0.
fn kinds(marks: &[u64]) -> Vec<Vec<u32>> {
    let mut kinds: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for (row, mark) in (0..).zip(marks) {
        if *mark != 0 {
            kinds.entry(*mark).or_default().push(row);
        }
    }
    if kinds.len() > MAX_KINDS { Vec::new() } else { kinds.into_values().collect() }
}

/// The rows that are not rejected.
fn all_but(rejected: &[Rejected], rows: usize) -> Vec<u32> {
    let mut rejected = rejected.iter().map(|rejected| rejected.row).peekable();
    (0..rows).filter(|row| rejected.next_if_eq(row).is_none()).map(|row| row as u32).collect()
}
