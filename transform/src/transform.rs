//! A stream's SQL: planned once, then applied to batch after batch.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use polars::lazy::frame::OptFlags;
use polars::prelude::{DataFrame, DataType, LazyFrame, PolarsError};
use polars::sql::SQLContext;

use crate::engine::{self, guarded, on_this_thread};
use crate::plan::{Refusal, RowWisePlan, Unplannable, scan};
use crate::program::{Failure, Program};
use crate::reject::FailedConversion;
use crate::sql::{Sql, TableColumns, explain, words};
use crate::{Error, Problem, bridge, reference};

/// SQL that turns each record into at most one row.
pub struct Transform {
    sql: Sql,
    tables: Vec<TableColumns>,
    plan: RowWisePlan,
    program: Option<Program>,
    input: SchemaRef,
    output: SchemaRef,
}

impl Transform {
    /// Plans SQL that reads the columns `input` under the table name `stream` and may join these references
    /// (name in the SQL, Parquet or CSV file), which are loaded now and kept in memory.
    ///
    /// # Errors
    /// Everything that can be known before a record is read: unknown names, types that do not fit, SQL that is not
    /// row-wise, references that are missing or have several rows for a key that is joined on.
    pub fn new(
        stream: &str,
        input: SchemaRef,
        sql: &str,
        references: &[(String, PathBuf)],
    ) -> Result<Self, Error> {
        Self::from_source("SQL", stream, input, sql, references)
    }

    /// As [`new`](Self::new), for SQL that has a name for messages, such as its file's.
    pub fn from_source(
        source: &str,
        stream: &str,
        input: SchemaRef,
        sql: &str,
        references: &[(String, PathBuf)],
    ) -> Result<Self, Error> {
        engine::prepare();
        let sql = Sql::new(source, sql);
        sql.refuse_other_statements()?;
        let references = load_references(stream, references)?;
        let empty = Arc::new(DataFrame::empty_with_schema(&bridge::polars_schema(&input)?));
        let tables = columns_of(std::iter::once((stream, &empty)).chain(names_of(&references)));

        sql.refuse_dotted_tables(&tables)?;
        refuse_windows(&sql)?;
        let logical =
            plan_sql(&sql, &tables, std::iter::once((stream, &empty)).chain(names_of(&references)))?;
        let plan =
            RowWisePlan::new(&logical.logical_plan, &empty, &references).map_err(|error| match error {
                Unplannable::Refused(refusal) => refusal.into_error(&sql),
                Unplannable::Failed(error) => explain(&error, &sql, &tables),
            })?;
        // Types are checked in full when a plan runs; over no rows that is quick.
        let nothing = guarded(|| plan.over(empty.clone()).collect())?
            .map_err(|error| explain(&error, &sql, &tables))?;
        let output = output_schema(&nothing, &sql)?;
        let program = Program::new(&plan, &input, &output).map_err(|failure| match failure {
            Failure::Polars(error) => explain(&error, &sql, &tables),
            Failure::Other(error) => error,
        })?;
        Ok(Self { sql, tables, plan, program, input, output })
    }

    /// The columns of every batch that [`apply`](Self::apply) returns. All may hold nulls.
    pub fn output_schema(&self) -> SchemaRef {
        self.output.clone()
    }

    /// The rows that the SQL makes of these records, in their order; at most one of each record.
    ///
    /// # Errors
    /// [`Error::Data`] when the SQL fails on the values of some record;
    /// [`apply_or_reject`](Self::apply_or_reject) finds out which.
    pub fn apply(&mut self, rows: &RecordBatch) -> Result<RecordBatch, Error> {
        self.check_schema(rows)?;
        let result = match &self.program {
            Some(program) => program.run(rows, &self.output),
            None => self.apply_to_whole(rows),
        };
        result.map_err(|failure| match failure {
            Failure::Polars(error) => self.data_error(&error),
            Failure::Other(error) => error,
        })
    }

    /// The rows that Polars makes of these records with all of their columns.
    pub(crate) fn apply_to_whole(&self, rows: &RecordBatch) -> Result<RecordBatch, Failure> {
        let frame = Arc::new(bridge::to_polars(rows)?);
        let query = || on_this_thread(|| self.plan.over(frame).collect());
        let result = guarded(query)?.map_err(Failure::Polars)?;
        // What no batch may do, whatever the plan's checks let through: the count of records would not add up.
        if result.height() > rows.num_rows() {
            let (records, rows) = (rows.num_rows(), result.height());
            return Err(Error::Engine(format!("{records} records became {rows} rows")).into());
        }
        Ok(bridge::to_arrow(result, &self.output)?)
    }

    /// Where to look first for the records that make the SQL fail: rows that seem to fail for the same cause have the
    /// same mark, and those that do not have 0.
    pub(crate) fn suspects(&self, rows: &RecordBatch) -> Result<Vec<u64>, Error> {
        Ok(self.plan.suspects(&bridge::to_polars(rows)?))
    }

