//! Records that are made to hurt: what they take is bounded, and they are rejected alone.

use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMillisecondType;
use puddle_ingest::UnknownFields;
use puddle_ingest::json::Decoder;
use puddle_ingest::raw::RawBatch;
use puddle_ingest::schema::{SchemaDecl, infer};
use puddle_testkit::memory::growth;
use puddle_types::{Batch, TopicPartition, metadata};

const MIB: u64 = 1 << 20;

/// What measuring takes is the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn decode(schema: &str, values: &[String]) -> Batch {
    let schema: SchemaDecl = serde_json::from_str(schema).unwrap();
    let mut raw = RawBatch::new(TopicPartition::new("t", 0), 0, 0);
    for (offset, value) in (0..).zip(values) {
        raw.push(offset, None, None, Some(value.as_bytes()));
    }
    Decoder::new(&schema, UnknownFields::Ignore).decode(&raw)
}

/// Fault matrix 37.
#[test]
fn a_million_levels_take_no_stack() {
    let _alone = alone();
    let arrays = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    let objects = r#"{"a":"#.repeat(1_000_000) + "1" + &"}".repeat(1_000_000);
    let values = [
        format!(r#"{{"known":{arrays}}}"#),
        format!(r#"{{"known":{objects}}}"#),
        format!(r#"{{"json":{arrays}}}"#),
        format!(r#"{{"json":{objects}}}"#),
        arrays.clone(),
        objects.clone(),
        "[".repeat(1_000_000),
        // Left out, and so walked over.
        format!(r#"{{"other":{arrays}}}"#),
        format!(r#"{{"other":{objects},"known":[[1]]}}"#),
    ];
    // A thousandth of what a level a frame would take.
    let thread = std::thread::Builder::new().stack_size(256 << 10);
    let decoded = thread.spawn(move || {
        assert!(infer(&[values[0].as_bytes(), values[1].as_bytes()]).is_err(), "nothing can be inferred");
        decode(r#"{"known":[["int64"]],"json":"json"}"#, &values)
    });
    let batch = decoded.unwrap().join().unwrap();
    // The deep objects have the field `a` only, and nothing in them is declared.
    assert_eq!((batch.rows.num_rows(), batch.rejected.num_rows()), (3, 6));
}

/// Fault matrix 39.
#[test]
fn a_record_of_20_mb_is_not_held_many_times() {
    let _alone = alone();
    let text = "x".repeat(20_000_000);
    let values = [format!(r#"{{"a":"{text}"}}"#), format!(r#"{{"a":1,"b":"{text}"}}"#), format!("{text}\"")];
    let (grown, batch) = growth(|| decode(r#"{"a":"string"}"#, &values));
    assert_eq!((batch.rows.num_rows(), batch.rejected.num_rows()), (1, 2));
    // 60 MB of input are copied once, into buffers that grow by doubling.
    assert!(grown < 260 * MIB, "{} MiB", grown / MIB);
}

/// Fault matrix 42.
#[test]
fn timestamps_of_records_beyond_any_calendar_are_rejected() {
    let schema: SchemaDecl = serde_json::from_str(r#"{"a":"int64"}"#).unwrap();
    let mut raw = RawBatch::new(TopicPartition::new("t", 0), 0, 0);
    let times = [0, -1, i64::MIN, 253_402_300_799_999, i64::MAX, i64::MAX / 1000];
    for (offset, time) in (0..).zip(times) {
        raw.push(offset, Some(time), None, Some(b"{\"a\":1}"));
    }
    let batch = Decoder::new(&schema, UnknownFields::Ignore).decode(&raw);
    let offsets = |rows: &arrow::array::RecordBatch| {
        let column = rows.column_by_name(metadata::OFFSET).unwrap();
        column.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
    };
    assert_eq!((offsets(&batch.rows), offsets(&batch.rejected)), (vec![0, 1, 3], vec![2, 4, 5]));
    let kept = batch.rejected.column_by_name(metadata::TIMESTAMP).unwrap();
    assert_eq!(kept.as_primitive::<TimestampMillisecondType>().null_count(), 3);
    let reason =
        batch.rejected.column_by_name(metadata::REASON).unwrap().as_string::<i32>().value(0).to_owned();
    assert!(reason.contains("-9223372036854775808"), "{reason}");
}
