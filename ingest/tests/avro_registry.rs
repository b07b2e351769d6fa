//! Avro records by the schemas of a registry: which are read, which are rejected, and when nothing can be said.

#[path = "support/avro.rs"]
mod avro;

use avro::{Bytes, config, of_one, raw, reasons, record, rows};
use puddle_ingest::IngestConfig;
use puddle_ingest::format::Decoder;
use puddle_ingest::schema::SchemaDecl;
use puddle_testkit::SchemaRegistry;
use puddle_testkit::registry::Fault;
use serde_json::json;

fn config_of(registry: &SchemaRegistry) -> IngestConfig {
    config(&format!("registry = {{ url = '{}' }}", registry.url()))
}

fn decoder(registry: &SchemaRegistry, declared: &str) -> Decoder {
    let schema: SchemaDecl = toml::from_str(declared).unwrap();
    Decoder::new(&config_of(registry), &schema).unwrap()
}

/// A record in the wire format.
fn framed(id: u32, bytes: Bytes) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), &bytes.0].concat()
}

#[test]
fn each_record_is_read_by_its_own_schema_and_each_schema_asked_for_once() {
    let registry = SchemaRegistry::start();
    let old = registry.register("t-value", &of_one("\"int\""));
    let new =
        registry.register("t-value", &record(r#"{"name":"g","type":"string"},{"name":"f","type":"long"}"#));
    let mut decoder = decoder(&registry, "f = 'int64'\ng = 'string'");
    let values = [
        framed(old, Bytes::new().long(1)),
        framed(new, Bytes::new().text("x").long(2)),
        framed(old, Bytes::new().long(3)),
    ];
    for _ in 0..2 {
        let batch = decoder.decode(&raw(&values)).unwrap();
        assert_eq!(rows(&batch.rows), [json!({"f": 1}), json!({"f": 2, "g": "x"}), json!({"f": 3})]);
    }
    assert_eq!(
        registry.requests(),
        ["/subjects/t-value/versions/latest".to_owned(), format!("/schemas/ids/{old}")]
    );
    assert_eq!(decoder.unknown_fields().count, 0);
}

#[test]
fn what_the_registry_does_not_know_is_rejected_and_so_is_another_format() {
    let registry = SchemaRegistry::start();
    let id = registry.register("t-value", &of_one("\"int\""));
    let text = registry.register("t-value", "\"string\"");
    let mut decoder = decoder(&registry, "f = 'int64'");
    let values: [Vec<u8>; 7] = [
        framed(77, Bytes::new().long(1)),
        b"{\"f\":1}".to_vec(),
        vec![0, 0, 0],
        vec![],
        framed(text, Bytes::new().text("x")),
        framed(id, Bytes::new().long(5)),
        framed(77, Bytes::new()),
    ];
    let batch = decoder.decode(&raw(&values)).unwrap();
    assert_eq!(rows(&batch.rows), [json!({"f": 5})]);
    let expected = [
        "schema id 77 is not in the registry",
        "not in the registry's wire format: begins with 0x7b, not 0x00",
        "not in the registry's wire format: shorter than a schema id",
        "empty value",
        "its schema is one of string, not of records",
        "schema id 77 is not in the registry",
    ];
    assert_eq!(reasons(&batch), expected);
    let asked = registry.requests().iter().filter(|path| path.ends_with("/77")).count();
    assert_eq!(asked, 1);
}

#[test]
fn a_registry_that_fails_rejects_nothing() {
    let registry = SchemaRegistry::start();
    let id = registry.register("other", &of_one("\"int\""));
    let mut decoder = decoder(&registry, "f = 'int64'");
    let batch = raw(&[framed(id, Bytes::new().long(5))]);
    registry.fail(Fault::Status(404), 1);
    let error = decoder.decode(&batch).unwrap_err();
    assert!(!error.is_usage() && error.to_string().contains(&registry.url()), "{error}");
    let batch = decoder.decode(&batch).unwrap();
    assert_eq!((rows(&batch.rows), batch.rejected.num_rows()), (vec![json!({"f": 5})], 0));
}

#[test]
fn producers_tell_the_schema() {
    let registry = SchemaRegistry::start();
    assert_eq!(config_of(&registry).producers_schema().unwrap(), None);
    registry.register(
        "t-value",
        &record(
            r#"{"name":"i","type":"int"},{"name":"l","type":["null","long"]},{"name":"_offset","type":"int"},
               {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
               {"name":"d","type":{"type":"bytes","logicalType":"decimal","scale":2}},
               {"name":"m","type":{"type":"map","values":"int"}},{"name":"u","type":["int","string"]},
               {"name":"b","type":"bytes"},{"name":"e","type":{"type":"enum","name":"E","symbols":["A"]}},
               {"name":"s","type":{"type":"array","items":{"type":"record","name":"S","fields":[
                   {"name":"x","type":"float"},{"name":"again","type":["null","S"]}]}}}"#,
        ),
    );
    let found = config_of(&registry).producers_schema().unwrap().unwrap();
    let expected = json!({
        "i": "int32", "l": "int64", "at": "timestamp", "d": "string", "m": "json", "u": "json", "b": "binary",
        "e": "string", "s": [{ "x": "float64", "again": "json" }],
    });
    assert_eq!(serde_json::to_value(&found).unwrap(), expected);
}

#[test]
fn several_topics_share_their_fields_or_are_refused() {
    let registry = SchemaRegistry::start();
    registry.register("t-value", &record(r#"{"name":"a","type":"int"}"#));
    registry.register("u-value", &record(r#"{"name":"b","type":"string"},{"name":"a","type":"int"}"#));
    let mut config = config_of(&registry);
    config.topics.push("u".to_owned());
    let found = config.producers_schema().unwrap().unwrap();
    assert_eq!(serde_json::to_value(&found).unwrap(), json!({ "a": "int32", "b": "string" }));
    registry.register("u-value", &record(r#"{"name":"a","type":"string"}"#));
    let error = config.producers_schema().unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("`a`"), "{error}");
}

/// A type that stands in itself many times over takes no more than a schema may.
#[test]
fn a_schema_of_endless_fields_is_refused() {
    let mut text = r#"{"type":"record","name":"R0","fields":[{"name":"x","type":"int"}]}"#.to_owned();
    for level in 1..30 {
        text = format!(
            r#"{{"type":"record","name":"R{level}","fields":[{{"name":"a","type":{text}}},{{"name":"b","type":"R{}"}}]}}"#,
            level - 1
        );
    }
    let registry = SchemaRegistry::start();
    registry.register("t-value", &text);
    let error = config_of(&registry).producers_schema().unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("4096 fields"), "{error}");
}

#[test]
fn where_schemas_are_must_be_said_once_and_without_a_secret() {
    for (text, expected) in [
        ("", "[ingest.registry] url ="),
        ("registry = { url = 'http://a' }\navro = { schema = 'b' }", "[ingest.registry] url ="),
        ("registry = { url = '127.0.0.1:8081' }", "is no URL"),
        ("registry = { url = 'ftp://a' }", "http:// or https://"),
        ("registry = { url = 'http://me:hunter2@a' }", "as `user` and `password`"),
        ("registry = { url = 'http://a', user = 'me', password = 'hunter2' }", "https://"),
    ] {
        let error = config(text).validate().unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(expected), "{text}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    config("allow_insecure = true\nregistry = { url = 'http://a', password = 'x' }").validate().unwrap();
    config("registry = { url = 'https://a', password = 'x' }").validate().unwrap();
    let json: IngestConfig = toml::from_str("topics = ['t']\nregistry = { url = 'http://a' }").unwrap();
    assert!(json.validate().unwrap_err().to_string().contains("for format = \"avro\""));
}
