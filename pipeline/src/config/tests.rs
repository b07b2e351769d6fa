use super::*;

const FLIGHTS: &str = r#"
name = "flights"

[ingest]
topics = ["flights"]
format = "json"

[sink]
kind = "parquet"
table = "flights"

[commit]
every = "2s"
"#;

fn load(text: &str, overrides: &[&str]) -> Result<Pipeline, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(PIPELINE_FILE), text).unwrap();
    let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
    Pipeline::load(folder.path(), &overrides, &[]).map_err(|e| {
        assert!(e.is_usage());
        e.to_string()
    })
}

#[test]
fn defaults_fill_what_is_left_out() {
    let pipeline = load(FLIGHTS, &[]).unwrap();
    assert_eq!(pipeline.commit.every, Duration::from_secs(2));
    assert_eq!(pipeline.commit.rows, DEFAULT_COMMIT_ROWS);
    assert_eq!(pipeline.stream_name(), "flights");
    assert_eq!(pipeline.group(), "puddle-flights");
    assert!(pipeline.sql.is_none());
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest() {
    let error = load(&FLIGHTS.replace("every", "evry"), &[]).unwrap_err();
    assert!(error.contains("pipeline.toml, line 13"), "{error}");
    assert!(error.contains("did you mean `every`?"), "{error}");
}

#[test]
fn an_override_wins_and_a_wrong_one_is_named() {
    let pipeline = load(FLIGHTS, &["commit.rows=7", "sink.table=other"]).unwrap();
    assert_eq!(pipeline.commit.rows, 7);
    assert_eq!(pipeline.sink.table, "other");
    let error = load(FLIGHTS, &["commit.rowz=7"]).unwrap_err();
    assert!(error.contains("--set commit.rowz=7") && error.contains("did you mean `rows`?"), "{error}");
}

/// Fault matrix 47. What a panic's message or a log line would print.
#[test]
fn the_debug_form_of_a_pipeline_shows_no_secret() {
    let secret = "[ingest.client]\n\"sasl.password\" = \"${PATH}\"";
    let pipeline = load(&format!("{FLIGHTS}\n{secret}"), &[]).unwrap();
    let debug = format!("{pipeline:?}");
    assert!(debug.contains("sasl.password") && !debug.contains(&std::env::var("PATH").unwrap()), "{debug}");
}

/// Fault matrix 47.
#[test]
fn what_came_from_the_environment_is_never_shown() {
    // PATH is set everywhere, so it stands in for a secret.
    let error = load(FLIGHTS, &["commit.every=${PATH}"]).unwrap_err();
    assert!(!error.contains(&std::env::var("PATH").unwrap()), "{error}");
}

/// Fault matrix 47.
#[test]
fn an_override_that_holds_a_secret_is_never_shown() {
    for (wrong, other) in [
        ("ingest.client.\"sasl.password=hunter2", "commit.rowz=7"),
        ("ingest.client.\"sasl.password\"=hunter2", "commit.rowz=7"),
        ("ingest.client=hunter2", "commit.rows=7"),
        ("ingest.registry.password=hunter2", "commit.rowz=7"),
        ("ingest.registry=hunter2", "commit.rows=7"),
        ("ingest={client={\"sasl.password\"=hunter2}", "commit.rows=7"),
    ] {
        let error = load(FLIGHTS, &[wrong, other]).unwrap_err();
        assert!(!error.contains("hunter2") && error.contains("--set ingest"), "{error}");
    }
}

#[test]
fn a_missing_reference_names_where_it_was_looked_for() {
    let error =
        load(&format!("{FLIGHTS}\n[reference.airlines]\npath = \"no/such.parquet\""), &[]).unwrap_err();
    assert!(error.contains("[reference.airlines]") && error.contains("no such file"), "{error}");
}

#[test]
fn a_name_that_could_leave_the_lake_is_refused() {
    let error = load(&FLIGHTS.replace("name = \"flights\"", "name = \"../x\""), &[]).unwrap_err();
    assert!(error.contains("name = \"../x\""), "{error}");
}
