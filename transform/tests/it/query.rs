//! SQL over the tables of a lake.

use std::path::Path;
use std::sync::Arc;

use crate::common::{from_json, problem, to_json, write_parquet};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use puddle_transform::query::{Table, query};
use puddle_transform::{Error, Problem};

fn columns(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(
        fields.iter().map(|(name, dtype)| Field::new(*name, dtype.clone(), true)).collect::<Vec<_>>(),
    ))
}

fn month() -> Fields {
    vec![Field::new("month", DataType::Utf8, false)].into()
}

/// Two months of flights, one unknown month, and a rejected record.
fn lake(root: &Path) -> Vec<Table> {
    let flights = columns(&[("id", DataType::Int64), ("dest", DataType::Utf8)]);
    let write = |path: &str, lines: &str| {
        let path = root.join(path);
        write_parquet(&path, &from_json(flights.clone(), lines));
        path
    };
    let files = vec![
        write("flights/month=2013-01/a.parquet", "{\"id\":1,\"dest\":\"LAX\"}\n{\"id\":2}"),
        write("flights/month=2013-02/b.parquet", "{\"id\":3,\"dest\":\"SFO\"}"),
        write("flights/month=__HIVE_DEFAULT_PARTITION__/c.parquet", "{\"id\":4,\"dest\":\"SFO\"}"),
        write("flights/month=a%2Fb%20c/d.parquet", "{\"id\":5}"),
    ];
    let rejected = vec![write("flights.rejected/e.parquet", "{\"id\":9}")];
    vec![
        Table {
            name: "flights".into(),
            root: root.join("flights"),
            files,
            partitions: month(),
            schema: None,
        },
        Table {
            name: "flights.rejected".into(),
            root: root.join("flights.rejected"),
            files: rejected,
            partitions: Fields::empty(),
            schema: None,
        },
        Table {
            name: "empty".into(),
            root: root.join("empty"),
            files: vec![],
            partitions: month(),
            schema: Some(flights),
        },
    ]
}

fn ask_with(sql: &str, limit: Option<usize>) -> Result<Vec<RecordBatch>, Error> {
    let folder = tempfile::tempdir().unwrap();
    query(sql, &lake(folder.path()), limit)
}

fn ask(sql: &str) -> Vec<String> {
    let batches = ask_with(sql, None).unwrap_or_else(|error| panic!("{sql}: {error}"));
    batches.iter().flat_map(to_json).collect()
}

#[test]
fn rows_come_with_their_partition_columns() {
    assert_eq!(
        ask("SELECT * FROM flights"),
        [
            r#"{"id":1,"dest":"LAX","month":"2013-01"}"#,
            r#"{"id":2,"month":"2013-01"}"#,
            r#"{"id":3,"dest":"SFO","month":"2013-02"}"#,
            r#"{"id":4,"dest":"SFO"}"#,
            r#"{"id":5,"month":"a/b c"}"#,
        ]
    );
}

