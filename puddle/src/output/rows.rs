//! Rows of a query: as a table, CSV or JSON.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;

use super::count;
use crate::cli::QueryFormat;

/// A table shows at most this many rows; the other formats show all.
const TABLE_ROWS: usize = 50;

/// Prints all rows in this format. A table is cut and says so.
pub(crate) fn print_rows(batches: &[RecordBatch], format: QueryFormat) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
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

/// Arrow hides I/O errors in its own; a closed pipe must be seen as one.
fn unwrap_io(error: arrow::error::ArrowError) -> anyhow::Error {
    match error {
        arrow::error::ArrowError::IoError(_, source) => source.into(),
        arrow::error::ArrowError::CsvError(text) if text.contains("Broken pipe") => {
            io::Error::from(io::ErrorKind::BrokenPipe).into()
        }
        other => other.into(),
    }
}
