//! Rows of a query: as a table, CSV or JSON.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;

use super::count;
use crate::cli::QueryFormat;

/// A table shows at most this many rows; the other formats show all.
const TABLE_ROWS: usize = 50;

/// Prints all rows in this format. A table is cut and says so.
pub(crate) fn print_rows(batches: &[RecordBatch], format: QueryFormat) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let batches = &batches.iter().map(|batch| readable(batch, format)).collect::<Result<Vec<_>, _>>()?;
    match format {
        QueryFormat::Table => {
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            writeln!(out, "{}", table(batches, TABLE_ROWS)?)?;
            if rows > TABLE_ROWS {
                writeln!(
                    out,
                    "{TABLE_ROWS} of {} rows; --format csv or json prints all",
                    count(rows as u64)
                )?;
            }
        }
        QueryFormat::Csv => {
            let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(&mut out);
            for batch in batches {
                writer.write(batch).map_err(unwrap_io)?;
            }
        }
        QueryFormat::Json => {
            let mut writer = arrow::json::WriterBuilder::new()
                .with_explicit_nulls(true)
                .build::<_, arrow::json::writer::LineDelimited>(&mut out);
            for batch in batches {
                writer.write(batch).map_err(unwrap_io)?;
            }
            writer.finish().map_err(unwrap_io)?;
        }
    }
    out.flush()?;
    Ok(())
}

/// The first rows as an aligned table.
pub(crate) fn table(batches: &[RecordBatch], rows: usize) -> anyhow::Result<String> {
    let mut left = rows;
    let shown: Vec<RecordBatch> = batches
        .iter()
        .map(|batch| {
            let take = batch.num_rows().min(left);
            left -= take;
            batch.slice(0, take)
        })
        .collect();
    let options = FormatOptions::default().with_display_error(true).with_null("null");
    Ok(pretty_format_batches_with_options(&shown, &options)?.to_string())
}

/// The rows with bytes as text, where all of a column are text, and for CSV with structs and lists as text.
fn readable(batch: &RecordBatch, format: QueryFormat) -> Result<RecordBatch, ArrowError> {
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let text = match column.data_type() {
            DataType::Binary => cast_with_options(column, &DataType::Utf8, &exact).ok(),
            kind if kind.is_nested() && format == QueryFormat::Csv => Some(as_text(column)?),
            _ => None,
        };
        let column = text.unwrap_or_else(|| column.clone());
        fields.push(field.as_ref().clone().with_data_type(column.data_type().clone()));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn as_text(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column, &options)?;
    let text = |row| (!column.is_null(row)).then(|| formatter.value(row).to_string());
    Ok(Arc::new((0..column.len()).map(text).collect::<StringArray>()))
}

/// Arrow hides I/O errors in its own; a closed pipe must be seen as one.
fn unwrap_io(error: ArrowError) -> anyhow::Error {
    match error {
        ArrowError::IoError(_, source) => source.into(),
        ArrowError::CsvError(text) if text.contains("Broken pipe") => {
            io::Error::from(io::ErrorKind::BrokenPipe).into()
        }
        other => other.into(),
    }
}