#[test]
fn filters_columns_and_limits_reach_the_files() {
    assert_eq!(ask("SELECT id FROM flights WHERE dest = 'SFO'"), [r#"{"id":3}"#, r#"{"id":4}"#]);
    assert_eq!(ask("SELECT id FROM flights WHERE month = '2013-02' AND id > 0"), [r#"{"id":3}"#]);
    assert_eq!(ask("SELECT id FROM flights WHERE month IS NULL"), [r#"{"id":4}"#]);
    assert_eq!(
        ask("SELECT id FROM flights WHERE month = '2013-02' OR id = 1"),
        [r#"{"id":1}"#, r#"{"id":3}"#]
    );
    assert_eq!(ask("SELECT id FROM flights WHERE dest = 'SFO' LIMIT 1"), [r#"{"id":3}"#]);
    assert_eq!(ask("SELECT month FROM flights LIMIT 1"), [r#"{"month":"2013-01"}"#]);
    assert_eq!(ask("SELECT id FROM flights LIMIT 2 OFFSET 1"), [r#"{"id":2}"#, r#"{"id":3}"#]);
    assert_eq!(
        ask("SELECT id FROM (SELECT * FROM flights LIMIT 3) AS f WHERE id > 1"),
        [r#"{"id":2}"#, r#"{"id":3}"#]
    );
}

#[test]
fn the_first_rows_of_a_sort_are_found() {
    assert_eq!(ask("SELECT id FROM flights ORDER BY id DESC LIMIT 2"), [r#"{"id":5}"#, r#"{"id":4}"#]);
    assert_eq!(
        ask(
            "SELECT id FROM flights WHERE month < '2013-02' OR month > '2013-01' ORDER BY id LIMIT 1 OFFSET 1"
        ),
        [r#"{"id":2}"#]
    );
    let rows = ask_with("SELECT id FROM flights WHERE dest = 'SFO' ORDER BY month", Some(1)).unwrap();
    assert_eq!(to_json(&rows[0]), [r#"{"id":3}"#]);
}

#[test]
fn partitions_that_cannot_match_are_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let tables = lake(folder.path());
    std::fs::write(&tables[0].files[0], "no parquet").unwrap();
    let rows = query("SELECT id FROM flights WHERE month > '2013-01'", &tables, None).unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);

    let error = query("SELECT id FROM flights", &tables, None).unwrap_err();
    assert!(matches!(&error, Error::File { path, .. } if *path == tables[0].files[0]), "{error}");
    assert!(!error.is_usage());
}

#[test]
fn any_sql_will_do() {
    assert_eq!(ask("SELECT COUNT(*) AS n FROM flights"), [r#"{"n":5}"#]);
    assert_eq!(
        ask("SELECT dest, COUNT(*) AS n FROM flights GROUP BY dest ORDER BY n DESC, dest LIMIT 2"),
        [r#"{"dest":"SFO","n":2}"#, r#"{"n":2}"#]
    );
    assert_eq!(
        ask(
            "SELECT a.id FROM flights AS a JOIN flights AS b ON a.id = b.id + 1 WHERE b.month = '2013-01' ORDER BY a.id"
        ),
        [r#"{"id":2}"#, r#"{"id":3}"#]
    );
    assert_eq!(
        ask("SELECT id, ROW_NUMBER() OVER (ORDER BY id DESC) AS n FROM flights WHERE id = 4"),
        [r#"{"id":4,"n":1}"#]
    );
    assert_eq!(ask("SELECT 1 + 1 AS two"), [r#"{"two":2}"#]);
    assert_eq!(ask("SHOW TABLES").len(), 3);
    assert!(!ask("EXPLAIN SELECT id FROM flights").is_empty());
}

#[test]
fn names_with_a_dot_are_quoted() {
    assert_eq!(ask("SELECT id FROM \"flights.rejected\""), [r#"{"id":9}"#]);
    let (kind, message) = problem(ask_with("SELECT id FROM flights.rejected", None).unwrap_err());
    assert_eq!(kind, Problem::UnknownTable);
    assert!(message.contains("quote it: FROM \"flights.rejected\""), "{message}");
    assert!(ask_with("SELECT id FROM flights.nothing", None).is_err());
}

#[test]
fn tables_without_files_have_their_columns() {
    let rows = ask_with("SELECT * FROM empty", None).unwrap();
    assert_eq!((rows.len(), rows[0].num_rows()), (1, 0));
    let names: Vec<&str> = rows[0].schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["id", "dest", "month"]);
    assert_eq!(ask("SELECT COUNT(*) AS n FROM empty"), [r#"{"n":0}"#]);
}

#[test]
fn files_may_lack_columns_that_came_later() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("t/1.parquet"), folder.path().join("t/2.parquet"));
    write_parquet(&old, &from_json(columns(&[("id", DataType::Int32)]), "{\"id\":1}"));
    write_parquet(
        &new,
        &from_json(columns(&[("id", DataType::Int64), ("x", DataType::Utf8)]), "{\"id\":2,\"x\":\"y\"}"),
    );
    let table = Table {
        name: "t".into(),
        root: folder.path().join("t"),
        files: vec![old, new],
        partitions: Fields::empty(),
        schema: None,
    };
    let rows = query("SELECT * FROM t", &[table], None).unwrap();
    assert_eq!(rows.iter().flat_map(to_json).collect::<Vec<_>>(), [r#"{"id":1}"#, r#"{"id":2,"x":"y"}"#]);
}

#[test]
fn a_limit_bounds_the_rows() {
    let rows = ask_with("SELECT id FROM flights", Some(2)).unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    assert_eq!(ask_with("SELECT id FROM flights", Some(0)).unwrap()[0].num_rows(), 0);
}

#[test]
fn mistakes_are_named() {
    for (sql, kind, words) in [
        ("SELECT * FROM fligths", Problem::UnknownTable, "did you mean \"flights\"?"),
        ("SELECT * FROM xyz", Problem::UnknownTable, "tables: empty, flights, flights.rejected"),
        ("SELECT dst FROM flights", Problem::UnknownColumn, "did you mean \"dest\"?"),
        ("SELECT dest FORM flights", Problem::Syntax, ""),
        ("DROP TABLE flights", Problem::Unsupported, "DROP is not a query"),
        ("DELETE FROM flights", Problem::Unsupported, "is not a query"),
        ("SHOW COLUMNS FROM flights", Problem::Unsupported, "SHOW COLUMNS is not known"),
        ("EXPLAIN DELETE FROM flights", Problem::Unsupported, "DELETE is not a query"),
        ("SELECT COLUMNS('(') FROM flights", Problem::Types, ""),
    ] {
        let error = ask_with(sql, None).expect_err(sql);
        if sql.contains("COLUMNS(") {
            // Polars panics on this; it must be an error like any other.
            assert!(matches!(error, Error::Engine(_)), "{error}");
            continue;
        }
        let (found, message) = problem(error);
        assert_eq!(found, kind, "{sql}: {message}");
        assert!(message.contains(words), "{sql}: {message}");
    }
}
