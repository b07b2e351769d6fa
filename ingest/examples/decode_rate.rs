//! How many records a second one core decodes: `cargo run --example decode_rate -p puddle-ingest`.
//!
//! The records look like those of the flights data set: 19 fields and about 300 bytes each.

use std::hint::black_box;
use std::time::{Duration, Instant};

use puddle_ingest::UnknownFields;
use puddle_ingest::json::Decoder;
use puddle_ingest::raw::RawBatch;
use puddle_ingest::schema::SchemaDecl;
use puddle_types::TopicPartition;

const RECORDS: i64 = 10_000;
const ROUNDS: u32 = 99;

fn main() {
    let raw = flights();
    for (what, schema) in [("typed", SCHEMA), ("one field, as json", JSON_ONLY)] {
        let schema: SchemaDecl = serde_json::from_str(schema).expect("a schema");
        let mut decoder = Decoder::new(&schema, UnknownFields::Ignore);
        let mut times: Vec<Duration> = (0..ROUNDS).map(|_| time(&mut decoder, &raw)).collect();
        times.sort();
        let median = times[times.len() / 2].as_secs_f64();
        let (rate, bytes) = (raw.len() as f64 / median, raw.bytes() as f64 / median);
        println!("{what}: {:.2} M records/s, {:.0} MB/s", rate / 1e6, bytes / 1e6);
    }
}

fn time(decoder: &mut Decoder, raw: &RawBatch) -> Duration {
    let start = Instant::now();
    let batch = black_box(decoder.decode(raw));
    assert_eq!((batch.rows.num_rows(), batch.rejected.num_rows()), (raw.len(), 0));
    start.elapsed()
}

fn flights() -> RawBatch {
    let mut raw = RawBatch::new(TopicPartition::new("flights", 0), 1, 0);
    for n in 0..RECORDS {
        let (month, day, hour, minute) = (n % 12 + 1, n % 28 + 1, n % 18 + 5, n % 60);
        let departure = hour * 100 + minute;
        // As in the data, some flights are cancelled.
        let delay = if n % 40 == 0 { "null".to_owned() } else { (n * 7 % 300 - 20).to_string() };
        let value = format!(
            "{{\"year\":2013,\"month\":{month},\"day\":{day},\"dep_time\":{departure},\"sched_dep_time\":{departure},\
             \"dep_delay\":{delay},\"arr_time\":{},\"sched_arr_time\":{},\"arr_delay\":{delay},\"carrier\":\"UA\",\
             \"flight\":{},\"tailnum\":\"N{:05}\",\"origin\":\"EWR\",\"dest\":\"IAH\",\"air_time\":{},\
             \"distance\":{},\"hour\":{hour},\"minute\":{minute},\
             \"time_hour\":\"2013-{month:02}-{day:02}T{hour:02}:00:00Z\"}}",
            departure + 130,
            departure + 125,
            n % 6000,
            n * 31 % 99_999,
            n % 400 + 30,
            n % 2500 + 100,
        );
        raw.push(n, Some(1_357_000_000_000 + n), Some(b"EWR"), Some(value.as_bytes()));
    }
    raw
}

const SCHEMA: &str = r#"{
    "year": "int64", "month": "int64", "day": "int64", "dep_time": "int64", "sched_dep_time": "int64",
    "dep_delay": "int64", "arr_time": "int64", "sched_arr_time": "int64", "arr_delay": "int64",
    "carrier": "string", "flight": "int64", "tailnum": "string", "origin": "string", "dest": "string",
    "air_time": "int64", "distance": "int64", "hour": "int64", "minute": "int64", "time_hour": "timestamp"
}"#;

/// One field of nineteen is kept; the rest is skipped.
const JSON_ONLY: &str = r#"{ "distance": "json" }"#;
