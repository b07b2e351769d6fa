//! One bad record does not stop a pipeline.

use crate::common::{records, to_json, transform};
use proptest::collection::hash_set;
use proptest::prelude::*;
use puddle_transform::Error;

const SQL: &str = "SELECT _offset, CAST(name AS BIGINT) AS number FROM t WHERE id IS NULL";

fn lines(count: usize, bad: impl Fn(usize) -> bool) -> Vec<String> {
    (0..count)
        .map(|row| if bad(row) { r#"{"name":"x"}"#.into() } else { format!(r#"{{"name":"{row}"}}"#) })
        .collect()
}

fn batch(lines: &[String]) -> arrow::array::RecordBatch {
    records(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_bad_value_is_a_data_error() {
    let error = transform(SQL).unwrap().apply(&batch(&lines(3, |row| row == 1))).unwrap_err();
    assert!(matches!(&error, Error::Data(reason) if reason.contains("name")), "{error}");
    assert!(!error.is_usage());
}

#[test]
fn the_others_go_on() {
    let (good, rejected) =
        transform(SQL).unwrap().apply_or_reject(&batch(&lines(5, |row| row == 1 || row == 4))).unwrap();
    assert_eq!(
        to_json(&good),
        [r#"{"_offset":0,"number":0}"#, r#"{"_offset":2,"number":2}"#, r#"{"_offset":3,"number":3}"#]
    );
    assert_eq!(rejected.iter().map(|record| record.row).collect::<Vec<_>>(), [1, 4]);
    assert!(
        rejected[0].reason.contains("name") && !rejected[0].reason.contains('\n'),
        "{}",
        rejected[0].reason
    );
}

#[test]
fn none_and_all() {
    let mut transform = transform(SQL).unwrap();
    let (good, rejected) = transform.apply_or_reject(&batch(&[])).unwrap();
    assert_eq!((good.num_rows(), rejected.len()), (0, 0));
    let (good, rejected) = transform.apply_or_reject(&batch(&lines(3, |_| true))).unwrap();
    assert_eq!((good.num_rows(), good.schema(), rejected.len()), (0, transform.output_schema(), 3));
}

#[test]
fn a_batch_of_bad_records_is_the_sqls_fault() {
    let error = transform(SQL).unwrap().apply_or_reject(&batch(&lines(1_100, |_| true))).unwrap_err();
    assert!(matches!(error, Error::TooManyFailures { limit: 1_000, .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exactly_the_bad_ones_are_left_out(count in 0usize..60, bad in hash_set(0usize..60, 0..10)) {
        let (good, rejected) =
            transform(SQL).unwrap().apply_or_reject(&batch(&lines(count, |row| bad.contains(&row)))).unwrap();
        let expected: Vec<usize> = (0..count).filter(|row| bad.contains(row)).collect();
        prop_assert_eq!(rejected.iter().map(|record| record.row).collect::<Vec<_>>(), expected);
        let rows: Vec<String> = (0..count)
            .filter(|row| !bad.contains(row))
            .map(|row| format!(r#"{{"_offset":{row},"number":{row}}}"#))
            .collect();
        prop_assert_eq!(to_json(&good), rows);
    }
}
