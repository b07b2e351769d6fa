//! Data sets: Parquet, CSV, JSON and NDJSON files.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::csv::ReaderBuilder;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::chunk::{Chunk, Columns};
use super::json::JsonChunks;
use super::lines::Lines;
use super::{csv, json, lines};
use crate::error::Error;
use crate::nearest::nearest;

/// Rows that are read and encoded at once: a few megabytes.
const ROWS: usize = 8192;

/// How many records of a JSON or NDJSON file are looked at to know its fields.
const PEEK: usize = 100;

/// A file of records. It is opened again for each pass.
#[derive(Clone, Debug)]
pub struct Dataset {
    path: PathBuf,
    kind: Kind,
    columns: Vec<String>,
}

#[derive(Clone, Debug)]
enum Kind {
    Parquet { rows: u64 },
    Csv { schema: SchemaRef },
    Json,
    Ndjson,
}

/// Chunks of a data set, in order.
pub(super) type Chunks<'d> = Box<dyn Iterator<Item = Result<Chunk, Error>> + 'd>;

impl Dataset {
    /// Opens a file, whose ending says what it is:
    ///
    /// | ending | records |
    /// | --- | --- |
    /// | `.parquet` | its rows |
    /// | `.csv` | its rows, below a header; all of them are looked at to guess the columns' types |
    /// | `.json` | JSON values one behind the other, or the elements of one array; each as it is laid out |
    /// | `.ndjson`, `.jsonl` | its lines, byte for byte, whether they are JSON or not; blank ones are skipped |
    ///
    /// Rows become JSON objects with a field for every column. JSON has no NaN and no infinity: they become null. A CSV
    /// column is a number only if no number would lose anything by it: with a value such as `007` or `+1` it is text.
    ///
    /// # Errors
    /// [`Error::Dataset`] when there is no such file, its ending is unknown, or its text is broken where it is looked
    /// at; [`Error::ReadDataset`] when it cannot be read.
    pub fn open(path: &Path) -> Result<Dataset, Error> {
        let unknown = |reason: &str| Error::Dataset { path: path.to_owned(), reason: reason.to_owned() };
        if !path.is_file() {
            return Err(unknown("there is no such file"));
        }
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let (kind, columns) = match ending.as_str() {
            "parquet" => open_parquet(path)?,
            "csv" => {
                let schema = csv::schema(path)?;
                let columns = names(&schema);
                (Kind::Csv { schema }, columns)
            }
            "json" => (Kind::Json, json::field_names(path, PEEK)?),
            "ndjson" | "jsonl" => {
                let names = lines::field_names(&mut BufReader::new(open(path)?), PEEK);
                (Kind::Ndjson, names.map_err(|error| read_error(path, error))?)
            }
            _ => return Err(unknown("a data set is a .parquet, .csv, .ndjson, .jsonl or .json file")),
        };
        Ok(Dataset { path: path.to_owned(), kind, columns })
    }

    /// The names of its columns; of JSON and NDJSON those in its first records.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// How many rows it has, where that is known without reading it.
    pub fn rows(&self) -> Option<u64> {
        match self.kind {
            Kind::Parquet { rows } => Some(rows),
            _ => None,
        }
    }

    pub(super) fn check_column(&self, column: &str) -> Result<(), Error> {
        if self.columns.iter().any(|known| known == column) {
            return Ok(());
        }
        Err(Error::UnknownColumn {
            column: column.to_owned(),
            path: self.path.clone(),
            nearest: nearest(column, self.columns.iter().map(String::as_str)),
            columns: self.columns.clone(),
        })
    }

    pub(super) fn chunks(&self, columns: &Columns) -> Result<Chunks<'_>, Error> {
        match &self.kind {
            Kind::Parquet { .. } => {
                let builder = ParquetRecordBatchReaderBuilder::try_new(open(&self.path)?);
                let reader = builder.and_then(|builder| builder.with_batch_size(ROWS).build());
                Ok(self.encode(reader.map_err(|error| read_error(&self.path, error))?, columns))
            }
            Kind::Csv { schema } => {
                let builder = ReaderBuilder::new(Arc::clone(schema)).with_header(true).with_batch_size(ROWS);
                let reader = builder.build(open(&self.path)?);
                Ok(self.encode(reader.map_err(|error| read_error(&self.path, error))?, columns))
            }
            Kind::Json => Ok(Box::new(JsonChunks::open(&self.path, columns)?)),
            Kind::Ndjson => {
                let input = BufReader::with_capacity(1 << 20, open(&self.path)?);
                let lines = Lines::new(input, columns.clone());
                Ok(Box::new(lines.map(|chunk| chunk.map_err(|error| read_error(&self.path, error)))))
            }
        }
    }

    fn encode<'d>(
        &'d self,
        batches: impl Iterator<Item = Result<RecordBatch, ArrowError>> + 'd,
        columns: &Columns,
    ) -> Chunks<'d> {
        let columns = columns.clone();
        Box::new(batches.map(move |rows| {
            rows.and_then(|rows| Chunk::encode(&rows, &columns))
                .map_err(|error| read_error(&self.path, error))
        }))
    }
}

fn open_parquet(path: &Path) -> Result<(Kind, Vec<String>), Error> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(open(path)?);
    let builder = builder.map_err(|error| read_error(path, error))?;
    let rows = builder.metadata().file_metadata().num_rows().max(0).unsigned_abs();
    Ok((Kind::Parquet { rows }, names(builder.schema())))
}

fn names(schema: &SchemaRef) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

pub(super) fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|error| read_error(path, error))
}

pub(super) fn read_error(path: &Path, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::ReadDataset { path: path.to_owned(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn values(dataset: &Dataset) -> Vec<String> {
        let chunks = dataset.chunks(&Columns::default()).unwrap();
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        chunks.flat_map(|c| c.unwrap().records().map(|(v, ..)| text(v)).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn csv_types_are_inferred_from_all_rows() {
        let (_dir, path) = write("a.csv", "id,x,mixed,at\n1,0.5,7,2013-01-01T05:00:00\n2,,NA,\n");
        let dataset = Dataset::open(&path).unwrap();
        assert_eq!(dataset.columns(), ["id", "x", "mixed", "at"]);
        assert_eq!(
            values(&dataset),
            [
                r#"{"id":1,"x":0.5,"mixed":"7","at":"2013-01-01T05:00:00Z"}"#,
                r#"{"id":2,"x":null,"mixed":"NA","at":null}"#,
            ]
        );
        assert_eq!(values(&dataset).len(), 2, "a second pass reads the same");
    }

    #[test]
    fn what_is_not_there_or_not_a_data_set_is_a_usage_error() {
        let error = Dataset::open(Path::new("/nonexistent/flights.parquet")).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("flights.parquet"), "{error}");
        let (_dir, path) = write("a.txt", "x");
        let error = Dataset::open(&path).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(".ndjson"), "{error}");
    }

    #[test]
    fn a_parquet_file_that_is_none_is_named() {
        let (_dir, path) = write("a.parquet", "not parquet");
        let error = Dataset::open(&path).unwrap_err();
        assert!(!error.is_usage() && error.to_string().contains("a.parquet"), "{error}");
    }

    #[test]
    fn an_unknown_column_is_an_error_that_names_the_nearest() {
        let (_dir, path) = write("a.ndjson", "{\"carrier\":\"UA\",\"dep_time\":1}\n");
        let dataset = Dataset::open(&path).unwrap();
        dataset.check_column("carrier").unwrap();
        let error = dataset.check_column("carier").unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("did you mean \"carrier\"?"), "{error}");
    }
}
