//! What is done with one batch: Polars computes what must be computed, everything else goes around it.
//!
//! ```text
//!             .-- the columns that the SQL computes with, and the row's number --> Polars --.
//! records ----|                                                                             |--> rows
//!             '-- columns that stay as they are ------------------- the rows that are left -'
//! ```
//!
//! SQL is row-wise, so each row of the result stems from one record, and its number tells from which. A column that the
//! SQL hands on as it is then needs no conversion, and no copy where no row was left out.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions};
use arrow::compute::{FilterBuilder, FilterPredicate};
use arrow::datatypes::SchemaRef;
use polars::prelude::{Column, DataFrame, IdxCa, IntoColumn, PolarsError};

use crate::engine::{guarded, on_this_thread};
use crate::plan::{Compiled, ROW, RowWisePlan, stand_in};
use crate::{Error, bridge};

/// A plan, compiled for batches of one schema.
pub(crate) struct Program {
    /// For each column of the result.
    columns: Vec<Source>,
    /// What computes the others; none where nothing is computed and no row left out.
    query: Option<Query>,
}

/// Where a column of the result is taken from.
enum Source {
    /// From this column of the records, as it is.
    Record(usize),
    /// From this column of the query's result.
    Query(usize),
}

struct Query {
    plan: Compiled,
    /// The columns of the records that it reads, and the place of the row's number among them.
    reads: Vec<usize>,
    row_at: Option<usize>,
    /// The column of the query's result that holds the row's number.
    row: usize,
}

/// Why a batch has no result.
pub(crate) enum Failure {
    /// Polars failed on it.
    Polars(PolarsError),
    Other(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Other(error.into())
    }
}

impl Program {
    /// Compiles a plan from records of the columns `input` to rows of the columns `output`. `None` where an expression
    /// would see the row's number.
    pub(crate) fn new(
        plan: &RowWisePlan,
        input: &SchemaRef,
        output: &SchemaRef,
    ) -> Result<Option<Self>, Failure> {
        if !plan.can_carry() {
            return Ok(None);
        }
        let mut computed = Vec::new();
        let columns = output.fields().iter().map(|field| {
            let at = plan.origin_of(field.name()).and_then(|origin| input.index_of(origin).ok());
            match at.filter(|at| input.field(*at).data_type() == field.data_type()) {
                Some(at) => Source::Record(at),
                None => {
                    computed.push(field.name().as_str());
                    Source::Query(computed.len() - 1)
                }
            }
        });
        let columns = columns.collect();
        if computed.is_empty() && plan.keeps_rows() {
            return Ok(Some(Self { columns, query: None }));
        }
        let frame = stand_in(&bridge::polars_schema(input)?).map_err(Failure::Polars)?;
        let query = plan.numbered(Arc::new(frame), &computed);
        let plan = guarded(|| Compiled::new(query))?.map_err(Failure::Polars)?;
        let row_at = plan.reads().iter().position(|column| *column == ROW);
        let reads = plan.reads().iter().filter(|column| **column != ROW);
        let reads = reads.map(|column| input.index_of(column)).collect::<Result<_, _>>()?;
        Ok(Some(Self { columns, query: Some(Query { plan, reads, row_at, row: computed.len() }) }))
    }

    /// The rows, of the columns `output`, that these records become.
    pub(crate) fn run(&self, records: &RecordBatch, output: &SchemaRef) -> Result<RecordBatch, Failure> {
        let Some(query) = &self.query else {
            return self.assemble(records, None, &[], records.num_rows(), output);
        };
        if records.num_rows() == 0 {
            return Ok(RecordBatch::new_empty(output.clone()));
        }
        let result = query.run(records)?;
        let left = query.left(&result, records.num_rows())?;
        self.assemble(records, left.as_ref(), result.columns(), result.height(), output)
    }

    fn assemble(
        &self,
        records: &RecordBatch,
        left: Option<&FilterPredicate>,
        computed: &[Column],
        rows: usize,
        output: &SchemaRef,
    ) -> Result<RecordBatch, Failure> {
        let arrays = self.columns.iter().zip(output.fields()).map(|(source, field)| match source {
            Source::Record(at) => match left {
                Some(left) => Ok(left.filter(records.column(*at))?),
                None => Ok(records.column(*at).clone()),
            },
            Source::Query(at) => bridge::to_array(&computed[*at], field.data_type()),
        });
        let arrays = arrays.collect::<Result<Vec<ArrayRef>, Error>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(output.clone(), arrays, &options)?)
    }
}

impl Query {
    fn run(&self, records: &RecordBatch) -> Result<DataFrame, Failure> {
        let (schema, rows) = (records.schema_ref(), records.num_rows());
        let mut columns = Vec::with_capacity(self.reads.len() + 1);
        for at in &self.reads {
            columns.push(bridge::to_column(schema.field(*at), records.column(*at))?);
        }
        if let Some(at) = self.row_at {
            columns.insert(at, IdxCa::from_vec(ROW, (0..rows as u32).collect()).into_column());
        }
        let frame = DataFrame::new(rows, columns).map_err(Failure::Polars)?;
        guarded(|| on_this_thread(|| self.plan.run(frame)))?.map_err(Failure::Polars)
    }

    /// Which of so many records are left in the result; `None` says all of them.
    ///
    /// # Errors
    /// What no batch may do, whatever the plan's checks let through: a record becomes several rows, or they are not in
    /// the order of their records.
    fn left(&self, result: &DataFrame, records: usize) -> Result<Option<FilterPredicate>, Failure> {
        let numbers = result.columns()[self.row].idx().map_err(Failure::Polars)?.rechunk();
        let numbers = numbers.cont_slice().map_err(Failure::Polars)?;
        let ascend = numbers.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascend || numbers.last().is_some_and(|last| *last as usize >= records) {
            let rows = numbers.len();
            return Err(
                Error::Engine(format!("{records} records became {rows} rows in another order")).into()
            );
        }
        if numbers.len() == records {
            return Ok(None);
        }
        let mut left = BooleanBufferBuilder::new(records);
        left.append_n(records, false);
        numbers.iter().for_each(|number| left.set_bit(*number as usize, true));
        let left = BooleanArray::new(left.finish(), None);
        Ok(Some(FilterBuilder::new(&left).optimize().build()))
    }
}

#[cfg(test)]
mod tests;
