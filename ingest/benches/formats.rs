//! What decoding costs by format, of the same flights: `cargo bench --profile dev -p puddle-ingest --bench formats`.
//!
//! 19 fields, all of which may be null: about 300 bytes as JSON, 100 as a line of CSV, 70 as Avro. `bytes` keeps the JSON
//! as it is, and so is what a record costs in any format.

use arrow::array::RecordBatch;
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use puddle_ingest::IngestConfig;
use puddle_ingest::format::Decoder;
use puddle_ingest::raw::RawBatch;
use puddle_ingest::schema::SchemaDecl;
use puddle_types::{TopicPartition, metadata};

fn main() {
    divan::main();
}

const RECORDS: i64 = 4096;

const SCHEMA: &str = r#"{
    "year": "int64", "month": "int64", "day": "int64", "dep_time": "int64", "sched_dep_time": "int64",
    "dep_delay": "int64", "arr_time": "int64", "sched_arr_time": "int64", "arr_delay": "int64",
    "carrier": "string", "flight": "int64", "tailnum": "string", "origin": "string", "dest": "string",
    "air_time": "int64", "distance": "int64", "hour": "int64", "minute": "int64", "time_hour": "timestamp"
}"#;

#[divan::bench(args = ["json", "avro", "csv", "bytes"], sample_count = 100, sample_size = 1)]
fn decode(bencher: Bencher, format: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flights.avsc");
    let (values, schema) = match format {
        "avro" => {
            let (text, values) = as_avro();
            std::fs::write(&file, text).unwrap();
            (values, SCHEMA)
        }
        "csv" => ((0..RECORDS).map(|n| as_csv(n).into_bytes()).collect(), SCHEMA),
        "json" => ((0..RECORDS).map(|n| as_json(n).into_bytes()).collect(), SCHEMA),
        _ => ((0..RECORDS).map(|n| as_json(n).into_bytes()).collect(), r#"{ "value": "binary" }"#),
    };
    let more =
        if format == "avro" { format!("avro = {{ schema = '{}' }}", file.display()) } else { String::new() };
    let raw = raw(&values);
    let mut decoder = decoder(&format!("format = '{format}'\n{more}"), schema);
    let batch = decoder.decode(&raw).unwrap();
    assert_eq!((batch.rows.num_rows(), batch.rejected.num_rows()), (raw.len(), 0));
    bencher
        .counter(ItemsCount::new(raw.len()))
        .counter(BytesCount::new(raw.bytes()))
        .bench_local(|| decoder.decode(black_box(&raw)).unwrap());
}

fn decoder(config: &str, schema: &str) -> Decoder {
    let config: IngestConfig = toml::from_str(&format!("topics = ['flights']\n{config}")).unwrap();
    let schema: SchemaDecl = serde_json::from_str(schema).unwrap();
    Decoder::new(&config, &schema).unwrap()
}

fn raw(values: &[Vec<u8>]) -> RawBatch {
    let mut raw = RawBatch::new(TopicPartition::new("flights", 0), 1, 0);
    for (offset, value) in (0..).zip(values) {
        raw.push(offset, Some(1_357_000_000_000 + offset), Some(b"EWR"), Some(value));
    }
    raw
}

/// The values of a flight, as JSON has them, in the order of the schema. As in the data, some are cancelled.
fn flight(n: i64) -> [String; 19] {
    let (month, day, hour, minute) = (n % 12 + 1, n % 28 + 1, n % 18 + 5, n % 60);
    let departure = hour * 100 + minute;
    let delay = if n % 40 == 0 { "null".to_owned() } else { (n * 7 % 300 - 20).to_string() };
    let number = |number: i64| number.to_string();
    [
        number(2013),
        number(month),
        number(day),
        number(departure),
        number(departure),
        delay.clone(),
        number(departure + 130),
        number(departure + 125),
        delay,
        "\"UA\"".to_owned(),
        number(n % 6000),
        format!("\"N{:05}\"", n * 31 % 99_999),
        "\"EWR\"".to_owned(),
        "\"IAH\"".to_owned(),
        number(n % 400 + 30),
        number(n % 2500 + 100),
        number(hour),
        number(minute),
        format!("\"2013-{month:02}-{day:02}T{hour:02}:00:00Z\""),
    ]
}

fn as_json(n: i64) -> String {
    let schema: SchemaDecl = serde_json::from_str(SCHEMA).unwrap();
    let fields =
        schema.fields().iter().zip(flight(n)).map(|(field, value)| format!("\"{}\":{value}", field.name));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn as_csv(n: i64) -> String {
    flight(n).map(|value| if value == "null" { String::new() } else { value.replace('"', "") }).join(",")
}

/// The schema's text and the bare records.
fn as_avro() -> (String, Vec<Vec<u8>>) {
    let json: Vec<Vec<u8>> = (0..RECORDS).map(|n| as_json(n).into_bytes()).collect();
    let rows: RecordBatch = decoder("", SCHEMA).decode(&raw(&json)).unwrap().rows;
    let payload =
        rows.project(&(0..rows.num_columns() - metadata::fields().len()).collect::<Vec<_>>()).unwrap();
    let writer = WriterBuilder::new(payload.schema().as_ref().clone());
    let mut encoder = writer.build_encoder::<AvroSoeFormat>().unwrap();
    encoder.encode(&payload).unwrap();
    let text = encoder.schema().metadata()["avro.schema"].clone();
    // Each record stands behind a mark of two bytes and a fingerprint of eight.
    (text, encoder.flush().iter().map(|row| row[10..].to_vec()).collect())
}
