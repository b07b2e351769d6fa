//! The files of a table as a source of a Polars query.

use std::any::Any;
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{Field, FieldRef, Schema as ArrowSchema, SchemaRef as ArrowSchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use polars::lazy::dsl::{Expr, Operator};
use polars::prelude::{
    AnonymousScan, AnonymousScanArgs, DataFrame, IntoLazy, LazyFrame, PlSmallStr, PolarsError, PolarsResult,
    ScanArgsAnonymous, Schema, SchemaRef,
};

use super::{Table, hive};
use crate::{Error, bridge};

/// Rows that are decoded and filtered at a time.
const BATCH_ROWS: usize = 64 * 1024;

pub(super) struct TableScan {
    table: Table,
    /// The columns of the files, then those of the path.
    columns: ArrowSchemaRef,
    schema: SchemaRef,
}

impl TableScan {
    pub(super) fn new(table: &Table) -> Result<Self, Error> {
        let in_files = match (&table.schema, table.files.last()) {
            (Some(schema), _) => schema.clone(),
            (None, Some(file)) => open(file)?.schema().clone(),
            (None, None) => Arc::new(ArrowSchema::empty()),
        };
        let is_partition = |name: &str| table.partitions.iter().any(|column| column.name() == name);
        let columns: Vec<FieldRef> = in_files
            .fields()
            .iter()
            .filter(|field| !is_partition(field.name()))
            .chain(table.partitions.iter())
            .map(|field| Arc::new(Field::new(field.name(), field.data_type().clone(), true)))
            .collect();
        let columns = Arc::new(ArrowSchema::new(columns));
        let schema = Arc::new(bridge::polars_schema(&columns)?);
        Ok(Self { table: table.clone(), columns, schema })
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(super) fn into_lazy_frame(self) -> Result<LazyFrame, Error> {
        let args =
            ScanArgsAnonymous { schema: Some(self.schema.clone()), name: "LAKE", ..Default::default() };
        LazyFrame::anonymous_scan(Arc::new(self), args).map_err(|cause| Error::Engine(cause.to_string()))
    }
}

impl AnonymousScan for TableScan {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn allows_predicate_pushdown(&self) -> bool {
        true
    }

    fn allows_projection_pushdown(&self) -> bool {
        true
    }

    fn scan(&self, asked: AnonymousScanArgs) -> PolarsResult<DataFrame> {
        let columns = match &asked.with_columns {
            Some(names) => self.select(names),
            None => self.columns.clone(),
        };
        // A limit counts rows before the predicate sees them, so with a limit it waits until all are read.
        let predicate = asked.predicate.and_then(without_hints);
        let (early, late) = match asked.n_rows {
            None => (predicate, None),
            Some(_) => (None, predicate),
        };
        let read = Read { table: &self.table, columns, predicate: early };
        let mut all =
            bridge::to_polars(&RecordBatch::new_empty(read.columns.clone())).map_err(to_polars_error)?;
        for part in read.rows(asked.n_rows).map_err(to_polars_error)? {
            all.vstack_mut_owned(part)?;
        }
        match late {
            Some(predicate) => filter(all, &predicate).map_err(to_polars_error),
            None => Ok(all),
        }
    }
}

impl TableScan {
    fn select(&self, names: &[PlSmallStr]) -> ArrowSchemaRef {
        let wanted = names.iter().filter_map(|name| self.columns.column_with_name(name));
        Arc::new(ArrowSchema::new(wanted.map(|(_, field)| field.clone()).collect::<Vec<_>>()))
    }
}

/// One pass over the files.
struct Read<'a> {
    table: &'a Table,
    columns: ArrowSchemaRef,
    predicate: Option<Expr>,
}

impl Read<'_> {
    /// The rows of the files in order, until there are this many.
    ///
    /// On the calling thread, which is one of Polars' own: another thread's filter would have to wait for a free one
    /// of them, and two scans at once, as for a join, would wait for each other.
    fn rows(&self, limit: Option<usize>) -> Result<Vec<DataFrame>, Error> {
        let mut parts = Vec::new();
        let mut missing = limit.unwrap_or(usize::MAX);
        for file in &self.table.files {
            if missing == 0 {
                break;
            }
            self.file(file, &mut |frame| {
                let frame = frame.head(Some(missing));
                missing -= frame.height();
                parts.push(frame);
                missing > 0
            })?;
        }
        Ok(parts)
    }

    /// Gives the rows of one file that pass the predicate, until `sink` returns false.
    fn file(&self, path: &Path, sink: &mut dyn FnMut(DataFrame) -> bool) -> Result<(), Error> {
        let partition = self.partition(path)?;
        if let Some(predicate) = &self.predicate
            && self.excludes(predicate, &partition)?
        {
            return Ok(());
        }
        let builder = open(path)?;
        let in_file = builder.schema().clone();
        let roots = in_file.fields().iter().enumerate();
        let wanted: Vec<usize> = roots
            .filter(|(_, field)| self.columns.column_with_name(field.name()).is_some())
            .map(|(root, _)| root)
            .collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let error = |what: String| Error::File { path: path.to_owned(), what };
        let batches = builder
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|cause| error(cause.to_string()))?;
        for batch in batches {
            let batch = batch.map_err(|cause| error(cause.to_string()))?;
            let batch = self.conform(&batch, &partition).map_err(|cause| error(cause.to_string()))?;
            let mut frame = bridge::to_polars(&batch)?;
            if let Some(predicate) = &self.predicate {
                frame = filter(frame, predicate)?;
            }
            if frame.height() > 0 && !sink(frame) {
                break;
            }
        }
        Ok(())
    }

    /// The batch with the wanted columns: of the file, of its path, or null.
    fn conform(
        &self,
        batch: &RecordBatch,
        partition: &RecordBatch,
    ) -> Result<RecordBatch, arrow::error::ArrowError> {
        let rows = batch.num_rows();
        let arrays = self
            .columns
            .fields()
            .iter()
            .map(|field| -> Result<ArrayRef, arrow::error::ArrowError> {
                if let Some(value) = partition.column_by_name(field.name()) {
                    return take(value, &UInt64Array::from_value(0, rows), None);
                }
                match batch.column_by_name(field.name()) {
                    None => Ok(new_null_array(field.data_type(), rows)),
                    Some(array) if array.data_type() == field.data_type() => Ok(array.clone()),
                    Some(array) => {
                        let options = CastOptions { safe: false, ..CastOptions::default() };
                        cast_with_options(array, field.data_type(), &options)
                    }
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.columns.clone(), arrays, &options)
    }

    /// The file's partition values as a batch of one row.
    fn partition(&self, path: &Path) -> Result<RecordBatch, Error> {
        let columns = &self.table.partitions;
        let values = hive::values(&self.table.root, path, columns)?;
        let fields: Vec<FieldRef> = columns
            .iter()
            .map(|column| Arc::new(Field::new(column.name(), column.data_type().clone(), true)))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        Ok(RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), values, &options)?)
    }

    /// Whether a part of the predicate that names partition columns only is not true for this file.
    fn excludes(&self, predicate: &Expr, partition: &RecordBatch) -> Result<bool, Error> {
        let known: HashSet<&str> =
            self.table.partitions.iter().map(|column| column.name().as_str()).collect();
        for part in conditions(predicate) {
            let mut names = part.into_iter().filter_map(|expr| match expr {
                Expr::Column(name) => Some(name.as_str()),
                _ => None,
            });
            let decides = names
                .next()
                .is_some_and(|first| known.contains(first) && names.all(|name| known.contains(name)));
            if decides && filter(bridge::to_polars(partition)?, part)?.height() == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The parts of a condition that must all be true.
fn conditions(predicate: &Expr) -> Vec<&Expr> {
    match predicate {
        Expr::BinaryExpr { left, op: Operator::And | Operator::LogicalAnd, right } => {
            let mut parts = conditions(left);
            parts.extend(conditions(right));
            parts
        }
        part => vec![part],
    }
}

/// The predicate without the parts that only say which rows a sort with a limit will not need. Polars fills those in
/// while it runs, and cannot hand them to a scan as an expression: they arrive as text.
fn without_hints(predicate: Expr) -> Option<Expr> {
    let is_hint =
        |part: &Expr| matches!(part, Expr::Display { fmt_str, .. } if fmt_str.starts_with("dynamic_pred"));
    conditions(&predicate).into_iter().filter(|part| !is_hint(part)).cloned().reduce(Expr::and)
}

fn filter(frame: DataFrame, predicate: &Expr) -> Result<DataFrame, Error> {
    frame.lazy().filter(predicate.clone()).collect().map_err(|cause| Error::Data(cause.to_string()))
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, Error> {
    let error = |what: String| Error::File { path: path.to_owned(), what };
    let file = File::open(path).map_err(|cause| error(cause.to_string()))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|cause| error(cause.to_string()))
}

/// Polars carries an error of the scan as an I/O error with ours inside.
fn to_polars_error(error: Error) -> PolarsError {
    PolarsError::IO { error: Arc::new(std::io::Error::other(error)), msg: None }
}

/// The error that a scan failed with, if that is what this is.
pub(super) fn error_of(error: &PolarsError) -> Option<Error> {
    match error {
        PolarsError::Context { error, .. } | PolarsError::ExprContext { error, .. } => error_of(error),
        PolarsError::IO { error, .. } => match error.get_ref()?.downcast_ref::<Error>()? {
            Error::File { path, what } => Some(Error::File { path: path.clone(), what: what.clone() }),
            Error::Data(what) => Some(Error::Data(what.clone())),
            other => Some(Error::Engine(other.to_string())),
        },
        _ => None,
    }
}
