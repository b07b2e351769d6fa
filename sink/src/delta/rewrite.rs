//! Several Parquet files become one: the same rows in the same order, a batch at a time.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use crate::Error;
use crate::parquet::encoder::Encoder;
use crate::parquet::file::{Finished, OpenFile, sync};
use crate::parquet::rows::Rows;
use crate::storage::Storage;

/// Most rows that are decoded at a time.
const BATCH_ROWS: usize = 8192;
/// Most bytes that are decoded at a time, as far as a file's own figures tell.
const BATCH_BYTES: usize = 16 << 20;

/// How the new file is written.
pub(super) struct Form {
    /// Of the table's columns but for those that stand in the path.
    pub(super) encoder: Encoder,
    /// Most rows of a row group.
    pub(super) row_group_rows: usize,
    /// Most bytes of rows that wait for their row group.
    pub(super) buffer_bytes: usize,
}

/// Writes the rows of some files, one file after the other, to a new one, and makes it durable.
pub(super) fn rewrite(
    storage: &dyn Storage,
    table: &str,
    inputs: &[PathBuf],
    output: PathBuf,
    form: &Form,
) -> Result<Finished, Error> {
    let (encoder, schema) = (&form.encoder, form.encoder.schema());
    let mut file = OpenFile::create(storage, output, encoder)?;
    let mut rows = Rows::new(schema).map_err(Error::arrow(table))?;
    for input in inputs {
        for batch in open(input)? {
            let batch = batch.map_err(|error| unreadable(input, error))?;
            let batch = conform(&batch, schema).map_err(Error::arrow(table))?;
            let all = 0..batch.num_rows();
            rows.extend(batch.columns(), std::slice::from_ref(&all)).map_err(Error::arrow(table))?;
            if rows.len() >= form.row_group_rows || rows.bytes() >= form.buffer_bytes {
                file.write(encoder, &mut rows)?;
            }
        }
    }
    file.write(encoder, &mut rows)?;
    let mut closed = file.close()?;
    sync(storage, std::slice::from_mut(&mut closed))?;
    Ok(closed.finished)
}

fn open(path: &Path) -> Result<ParquetRecordBatchReader, Error> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| damaged(path, error))?;
    let rows = batch_rows(builder.metadata());
    builder.with_batch_size(rows).build().map_err(|error| damaged(path, error))
}

/// How many rows of a file may be decoded at a time: fewer where they are long.
fn batch_rows(metadata: &ParquetMetaData) -> usize {
    let long = metadata.row_groups().iter().map(|group| {
        let (bytes, rows) = (group.total_byte_size().max(0) as usize, group.num_rows().max(1) as usize);
        bytes / rows
    });
    (BATCH_BYTES / long.max().unwrap_or(0).max(1)).clamp(1, BATCH_ROWS)
}

/// A batch as the table has it now: a column from after its time is null.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
        Some(column) => {
            // A value that does not fit is an error, not null.
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(column, field.data_type(), &options)
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<Vec<ArrayRef>, _>>()?)
}

fn unreadable(path: &Path, error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, source) => Error::io("read", path)(source),
        error => Error::corrupt(path, format!("it cannot be decoded ({error})")),
    }
}

fn damaged(path: &Path, error: ParquetError) -> Error {
    Error::corrupt(path, format!("it is no Parquet file that can be read ({error})"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;
    use crate::SinkConfig;
    use crate::storage::LocalStorage;

    fn form(row_group_rows: usize, buffer_bytes: usize) -> Form {
        let fields = vec![Field::new("n", DataType::Int64, false), Field::new("added", DataType::Utf8, true)];
        let config = SinkConfig { row_group_rows, ..SinkConfig::new("t") };
        let encoder = Encoder::new("t", &Arc::new(Schema::new(fields)), &config).unwrap();
        Form { encoder, row_group_rows, buffer_bytes }
    }

    fn write(path: &Path, batch: &RecordBatch) {
        let file = File::create(path).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
    }

    fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    #[test]
    fn rows_keep_their_order_and_lack_what_was_added_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        write(&path("a"), &numbers(0..20_000));
        let later: [(&str, ArrayRef); 2] = [
            ("added", Arc::new(StringArray::from(vec!["x"; 5]))),
            ("n", Arc::new(Int64Array::from_iter_values(20_000..20_005))),
        ];
        write(&path("b"), &RecordBatch::try_from_iter(later).unwrap());

        let storage = LocalStorage { durable: false };
        let inputs = [path("a"), path("b")];
        let finished = rewrite(&storage, "t", &inputs, path("c"), &form(9000, 1 << 20)).unwrap();
        assert_eq!(finished.rows, 20_005);

        let (mut all, mut added) = (Vec::new(), 0);
        for batch in open(&path("c")).unwrap() {
            let batch = batch.unwrap();
            all.extend(batch["n"].as_primitive::<Int64Type>().values().iter().copied());
            added += batch.num_rows() - batch["added"].null_count();
        }
        assert!(all.iter().copied().eq(0..20_005));
        assert_eq!(added, 5);
        let file = File::open(path("c")).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        assert!(builder.metadata().row_groups().iter().all(|group| group.num_rows() <= 9000));
    }

    #[test]
    fn long_rows_are_read_a_few_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        let text = StringArray::from_iter_values((0..40).map(|n| n.to_string().repeat(1 << 20)));
        let column: ArrayRef = Arc::new(text);
        write(&path, &RecordBatch::try_from_iter([("added", column)]).unwrap());
        for batch in open(&path).unwrap() {
            let bytes = batch.unwrap().get_array_memory_size();
            assert!(bytes <= 4 * BATCH_BYTES, "{bytes} bytes at a time");
        }
    }

    #[test]
    fn a_file_that_is_cut_off_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut");
        write(&path, &numbers(0..1000));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let storage = LocalStorage { durable: false };
        let error =
            rewrite(&storage, "t", std::slice::from_ref(&path), dir.path().join("new"), &form(9000, 1 << 20))
                .err()
                .unwrap();
        assert!(matches!(&error, Error::Corrupt { path: named, .. } if *named == path), "{error}");
    }
}
