//! One bad record does not stop a pipeline.

use crate::common::{records, to_json, transform};
use proptest::collection::{hash_set, vec};
use proptest::prelude::*;
use puddle_transform::Error;
use std::time::{Duration, Instant};

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

/// Two conversions that fail on different records, one of them within a later step, and conditions.
const STEPS: &str = "WITH a AS (SELECT *, CAST(name AS BIGINT) AS number FROM t WHERE id IS NULL)
    SELECT _offset, number, CAST(place.city AS DATE) AS day FROM a WHERE number >= 0";

/// A record on which the first, the second, both or none of the [`STEPS`] fail, or which they leave out.
fn kind(kind: usize) -> &'static str {
    match kind {
        0 | 3 => r#"{"name":"x"}"#,
        1 => r#"{"name":"7","place":{"city":"Rome"}}"#,
        2 => r#"{"name":"y","place":{"city":"Rome"}}"#,
        4 => r#"{"name":"x","id":1}"#,
        5 => r#"{"name":"-1"}"#,
        _ => r#"{"name":"8","place":{"city":"2013-01-01"}}"#,
    }
}

/// Longer than it takes to find many bad records by their common cause, much shorter than to try each of them.
const SOON: Duration = Duration::from_secs(8);

/// Fault matrix 44.
#[test]
fn many_bad_records_are_found_soon() {
    let count = 50_000;
    let lines: Vec<String> = (0..count).map(|row| kind(row % 7).to_owned()).collect();
    let begun = Instant::now();
    let (good, rejected) = transform(STEPS).unwrap().apply_or_reject(&batch(&lines)).unwrap();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(good.num_rows(), (0..count).filter(|row| row % 7 == 6).count());
    let expected: Vec<usize> = (0..count).filter(|row| row % 7 < 4).collect();
    assert_eq!(rejected.iter().map(|record| record.row).collect::<Vec<_>>(), expected);
    let mut reasons: Vec<&str> = rejected.iter().map(|record| record.reason.as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons.iter().all(|reason| !reason.contains("out of")), "{reasons:?}");
}

/// Fault matrix 44.
#[test]
fn a_batch_of_nothing_but_bad_records_is_rejected_soon() {
    let lines = lines(50_000, |_| true);
    let begun = Instant::now();
    let (good, rejected) = transform(SQL).unwrap().apply_or_reject(&batch(&lines)).unwrap();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!((good.num_rows(), rejected.len()), (0, 50_000));
}

#[test]
fn a_conversion_that_an_earlier_step_does_not_name_is_found_by_halving() {
    // The column that is converted is made by the SQL, so nobody knows beforehand where it fails.
    let sql = "WITH a AS (SELECT _offset, UPPER(name) AS name2 FROM t) SELECT _offset, CAST(name2 AS BIGINT) AS n FROM a";
    let (good, rejected) =
        transform(sql).unwrap().apply_or_reject(&batch(&lines(40, |row| row % 3 == 1))).unwrap();
    assert_eq!(good.num_rows() + rejected.len(), 40);
    assert_eq!(
        rejected.iter().map(|record| record.row).collect::<Vec<_>>(),
        (1..40).step_by(3).collect::<Vec<_>>()
    );
}

#[test]
fn a_record_that_the_sql_leaves_out_is_not_blamed_for_the_others() {
    // All that are left fail, and which those are only a later step says.
    let sql = "WITH a AS (SELECT _offset, name, UPPER(place.city) AS town FROM t)
        SELECT _offset, CAST(name AS BIGINT) AS n FROM a WHERE town = 'ROME'";
    let city = |row| if row % 3 == 0 { "Oslo" } else { "Rome" };
    let lines: Vec<String> =
        (0..30).map(|row| format!(r#"{{"name":"x","place":{{"city":"{}"}}}}"#, city(row))).collect();
    let (_, rejected) = transform(sql).unwrap().apply_or_reject(&batch(&lines)).unwrap();
    assert_eq!(
        rejected.iter().map(|record| record.row).collect::<Vec<_>>(),
        (0..30).filter(|row| city(*row) == "Rome").collect::<Vec<_>>()
    );
}

#[test]
fn a_record_without_elements_is_not_blamed_for_those_of_another() {
    // Two values fail and there are two records, but both values are of the second one.
    let sql = "SELECT _offset, CAST(place.tags AS BIGINT[]) AS tags FROM t";
    let lines = [r#"{"place":{"tags":[]}}"#, r#"{"place":{"tags":["x","y"]}}"#];
    let (good, rejected) = transform(sql).unwrap().apply_or_reject(&records(&lines)).unwrap();
    assert_eq!(to_json(&good), [r#"{"_offset":0,"tags":[]}"#]);
    assert_eq!(rejected.iter().map(|record| record.row).collect::<Vec<_>>(), [1]);
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

    #[test]
    fn a_record_is_judged_as_if_it_were_alone(kinds in vec(0usize..7, 0..40)) {
        let rows = batch(&kinds.iter().map(|k| kind(*k).to_owned()).collect::<Vec<_>>());
        let mut transform = transform(STEPS).unwrap();
        let (mut expected, mut failing) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            match transform.apply(&rows.slice(row, 1)) {
                Ok(good) => expected.extend(to_json(&good)),
                Err(_) => failing.push(row),
            }
        }
        let (good, rejected) = transform.apply_or_reject(&rows).unwrap();
        prop_assert_eq!(to_json(&good), expected);
        prop_assert_eq!(rejected.iter().map(|record| record.row).collect::<Vec<_>>(), failing);
    }
}
