use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{Field, Schema, TimeUnit};
use proptest::prelude::*;

use super::*;

/// Numbers as every kind of stored column, a null where there is none.
fn column(kind: &DataType, numbers: &[Option<u8>]) -> ArrayRef {
    match kind {
        DataType::List(element) => {
            let lengths = numbers.iter().map(|number| usize::from(number.unwrap_or(2) % 4));
            let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
            let count = offsets.last();
            let elements: Vec<Option<u8>> = (0..count).map(|n| (n % 5 != 0).then_some(n as u8)).collect();
            let valid = NullBuffer::from_iter(numbers.iter().map(Option::is_some));
            let elements = column(element.data_type(), &elements);
            Arc::new(ListArray::new(element.clone(), offsets, elements, Some(valid)))
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|field| column(field.data_type(), numbers)).collect();
            let valid = NullBuffer::from_iter(numbers.iter().map(|number| *number != Some(7)));
            Arc::new(StructArray::new(fields.clone(), columns, Some(valid)))
        }
        DataType::Date32 | DataType::Timestamp(_, _) => {
            let wide = if kind == &DataType::Date32 { DataType::Int32 } else { DataType::Int64 };
            cast(&column(&wide, numbers), kind).unwrap()
        }
        DataType::Binary => cast(&column(&DataType::Utf8, numbers), kind).unwrap(),
        kind => cast(&arrow::array::UInt8Array::from(numbers.to_vec()), kind).unwrap(),
    }
}

fn kinds() -> Vec<DataType> {
    let plain = [
        DataType::Boolean,
        DataType::Int8,
        DataType::Int64,
        DataType::Float32,
        DataType::Date32,
        DataType::Decimal128(9, 2),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Utf8,
        DataType::Binary,
    ];
    let list = |kind: &DataType| DataType::List(Arc::new(Field::new("element", kind.clone(), true)));
    let fields: Fields =
        plain.iter().enumerate().map(|(n, kind)| Field::new(format!("f{n}"), kind.clone(), true)).collect();
    let mut all = plain.to_vec();
    all.extend([list(&plain[0]), list(&DataType::Utf8), list(&list(&DataType::Int64))]);
    all.extend([DataType::Struct(fields.clone()), list(&DataType::Struct(fields))]);
    all
}

/// All rows of the one column there is.
fn joined(rows: &mut Rows, kind: &DataType) -> ArrayRef {
    let mut pieces = rows.take().next().unwrap().unwrap();
    pieces.push(column(kind, &[]));
    concat(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap()
}

/// Runs in order, from lengths of what is left out and what is taken.
fn runs(lengths: &[(usize, usize)], rows: usize) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut runs = Vec::new();
    for (skip, take) in lengths {
        let begin = (at + skip).min(rows);
        at = (begin + take).min(rows);
        if begin < at {
            runs.push(begin..at);
        }
    }
    runs
}

proptest! {
    #[test]
    fn runs_of_batches_are_as_if_taken_and_joined(
        batches in prop::collection::vec(
            (
                prop::collection::vec(prop::option::of(0..9_u8), 1..60),
                prop::collection::vec((0..4_usize, 1..6_usize), 0..12),
                0..3_usize,
            ),
            1..5,
        ),
    ) {
        for kind in kinds() {
            let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("c", kind.clone(), true)]));
            let mut rows = Rows::new(&schema).unwrap();
            // A second turn finds nothing of the first.
            for _ in 0..2 {
                let mut expected = vec![column(&kind, &[])];
                for (numbers, lengths, skip) in &batches {
                    let whole = column(&kind, numbers);
                    let skip = (*skip).min(whole.len());
                    let slice = whole.slice(skip, whole.len() - skip);
                    let runs = runs(lengths, slice.len());
                    let indices = UInt64Array::from_iter_values(runs.iter().cloned().flatten().map(|row| row as u64));
                    expected.push(take(&slice, &indices, None).unwrap());
                    let handed = match &kind {
                        DataType::Utf8 => cast(&slice, &DataType::Utf8View).unwrap(),
                        DataType::Binary => cast(&slice, &DataType::BinaryView).unwrap(),
                        _ => slice.clone(),
                    };
                    for column in [&slice, &handed] {
                        let mut again = Rows::new(&schema).unwrap();
                        again.extend([column], &runs).unwrap();
                        prop_assert_eq!(&joined(&mut again, &kind), expected.last().unwrap());
                    }
                    rows.extend([&handed], &runs).unwrap();
                }
                let expected = concat(&expected.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap();
                prop_assert_eq!(rows.len(), expected.len());
                let found = joined(&mut rows, &kind);
                RecordBatch::try_new(schema.clone(), vec![found.clone()]).unwrap();
                prop_assert_eq!(&found, &expected);
                prop_assert_eq!(rows.len(), 0);
            }
        }
    }
}

#[test]
fn rows_of_many_pieces_keep_their_order() {
    for kind in kinds() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("c", kind.clone(), true)]));
        let numbers: Vec<Option<u8>> =
            (0..5000_usize).map(|n| (n % 7 != 3).then_some((n % 9) as u8)).collect();
        let batch = column(&kind, &numbers);
        let mut rows = Rows::new(&schema).unwrap();
        let batches = 2 + 2 * PIECE_ROWS / batch.len();
        for _ in 0..batches {
            rows.extend([&batch], std::slice::from_ref(&(0..batch.len()))).unwrap();
        }
        let expected = concat(&vec![batch.as_ref(); batches]).unwrap();
        assert_eq!(&joined(&mut rows, &kind), &expected);
    }
}

#[test]
fn memory_in_use_is_counted() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
    ]));
    let numbers: Vec<Option<u8>> = (0..1000).map(|n| (n % 9 != 0).then_some(200)).collect();
    let columns = [column(&DataType::Int64, &numbers), column(&DataType::Utf8, &numbers)];
    let mut rows = Rows::new(&schema).unwrap();
    for _ in 0..10 {
        rows.extend(&columns, std::slice::from_ref(&(0..1000))).unwrap();
    }
    // Eight bytes for a number, four and three for a string.
    assert!((140_000..330_000).contains(&rows.bytes()), "{}", rows.bytes());
    let lengths = |pieces: Vec<ArrayRef>| pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>();
    rows.take().for_each(|pieces| assert_eq!(lengths(pieces.unwrap()), [9000, 1000]));
    let left: usize = rows.columns.iter().map(|column| column.growing.bytes() + column.full_bytes).sum();
    assert!(rows.bytes() == 0 && left < 100, "{left}");
}
