//! There and back: what crosses the bridge stays what it was.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array,
    Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StringViewArray, StructArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType as ArrowType, Field, Fields, Int8Type, TimeUnit};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{plain_schema, polars_schema, to_arrow, to_polars};
use crate::Error;

fn round_trip(batch: &RecordBatch) -> RecordBatch {
    let frame = to_polars(batch).unwrap();
    let schema = plain_schema(frame.schema()).unwrap();
    to_arrow(frame, &schema).unwrap()
}

/// A column of each type that a decoded record can have, nested ones too.
fn columns(rows: Vec<Row>) -> RecordBatch {
    let column = |value: fn(&Row) -> Option<i64>| rows.iter().map(value).collect::<Vec<_>>();
    let numbers = column(|row| row.number);
    let texts: Vec<Option<&str>> = rows.iter().map(|row| row.text.as_deref()).collect();

    let items: Vec<Option<&str>> =
        rows.iter().flat_map(|row| row.list.iter().flatten()).map(|x| x.as_deref()).collect();
    let lengths = OffsetBuffer::from_lengths(rows.iter().map(|row| row.list.as_ref().map_or(0, Vec::len)));
    let present = NullBuffer::from_iter(rows.iter().map(|row| row.list.is_some()));
    let item = Arc::new(Field::new_list_field(ArrowType::Utf8, true));
    let list = ListArray::new(item, lengths, Arc::new(StringArray::from(items)), Some(present));

    let fields: Fields = vec![
        Field::new("text", ArrowType::Utf8, true),
        Field::new("list", list.data_type().clone(), true),
        Field::new("number", ArrowType::Int64, true),
    ]
    .into();
    let parts: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(texts.clone())),
        Arc::new(list.clone()),
        Arc::new(Int64Array::from(numbers.clone())),
    ];
    let known = NullBuffer::from_iter(rows.iter().map(|row| row.number.is_none_or(|n| n % 3 != 0)));

    let arrays: Vec<(&str, ArrayRef)> = vec![
        ("bool", Arc::new(rows.iter().map(|row| row.number.map(|n| n % 2 == 0)).collect::<BooleanArray>())),
        ("int32", Arc::new(rows.iter().map(|row| row.number.map(|n| n as i32)).collect::<Int32Array>())),
        ("int64", Arc::new(Int64Array::from(numbers.clone()))),
        ("float64", Arc::new(rows.iter().map(|row| row.float).collect::<Float64Array>())),
        ("string", Arc::new(StringArray::from(texts.clone()))),
        ("binary", Arc::new(texts.iter().map(|text| text.map(str::as_bytes)).collect::<BinaryArray>())),
        ("date", Arc::new(rows.iter().map(|row| row.number.map(|n| n as i32)).collect::<Date32Array>())),
        ("instant", Arc::new(TimestampMicrosecondArray::from(numbers).with_timezone("UTC"))),
        ("list", Arc::new(list)),
        ("struct", Arc::new(StructArray::new(fields, parts, Some(known)))),
    ];
    RecordBatch::try_from_iter_with_nullable(arrays.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

#[derive(Clone, Debug)]
struct Row {
    number: Option<i64>,
    float: Option<f64>,
    text: Option<String>,
    list: Option<Vec<Option<String>>>,
}

fn row() -> impl Strategy<Value = Row> {
    // Short and long texts: Polars keeps up to 12 bytes in the view itself.
    let text = prop_oneof!["[a-zé]{0,3}", "[a-z ☃]{10,40}"];
    let list = vec(option::of(text.clone()), 0..4);
    (option::of(any::<i64>()), option::of(-1e9..1e9f64), option::of(text), option::of(list))
        .prop_map(|(number, float, text, list)| Row { number, float, text, list })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_type_comes_back_as_it_went(rows in vec(row(), 0..40), from in 0usize..40, length in 0usize..40) {
        let batch = columns(rows);
        prop_assert_eq!(&round_trip(&batch), &batch);
        // A slice of a batch shares its buffers and begins in the middle of them.
        let from = from.min(batch.num_rows());
        let slice = batch.slice(from, length.min(batch.num_rows() - from));
        prop_assert_eq!(&round_trip(&slice), &slice);
    }
}

#[test]
fn numbers_are_not_copied() {
    let numbers = Int64Array::from(vec![1, 2, 3]);
    let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers.clone()) as ArrayRef)]).unwrap();
    let back = round_trip(&batch);
    let back = back.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
    assert_eq!(back.values().as_ptr(), numbers.values().as_ptr());
}

#[test]
fn rows_outlive_the_batch_that_they_came_from() {
    let batch = columns(vec![Row { number: Some(1), float: None, text: Some("x".repeat(50)), list: None }]);
    let expected = batch.slice(0, 1);
    let frame = to_polars(&batch).unwrap();
    drop(batch);
    let schema = plain_schema(frame.schema()).unwrap();
    assert_eq!(to_arrow(frame, &schema).unwrap(), expected);
}

#[test]
fn other_types_become_plain_ones() {
    let text = StringArray::from(vec![Some("a"), None]);
    let arrays: Vec<(&str, ArrayRef)> = vec![
        ("view", Arc::new(StringViewArray::from(vec![Some("a"), None]))),
        ("dictionary", Arc::new(vec![Some("a"), None].into_iter().collect::<DictionaryArray<Int8Type>>())),
        (
            "millis",
            Arc::new(TimestampMillisecondArray::from(vec![Some(5), None]).with_timezone("America/New_York")),
        ),
        ("local", Arc::new(TimestampMillisecondArray::from(vec![Some(5), None]))),
        (
            "decimal",
            Arc::new(Decimal128Array::from(vec![Some(123), None]).with_precision_and_scale(9, 2).unwrap()),
        ),
    ];
    let batch = RecordBatch::try_from_iter(arrays).unwrap();
    let plain = round_trip(&batch);
    let types: Vec<&ArrowType> = plain.schema_ref().fields().iter().map(|field| field.data_type()).collect();
    assert_eq!(
        types,
        [
            &ArrowType::Utf8,
            &ArrowType::Utf8,
            &ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            &ArrowType::Timestamp(TimeUnit::Microsecond, None),
            &ArrowType::Decimal128(9, 2),
        ]
    );
    assert_eq!(plain.column(0).as_ref(), &text as &dyn Array);
    assert_eq!(plain.column(1).as_ref(), &text as &dyn Array);
    let micros = TimestampMicrosecondArray::from(vec![Some(5000), None]);
    assert_eq!(plain.column(2).as_ref(), &micros.clone().with_timezone("UTC") as &dyn Array);
    assert_eq!(plain.column(3).as_ref(), &micros as &dyn Array);
}

#[test]
fn types_of_no_rows_are_those_of_rows() {
    let batch = columns(vec![Row {
        number: Some(1),
        float: Some(1.0),
        text: Some("a".into()),
        list: Some(vec![None]),
    }]);
    let types = polars_schema(&batch.schema()).unwrap();
    assert_eq!(**to_polars(&batch).unwrap().schema(), types);
    assert_eq!(**to_polars(&batch.slice(0, 0)).unwrap().schema(), types);
}

#[test]
fn unknown_types_are_errors() {
    let interval =
        Field::new("span", ArrowType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano), true);
    let batch = RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::new(vec![interval])));
    assert!(matches!(to_polars(&batch), Err(Error::ColumnType { column, .. }) if column == "span"));
}
