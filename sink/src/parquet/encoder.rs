//! Rows to Parquet, a column at a time.
//!
//! ```text
//! Rows --one column--> levels, dictionary, pages, zstd --> the file --> the next column
//! ```
//!
//! An encoder keeps a compressor, a dictionary and its pages, about a megabyte a column. Were a row group begun in every
//! partition, or all columns of one be encoded side by side, a few hundred of either would need gigabytes. So rows wait
//! as Arrow, which can be counted, and a column's encoder ends before the next begins.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::TypePtr;

use super::rows::Rows;
use crate::{Error, SinkConfig};

/// Largest dictionary of a column in a row group, in bytes; with more, its values are written out. Looking values up that
/// hardly repeat is dear and saves nothing: see `docs/decisions/parquet-settings.md`.
const DICTIONARY_BYTES: usize = 64 << 10;

/// How the files of a table are written; for all of one schema.
pub(crate) struct Encoder {
    schema: SchemaRef,
    root: TypePtr,
    properties: WriterPropertiesPtr,
    /// Makes what encodes one column, for each.
    columns: Vec<ArrowRowGroupWriterFactory>,
    row_group_rows: usize,
}

impl Encoder {
    pub(crate) fn new(table: &str, schema: &SchemaRef, config: &SinkConfig) -> Result<Self, Error> {
        let properties = properties(config)?;
        Self::try_new(schema, properties, config.row_group_rows)
            .map_err(|error| Error::parquet(Path::new(table), error))
    }

    fn try_new(
        schema: &SchemaRef,
        mut properties: WriterProperties,
        row_group_rows: usize,
    ) -> Result<Self, ParquetError> {
        let root = ArrowSchemaConverter::new().convert(schema)?.root_schema_ptr();
        add_encoded_arrow_schema_to_metadata(schema, &mut properties);
        let properties = Arc::new(properties);
        let columns = schema.fields().iter().map(|field| column(field, &properties));
        let columns = columns.collect::<Result<_, _>>()?;
        Ok(Self { schema: schema.clone(), root, properties, columns, row_group_rows })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Begins a file.
    pub(crate) fn begin<W: Write + Send>(&self, file: W) -> Result<SerializedFileWriter<W>, ParquetError> {
        SerializedFileWriter::new(file, self.root.clone(), self.properties.clone())
    }

    /// Encodes all that waits, as one row group or as many as their size asks for.
    pub(crate) fn write<W: Write + Send>(
        &self,
        file: &mut SerializedFileWriter<W>,
        rows: &mut Rows,
    ) -> Result<(), ParquetError> {
        let length = rows.len();
        if length > self.row_group_rows {
            let columns = rows.take().collect::<Result<Vec<_>, _>>()?;
            for begin in (0..length).step_by(self.row_group_rows) {
                let rows = begin..(begin + self.row_group_rows).min(length);
                self.row_group(file, columns.iter().map(|column| Ok(cut(column, &rows))))?;
            }
            return Ok(());
        }
        if length > 0 {
            self.row_group(file, rows.take().map(|column| Ok(column?)))?;
        }
        Ok(())
    }

    fn row_group<W: Write + Send>(
        &self,
        file: &mut SerializedFileWriter<W>,
        columns: impl Iterator<Item = Result<Vec<ArrayRef>, ParquetError>>,
    ) -> Result<(), ParquetError> {
        let mut group = file.next_row_group()?;
        for ((field, encoders), column) in self.schema.fields().iter().zip(&self.columns).zip(columns) {
            // The number is for encryption only, and each column has a factory of its own.
            let mut encoders = encoders.create_column_writers(0)?;
            for piece in column? {
                for (leaf, encoder) in compute_leaves(field, &piece)?.iter().zip(&mut encoders) {
                    encoder.write(leaf)?;
                }
            }
            for encoder in encoders {
                encoder.close()?.append_to_row_group(&mut group)?;
            }
        }
        group.close()?;
        Ok(())
    }
}

/// Some rows of a column that comes in pieces.
fn cut(pieces: &[ArrayRef], rows: &Range<usize>) -> Vec<ArrayRef> {
    let mut at = 0;
    let mut cut = Vec::new();
    for piece in pieces {
        let (begin, end) = (rows.start.max(at), rows.end.min(at + piece.len()));
        if begin < end {
            cut.push(piece.slice(begin - at, end - begin));
        }
        at += piece.len();
    }
    cut
}

/// The library makes the encoders of all columns at once, so each column is told as a schema of its own.
fn column(
    field: &FieldRef,
    properties: &WriterPropertiesPtr,
) -> Result<ArrowRowGroupWriterFactory, ParquetError> {
    let schema: SchemaRef = Arc::new(Schema::new(vec![field.clone()]));
    let root = ArrowSchemaConverter::new().convert(&schema)?.root_schema_ptr();
    let file = SerializedFileWriter::new(std::io::sink(), root, properties.clone())?;
    Ok(ArrowRowGroupWriterFactory::new(&file, schema))
}

/// The writer's settings: zstd pages of format 1, which every reader knows.
fn properties(config: &SinkConfig) -> Result<WriterProperties, Error> {
    let level = ZstdLevel::try_new(config.compression)
        .map_err(|error| Error::Config { key: "compression", reason: error.to_string() })?;
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        // A page is a megabyte at most. With a limit of rows below that of row groups, the last page is often a small one.
        .set_data_page_row_count_limit(config.row_group_rows)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by("puddle".to_owned())
        .build())
}
