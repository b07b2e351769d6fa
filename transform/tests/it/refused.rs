//! SQL whose answer would depend on where an epoch is cut, or that makes several rows of a record.

use crate::common::{refused, transform};
use puddle_transform::Problem;

/// Each is refused as not row-wise, at this place, in words that name the construct.
#[track_caller]
fn all_refused(cases: &[(&str, &str, &str)]) {
    for (sql, place, construct) in cases {
        let (problem, message) = refused(sql);
        assert_eq!(problem, Problem::NotRowWise, "{sql}\n{message}");
        let at = if place.is_empty() { "t.sql".to_owned() } else { format!("t.sql:{place}: ") };
        assert!(message.starts_with(&at), "{sql}\n{message}");
        assert!(message.contains(construct), "{sql}\n{message}");
        assert_eq!(message.lines().count(), 2, "what and what to do: {message}");
    }
}

#[test]
fn aggregates() {
    all_refused(&[
        ("SELECT COUNT(*) FROM t", "1:8", "COUNT"),
        ("SELECT COUNT(id) AS n FROM t", "1:8", "COUNT"),
        ("SELECT COUNT(DISTINCT id) AS n FROM t", "1:8", "COUNT(DISTINCT"),
        ("SELECT SUM(id) AS n FROM t", "", "SUM"),
        ("SELECT id,\n  AVG(price) AS n FROM t", "2:3", "AVG"),
        ("SELECT MIN(id) AS n FROM t", "1:8", "MIN"),
        ("SELECT id FROM t WHERE id = MAX(id)", "1:29", "MAX"),
        ("SELECT MEDIAN(id) AS n FROM t", "1:8", "MEDIAN"),
        ("SELECT STDDEV(price) AS n FROM t", "1:8", "STDDEV"),
        ("SELECT VARIANCE(price) AS n FROM t", "1:8", "VARIANCE"),
        ("SELECT FIRST(id) AS n FROM t", "1:8", "FIRST"),
        ("SELECT LAST(id) AS n FROM t", "1:8", "LAST"),
        ("SELECT ARRAY_AGG(id) AS n FROM t", "1:8", "ARRAY_AGG"),
        ("SELECT QUANTILE_CONT(price, 0.5) AS n FROM t", "1:8", "QUANTILE"),
        ("SELECT CORR(price, id) AS n FROM t", "1:8", "depends on"),
        ("SELECT name, SUM(id) AS n FROM t GROUP BY name", "1:34", "GROUP BY"),
        ("SELECT name FROM t GROUP BY name HAVING COUNT(*) > 1", "1:20", "GROUP BY"),
        ("SELECT name, SUM(id) AS n FROM t GROUP BY ALL", "1:34", "GROUP BY"),
        ("SELECT COUNT(*) FILTER (WHERE id > 1) AS n FROM t", "", "COUNT"),
        ("SELECT id > ALL(small) AS x FROM t", "", "depends on"),
    ]);
}

#[test]
fn order_and_windows() {
    all_refused(&[
        ("SELECT DISTINCT name FROM t", "1:8", "DISTINCT"),
        ("SELECT DISTINCT ON (name) name, id FROM t", "1:8", "DISTINCT"),
        ("SELECT id FROM t ORDER BY id", "1:18", "ORDER BY"),
        ("SELECT id FROM (SELECT id FROM t ORDER BY id) AS s", "1:34", "ORDER BY"),
        ("SELECT id FROM t LIMIT 5", "1:18", "LIMIT"),
        ("SELECT id FROM t OFFSET 5", "", "OFFSET"),
        ("SELECT ROW_NUMBER() OVER (ORDER BY id) AS n FROM t", "1:21", "OVER"),
        ("SELECT LAG(id) OVER (ORDER BY id) AS n FROM t", "1:16", "OVER"),
        ("SELECT SUM(id) OVER (PARTITION BY name) AS n FROM t", "1:16", "OVER"),
        ("SELECT RANK() OVER (ORDER BY id) AS n FROM t", "1:15", "OVER"),
        ("SELECT LAST_VALUE(id) OVER (ORDER BY id) AS n FROM t", "1:8", "LAST_VALUE"),
        ("SELECT LAST_VALUE(id) AS n FROM t", "1:8", "LAST_VALUE"),
        ("SELECT FIRST_VALUE(id) AS n FROM t", "", "FIRST"),
        ("SELECT ROW_NUMBER() AS n, id FROM t", "1:8", "ROW_NUMBER"),
    ]);
}

#[test]
fn several_rows_of_a_record() {
    all_refused(&[
        ("SELECT id, UNNEST(nums) AS n FROM t", "1:12", "UNNEST"),
        ("SELECT id, n FROM t CROSS JOIN UNNEST(nums) AS n", "1:32", "UNNEST"),
        ("SELECT id FROM t UNION ALL SELECT id FROM t", "1:18", "UNION"),
        ("SELECT id FROM t UNION SELECT small FROM t", "", "UNION"),
        ("SELECT id FROM t EXCEPT SELECT small FROM t", "", "EXCEPT"),
        ("SELECT a.id FROM t AS a JOIN t AS b ON a.id = b.id", "1:25", "itself"),
        ("SELECT id FROM t WHERE id IN (SELECT small FROM t)", "1:27", "itself"),
        ("WITH a AS (SELECT id FROM t) SELECT t.id FROM t LEFT JOIN a ON t.id = a.id", "1:54", "itself"),
    ]);
}

#[test]
fn answers_that_the_first_record_decides() {
    all_refused(&[
        ("SELECT DATE(name) AS d FROM t", "", "guessed"),
        ("SELECT TIMESTAMP(name) AS d FROM t", "", "guessed"),
        ("SELECT id = ANY(small) AS x FROM t", "1:13", "ANY"),
    ]);
}

#[test]
fn sql_that_does_not_read_the_records() {
    all_refused(&[("SELECT 1 AS one", "", "does not read the stream")]);
    assert!(transform("SELECT id FROM (SELECT 1 AS id) AS x").is_err());
}

#[test]
fn clocks_and_dice() {
    for function in ["NOW()", "CURRENT_TIMESTAMP", "CURRENT_DATE", "RANDOM()"] {
        let (problem, message) = refused(&format!("SELECT {function} AS x FROM t"));
        assert_eq!(problem, Problem::UnknownFunction, "{function}: {message}");
        assert!(message.contains("another answer each time"), "{message}");
    }
}

#[test]
fn names_that_look_like_windows_pass() {
    transform("SELECT id AS \"over\", 'x OVER (' AS s FROM t -- OVER (").unwrap();
}
