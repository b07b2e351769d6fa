//! What a row-wise SELECT can compute, each with its value.

use crate::common::{apply, refused, transform};
use puddle_transform::Problem;

const RECORD: &str = r#"{"id":7,"small":3,"price":2.5,"name":"Kennedy Intl","flag":true,"day":"2013-02-28",
  "ts":"2013-03-10T06:59:30.250Z","nums":[10,20,30],"place":{"city":"New York","tags":["big","apple"],"at":{"lat":40.6}}}"#;

/// Each expression over [`RECORD`] gives this JSON value; over a record of nulls it gives null, if `null` says so.
#[track_caller]
fn values(cases: &[(&str, &str)]) {
    let record = RECORD.replace('\n', "");
    for (expression, expected) in cases {
        let sql = format!("SELECT _offset, {expression} AS x FROM t");
        let found = apply(&sql, &[&record]);
        let expected = match *expected {
            "null" => r#"{"_offset":0}"#.to_owned(),
            value => format!(r#"{{"_offset":0,"x":{value}}}"#),
        };
        assert_eq!(found, [expected], "{expression}");
    }
}

#[test]
fn arithmetic_and_mathematics() {
    values(&[
        ("id + small * 2", "13"),
        ("id - 10", "-3"),
        ("-id", "-7"),
        ("id / 2", "3.5"),
        ("id // 2", "3"),
        ("id % 4", "3"),
        ("price * small", "7.5"),
        ("ROUND(price * 1.11, 1)", "2.8"),
        ("ABS(-price)", "2.5"),
        ("FLOOR(price) + CEIL(price)", "5.0"),
        ("SQRT(id + 2)", "3.0"),
        ("POWER(small, 2)", "9"),
        ("EXP(0) + LN(1) + LOG10(100)", "3.0"),
        ("ROUND(SIND(30) + COSD(60), 6)", "1.0"),
        ("ROUND(ATAN2D(1, 1), 6)", "45.0"),
        ("SIGN(-price)", "-1.0"),
        ("GREATEST(id, small)", "7"),
        ("LEAST(id, small)", "3"),
    ]);
}

#[test]
fn conditions() {
    values(&[
        ("CASE WHEN id > 5 THEN 'high' WHEN id > 2 THEN 'middle' ELSE 'low' END", r#""high""#),
        ("CASE small WHEN 3 THEN 'three' END", r#""three""#),
        ("CASE WHEN id < 5 THEN 1 END", "null"),
        ("COALESCE(NULL, name, 'none')", r#""Kennedy Intl""#),
        ("IFNULL(NULLIF(id, 7), 0)", "0"),
        ("IF(flag, 'yes', 'no')", r#""yes""#),
        ("id BETWEEN 5 AND 7", "true"),
        ("small IN (1, 2, 3)", "true"),
        ("small NOT IN (1, 2)", "true"),
        ("name IS NULL OR NOT flag", "false"),
        ("id IS DISTINCT FROM NULL", "true"),
    ]);
}

#[test]
fn casts() {
    values(&[
        ("CAST(id AS VARCHAR)", r#""7""#),
        ("CAST('12' AS INT) + small", "15"),
        ("CAST(price AS INTEGER)", "2"),
        ("id::DOUBLE", "7.0"),
        ("TRY_CAST(name AS BIGINT)", "null"),
        ("CAST('2013-05-01' AS DATE)", r#""2013-05-01""#),
        ("CAST('2013-05-01T10:00:00' AS TIMESTAMP)", r#""2013-05-01T10:00:00""#),
        ("CAST(ts AS DATE)", r#""2013-03-10""#),
        ("CAST(price AS DECIMAL(10, 2))", "2.50"),
    ]);
}

#[test]
fn strings() {
    values(&[
        ("UPPER(name) || '!'", r#""KENNEDY INTL!""#),
        ("CONCAT(name, '-', id)", r#""Kennedy Intl-7""#),
        ("CONCAT_WS('/', 'a', name)", r#""a/Kennedy Intl""#),
        ("LENGTH(name)", "12"),
        ("SUBSTR(name, 1, 7)", r#""Kennedy""#),
        ("LEFT(name, 3) || RIGHT(name, 2)", r#""Kentl""#),
        ("REPLACE(name, 'Intl', 'International')", r#""Kennedy International""#),
        ("TRIM('  x ') || LTRIM(' y')", r#""xy""#),
        ("LPAD(CAST(small AS VARCHAR), 2, '0')", r#""03""#),
        ("STRPOS(name, 'Intl')", "9"),
        ("SPLIT_PART(name, ' ', 2)", r#""Intl""#),
        ("STARTS_WITH(name, 'Ken')", "true"),
        ("REVERSE('abc')", r#""cba""#),
        ("name LIKE 'Ken%_l'", "true"),
        ("name ILIKE 'kennedy%'", "true"),
        ("name NOT LIKE '%x%'", "true"),
        ("name ~ '^K.*l$'", "true"),
        ("REGEXP_LIKE(name, 'intl', 'i')", "true"),
        ("name RLIKE 'X'", "false"),
    ]);
}

#[test]
fn times() {
    values(&[
        ("EXTRACT(YEAR FROM ts) * 100 + EXTRACT(MONTH FROM ts)", "201303"),
        ("EXTRACT(HOUR FROM ts)", "6"),
        ("DATE_PART('minute', ts)", "59"),
        ("EXTRACT(DOW FROM ts)", "0"),
        ("EXTRACT(EPOCH FROM ts)", "1362898770.25"),
        ("EXTRACT(DAY FROM day)", "28"),
        ("STRFTIME(ts, '%Y-%m')", r#""2013-03""#),
        ("STRPTIME('10.03.2013 07:00', '%d.%m.%Y %H:%M')", r#""2013-03-10T07:00:00""#),
        ("DATE('10.03.2013', '%d.%m.%Y')", r#""2013-03-10""#),
        ("ts + INTERVAL '1 day 2 hours'", r#""2013-03-11T08:59:30.250Z""#),
        ("ts - INTERVAL '30 seconds'", r#""2013-03-10T06:59:00.250Z""#),
        ("ts + small * INTERVAL '1 minute'", r#""2013-03-10T07:02:30.250Z""#),
        ("day + INTERVAL '1 month'", r#""2013-03-28""#),
        ("CAST(ts - (ts - INTERVAL '2 seconds') AS BIGINT)", "2000000"),
        ("ts > '2013-03-10'", "true"),
        ("ts BETWEEN '2013-01-01' AND '2014-01-01 00:00:00'", "true"),
        ("CAST(ts AS TIMESTAMP) > TIMESTAMP '2013-01-01 00:00:00'", "true"),
        ("day = DATE '2013-02-28'", "true"),
        ("DATE '2013-03-01' > day", "true"),
    ]);
}

#[test]
fn structs_and_lists() {
    values(&[
        ("place.city", r#""New York""#),
        ("t.place.city", r#""New York""#),
        ("place.at.lat", "40.6"),
        ("place -> 'city'", r#""New York""#),
        ("nums[1]", "10"),
        ("nums[-1]", "30"),
        ("nums[9]", "null"),
        ("ARRAY_GET(place.tags, 2)", r#""apple""#),
        ("ARRAY_LENGTH(nums)", "3"),
        ("ARRAY_SUM(nums)", "60"),
        ("ARRAY_CONTAINS(nums, 20)", "true"),
        ("20 = ANY(nums)", "true"),
        ("ARRAY_TO_STRING(place.tags, '+')", r#""big+apple""#),
        ("ARRAY_REVERSE(nums)", "[30,20,10]"),
        ("STRING_TO_ARRAY(name, ' ')", r#"["Kennedy","Intl"]"#),
        ("nums", "[10,20,30]"),
        ("place", r#"{"city":"New York","tags":["big","apple"],"at":{"lat":40.6}}"#),
    ]);
}

#[test]
fn constants_have_as_many_rows_as_there_are_records() {
    for sql in ["SELECT 1 AS one FROM t", "SELECT 'x' AS a, 2 AS b FROM t", "SELECT 1 AS one, id FROM t"] {
        assert_eq!(apply(sql, &[]).len(), 0, "{sql}");
        assert_eq!(apply(sql, &["{}", "{}", "{}"]).len(), 3, "{sql}");
    }
}

#[test]
fn rows_are_filtered_and_keep_their_order() {
    let found = apply(
        "WITH known AS (SELECT * FROM t WHERE id IS NOT NULL) SELECT id, id * 2 AS twice FROM known WHERE id <> 2",
        &[r#"{"id":3}"#, r#"{"id":2}"#, "{}", r#"{"id":1}"#],
    );
    assert_eq!(found, [r#"{"id":3,"twice":6}"#, r#"{"id":1,"twice":2}"#]);
    assert!(apply("SELECT id FROM t WHERE FALSE", &[r#"{"id":3}"#]).is_empty());
}

#[test]
fn columns_are_renamed_and_left_out() {
    assert_eq!(apply("SELECT a.id FROM t AS a", &[r#"{"id":1}"#]), [r#"{"id":1}"#]);
    assert_eq!(
        apply("SELECT c.y FROM (SELECT id AS x, name AS z FROM t) AS c(y, w)", &[r#"{"id":1}"#]),
        [r#"{"y":1}"#]
    );
    let all = transform("SELECT * EXCLUDE (place, nums) FROM t").unwrap().output_schema();
    assert!(all.column_with_name("id").is_some() && all.column_with_name("nums").is_none());
}

#[test]
fn nulls_stay_nulls() {
    for expression in [
        "id + 1",
        "UPPER(name)",
        "ts + INTERVAL '1 day'",
        "nums[1]",
        "place.city",
        "small * INTERVAL '1 minute' + ts",
    ] {
        assert_eq!(
            apply(&format!("SELECT _offset, {expression} AS x FROM t"), &["{}"]),
            [r#"{"_offset":0}"#]
        );
    }
}

#[test]
fn the_schema_is_the_same_with_and_without_rows() {
    let sql = "SELECT id, name, ts, nums, place, STRFTIME(ts, '%Y') AS year FROM t";
    let mut transform = transform(sql).unwrap();
    let schema = transform.output_schema();
    assert_eq!(transform.apply(&crate::common::records(&[])).unwrap().schema(), schema);
    assert_eq!(transform.apply(&crate::common::records(&["{}"])).unwrap().schema(), schema);
    assert_eq!(transform.apply(&crate::common::records(&["{}", r#"{"id":1}"#])).unwrap().schema(), schema);
}

#[test]
fn results_that_a_table_cannot_hold_are_refused() {
    let (problem, message) = refused("SELECT id, ts - ts AS took FROM t");
    assert_eq!(problem, Problem::Types);
    assert!(message.contains("\"took\"") && message.contains("CAST"), "{message}");
    let (problem, message) = refused("SELECT id, NULL AS nothing FROM t");
    assert_eq!(problem, Problem::Types);
    assert!(message.contains("\"nothing\""), "{message}");
}

#[test]
fn an_element_of_a_list_of_structs_is_taken_before_its_field() {
    let lines = [r#"{"id":1,"items":[{"sku":"a"},{"sku":"b"}]}"#, r#"{"id":2,"items":[]}"#, r#"{"id":3}"#];
    for sql in [
        "WITH s AS (SELECT *, ARRAY_GET(items, 1) AS item FROM t) SELECT id, item.sku AS sku FROM s",
        "SELECT id, item.sku AS sku FROM (SELECT id, ARRAY_GET(items, 1) AS item FROM t) AS s",
    ] {
        assert_eq!(apply(sql, &lines), [r#"{"id":1,"sku":"a"}"#, r#"{"id":2}"#, r#"{"id":3}"#], "{sql}");
    }
}
