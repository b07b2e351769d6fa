//! The decoder against a plain reading: random schemas, random documents that fit them or nearly do, and damaged bytes.
//!
//! The plain reading follows the rules of [`puddle_ingest::json`] on a tree, one line a rule. It and the decoder must
//! agree on which records are rejected and on every value of those that are not.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use chrono::{DateTime, NaiveDate};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;
use puddle_ingest::UnknownFields;
use puddle_ingest::json::Decoder;
use puddle_ingest::raw::RawBatch;
use puddle_ingest::schema::{FieldDecl, Kind, SchemaDecl, ValueDecl};
use puddle_types::{Batch, TopicPartition, metadata};

/// A JSON document as a tree that keeps what `serde_json::Value` would lose: duplicates, and how numbers are written.
#[derive(Clone, Debug)]
enum Doc {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    Array(Vec<Doc>),
    Object(Vec<(String, Doc)>),
}

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    /// The bits of a float, so that they are compared exactly.
    Float(u64),
    Text(String),
    List(Vec<Cell>),
    Row(Vec<Cell>),
}

/// The record does not fit.
struct Rejected;

fn read_value(decl: &ValueDecl, doc: &Doc, unknown: UnknownFields) -> Result<Cell, Rejected> {
    let read = |value: Option<Cell>| value.ok_or(Rejected);
    match (&decl.kind, doc) {
        (_, Doc::Null) => read(decl.nullable.then_some(Cell::Null)),
        (Kind::Bool, Doc::Bool(value)) => Ok(Cell::Bool(*value)),
        (Kind::Int32, Doc::Number(text)) => read(text.parse::<i32>().ok().map(|n| Cell::Int(n.into()))),
        (Kind::Int64, Doc::Number(text)) => read(text.parse().ok().map(Cell::Int)),
        (Kind::Float64, Doc::Number(text)) => {
            read(text.parse().ok().filter(|f: &f64| f.is_finite()).map(|f| Cell::Float(f.to_bits())))
        }
        (Kind::String, Doc::String(text)) => Ok(Cell::Text(text.clone())),
        (Kind::Timestamp, Doc::Number(text)) => {
            let time = text.parse().ok().and_then(DateTime::from_timestamp_millis);
            read(time.map(|time| Cell::Int(time.timestamp_micros())))
        }
        (Kind::Timestamp, Doc::String(text)) => {
            let time = DateTime::parse_from_rfc3339(text).ok();
            read(time.map(|time| Cell::Int(time.timestamp_micros())))
        }
        (Kind::Date, Doc::String(text)) => {
            let date =
                NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|date| date.to_string() == *text);
            read(date.map(|date| Cell::Int((date - NaiveDate::default()).num_days())))
        }
        (Kind::Json, doc) => Ok(Cell::Text(doc.to_string())),
        (Kind::Struct(fields), Doc::Object(entries)) => read_object(fields, entries, unknown).map(Cell::Row),
        (Kind::List(element), Doc::Array(docs)) => {
            docs.iter().map(|doc| read_value(element, doc, unknown)).collect::<Result<_, _>>().map(Cell::List)
        }
        _ => Err(Rejected),
    }
}

fn read_object(
    fields: &[FieldDecl],
    entries: &[(String, Doc)],
    unknown: UnknownFields,
) -> Result<Vec<Cell>, Rejected> {
    let known = |name: &str| fields.iter().any(|field| field.name == name);
    if unknown == UnknownFields::Reject && entries.iter().any(|(name, _)| !known(name)) {
        return Err(Rejected);
    }
    let read = |field: &FieldDecl| {
        let mut values = entries.iter().filter(|(name, _)| *name == field.name).map(|(_, doc)| doc);
        let value = values.next().unwrap_or(&Doc::Null);
        if values.next().is_some() { Err(Rejected) } else { read_value(&field.value, value, unknown) }
    };
    fields.iter().map(read).collect()
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

/// The rows of a batch, payload columns only.
fn rows(schema: &SchemaDecl, batch: &Batch) -> Vec<Vec<Cell>> {
    let columns: Vec<_> = schema.fields().iter().zip(batch.rows.columns()).collect();
    let row = |row| columns.iter().map(|(field, column)| cell(&field.value.kind, column, row)).collect();
    (0..batch.rows.num_rows()).map(row).collect()
}

fn decode(schema: &SchemaDecl, unknown: UnknownFields, values: &[Vec<u8>]) -> Batch {
    let mut raw = RawBatch::new(TopicPartition::new("t", 0), 0, 0);
    for (offset, value) in (0..).zip(values) {
        raw.push(offset, None, None, Some(value));
    }
    Decoder::new(schema, unknown).decode(&raw)
}

fn offsets(rows: &arrow::array::RecordBatch) -> Vec<usize> {
    let column = rows.column_by_name(metadata::OFFSET).unwrap();
    column.as_primitive::<Int64Type>().values().iter().map(|offset| *offset as usize).collect()
}

/// Names from a small set, so that documents often meet the schema, and often almost.
fn name() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "c", "é", "a.b", "\"", "_x", "id"]).prop_map(str::to_owned)
}

