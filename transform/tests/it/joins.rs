//! Joins with reference tables: a record meets at most one row.

use std::path::PathBuf;

use crate::common::{problem, records, reference, schema, to_json};
use puddle_transform::{Problem, Transform};

fn references(folder: &tempfile::TempDir) -> Vec<(String, PathBuf)> {
    let row = |name: &str, columns: &[&str], rows: &[&[&str]]| reference(folder.path(), name, columns, rows);
    vec![
        row(
            "airlines",
            &["carrier", "name"],
            &[&["AA", "American"], &["UA", "United"], &["", "Nobody"], &["", "None"]],
        ),
        row("visits", &["carrier", "city"], &[&["AA", "Rome"], &["AA", "Oslo"], &["UA", "Bonn"]]),
        row("named", &["name"], &[&["UA"]]),
        row("pairs", &["a", "b", "v"], &[&["x", "p", "1"], &["x", "q", "2"]]),
    ]
}

fn joined(sql: &str) -> Result<Vec<String>, (Problem, String)> {
    let folder = tempfile::tempdir().unwrap();
    let lines =
        [r#"{"id":1,"name":"UA"}"#, r#"{"id":2,"name":"ZZ"}"#, r#"{"id":3}"#, r#"{"id":4,"name":"AA"}"#];
    let mut transform =
        Transform::from_source("t.sql", "t", schema(), sql, &references(&folder)).map_err(problem)?;
    Ok(to_json(&transform.apply(&records(&lines)).unwrap()))
}

#[test]
fn a_left_join_keeps_every_record_in_order() {
    let sql = "SELECT t.id, airlines.name AS airline FROM t LEFT JOIN airlines ON t.name = airlines.carrier";
    let rows =
        [r#"{"id":1,"airline":"United"}"#, r#"{"id":2}"#, r#"{"id":3}"#, r#"{"id":4,"airline":"American"}"#];
    assert_eq!(joined(sql).unwrap(), rows);

    let turned = "SELECT t.id, a.name AS airline FROM airlines AS a RIGHT JOIN t ON a.carrier = t.name";
    assert_eq!(joined(turned).unwrap(), rows);
}

#[test]
fn an_inner_join_keeps_those_that_match() {
    let rows = [r#"{"id":1,"airline":"United"}"#, r#"{"id":4,"airline":"American"}"#];
    for sql in [
        "SELECT t.id, airlines.name AS airline FROM t JOIN airlines ON t.name = airlines.carrier",
        "SELECT t.id, airlines.name AS airline FROM airlines JOIN t ON t.name = airlines.carrier",
        "SELECT t.id, airlines.name AS airline FROM t, airlines WHERE t.name = airlines.carrier",
    ] {
        assert_eq!(joined(sql).unwrap(), rows, "{sql}");
    }
}

#[test]
fn semi_and_anti_joins_may_have_repeated_keys() {
    for (sql, ids) in [
        ("SELECT id FROM t SEMI JOIN visits ON t.name = visits.carrier", "[1, 4]"),
        ("SELECT id FROM t ANTI JOIN visits ON t.name = visits.carrier", "[2, 3]"),
        ("SELECT id FROM t WHERE name IN (SELECT carrier FROM visits)", "[1, 4]"),
        ("SELECT id FROM t WHERE name NOT IN (SELECT carrier FROM visits)", "[2]"),
        ("SELECT id FROM t WHERE name IN (SELECT carrier FROM visits GROUP BY carrier)", "[1, 4]"),
        ("SELECT id FROM t WHERE name NOT IN (SELECT name FROM named)", "[2, 4]"),
        ("SELECT id FROM t WHERE name IN (SELECT name FROM named)", "[1]"),
        ("SELECT id FROM t WHERE name IN (SELECT name FROM named WHERE FALSE) OR id = 2", "[2]"),
        ("SELECT id FROM t WHERE EXISTS (SELECT 1 FROM visits AS v WHERE v.carrier = t.name)", "[1, 4]"),
    ] {
        let found: Vec<i64> = joined(sql)
            .unwrap_or_else(|(_, message)| panic!("{sql}: {message}"))
            .iter()
            .map(|row| row.trim_start_matches("{\"id\":").trim_end_matches('}').parse().unwrap())
            .collect();
        assert_eq!(format!("{found:?}"), ids, "{sql}");
    }
}

#[test]
fn one_reference_twice_under_two_names() {
    let sql = "SELECT t.id, a.name AS first, b.name AS second FROM t
               LEFT JOIN airlines AS a ON t.name = a.carrier LEFT JOIN airlines AS b ON t.name = b.carrier";
    assert_eq!(joined(sql).unwrap()[0], r#"{"id":1,"first":"United","second":"United"}"#);
}

#[test]
fn several_keys_are_unique_together() {
    let sql = "SELECT t.id, pairs.v FROM t LEFT JOIN pairs ON t.name = pairs.a AND t.name = pairs.b";
    assert_eq!(joined(sql).unwrap().len(), 4);
    let (kind, message) =
        joined("SELECT t.id, pairs.v FROM t LEFT JOIN pairs ON t.name = pairs.a").unwrap_err();
    assert_eq!(kind, Problem::NotRowWise);
    assert!(message.contains("the key a = \"x\" has 2 rows in pairs"), "{message}");
}

#[test]
fn references_may_be_aggregated_and_sorted() {
    let sql = "SELECT t.id, v.city FROM t LEFT JOIN
               (SELECT carrier, MIN(city) AS city FROM visits GROUP BY carrier ORDER BY carrier) AS v
               ON t.name = v.carrier";
    assert_eq!(
        joined(sql).unwrap(),
        [r#"{"id":1,"city":"Bonn"}"#, r#"{"id":2}"#, r#"{"id":3}"#, r#"{"id":4,"city":"Oslo"}"#]
    );
    let with = "WITH first AS (SELECT carrier, MIN(city) AS city FROM visits GROUP BY carrier)
                SELECT t.id FROM t JOIN first ON t.name = first.carrier";
    assert_eq!(joined(with).unwrap().len(), 2);
}

#[test]
fn a_cross_join_with_one_row_is_fine() {
    let sql = "SELECT t.id, c.n FROM t CROSS JOIN (SELECT COUNT(*) AS n FROM visits) AS c";
    assert_eq!(joined(sql).unwrap()[3], r#"{"id":4,"n":3}"#);
}

#[test]
fn joins_that_multiply_or_keep_reference_rows_are_refused() {
    for (sql, words) in [
        (
            "SELECT t.id FROM t JOIN visits ON t.name = visits.carrier",
            "the key carrier = \"AA\" has 2 rows in visits",
        ),
        ("SELECT t.id FROM t LEFT JOIN visits ON t.name = visits.carrier", "has 2 rows in visits"),
        ("SELECT t.id FROM visits JOIN t ON t.name = visits.carrier", "has 2 rows in visits"),
        ("SELECT t.id FROM t CROSS JOIN visits", "3 rows of one record"),
        ("SELECT t.id FROM t, visits", "3 rows of one record"),
        ("SELECT t.id FROM t RIGHT JOIN airlines ON t.name = airlines.carrier", "RIGHT JOIN keeps"),
        ("SELECT t.id FROM t FULL JOIN airlines ON t.name = airlines.carrier", "FULL JOIN keeps"),
        ("SELECT t.id FROM airlines AS a LEFT JOIN t ON t.name = a.carrier", "keeps reference rows"),
        ("SELECT a.name FROM airlines AS a SEMI JOIN t ON a.carrier = t.name", "keeps reference rows"),
        ("SELECT t.id FROM t JOIN airlines AS a ON t.name > a.carrier", "equal values"),
        ("SELECT t.id FROM t JOIN airlines AS a ON t.name = a.carrier AND t.name < a.name", "equal values"),
        ("SELECT a.name FROM airlines AS a", "does not read the stream"),
    ] {
        let (kind, message) = joined(sql).expect_err(sql);
        assert_eq!(kind, Problem::NotRowWise, "{sql}: {message}");
        assert!(message.contains(words), "{sql}: {message}");
    }
}

#[test]
fn a_subquery_in_a_select_is_refused() {
    let (_, message) =
        joined("SELECT id, name IN (SELECT carrier FROM airlines) AS known FROM t").unwrap_err();
    assert!(message.contains("subquery") && message.contains("WITH"), "{message}");
}
