//! Rows to measure with, shared by the benchmark and the example that compares settings.

#![allow(dead_code, unreachable_pub)] // Each of the two uses a part.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::{concat_batches, filter_record_batch, is_not_null, take_record_batch};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use xxhash_rust::xxh3::xxh3_64;

/// Rows of a batch, as two megabytes of JSON flights make after the filter.
pub const BATCH_ROWS: usize = 6_800;
/// Partitions of the topic that the flights come from.
const PARTITIONS: u64 = 8;
const MINUTE: i64 = 60_000_000;

/// The flights of a year that took off, 24 columns, in the batches that a run hands to the sink: each from one
/// partition of the topic, which has the flights of an eighth of the aircraft in the order of their departure.
pub fn flights() -> Vec<RecordBatch> {
    let all = derive(&read("flights"), &read("airlines"));
    let tails = all.column_by_name("tailnum").unwrap().as_string::<i32>();
    let mut partitions: Vec<Vec<u64>> = vec![Vec::new(); PARTITIONS as usize];
    for row in 0..all.num_rows() {
        let key = if tails.is_valid(row) { tails.value(row) } else { "" };
        partitions[(xxh3_64(key.as_bytes()) % PARTITIONS) as usize].push(row as u64);
    }
    let longest = partitions.iter().map(Vec::len).max().unwrap();
    let mut batches = Vec::new();
    for begin in (0..longest).step_by(BATCH_ROWS) {
        for rows in &partitions {
            let rows = &rows[begin.min(rows.len())..(begin + BATCH_ROWS).min(rows.len())];
            if !rows.is_empty() {
                batches.push(take_record_batch(&all, &UInt64Array::from(rows.to_vec())).unwrap());
            }
        }
    }
    batches
}

/// So many columns, of which a quarter each are small numbers, large numbers, strings of a few values and strings that
/// differ; the first tells `keys` values apart.
pub fn wide(columns: usize, rows: usize, keys: usize) -> Vec<RecordBatch> {
    let hash = |row: usize, salt: usize| xxh3_64(&[row.to_le_bytes(), salt.to_le_bytes()].concat());
    let batch = |from: usize| {
        let rows = from..(from + BATCH_ROWS).min(rows);
        let key: ArrayRef = Arc::new(StringArray::from_iter_values(
            rows.clone().map(|row| format!("k{}", hash(row, 0) % keys as u64)),
        ));
        let mut all = vec![("key".to_owned(), key)];
        for column in 1..columns {
            let value = |row| hash(row, column);
            let array: ArrayRef = match column % 4 {
                0 => {
                    Arc::new(Int32Array::from_iter_values(rows.clone().map(|row| (value(row) % 1000) as i32)))
                }
                1 => {
                    Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| (value(row) >> 24) as i64)))
                }
                2 => Arc::new(StringArray::from_iter_values(
                    rows.clone().map(|row| format!("value {}", value(row) % 50)),
                )),
                _ => Arc::new(StringArray::from_iter_values(
                    rows.clone().map(|row| format!("{:016x}", value(row))),
                )),
            };
            all.push((format!("c{column}"), array));
        }
        RecordBatch::try_from_iter_with_nullable(all.into_iter().map(|(name, array)| (name, array, true)))
            .unwrap()
    };
    (0..rows).step_by(BATCH_ROWS).map(batch).collect()
}

/// The work of `cargo xtask bench`: a filter, four derived columns and a join.
fn derive(flights: &RecordBatch, airlines: &RecordBatch) -> RecordBatch {
    let departed = is_not_null(flights.column_by_name("dep_time").unwrap()).unwrap();
    let flights = filter_record_batch(flights, &departed).unwrap();
    let column = |name: &str| flights.column_by_name(name).unwrap();
    let number = |name: &str| column(name).as_primitive::<Int32Type>().clone();
    let (delay, air_time, distance) = (number("arr_delay"), number("air_time"), number("distance"));
    let late: BooleanArray = delay.iter().map(|delay| delay.map(|delay| delay >= 15)).collect();
    let speed: Float64Array = air_time
        .iter()
        .zip(distance.iter())
        .map(|(time, distance)| {
            let (time, distance) = (f64::from(time.filter(|time| *time != 0)?), f64::from(distance?));
            Some((distance * 600.0 / time).round() / 10.0)
        })
        .collect();
    let made_up: Int32Array =
        number("dep_delay").iter().zip(delay.iter()).map(|(left, arrived)| Some(left? - arrived?)).collect();
    let scheduled = column("time_hour").as_primitive::<TimestampMicrosecondType>();
    let scheduled: TimestampMicrosecondArray = scheduled
        .iter()
        .zip(number("minute").iter())
        .map(|(hour, minute)| Some(hour? + i64::from(minute?) * MINUTE))
        .collect();
    let names: HashMap<&str, &str> = {
        let text = |name: &str| airlines.column_by_name(name).unwrap().as_string::<i32>();
        text("carrier")
            .iter()
            .zip(text("name").iter())
            .filter_map(|(key, name)| Some((key?, name?)))
            .collect()
    };
    let airline: StringArray =
        column("carrier").as_string::<i32>().iter().map(|carrier| names.get(carrier?).copied()).collect();
    let mut all: Vec<(&str, ArrayRef)> = Vec::new();
    let schema = flights.schema();
    for (field, array) in
        schema.fields().iter().zip(flights.columns()).filter(|(field, _)| field.name() != "month")
    {
        all.push((field.name(), array.clone()));
        if field.name() == "carrier" {
            all.push(("airline", Arc::new(airline.clone())));
        }
    }
    all.push(("late", Arc::new(late)));
    all.push(("speed_mph", Arc::new(speed)));
    all.push(("made_up", Arc::new(made_up)));
    all.push(("scheduled_departure", Arc::new(scheduled.with_timezone("UTC"))));
    all.push(("month", column("month").clone()));
    RecordBatch::try_from_iter_with_nullable(all.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

fn read(name: &str) -> RecordBatch {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/nycflights13").join(name);
    let file = File::open(path.with_extension("parquet")).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}
