//! Mistakes are found before any record is read, and the error says what, where, and what is nearest.

use crate::common::{problem, records, reference, refused, schema, transform};
use puddle_transform::{Error, Problem, Transform};

#[test]
fn an_unknown_column() {
    for sql in [
        "SELECT id,\n  nmae AS n\nFROM t",
        "SELECT id,\n  t.nmae FROM t",
        "SELECT id FROM t WHERE\n  nmae = 'x'",
    ] {
        let (kind, message) = refused(sql);
        assert_eq!(kind, Problem::UnknownColumn, "{message}");
        let line = if sql.contains("t.nmae") { "t.sql:2:5: " } else { "t.sql:2:3: " };
        assert!(message.starts_with(line), "{message}");
        assert!(message.contains("there is no column \"nmae\"; did you mean \"name\"?"), "{message}");
        assert!(message.contains("columns: id, small, price, name, flag"), "{message}");
        assert_eq!(message.lines().count(), 2, "{message}");
    }
}

#[test]
fn an_unknown_column_of_a_reference() {
    let folder = tempfile::tempdir().unwrap();
    let airlines = reference(folder.path(), "airlines", &["carrier", "title"], &[&["AA", "American"]]);
    for (sql, name) in [
        ("SELECT id, a.titel FROM t LEFT JOIN airlines AS a ON t.name = a.carrier", "titel"),
        ("SELECT id, titel FROM t LEFT JOIN airlines ON t.name = airlines.carrier", "titel"),
        ("SELECT id FROM t LEFT JOIN airlines ON t.name = airlines.carier", "carier"),
    ] {
        let error = Transform::new("t", schema(), sql, std::slice::from_ref(&airlines)).expect_err(sql);
        let (kind, message) = problem(error);
        assert_eq!(kind, Problem::UnknownColumn, "{sql}: {message}");
        assert!(message.contains(&format!("there is no column {name:?}; did you mean")), "{message}");
        assert!(message.contains("title"), "{message}");
    }
}

#[test]
fn an_unknown_table() {
    let (kind, message) = refused("SELECT id\nFROM tt");
    assert_eq!(
        (kind, message.lines().next().unwrap()),
        (Problem::UnknownTable, "t.sql:2:6: there is no table \"tt\"")
    );
    assert!(message.ends_with("tables: t"), "{message}");
}

#[test]
fn a_table_name_with_a_dot() {
    let (kind, message) = refused("SELECT id FROM t.rejected");
    assert_eq!(kind, Problem::UnknownTable);
    assert!(
        message.starts_with("t.sql:1:16: \"t.rejected\" without quotes would be read as \"t\""),
        "{message}"
    );
}

#[test]
fn instants_and_local_times() {
    let (_, message) = refused("SELECT id FROM t WHERE ts > TIMESTAMP '2013-01-01 00:00:00'");
    assert!(message.contains("compare an instant with plain text"), "{message}");
}

#[test]
fn an_unknown_function() {
    let (kind, message) = refused("SELECT UPER(name) AS n FROM t");
    assert_eq!(kind, Problem::UnknownFunction);
    assert!(message.starts_with("t.sql:1:8: there is no function UPER; did you mean UPPER?"), "{message}");
}

#[test]
fn an_unknown_struct_field() {
    let (kind, message) = refused("SELECT id, place.town FROM t");
    assert_eq!(kind, Problem::UnknownColumn, "{message}");
    assert!(message.contains("town"), "{message}");
}

#[test]
fn bad_syntax() {
    let (kind, message) = refused("SELECT id\nFROM t WHERE AND x");
    assert_eq!(kind, Problem::Syntax, "{message}");
    assert!(message.starts_with("t.sql:2:"), "{message}");
    assert!(message.contains("cannot be parsed"), "{message}");

    for sql in [
        "",
        "SELEC id FROM t",
        "SELECT 'open FROM t",
        "SELECT id FROM t; SELECT id FROM t",
        "SELECT (id FROM t",
    ] {
        refused(sql);
    }
}

