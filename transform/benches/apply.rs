//! What SQL costs, by the rows of a batch and by its columns: `cargo bench --profile dev -p puddle-transform`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::array::{BinaryArray, Int64Array, TimestampMicrosecondArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use divan::Bencher;
use divan::counter::ItemsCount;
use puddle_transform::Transform;
use puddle_types::metadata;

/// The work of `cargo xtask bench`: a filter, four derived columns and a join.
const FILTER_DERIVE_JOIN: &str = "
    SELECT f.year, f.day, f.dep_time, f.sched_dep_time, f.dep_delay, f.arr_time, f.sched_arr_time, f.arr_delay,
      f.carrier, airline.name AS airline, f.flight, f.tailnum, f.origin, f.dest, f.air_time, f.distance, f.hour,
      f.minute, f.time_hour,
      f.arr_delay >= 15 AS late,
      ROUND(f.distance * 60.0 / NULLIF(f.air_time, 0), 1) AS speed_mph,
      f.dep_delay - f.arr_delay AS made_up,
      f.time_hour + f.minute * INTERVAL '1 minute' AS scheduled_departure,
      f.month
    FROM flights AS f
    LEFT JOIN airlines AS airline ON f.carrier = airline.carrier
    WHERE f.dep_time IS NOT NULL";

fn main() {
    divan::main();
}

#[divan::bench(args = [1_000, 8_000, 64_000])]
fn filter_derive_join(bencher: Bencher, rows: usize) {
    apply(bencher, FILTER_DERIVE_JOIN, &flights(rows));
}

#[divan::bench(args = [1_000, 8_000, 64_000])]
fn pipelines_flights(bencher: Bencher, rows: usize) {
    let sql = std::fs::read_to_string(repository().join("pipelines/flights/transform.sql")).unwrap();
    apply(bencher, &sql, &flights(rows));
}

#[divan::bench(args = [1_000, 8_000, 64_000])]
fn nothing(bencher: Bencher, rows: usize) {
    apply(bencher, "SELECT * FROM flights", &flights(rows));
}

/// One derived column beside so many that stay as they are, of half as many numbers as strings.
#[divan::bench(args = [5, 20, 100])]
fn columns(bencher: Bencher, columns: usize) {
    apply(bencher, "SELECT *, c0 * 2 AS twice FROM flights WHERE c0 IS NOT NULL", &wide(8_000, columns));
}

fn apply(bencher: Bencher, sql: &str, records: &RecordBatch) {
    let reference = |name: &str| {
        (name.to_owned(), repository().join("data/nycflights13").join(name).with_extension("parquet"))
    };
    let references = [reference("airlines"), reference("airports")];
    let mut transform = Transform::new("flights", records.schema(), sql, &references).unwrap();
    bencher.counter(ItemsCount::new(records.num_rows())).bench_local(|| transform.apply(records).unwrap());
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Flights, of which every fortieth was cancelled, with the metadata columns.
fn flights(rows: usize) -> RecordBatch {
    const CARRIERS: [&str; 4] = ["UA", "AA", "B6", "DL"];
    const AIRPORTS: [&str; 5] = ["JFK", "EWR", "LGA", "IAH", "BQN"];
    const HOUR: i64 = 3_600_000_000;
    let number = |name: &'static str, value: fn(i32) -> i32| {
        let values = Int32Array::from_iter_values((0..rows as i32).map(value));
        (name, Arc::new(values) as ArrayRef)
    };
    let unless_cancelled = |name: &'static str, value: fn(i32) -> i32| {
        let values: Int32Array = (0..rows as i32).map(|i| (i % 40 != 7).then(|| value(i))).collect();
        (name, Arc::new(values) as ArrayRef)
    };
    let text = |name: &'static str, value: &dyn Fn(usize) -> String| {
        (name, Arc::new(StringArray::from_iter_values((0..rows).map(value))) as ArrayRef)
    };
    let hours = TimestampMicrosecondArray::from_iter_values((0..rows as i64).map(|i| i / 20 * HOUR));
    let records = [
        number("year", |_| 2013),
        number("month", |i| i / 2_000 % 12 + 1),
        number("day", |i| i / 900 % 28 + 1),
        unless_cancelled("dep_time", |i| i % 2_400),
        number("sched_dep_time", |i| i % 2_400),
        unless_cancelled("dep_delay", |i| i * 7 % 90 - 20),
        unless_cancelled("arr_time", |i| i * 3 % 2_400),
        number("sched_arr_time", |i| i * 3 % 2_400),
        unless_cancelled("arr_delay", |i| i * 11 % 100 - 30),
        text("carrier", &|i| CARRIERS[i % CARRIERS.len()].to_owned()),
        number("flight", |i| i % 8_000),
        text("tailnum", &|i| format!("N{:05}", i * 37 % 4_000)),
        text("origin", &|i| AIRPORTS[i % 3].to_owned()),
        text("dest", &|i| AIRPORTS[i % 5].to_owned()),
        unless_cancelled("air_time", |i| i % 300 + 20),
        number("distance", |i| i % 2_500 + 100),
        number("hour", |i| i % 24),
        number("minute", |i| i % 60),
        ("time_hour", Arc::new(hours.with_timezone("UTC")) as ArrayRef),
    ];
    with_metadata(records.into_iter().map(|(name, values)| (name.to_owned(), values)), rows)
}

fn wide(rows: usize, columns: usize) -> RecordBatch {
    let columns = (0..columns).map(|column| {
        let values: ArrayRef = match column % 3 {
            0 => Arc::new((0..rows as i32).map(|i| (i % 40 != 7).then_some(i)).collect::<Int32Array>()),
            _ => Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("{column}: {}", i % 500)))),
        };
        (format!("c{column}"), values)
    });
    with_metadata(columns, rows)
}

fn with_metadata(columns: impl Iterator<Item = (String, ArrayRef)>, rows: usize) -> RecordBatch {
    let (mut fields, mut arrays): (Vec<_>, Vec<_>) =
        columns.map(|(name, values)| (Field::new(name, values.data_type().clone(), true), values)).unzip();
    for field in metadata::fields() {
        let values: ArrayRef = match field.data_type() {
            DataType::Utf8 => Arc::new(StringArray::from(vec!["flights"; rows])),
            DataType::Int32 => Arc::new(Int32Array::from(vec![3; rows])),
            DataType::Int64 => Arc::new(Int64Array::from_iter_values(0..rows as i64)),
            DataType::Timestamp(_, _) => {
                Arc::new(TimestampMillisecondArray::from_iter_values(0..rows as i64).with_timezone("UTC"))
            }
            DataType::Binary => Arc::new(BinaryArray::from(vec![None; rows])),
            other => unreachable!("metadata of type {other}"),
        };
        fields.push(field);
        arrays.push(values);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}