fn kind() -> impl Strategy<Value = Kind> {
    let scalars = vec![
        Kind::Bool,
        Kind::Int32,
        Kind::Int64,
        Kind::Float64,
        Kind::String,
        Kind::Timestamp,
        Kind::Date,
        Kind::Json,
    ];
    select(scalars).prop_recursive(3, 12, 4, |inner| {
        let value = (inner, any::<bool>()).prop_map(|(kind, nullable)| {
            let nested = matches!(kind, Kind::Struct(_) | Kind::List(_));
            ValueDecl { kind, nullable: nullable || nested }
        });
        prop_oneof![
            fields(value.clone()).prop_map(Kind::Struct),
            value.prop_map(|value| Kind::List(Box::new(value))),
        ]
    })
}

fn fields(value: impl Strategy<Value = ValueDecl>) -> impl Strategy<Value = Vec<FieldDecl>> {
    vec((name(), value), 1..6).prop_map(|mut fields| {
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields.dedup_by(|a, b| a.0 == b.0);
        fields.into_iter().map(|(name, value)| FieldDecl { name, value }).collect()
    })
}

fn schema() -> impl Strategy<Value = SchemaDecl> {
    let value = (kind(), any::<bool>()).prop_map(|(kind, required)| {
        let nested = matches!(kind, Kind::Struct(_) | Kind::List(_));
        ValueDecl { nullable: nested || !required, kind }
    });
    fields(value).prop_map(|fields| SchemaDecl::new(fields).unwrap())
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<i32>().prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        (-100_i64..100).prop_map(|n| n.to_string()),
        (-1e6..1e6).prop_map(|n: f64| format!("{n:?}")),
        select(vec![
            "1.0",
            "1e3",
            "-0.5E-7",
            "123456789012345678901234567890",
            "1e308",
            "-9223372036854775809"
        ])
        .prop_map(str::to_owned),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,8}",
        "[\"\\\\\u{0}-\u{1f}a😀]{0,6}",
        "(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]",
        "(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,10})?(Z|z|[+-][01][0-9]:00|)",
    ]
}

/// A document of any shape.
fn odd() -> impl Strategy<Value = Doc> {
    let leaf = prop_oneof![
        Just(Doc::Null),
        any::<bool>().prop_map(Doc::Bool),
        number().prop_map(Doc::Number),
        text().prop_map(Doc::String),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Doc::Array),
            vec((name(), inner), 0..4).prop_map(Doc::Object),
        ]
    })
}

/// A document that fits the kind, but for a part here and there.
fn fitting(kind: Kind, nullable: bool) -> BoxedStrategy<Doc> {
    let fits = match kind {
        Kind::Bool => any::<bool>().prop_map(Doc::Bool).boxed(),
        Kind::Int32 => any::<i32>().prop_map(|n| Doc::Number(n.to_string())).boxed(),
        Kind::Int64 => any::<i64>().prop_map(|n| Doc::Number(n.to_string())).boxed(),
        Kind::Float64 => number().prop_map(Doc::Number).boxed(),
        Kind::String => text().prop_map(Doc::String).boxed(),
        Kind::Timestamp => prop_oneof![
            (-1e14..1e14).prop_map(|n: f64| Doc::Number((n as i64).to_string())),
            (-62_000_000_000_i64..250_000_000_000, 0..1_000_000_000_u32)
                .prop_map(|(s, n)| Doc::String(DateTime::from_timestamp(s, n).unwrap().to_rfc3339())),
        ]
        .boxed(),
        Kind::Date => (-700_000..2_900_000).prop_map(|days| Doc::String(date(days))).boxed(),
        Kind::Json => odd().boxed(),
        Kind::Struct(fields) => object(&fields),
        Kind::List(element) => {
            vec(fitting(element.kind, element.nullable), 0..4).prop_map(Doc::Array).boxed()
        }
    };
    let null = if nullable { Just(Doc::Null).boxed() } else { fits.clone() };
    prop_oneof![40 => fits, 4 => null, 1 => odd()].boxed()
}

fn date(days: i32) -> String {
    (NaiveDate::default() + chrono::Duration::days(days.into())).to_string()
}

