//! Reference tables: small files that the SQL may join, read once.

use std::fs::File;
use std::io::Seek;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use polars::prelude::DataFrame;

use crate::{Error, bridge};

/// Reads a Parquet or CSV file as the reference of this name.
pub(crate) fn load(name: &str, path: &Path) -> Result<DataFrame, Error> {
    let error = |what: String, usage: bool| Error::Reference {
        name: name.to_owned(),
        path: path.to_owned(),
        what,
        usage,
    };
    check_name(name).map_err(|what| error(what, true))?;
    let file = File::open(path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => error("there is no such file".to_owned(), true),
        _ => error(format!("cannot be opened: {cause}"), false),
    })?;
    let batches = match path.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => read_parquet(file),
        Some("csv") => read_csv(file),
        _ => return Err(error("is neither .parquet nor .csv".to_owned(), true)),
    };
    let batches = batches.map_err(|what| error(format!("cannot be read: {what}"), false))?;

    let mut table: Option<DataFrame> = None;
    for batch in &batches {
        let part = bridge::to_polars(batch)?;
        match &mut table {
            None => table = Some(part),
            Some(table) => {
                table.vstack_mut(&part).map_err(|cause| Error::Engine(cause.to_string()))?;
            }
        }
    }
    let mut table = table.unwrap_or_default();
    table.rechunk_mut();
    Ok(table)
}

fn check_name(name: &str) -> Result<(), String> {
    let starts_well = name.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
    if starts_well && name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        Ok(())
    } else {
        Err("its name must be letters, digits and _, and not begin with a digit, so that SQL can say it"
            .to_owned())
    }
}

/// At least one batch, so that an empty table keeps its columns.
fn read_parquet(file: File) -> Result<Vec<RecordBatch>, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|cause| cause.to_string())?;
    let empty = RecordBatch::new_empty(builder.schema().clone());
    let rows = builder.build().map_err(|cause| cause.to_string())?;
    std::iter::once(Ok(empty)).chain(rows).collect::<Result<_, _>>().map_err(|cause| cause.to_string())
}

fn read_csv(mut file: File) -> Result<Vec<RecordBatch>, String> {
    let (schema, _) =
        Format::default().with_header(true).infer_schema(&file, None).map_err(|cause| cause.to_string())?;
    file.rewind().map_err(|cause| cause.to_string())?;
    let schema = Arc::new(schema);
    let empty = RecordBatch::new_empty(schema.clone());
    let rows = ReaderBuilder::new(schema).with_header(true).build(file).map_err(|cause| cause.to_string())?;
    std::iter::once(Ok(empty)).chain(rows).collect::<Result<_, _>>().map_err(|cause| cause.to_string())
}
