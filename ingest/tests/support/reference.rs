//! A plain reading of JSON records with serde_json, one line a rule, that the decoder must agree with.
//!
//! It follows the rules of [`puddle_ingest::json`] on values that are still text, so that duplicates and the way in
//! which numbers are written are not lost. Tests feed it documents that they make up; the fuzz target `json_decoder`
//! feeds it whatever bytes there are.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
};
use chrono::{DateTime, NaiveDate};
use puddle_ingest::UnknownFields;
use puddle_ingest::json::{Decoder, MAX_JSON_DEPTH};
use puddle_ingest::raw::RawBatch;
use puddle_ingest::schema::{FieldDecl, Kind, SchemaDecl, ValueDecl};
use puddle_types::{Batch, TopicPartition, metadata};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    /// The bits of a float, so that they are compared exactly.
    Float(u64),
    Text(String),
    List(Vec<Cell>),
    Row(Vec<Cell>),
}

/// Decodes these values (`None` is a tombstone) and checks all that must hold, whatever they are.
pub(crate) fn check(schema: &SchemaDecl, unknown: UnknownFields, values: &[Option<Vec<u8>>]) {
    let batch = decode(schema, unknown, values);
    let read: Vec<Option<Vec<Cell>>> =
        values.iter().map(|value| read_record(schema, value.as_deref()?, unknown)).collect();
    let (fit, unfit): (Vec<usize>, Vec<usize>) = (0..values.len()).partition(|at| read[*at].is_some());

    assert_eq!(batch.records(), values.len());
    assert_eq!((offsets(&batch.rows), offsets(&batch.rejected)), (fit, unfit.clone()));
    assert_eq!(rows(schema, &batch), read.into_iter().flatten().collect::<Vec<_>>());
    for part in [&batch.rows, &batch.rejected] {
        let times = part.column_by_name(metadata::TIMESTAMP).unwrap();
        let times = times.as_primitive::<TimestampMillisecondType>().values().iter().copied();
        assert!(times.eq(offsets(part).into_iter().map(timestamp)));
    }
    let kept = batch.rejected.column_by_name(metadata::VALUE).unwrap().as_binary::<i32>();
    assert!(kept.iter().eq(unfit.iter().map(|at| values[*at].as_deref())));
    let reasons = batch.rejected.column_by_name(metadata::REASON).unwrap().as_string::<i32>();
    assert!(reasons.iter().flatten().all(|reason| (1..=200).contains(&reason.chars().count())));

    // Where a batch ends makes no difference.
    let mut decoder = Decoder::new(schema, unknown);
    let parts = values.chunks(3).map(|part| rows(schema, &decoder.decode(&raw(part))));
    assert_eq!(rows(schema, &batch), parts.flatten().collect::<Vec<_>>());
}

fn timestamp(offset: usize) -> i64 {
    1_000 + offset as i64
}

fn raw(values: &[Option<Vec<u8>>]) -> RawBatch {
    let mut raw = RawBatch::new(TopicPartition::new("t", 0), 0, 0);
    for (offset, value) in values.iter().enumerate() {
        raw.push(offset as i64, Some(timestamp(offset)), None, value.as_deref());
    }
    raw
}

/// What the decoder makes of these values.
pub(crate) fn decode(schema: &SchemaDecl, unknown: UnknownFields, values: &[Option<Vec<u8>>]) -> Batch {
    Decoder::new(schema, unknown).decode(&raw(values))
}

/// The offsets of rows, which are the places of the values that were decoded.
pub(crate) fn offsets(rows: &RecordBatch) -> Vec<usize> {
    let column = rows.column_by_name(metadata::OFFSET).unwrap();
    column.as_primitive::<Int64Type>().values().iter().map(|offset| *offset as usize).collect()
}

/// The rows of a batch, payload columns only.
pub(crate) fn rows(schema: &SchemaDecl, batch: &Batch) -> Vec<Vec<Cell>> {
    let columns: Vec<_> = schema.fields().iter().zip(batch.rows.columns()).collect();
    let row = |row| columns.iter().map(|(field, column)| cell(&field.value.kind, column, row)).collect();
    (0..batch.rows.num_rows()).map(row).collect()
}

/// The value at a row of a column that the decoder made.
fn cell(kind: &Kind, array: &ArrayRef, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Null;
    }
    match kind {
        Kind::Bool => Cell::Bool(array.as_boolean().value(row)),
        Kind::Int32 => Cell::Int(array.as_primitive::<Int32Type>().value(row).into()),
        Kind::Int64 => Cell::Int(array.as_primitive::<Int64Type>().value(row)),
        Kind::Float64 => Cell::Float(array.as_primitive::<Float64Type>().value(row).to_bits()),
        Kind::Timestamp => Cell::Int(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        Kind::Date => Cell::Int(array.as_primitive::<Date32Type>().value(row).into()),
        Kind::String | Kind::Json => Cell::Text(array.as_string::<i32>().value(row).to_owned()),
        Kind::Binary => unreachable!("JSON has no bytes"),
        Kind::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            Cell::Row(columns.map(|(field, column)| cell(&field.value.kind, column, row)).collect())
        }
        Kind::List(element) => {
            let values = array.as_list::<i32>().value(row);
            Cell::List((0..values.len()).map(|at| cell(&element.kind, &values, at)).collect())
        }
    }
}