/// An object with these fields in any order, at times without one of them, with one twice, or with another.
fn object(fields: &[FieldDecl]) -> BoxedStrategy<Doc> {
    let entry = |field: &FieldDecl| {
        let name = field.name.clone();
        fitting(field.value.kind.clone(), field.value.nullable).prop_map(move |doc| (name.clone(), doc))
    };
    let entries: Vec<_> = fields.iter().map(entry).collect();
    let change = prop_oneof![12 => Just(0), 3 => Just(1), 1 => Just(2), 2 => Just(3)];
    (entries.prop_shuffle(), change, any::<Index>(), (name(), odd()))
        .prop_map(|(mut entries, change, at, other)| {
            let at = at.index(entries.len());
            match change {
                1 => drop(entries.remove(at)),
                2 => entries.push(entries[at].clone()),
                3 => entries.insert(at, other),
                _ => {}
            }
            Doc::Object(entries)
        })
        .boxed()
}

fn schema_and_docs() -> impl Strategy<Value = (SchemaDecl, Vec<Doc>)> {
    schema().prop_flat_map(|schema| {
        let doc = prop_oneof![12 => object(schema.fields()), 1 => odd()];
        (Just(schema), vec(doc, 1..12))
    })
}

fn policy() -> impl Strategy<Value = UnknownFields> {
    select(vec![UnknownFields::Ignore, UnknownFields::Reject])
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(2013), failure_persistence: None, ..Default::default() })]

    #[test]
    fn agrees_with_a_plain_reading((schema, docs) in schema_and_docs(), unknown in policy()) {
        let values: Vec<Vec<u8>> = docs.iter().map(|doc| doc.to_string().into_bytes()).collect();
        let batch = decode(&schema, unknown, &values);
        let (mut fitting, mut expected) = (Vec::new(), Vec::new());
        for (offset, doc) in docs.iter().enumerate() {
            let Doc::Object(entries) = doc else { continue };
            if let Ok(row) = read_object(schema.fields(), entries, unknown) {
                fitting.push(offset);
                expected.push(row);
            }
        }
        prop_assert_eq!(offsets(&batch.rows), fitting);
        prop_assert_eq!(rows(&schema, &batch), expected);
        prop_assert_eq!(batch.records(), docs.len());
    }

    #[test]
    fn damaged_records_touch_no_other(
        (schema, docs) in schema_and_docs(),
        damage in vec((any::<Index>(), any::<Index>(), any::<Option<u8>>()), 0..12),
    ) {
        let mut values: Vec<Vec<u8>> = docs.iter().map(|doc| doc.to_string().into_bytes()).collect();
        for (record, at, byte) in damage {
            let value = record.get_mut(&mut values);
            match byte {
                _ if value.is_empty() => {}
                Some(byte) => *at.get_mut(value) = byte,
                None => value.truncate(at.index(value.len())),
            }
        }
        let batch = decode(&schema, UnknownFields::Ignore, &values);
        let fitting = offsets(&batch.rows);
        let kept: Vec<Vec<u8>> = fitting.iter().map(|offset| values[*offset].clone()).collect();
        let alone = decode(&schema, UnknownFields::Ignore, &kept);
        let payload: Vec<usize> = (0..schema.fields().len()).collect();
        prop_assert_eq!(batch.rows.project(&payload).unwrap(), alone.rows.project(&payload).unwrap());
        // What was accepted is JSON to others, too; numbers aside that they cannot hold.
        for value in &kept {
            let others: Result<serde_json::Value, _> = serde_json::from_slice(value);
            let agrees = match others {
                Ok(value) => value.is_object(),
                Err(error) => error.to_string().starts_with("number out of range"),
            };
            prop_assert!(agrees);
        }
        // And every rejected record is there with its bytes.
        let rejected: Vec<usize> = (0..values.len()).filter(|offset| !fitting.contains(offset)).collect();
        prop_assert_eq!(&offsets(&batch.rejected), &rejected);
        let column = batch.rejected.column_by_name(metadata::VALUE).unwrap().as_binary::<i32>();
        for (row, offset) in rejected.iter().enumerate() {
            prop_assert_eq!(column.value(row), &values[*offset][..]);
        }
    }
}

impl std::fmt::Display for Doc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let string = |text: &str| serde_json::to_string(text).unwrap();
        let join = |parts: Vec<String>| parts.join(",");
        match self {
            Doc::Null => f.write_str("null"),
            Doc::Bool(value) => write!(f, "{value}"),
            Doc::Number(text) => f.write_str(text),
            Doc::String(text) => f.write_str(&string(text)),
            Doc::Array(docs) => write!(f, "[{}]", join(docs.iter().map(Doc::to_string).collect())),
            Doc::Object(entries) => {
                let entry = |(name, doc): &(String, Doc)| format!("{}:{doc}", string(name));
                write!(f, "{{{}}}", join(entries.iter().map(entry).collect()))
            }
        }
    }
}