    /// Whether the SQL fails on each of these rows in the same way. `false` may also mean that this is not known.
    ///
    /// The engine cuts rows into one part for each core unless they come in parts, and a message is about one part. So a
    /// row is added as a part of its own, on which no conversion fails: one of nulls.
    pub(crate) fn fails_alike(&self, rows: &RecordBatch) -> Result<bool, Error> {
        if !self.plan.counts_rows() {
            return Ok(false);
        }
        let rows = bridge::to_polars(rows)?;
        let nulls = DataFrame::full_null(rows.schema(), 1);
        let all = rows.vstack(&nulls);
        let (Ok(all), Ok(Ok(_))) = (all, guarded(|| self.plan.over(Arc::new(nulls)).collect())) else {
            return Ok(false);
        };
        match guarded(|| self.plan.over(Arc::new(all)).collect()) {
            Ok(Err(error)) => match self.data_error(&error) {
                Error::Data(reason) => Ok(FailedConversion::read(&reason)
                    .is_some_and(|c| c.failed == rows.height() && c.values >= c.failed)),
                _ => Ok(false),
            },
            _ => Ok(false),
        }
    }

    fn check_schema(&self, rows: &RecordBatch) -> Result<(), Error> {
        let same = rows.schema_ref().fields().iter().map(|field| (field.name(), field.data_type())).eq(self
            .input
            .fields()
            .iter()
            .map(|field| (field.name(), field.data_type())));
        if same { Ok(()) } else { Err(Error::Schema(format!("{} instead of {}", rows.schema(), self.input))) }
    }

    /// What a failure while running means: the plan was right, so it is about the data.
    fn data_error(&self, error: &PolarsError) -> Error {
        match explain(error, &self.sql, &self.tables) {
            Error::Sql { what, .. } => Error::Data(what),
            other => other,
        }
    }
}

impl std::fmt::Debug for Transform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transform")
            .field("sql", &self.sql)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

/// The logical plan of this SQL over these frames, with its columns and types checked.
fn plan_sql<'a>(
    sql: &Sql,
    tables: &[TableColumns],
    frames: impl Iterator<Item = (&'a str, &'a Arc<DataFrame>)>,
) -> Result<LazyFrame, Error> {
    let mut context = SQLContext::new();
    for (name, frame) in frames {
        context.register(name, LazyFrame::from_logical_plan(scan(frame.clone()), OptFlags::default()));
    }
    guarded(|| {
        let mut logical = context.execute(&sql.text)?;
        logical.collect_schema()?;
        Ok(logical)
    })?
    .map_err(|error| explain(&error, sql, tables))
}

fn output_schema(result: &DataFrame, sql: &Sql) -> Result<SchemaRef, Error> {
    for (name, dtype) in result.schema().iter() {
        let help = match dtype {
            DataType::Duration(_) => {
                "CAST(... AS BIGINT) gives its microseconds (milliseconds between two _timestamps)"
            }
            DataType::Null => "give the null a type: CAST(NULL AS VARCHAR)",
            _ => continue,
        };
        let what = format!("the column {name:?} has the type {dtype}, which a Parquet table cannot hold");
        return Err(sql.error_at_word(Problem::Types, name, what, help.to_owned()));
    }
    bridge::plain_schema(result.schema()).map_err(|(name, dtype)| {
        let what = format!("the column {name:?} has the type {dtype}, which a Parquet table cannot hold");
        sql.error_at_word(Problem::Types, &name, what, "CAST it to another type".to_owned())
    })
}

/// Windows leave no trace in the plan when Polars finds that they change nothing, yet a reader would expect one.
fn refuse_windows(sql: &Sql) -> Result<(), Error> {
    for word in words(&sql.text) {
        let refusal = if word.is_keyword("OVER") && word.followed_by == Some('(') {
            Refusal::depends_on_cut("a window function (OVER)", None)
        } else if word.is_keyword("LAST_VALUE") && word.followed_by == Some('(') {
            Refusal::depends_on_cut("LAST_VALUE", None)
        } else {
            continue;
        };
        return Err(refusal.into_error_at(sql, word.place));
    }
    Ok(())
}

type References = Vec<(String, Arc<DataFrame>)>;

fn load_references(stream: &str, files: &[(String, PathBuf)]) -> Result<References, Error> {
    let mut references = References::new();
    for (name, path) in files {
        if name == stream || references.iter().any(|(known, _)| known == name) {
            return Err(Error::Reference {
                name: name.clone(),
                path: path.clone(),
                what: "another table already has this name".to_owned(),
                usage: true,
            });
        }
        references.push((name.clone(), Arc::new(reference::load(name, path)?)));
    }
    Ok(references)
}

fn names_of(references: &References) -> impl Iterator<Item = (&str, &Arc<DataFrame>)> {
    references.iter().map(|(name, frame)| (name.as_str(), frame))
}

fn columns_of<'a>(frames: impl Iterator<Item = (&'a str, &'a Arc<DataFrame>)>) -> Vec<TableColumns> {
    frames
        .map(|(table, frame)| TableColumns {
            table: table.to_owned(),
            columns: frame.get_column_names().into_iter().map(ToString::to_string).collect(),
        })
        .collect()
}