/// The columns of a record, or `None` where it must be rejected.
fn read_record(schema: &SchemaDecl, value: &[u8], unknown: UnknownFields) -> Option<Vec<Cell>> {
    let text = str::from_utf8(value.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(value)).ok()?;
    let record: &RawValue = serde_json::from_str(text).ok()?;
    read_object(schema.fields(), record.get(), unknown)
}

fn read_object(fields: &[FieldDecl], text: &str, unknown: UnknownFields) -> Option<Vec<Cell>> {
    let Entries(entries) = serde_json::from_str(text).ok()?;
    let known = |name: &str| fields.iter().any(|field| field.name == name);
    if unknown == UnknownFields::Reject && entries.iter().any(|(name, _)| !known(name)) {
        return None;
    }
    let read = |field: &FieldDecl| {
        let mut values = entries.iter().filter(|(name, _)| *name == field.name).map(|(_, text)| text.get());
        let value = values.next().unwrap_or("null");
        if values.next().is_some() { None } else { read_value(&field.value, value, unknown) }
    };
    fields.iter().map(read).collect()
}

fn read_value(decl: &ValueDecl, text: &str, unknown: UnknownFields) -> Option<Cell> {
    let number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let string = || serde_json::from_str::<String>(text).ok();
    match &decl.kind {
        _ if text == "null" => decl.nullable.then_some(Cell::Null),
        Kind::Bool => text.parse().ok().map(Cell::Bool),
        Kind::Int32 => text.parse::<i32>().ok().map(|n| Cell::Int(n.into())),
        Kind::Int64 => text.parse().ok().map(Cell::Int),
        Kind::Float64 if number => {
            text.parse().ok().filter(|f: &f64| f.is_finite()).map(|f| Cell::Float(f.to_bits()))
        }
        Kind::Float64 => None,
        Kind::String => string().map(Cell::Text),
        Kind::Timestamp if number => {
            let time = text.parse().ok().and_then(DateTime::from_timestamp_millis)?;
            Some(Cell::Int(time.timestamp_micros()))
        }
        Kind::Timestamp => {
            let time = DateTime::parse_from_rfc3339(&string()?).ok()?;
            Some(Cell::Int(time.timestamp_micros()))
        }
        Kind::Date => {
            let text = string()?;
            let date = NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok();
            let date = date.filter(|date| date.to_string() == text)?;
            Some(Cell::Int((date - NaiveDate::default()).num_days()))
        }
        Kind::Json => (depth(text) <= MAX_JSON_DEPTH).then(|| Cell::Text(text.to_owned())),
        Kind::Binary => None,
        Kind::Struct(fields) => read_object(fields, text, unknown).map(Cell::Row),
        Kind::List(element) => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let read = elements.into_iter().map(|value| read_value(element, value.get(), unknown));
            read.collect::<Option<_>>().map(Cell::List)
        }
    }
}

/// How many brackets are open at most.
fn depth(json: &str) -> usize {
    let mut outside = String::new();
    let mut parts = json.replace("\\\\", "").replace("\\\"", "");
    while let Some((before, rest)) = parts.split_once('"') {
        outside.push_str(before);
        parts = rest.split_once('"').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    }
    outside.push_str(&parts);
    let open = outside.bytes().scan(0_usize, |open, byte| {
        match byte {
            b'[' | b'{' => *open += 1,
            b']' | b'}' => *open -= 1,
            _ => {}
        }
        Some(*open)
    });
    open.max().unwrap_or(0)
}

/// An object's fields in their order, duplicates included.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        reader.deserialize_map(Fields)
    }
}

/// The schemas that a fuzzer's inputs are read with.
const SCHEMAS: [&str; 6] = [
    r#"{"a":"bool","b":"int32","c":"int64","d":"float64","e":"string","f":"timestamp","g":"date","h":"json"}"#,
    r#"{"a":"bool not null","c":"int64 not null","e":"string not null"}"#,
    r#"{"a":{"b":{"c":"int64 not null","d":"float64"},"e":["string"]},"h":"json"}"#,
    r#"{"a":[[["int32"]]],"b":[{"c":"int64","d":[{"e":"string not null","a":"bool"}]}]}"#,
    r#"{"a":["json"],"b":[{"h":"json not null"}],"f":["timestamp"],"g":["date not null"]}"#,
    r#"{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":"float64"}}}}}}},"é\n\"":"string","a.b":"int64"}"#,
];

/// One input of a fuzzer: a character that says which schema and policy, then records, a line each; a line of a
/// single 0 is a tombstone.
pub(crate) fn check_input(input: &[u8]) {
    let Some((choice, records)) = input.split_first() else { return };
    let choice = usize::from(choice.wrapping_sub(b'0'));
    let unknown = if choice & 1 == 0 { UnknownFields::Ignore } else { UnknownFields::Reject };
    let schema: SchemaDecl = serde_json::from_str(SCHEMAS[(choice >> 1) % SCHEMAS.len()]).unwrap();
    let values: Vec<Option<Vec<u8>>> =
        records.split(|byte| *byte == b'\n').map(|line| (line != [0]).then(|| line.to_vec())).collect();
    check(&schema, unknown, &values);
}
