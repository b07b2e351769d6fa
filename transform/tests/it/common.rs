//! Rows as lines of JSON, in and out.

use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use parquet::arrow::ArrowWriter;
use puddle_transform::{Error, Problem, Transform};

/// Columns of many types, with the metadata columns that every record has.
pub(crate) fn schema() -> SchemaRef {
    let item = Field::new_list_field(DataType::Int64, true);
    let place: Fields = vec![
        Field::new("city", DataType::Utf8, true),
        Field::new("tags", DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))), true),
        Field::new("at", DataType::Struct(vec![Field::new("lat", DataType::Float64, true)].into()), true),
    ]
    .into();
    let product = DataType::Struct(vec![Field::new("sku", DataType::Utf8, true)].into());
    let mut fields = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("small", DataType::Int32, true),
        Field::new("price", DataType::Float64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("day", DataType::Date32, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("nums", DataType::List(Arc::new(item)), true),
        Field::new("place", DataType::Struct(place), true),
        Field::new("items", DataType::List(Arc::new(Field::new_list_field(product, true))), true),
    ];
    fields.extend(puddle_types::metadata::fields());
    Arc::new(Schema::new(fields))
}

/// Records with these columns; those that a line leaves out are null, metadata is filled in.
pub(crate) fn records(lines: &[&str]) -> RecordBatch {
    let lines: Vec<String> = lines
        .iter()
        .enumerate()
        .map(|(offset, line)| {
            let fields = line.trim().strip_prefix('{').unwrap();
            let comma = if fields == "}" { "" } else { "," };
            format!("{{\"_topic\":\"t\",\"_partition\":0,\"_offset\":{offset}{comma}{fields}")
        })
        .collect();
    from_json(schema(), &lines.join("\n"))
}

/// Rows of this schema from lines of JSON.
pub(crate) fn from_json(schema: SchemaRef, lines: &str) -> RecordBatch {
    let rows = lines.lines().count().max(1);
    let mut reader =
        ReaderBuilder::new(schema.clone()).with_batch_size(rows).build(Cursor::new(lines)).unwrap();
    reader.next().unwrap_or_else(|| Ok(RecordBatch::new_empty(schema))).unwrap()
}

/// Rows as lines of JSON without nulls.
pub(crate) fn to_json(rows: &RecordBatch) -> Vec<String> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(rows).unwrap();
    writer.finish().unwrap();
    String::from_utf8(writer.into_inner()).unwrap().lines().map(str::to_owned).collect()
}

pub(crate) fn transform(sql: &str) -> Result<Transform, Error> {
    Transform::from_source("t.sql", "t", schema(), sql, &[])
}

/// What the SQL makes of these records, as lines of JSON.
pub(crate) fn apply(sql: &str, lines: &[&str]) -> Vec<String> {
    let mut transform = transform(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"));
    to_json(&transform.apply(&records(lines)).unwrap_or_else(|error| panic!("{sql}\n{error}")))
}

/// The error that planning this SQL gives.
pub(crate) fn refused(sql: &str) -> (Problem, String) {
    problem(transform(sql).expect_err(sql))
}

pub(crate) fn problem(error: Error) -> (Problem, String) {
    assert!(error.is_usage());
    match &error {
        Error::Sql { problem, .. } => (*problem, error.to_string()),
        other => panic!("{other}"),
    }
}

pub(crate) fn write_parquet(path: &Path, rows: &RecordBatch) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), rows.schema(), None).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
}

/// A reference of string columns, as a file in `folder`.
pub(crate) fn reference(folder: &Path, name: &str, columns: &[&str], rows: &[&[&str]]) -> (String, PathBuf) {
    let path = folder.join(format!("{name}.csv"));
    let mut text = columns.join(",") + "\n";
    for row in rows {
        text += &(row.join(",") + "\n");
    }
    std::fs::write(&path, text).unwrap();
    (name.to_owned(), path)
}
