//! What each setting of the Parquet writer costs, and what it saves: `cargo run -p puddle-sink --example
//! parquet_settings -- [WORD]`, for the settings whose name has the word.
//!
//! Writes the flights of a year a few times, a file a month as a run does, and the rows of made-up columns; prints the CPU
//! time of writing and reading and the bytes of a row. The least of the repetitions counts: the machine may be busy.

#[path = "../benches/flights/mod.rs"]
mod flights;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::schema::types::ColumnPath;

const REPEAT: usize = 7;

/// The columns of strings among the flights'.
const TEXT: [&str; 5] = ["carrier", "airline", "tailnum", "origin", "dest"];

type Change = fn(WriterPropertiesBuilder) -> WriterPropertiesBuilder;

/// What is compared. Each is a change of the first.
const SETTINGS: &[(&str, Change)] = &[
    ("as the library has it, zstd 3", |it| it),
    ("no compression", |it| it.set_compression(Compression::UNCOMPRESSED)),
    ("zstd 1", |it| it.set_compression(zstd(1))),
    ("zstd 2", |it| it.set_compression(zstd(2))),
    ("zstd 6", |it| it.set_compression(zstd(6))),
    ("snappy", |it| it.set_compression(Compression::SNAPPY)),
    ("lz4", |it| it.set_compression(Compression::LZ4_RAW)),
    ("no dictionary", |it| it.set_dictionary_enabled(false)),
    ("dictionary of 16 KiB", |it| it.set_dictionary_page_size_limit(16 << 10)),
    ("dictionary of 32 KiB", |it| it.set_dictionary_page_size_limit(32 << 10)),
    ("dictionary of 64 KiB", |it| it.set_dictionary_page_size_limit(64 << 10)),
    ("dictionary of 256 KiB", |it| it.set_dictionary_page_size_limit(256 << 10)),
    ("statistics of chunks", |it| it.set_statistics_enabled(EnabledStatistics::Chunk)),
    ("no statistics", |it| it.set_statistics_enabled(EnabledStatistics::None)),
    ("statistics of chunks, no offset index", |it| {
        it.set_statistics_enabled(EnabledStatistics::Chunk).set_offset_index_disabled(true)
    }),
    ("pages of 5,000 rows", |it| it.set_data_page_row_count_limit(5_000)),
    ("pages of 100,000 rows", |it| it.set_data_page_row_count_limit(100_000)),
    ("batches of 256 values", |it| it.set_write_batch_size(256)),
    ("batches of 4,096 values", |it| it.set_write_batch_size(4_096)),
    ("batches of 16,384 values", |it| it.set_write_batch_size(16_384)),
    ("format 2", |it| it.set_writer_version(WriterVersion::PARQUET_2_0)),
    ("chosen", chosen),
    ("chosen, but zstd 3", |it| chosen(it).set_compression(zstd(3))),
    ("chosen, but strings without statistics", |it| {
        TEXT.iter().fold(chosen(it), |it, column| {
            it.set_column_statistics_enabled(ColumnPath::from(*column), EnabledStatistics::None)
        })
    }),
];

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let months = by_month(&flights::flights());
    let wide = vec![flights::wide(20, 100_000, 10)];
    for (what, files) in [("flights", months), ("20 columns", wide)] {
        println!("{what}: CPU ns a row to write, to read; bytes a row");
        for (name, change) in SETTINGS.iter().filter(|(name, _)| name.contains(&wanted)) {
            report(name, &files, *change);
        }
        for (name, files) in shapes(&files) {
            if name.contains(&wanted) {
                report(&name, &files, |it| it);
                report(&format!("{name}, chosen"), &files, chosen);
            }
        }
    }
}

fn zstd(level: i32) -> Compression {
    Compression::ZSTD(ZstdLevel::try_new(level).unwrap())
}

/// As `sink/src/parquet/encoder.rs` has it.
fn chosen(it: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
    it.set_compression(zstd(1))
        .set_dictionary_page_size_limit(64 << 10)
        .set_data_page_row_count_limit(122_880)
        .set_statistics_enabled(EnabledStatistics::Chunk)
}

/// The same rows in other pieces and types.
fn shapes(files: &[Vec<RecordBatch>]) -> Vec<(String, Vec<Vec<RecordBatch>>)> {
    let whole: Vec<Vec<RecordBatch>> =
        files.iter().map(|file| vec![concat_batches(&file[0].schema(), file).unwrap()]).collect();
    let as_type = |kind: &DataType| -> Vec<Vec<RecordBatch>> {
        files.iter().map(|file| file.iter().map(|batch| strings_as(batch, kind)).collect()).collect()
    };
    let keys = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    vec![
        ("in one piece a file".to_owned(), whole),
        ("strings as views".to_owned(), as_type(&DataType::Utf8View)),
        ("strings as dictionaries".to_owned(), as_type(&keys)),
    ]
}

fn strings_as(batch: &RecordBatch, kind: &DataType) -> RecordBatch {
    let columns: Vec<ArrayRef> =
        batch
            .columns()
            .iter()
            .map(|column| {
                if column.data_type() == &DataType::Utf8 {
                    cast(column, kind).unwrap()
                } else {
                    column.clone()
                }
            })
            .collect();
    let fields = batch
        .schema()
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), field.is_nullable()))
        .collect::<Vec<_>>();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn report(name: &str, files: &[Vec<RecordBatch>], change: Change) {
    let rows: usize = files.iter().flatten().map(RecordBatch::num_rows).sum();
    let builder = change(WriterProperties::builder().set_compression(zstd(3)));
    let properties = builder.build();
    let (mut writing, mut reading, mut bytes) = (f64::MAX, f64::MAX, 0);
    for _ in 0..REPEAT {
        let before = cpu();
        let written: Vec<Bytes> = files.iter().map(|file| encode(file, &properties)).collect();
        writing = writing.min(cpu() - before);
        bytes = written.iter().map(Bytes::len).sum();
        let before = cpu();
        written.into_iter().for_each(decode);
        reading = reading.min(cpu() - before);
    }
    let each = 1e9 / rows as f64;
    println!("{name:40} {:8.0} {:8.0} {:8.2}", writing * each, reading * each, bytes as f64 / rows as f64);
}

fn encode(file: &[RecordBatch], properties: &WriterProperties) -> Bytes {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, file[0].schema(), Some(properties.clone())).unwrap();
    file.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
    bytes.into()
}

fn decode(file: Bytes) {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap().with_batch_size(8192).build().unwrap();
    reader.for_each(|batch| drop(batch.unwrap()));
}

/// The rows of each month, in the pieces that a run makes of them.
fn by_month(batches: &[RecordBatch]) -> Vec<Vec<RecordBatch>> {
    let mut months: BTreeMap<i32, Vec<RecordBatch>> = BTreeMap::new();
    for batch in batches {
        let month: &Int32Array = batch.column_by_name("month").unwrap().as_primitive::<Int32Type>();
        let mut rows: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
        (0..).zip(month.values()).for_each(|(row, month)| rows.entry(*month).or_default().push(row));
        let data = batch.project(&(0..batch.num_columns() - 1).collect::<Vec<_>>()).unwrap();
        for (month, rows) in rows {
            let piece = take_record_batch(&data, &UInt32Array::from(rows)).unwrap();
            months.entry(month).or_default().push(piece);
        }
    }
    months.into_values().collect()
}

/// CPU seconds of this thread.
fn cpu() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("a number first") / 1e9
}
