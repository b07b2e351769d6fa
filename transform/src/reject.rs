//! One bad record must not stop a pipeline: which rows of a batch make the SQL fail?
//!
//! ```text
//! [0 1 2 3 4 5 6 7] fails
//! [0 1 2 3] works   [4 5 6 7] fails
//!                   [4 5] fails          [6 7] works
//!                   [4] works [5] fails              --> rows 0-4, 6, 7; and 5 with its reason
//! ```

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use crate::{Error, Transform};

/// More failing rows in one batch than this are the SQL's fault. It bounds the search to about
/// `FAILURES * log2(rows)` runs of the SQL; each takes about a millisecond, and its rows.
const FAILURES: usize = 1_000;

/// A record that the SQL fails on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its row in the batch that was given, from 0.
    pub row: usize,
    /// Why, in one line.
    pub reason: String,
}

impl Transform {
    /// As [`apply`](Self::apply), but records that the SQL fails on are left out and returned with the reason,
    /// in ascending order of their rows.
    ///
    /// # Errors
    /// [`Error::TooManyFailures`] when more than 1,000 records of the batch fail; all errors of
    /// [`apply`](Self::apply) that are not about a record.
    pub fn apply_or_reject(&mut self, rows: &RecordBatch) -> Result<(RecordBatch, Vec<Rejected>), Error> {
        let mut search = Search { good: Vec::new(), rejected: Vec::new() };
        search.run(self, rows, 0)?;
        let rows = match search.good.len() {
            1 => search.good.remove(0),
            _ => concat_batches(&self.output_schema(), &search.good)?,
        };
        Ok((rows, search.rejected))
    }
}

struct Search {
    good: Vec<RecordBatch>,
    rejected: Vec<Rejected>,
}

impl Search {
    /// `rows` begin at row `first` of the batch.
    fn run(&mut self, transform: &mut Transform, rows: &RecordBatch, first: usize) -> Result<(), Error> {
        let reason = match transform.apply(rows) {
            Ok(good) => {
                self.good.push(good);
                return Ok(());
            }
            // A panic of the engine, too, may come from a value.
            Err(Error::Data(reason)) | Err(Error::Engine(reason)) => reason,
            Err(other) => return Err(other),
        };
        if rows.num_rows() > 1 {
            let half = rows.num_rows() / 2;
            self.run(transform, &rows.slice(0, half), first)?;
            return self.run(transform, &rows.slice(half, rows.num_rows() - half), first + half);
        }
        if rows.num_rows() == 0 {
            return Err(Error::Engine(reason));
        }
        self.rejected.push(Rejected { row: first, reason });
        if self.rejected.len() > FAILURES {
            let first = self.rejected.swap_remove(0).reason;
            return Err(Error::TooManyFailures { limit: FAILURES, first });
        }
        Ok(())
    }
}