#[test]
fn types_that_do_not_fit() {
    for sql in ["SELECT name + id AS x FROM t", "SELECT id FROM t WHERE name", "SELECT UPPER(id) AS x FROM t"]
    {
        let (kind, message) = refused(sql);
        assert_eq!(kind, Problem::Types, "{sql}: {message}");
        assert!(message.starts_with("t.sql: "), "{message}");
        assert!(message.lines().count() <= 2, "{message}");
    }
}

#[test]
fn what_polars_does_not_support_is_said_in_words() {
    for (sql, at, words) in [
        ("SELECT id FROM t WHERE EXISTS (SELECT 1)", "t.sql:1:", "expression Exists is not supported"),
        ("SELECT place.tags[1] AS x FROM t", "t.sql:1:14: ", "write ARRAY_GET(place.tags, 1)"),
        ("SELECT (SELECT 1) AS x, id FROM t", "t.sql: ", "CROSS JOIN it"),
    ] {
        let (kind, message) = refused(sql);
        assert_eq!(kind, Problem::Unsupported, "{message}");
        assert!(message.starts_with(at) && message.contains(words), "{message}");
        assert!(!message.contains('{'), "{message}");
    }
    for sql in [
        "SELECT ARRAY_GET(items, 1).sku AS x FROM t",
        "SELECT (ARRAY_GET(items, 1)).sku AS x FROM t",
        "SELECT items[1].sku AS x FROM t",
    ] {
        let (_, message) = refused(sql);
        assert!(message.contains("takes the element first"), "{message}");
        assert!(!message.contains(['{', '"']), "{message}");
    }
    assert!(refused("SELECT id, place['city'] AS x FROM t").1.contains("with a dot"));
    assert!(refused("SELECT id, ARRAY[1, 2] AS x FROM t").1.contains("the same ARRAY[...]"));
}

#[test]
fn a_column_twice() {
    let (kind, message) = refused("SELECT id, small AS id FROM t");
    assert_eq!(kind, Problem::Types, "{message}");
    assert!(message.contains("the name \"id\""), "{message}");
}

#[test]
fn statements_that_are_no_query() {
    for sql in [
        "DROP TABLE t",
        "CREATE TABLE x AS SELECT * FROM t",
        "INSERT INTO t VALUES (1)",
        "SET x = 1",
        "DELETE FROM t",
        "DELETE FROM t WHERE id = 1",
        "TRUNCATE TABLE t",
        "UPDATE t SET id = 1",
        "-- all of it\n(DELETE FROM t)",
        "EXPLAIN DELETE FROM t",
        "EXPLAIN SELECT id FROM t",
        "SHOW TABLES",
        "SHOW COLUMNS FROM t",
    ] {
        let (kind, message) = refused(sql);
        assert_eq!(kind, Problem::Unsupported, "{sql}: {message}");
        assert!(message.contains("is not a query"), "{sql}: {message}");
        assert!(!message.contains(['{', '[']), "{sql}: {message}");
    }
}

#[test]
fn a_batch_with_other_columns() {
    let mut transform = transform("SELECT id FROM t").unwrap();
    let other = records(&["{}"]).project(&[0, 1]).unwrap();
    let error = transform.apply(&other).unwrap_err();
    assert!(matches!(error, Error::Schema(_)) && !error.is_usage());
}

#[test]
fn references_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    for (name, path, usage, words) in [
        ("a", folder.path().join("none.parquet"), true, "no such file"),
        ("a", file("a.xlsx", ""), true, "neither .parquet nor .csv"),
        ("a-b", file("a.csv", "x\n1\n"), true, "letters, digits"),
        ("t", file("a.csv", "x\n1\n"), true, "already has this name"),
        ("a", file("a.parquet", "no parquet"), false, "cannot be read"),
    ] {
        let error =
            Transform::new("t", schema(), "SELECT id FROM t", &[(name.into(), path.clone())]).unwrap_err();
        assert_eq!(error.is_usage(), usage, "{error}");
        let message = error.to_string();
        assert!(message.contains(words) && message.contains(path.to_str().unwrap()), "{message}");
    }
}
