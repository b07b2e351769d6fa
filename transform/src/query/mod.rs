//! SQL over the tables of a lake, for `puddle query`.
//!
//! Here a query sees whole tables, so any SQL that Polars knows will do: aggregates, windows, joins of tables.
//!
//! ```text
//! files of a table --partitions that the WHERE excludes are skipped
//!                  --only the columns that the query names are read
//!                  --each batch is filtered as it is read--> Polars --> RecordBatches
//! ```
//!
//! Memory therefore holds the named columns of the rows that pass the filter, not the table.

mod hive;
mod scan;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Fields, SchemaRef};
use polars::lazy::frame::OptFlags;
use polars::prelude::{DataFrame, LazyFrame};
use polars::sql::SQLContext;

use crate::engine::{self, guarded};
use crate::plan::scan as frame_scan;
use crate::sql::{Sql, TableColumns, explain};
use crate::{Error, Problem, bridge};

/// Rows of a returned batch, so that 32-bit offsets hold its strings.
const BATCH_ROWS: usize = 64 * 1024;

/// A table as a query sees it: finished Parquet files below a folder, whose names carry the partition columns.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name in the SQL. A name with a dot or a dash is quoted there: `FROM "flights.rejected"`.
    pub name: String,
    /// The folder of the table, at which the partition folders `column=value` begin.
    pub root: PathBuf,
    /// The files that are visible, below `root` where there are partition columns.
    pub files: Vec<PathBuf>,
    /// The partition columns with their types; they are read from the files' paths. They come last in `SELECT *`.
    pub partitions: Fields,
    /// The columns in the files. None takes them from the last of `files`; a table without files needs them.
    /// A column that a file lacks is null there.
    pub schema: Option<SchemaRef>,
}

/// Runs one query over these tables. At most `limit` rows come back, in at least one batch.
///
/// # Errors
/// [`Error::Sql`] when the query asks for something that is not there; [`Error::File`] when a file cannot be read.
pub fn query(sql: &str, tables: &[Table], limit: Option<usize>) -> Result<Vec<RecordBatch>, Error> {
    let sql = Sql::new("SQL", sql);
    sql.refuse_changes()?;
    engine::prepare();
    let mut context = SQLContext::new();
    let mut columns = Vec::new();
    for table in tables {
        let (frame, names) = open(table)?;
        context.register(&table.name, frame);
        columns.push(TableColumns { table: table.name.clone(), columns: names });
    }
    columns.sort_by(|a, b| a.table.cmp(&b.table));
    sql.refuse_dotted_tables(&columns)?;

    let run = || {
        let mut query = context.execute(&sql.text)?;
        query.collect_schema()?;
        if let Some(limit) = limit {
            query = query.limit(u32::try_from(limit).unwrap_or(u32::MAX));
        }
        query.collect()
    };
    let result = guarded(run)?
        .map_err(|error| scan::error_of(&error).unwrap_or_else(|| explain(&error, &sql, &columns)))?;
    to_batches(result, &sql)
}

fn open(table: &Table) -> Result<(LazyFrame, Vec<String>), Error> {
    let scan = scan::TableScan::new(table)?;
    let names = scan.schema().iter_names().map(ToString::to_string).collect();
    let frame = if table.files.is_empty() {
        let empty = Arc::new(DataFrame::empty_with_schema(scan.schema()));
        LazyFrame::from_logical_plan(frame_scan(empty), OptFlags::default())
    } else {
        scan.into_lazy_frame()?
    };
    Ok((frame, names))
}

fn to_batches(result: DataFrame, sql: &Sql) -> Result<Vec<RecordBatch>, Error> {
    let schema = bridge::plain_schema(result.schema()).map_err(|(name, dtype)| {
        let what = format!("the column {name:?} has the type {dtype}, which cannot be shown");
        sql.error_at_word(Problem::Types, &name, what, "CAST it to another type".to_owned())
    })?;
    if result.height() == 0 {
        return Ok(vec![RecordBatch::new_empty(schema)]);
    }
    (0..result.height())
        .step_by(BATCH_ROWS)
        .map(|start| bridge::to_arrow(result.slice(start as i64, BATCH_ROWS), &schema))
        .collect()
}
