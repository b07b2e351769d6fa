//! Around Polars or through it: the rows are the same.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::datatypes::Int64Type;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::Transform;

/// SQL in which columns stay as they are, get other names, are hidden by others of the same name, or are only read.
const STATEMENTS: &[&str] = &[
    "SELECT * FROM t",
    "SELECT text, id FROM t",
    "SELECT id AS text, text AS id FROM t",
    "SELECT * FROM t WHERE number > 0",
    "SELECT * FROM t WHERE number > 0 AND text IS NOT NULL",
    "SELECT * FROM t WHERE FALSE",
    "SELECT * FROM t WHERE TRUE",
    "SELECT id FROM t WHERE number IS NULL OR number % 3 = 0",
    "SELECT id, text, 'x' AS fixed FROM t",
    "SELECT id, 'x' AS fixed FROM t WHERE flag",
    "SELECT id, NULL::BIGINT AS nothing, 7 AS seven, ms, at FROM t WHERE number < 5",
    "SELECT *, number * 2 AS twice FROM t WHERE number IS NOT NULL",
    "SELECT * REPLACE (number + 1 AS number) FROM t",
    "SELECT * EXCLUDE (text, list) FROM t WHERE flag",
    "SELECT * RENAME (text AS words) FROM t WHERE flag",
    "WITH a AS (SELECT *, text AS words FROM t WHERE flag), b AS (SELECT id, words, number + 1 AS text FROM a)
     SELECT words, text, id FROM b WHERE text > 0",
    "WITH a AS (SELECT id AS number, number AS id, list FROM t) SELECT id, number, list FROM a WHERE number > 0",
    "SELECT id, UPPER(text) AS text, number FROM t WHERE LENGTH(text) > 2",
    "SELECT t.id, t.text, r.name FROM t LEFT JOIN r ON t.text = r.text",
    "SELECT t.*, r.name FROM t LEFT JOIN r ON t.text = r.text WHERE t.flag",
    "SELECT t.id, r.text, r.name FROM t INNER JOIN r ON t.text = r.text",
    "SELECT r.name, t.id, t.number FROM r INNER JOIN t ON t.text = r.text WHERE t.number > 0",
    "SELECT t.id, t.list FROM t SEMI JOIN r ON t.text = r.text",
    "SELECT t.id, t.list FROM t ANTI JOIN r ON t.text = r.text",
    "SELECT id, text FROM t WHERE text IN (SELECT text FROM r)",
    "SELECT id, text FROM t WHERE text NOT IN (SELECT text FROM r)",
    "SELECT a.id, x.name AS one, y.name AS two FROM t AS a
     LEFT JOIN r AS x ON a.text = x.text LEFT JOIN r AS y ON a.text = y.text WHERE a.number > 0",
    "SELECT id, COALESCE(text, 'none') AS text, CAST(number AS VARCHAR) AS number FROM t",
    "SELECT COLUMNS('^(number|small)$'), text FROM t WHERE flag",
    "SELECT id FROM t WHERE COALESCE(COLUMNS('^(number|small)$')) > 0",
];

#[derive(Clone, Debug)]
struct Record {
    number: Option<i64>,
    flag: Option<bool>,
    text: Option<String>,
    list: Option<Vec<Option<i64>>>,
}

fn record() -> impl Strategy<Value = Record> {
    let text = prop_oneof!["[abc]", "[a-zé ]{0,30}"];
    let list = vec(option::of(any::<i64>()), 0..3);
    (option::of(-9..9i64), option::of(any::<bool>()), option::of(text), option::of(list))
        .prop_map(|(number, flag, text, list)| Record { number, flag, text, list })
}

fn batch(records: &[Record]) -> RecordBatch {
    let numbers = || records.iter().map(|record| record.number);
    let columns: [(&str, ArrayRef); 8] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..records.len() as i64))),
        ("number", Arc::new(numbers().collect::<Int64Array>())),
        ("small", Arc::new(numbers().map(|n| n.map(|n| n as i32)).collect::<Int32Array>())),
        ("price", Arc::new(numbers().map(|n| n.map(|n| n as f64 / 3.0)).collect::<Float64Array>())),
        ("flag", Arc::new(records.iter().map(|record| record.flag).collect::<BooleanArray>())),
        ("text", Arc::new(records.iter().map(|record| record.text.as_deref()).collect::<StringArray>())),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
                records.iter().map(|record| record.list.clone()),
            )),
        ),
        ("at", Arc::new(numbers().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))),
    ];
    // Of another type in the result than here, as the records' own timestamps.
    let millis = Arc::new(numbers().collect::<TimestampMillisecondArray>().with_timezone("UTC"));
    let columns = columns.into_iter().chain([("ms", millis as ArrayRef)]);
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true))).unwrap()
}

fn transforms() -> Vec<Transform> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("r.csv");
    std::fs::write(&file, "text,name\na,Anna\nb,\nd,Dora\n").unwrap();
    let references = [("r".to_owned(), file)];
    let columns = batch(&[]).schema();
    let plan = |sql: &&str| Transform::new("t", columns.clone(), sql, &references);
    STATEMENTS.iter().map(|sql| plan(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))).collect()
}

#[test]
fn columns_that_stay_as_they_are_are_not_copied() {
    let records = [Some(1), None, Some(3)].map(|number| Record {
        number,
        flag: None,
        text: Some("a".into()),
        list: None,
    });
    let records = batch(&records);
    let rows = |sql: &str| Transform::new("t", records.schema(), sql, &[]).unwrap().apply(&records).unwrap();
    for sql in ["SELECT * FROM t", "SELECT *, number + 1 AS next FROM t"] {
        let rows = rows(sql);
        let (before, after) = (records.column(5).to_data(), rows.column(5).to_data());
        assert_eq!(before.buffers()[1].as_ptr(), after.buffers()[1].as_ptr(), "{sql}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_rows_are_those_that_polars_makes_of_whole_records(records in vec(record(), 0..60)) {
        let records = batch(&records);
        for (transform, sql) in transforms().iter_mut().zip(STATEMENTS) {
            let whole = transform.apply_to_whole(&records).ok().unwrap();
            prop_assert_eq!(transform.apply(&records).unwrap(), whole, "{}", sql);
        }
    }
}
