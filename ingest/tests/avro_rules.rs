//! What of Avro fits which declaration, and what hostile bytes do.

#[path = "support/avro.rs"]
mod avro;

use avro::{Bytes, decode, decode_with, of_one, reasons, record, rows};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

/// What becomes of one value of this Avro type in a field declared so: the value, or the reason.
fn value(kind: &str, declared: &str, bytes: Bytes) -> Result<Value, String> {
    let batch = decode(&of_one(kind), &format!("f = {declared}"), &[bytes.0]).unwrap();
    match &rows(&batch.rows)[..] {
        [row] => Ok(row.get("f").cloned().unwrap_or_default()),
        _ => Err(reasons(&batch).remove(0)),
    }
}

#[test]
fn a_type_fills_the_columns_that_it_fits() {
    let new = Bytes::new;
    let millis = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
    let micros = r#"{"type":"long","logicalType":"timestamp-micros"}"#;
    let nanos = r#"{"type":"long","logicalType":"timestamp-nanos"}"#;
    let date = r#"{"type":"int","logicalType":"date"}"#;
    let color = r#"{"type":"enum","name":"C","symbols":["RED","GREEN"]}"#;
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":6,"scale":2}"#;
    let time = "2013-01-01T00:00:00.123";
    for (kind, declared, bytes, expected) in [
        (r#""boolean""#, "'bool'", new().raw(&[1]), json!(true)),
        (r#""int""#, "'int32'", new().long(-5), json!(-5)),
        (r#""int""#, "'int64'", new().long(5), json!(5)),
        (r#""int""#, "'float64'", new().long(5), json!(5.0)),
        (r#""long""#, "'int64'", new().long(i64::MIN), json!(i64::MIN)),
        (r#""long""#, "'int32'", new().long(7), json!(7)),
        (r#""long""#, "'float64'", new().long(1 << 60), json!((1_u64 << 60) as f64)),
        (r#""float""#, "'float64'", new().raw(&1.5_f32.to_le_bytes()), json!(1.5)),
        (r#""double""#, "'float64'", new().double(-0.1), json!(-0.1)),
        (r#""string""#, "'string'", new().text("é"), json!("é")),
        (r#""string""#, "'date'", new().text("2013-01-01"), json!("2013-01-01")),
        (
            r#""string""#,
            "'timestamp'",
            new().text("2013-01-01T01:00:00.123+01:00"),
            json!(format!("{time}Z")),
        ),
        (millis, "'timestamp'", new().long(1_356_998_400_123), json!(format!("{time}Z"))),
        (r#""long""#, "'timestamp'", new().long(1_356_998_400_123), json!(format!("{time}Z"))),
        (micros, "'timestamp'", new().long(1_356_998_400_123_456), json!(format!("{time}456Z"))),
        (nanos, "'timestamp'", new().long(1_356_998_400_123_456_789), json!(format!("{time}456Z"))),
        (date, "'date'", new().long(15_706), json!("2013-01-01")),
        (color, "'string'", new().long(1), json!("GREEN")),
        (r#""bytes""#, "'binary'", new().text([0, 255]), json!("00ff")),
        (r#"{"type":"fixed","name":"F","size":2}"#, "'binary'", new().raw(&[1, 2]), json!("0102")),
        (decimal, "'string'", new().text([0xff, 0x85]), json!("-1.23")),
        (decimal, "'string'", new().text([5]), json!("0.05")),
        (decimal, "'string'", new().text([]), json!("0.00")),
        (decimal, "'float64'", new().text([0x30, 0x39]), json!(123.45)),
        (r#"["null","long"]"#, "'int64'", new().long(1).long(4), json!(4)),
        (r#"["null","long"]"#, "'int64'", new().long(0), json!(null)),
        (r#"["long","null"]"#, "'int64'", new().long(1), json!(null)),
        (r#"["long","string","null"]"#, "'int64'", new().long(0).long(3), json!(3)),
        (r#"["int","long","double"]"#, "'float64'", new().long(2).double(0.5), json!(0.5)),
        (r#""null""#, "'int64'", new(), json!(null)),
        (
            r#"{"type":"array","items":"int"}"#,
            "['int32']",
            new().long(2).long(1).long(2).long(0),
            json!([1, 2]),
        ),
        (
            r#"{"type":"array","items":"int"}"#,
            "['int32']",
            new().long(-1).long(1).long(7).long(1).long(8).long(0),
            json!([7, 8]),
        ),
    ] {
        assert_eq!(value(kind, declared, bytes), Ok(expected), "{kind} as {declared}");
    }
}

#[test]
fn anything_becomes_json() {
    let new = Bytes::new;
    let node = r#"{"type":"record","name":"N","fields":[{"name":"v","type":"int"},{"name":"next","type":["null","N"]}]}"#;
    for (kind, bytes, expected) in [
        (r#""string""#, new().text("a\"\n"), r#""a\"\n""#),
        (r#"["null","int"]"#, new().long(1).long(3), "3"),
        (r#""double""#, new().double(0.5), "0.5"),
        (r#""double""#, new().double(f64::INFINITY), r#""inf""#),
        (r#""float""#, new().raw(&0.1_f32.to_le_bytes()), "0.1"),
        (r#""bytes""#, new().text([b'a', 0xe9]), r#""aé""#),
        (
            r#"{"type":"long","logicalType":"timestamp-micros"}"#,
            new().long(1_500_000),
            r#""1970-01-01T00:00:01.500Z""#,
        ),
        (r#"{"type":"int","logicalType":"date"}"#, new().long(-1), r#""1969-12-31""#),
        (
            r#"{"type":"map","values":"int"}"#,
            new().long(2).text("a").long(1).text("b").long(2).long(0),
            r#"{"a":1,"b":2}"#,
        ),
        (
            r#"{"type":"array","items":["null","boolean"]}"#,
            new().long(2).long(0).long(1).raw(&[0]).long(0),
            "[null,false]",
        ),
        (node, new().long(1).long(1).long(2).long(0), r#"{"v":1,"next":{"v":2,"next":null}}"#),
    ] {
        assert_eq!(value(kind, "'json'", bytes), Ok(json!(expected)), "{kind}");
    }
    assert_eq!(value(r#"["null","int"]"#, "'json'", new().long(0)), Ok(Value::Null));
}

#[test]
fn what_does_not_fit_is_rejected_by_the_name_of_its_field() {
    let new = Bytes::new;
    let nested = r#"{"type":"array","items":{"type":"record","name":"N","fields":[{"name":"a","type":["int","string"]}]}}"#;
    for (kind, declared, bytes, expected) in [
        (r#""long""#, "'int32'", new().long(1 << 31), "field `f`: expected int32, found integer 2147483648"),
        (r#""string""#, "'int64'", new().text("5"), "field `f`: expected int64, found string"),
        (
            r#""string""#,
            "'date'",
            new().text("5"),
            "field `f`: expected date (YYYY-MM-DD), found string \"5\"",
        ),
        (
            r#"["null","long"]"#,
            "'int64 not null'",
            new().long(0),
            "field `f`: expected int64 not null, found null",
        ),
        (r#"["null","long"]"#, "'string'", new().long(1).long(4), "field `f`: expected string, found long"),
        (r#"["null","long"]"#, "'int64'", new().long(2), "field `f`: a union or an enum has no such branch"),
        (
            r#"{"type":"long","logicalType":"timestamp-micros"}"#,
            "'timestamp'",
            new().long(i64::MAX),
            "field `f`: expected timestamp",
        ),
        (
            r#"{"type":"int","logicalType":"date"}"#,
            "'date'",
            new().long(i32::MAX.into()),
            "field `f`: expected date",
        ),
        (
            r#"{"type":"int","logicalType":"date"}"#,
            "'int32'",
            new().long(1),
            "field `f`: expected int32, found date",
        ),
        (
            nested,
            "[{ a = 'int64' }]",
            new().long(2).long(0).long(1).long(1).text("x").long(0),
            "field `f[1].a`: expected int64, found string",
        ),
        (r#""int""#, "'int64'", new().long(1 << 40), "field `f`: an int of more than 32 bits"),
        (r#""boolean""#, "'bool'", new().raw(&[2]), "field `f`: a boolean that is neither 0 nor 1"),
        (r#""string""#, "'string'", new().text([0xff]), "field `f`: a string that is not UTF-8"),
        (r#""string""#, "'string'", new().long(5).raw(b"abc"), "field `f`: the record ends within a value"),
        (r#""long""#, "'int64'", new().long(1).long(1), "1 bytes are left behind the record"),
        (
            r#"{"type":"bytes","logicalType":"decimal","scale":0}"#,
            "'string'",
            new().text([1; 17]),
            "field `f`: a decimal of more than 16 bytes",
        ),
    ] {
        let reason = value(kind, declared, bytes).unwrap_err();
        assert!(reason.starts_with(expected), "{kind} as {declared}: {reason}");
    }
}

#[test]
fn fields_meet_by_name_and_then_by_an_earlier_one() {
    let written = record(
        r#"{"name":"more","type":"string"},{"name":"b","type":"int"},{"name":"renamed","type":"int","aliases":["a"]},
           {"name":"c","type":"int","aliases":["b"]}"#,
    );
    let bytes = Bytes::new().text("x").long(2).long(1).long(3).0;
    let batch = decode(&written, "a = 'int64'\nb = 'int64'\nnew = 'string'", &[&bytes]).unwrap();
    assert_eq!(rows(&batch.rows), [json!({ "a": 1, "b": 2 })]);
    let batch = decode(&written, "a = 'int64'\nnew = 'string not null'", &[&bytes]).unwrap();
    assert_eq!(reasons(&batch), ["field `new`: missing, expected string not null"]);
    let batch =
        decode_with("unknown_fields = 'reject'", &written, "a = 'int64'\nb = 'int64'", &[&bytes]).unwrap();
    assert_eq!(reasons(&batch), ["field `more`: unknown field, and unknown fields are rejected"]);
}

#[test]
fn a_rejected_record_leaves_nothing_behind() {
    let written = record(
        r#"{"name":"l","type":{"type":"array","items":"int"}},{"name":"s","type":"string"},{"name":"n","type":["null","int"]}"#,
    );
    let good = |n: i64| Bytes::new().long(1).long(n).long(0).text("x").long(1).long(n).0;
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() - 1].to_vec();
    let batch =
        decode(&written, "l = ['int32']\ns = 'string'\nn = 'int32'", &[good(1), cut(good(2)), good(3)]);
    let batch = batch.unwrap();
    let row = |n: i64| json!({ "l": [n], "s": "x", "n": n });
    assert_eq!(rows(&batch.rows), [row(1), row(3)]);
    assert_eq!(reasons(&batch).len(), 1);
}

#[test]
fn a_schema_that_is_none_is_refused_before_a_record_is_read() {
    for (text, expected) in [("{", "not a schema"), (r#""nope""#, "no type is called")] {
        let error = decode(text, "f = 'int64'", &[[0]]).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(expected), "{error}");
    }
    let batch = decode(r#""string""#, "f = 'int64'", &[[0]]).unwrap();
    assert!(reasons(&batch)[0].contains("not of records"), "{:?}", reasons(&batch));
}

/// What a few bytes may claim, against a reader that believes them.
#[test]
fn counts_and_lengths_are_not_believed() {
    let new = Bytes::new;
    let nulls = r#"{"type":"array","items":"null"}"#;
    let empty = r#"{"type":"array","items":{"type":"record","name":"E","fields":[]}}"#;
    let node = r#"{"type":"record","name":"N","fields":[{"name":"next","type":["null","N"]}]}"#;
    let itself = r#"{"type":"record","name":"N","fields":[{"name":"next","type":"N"}]}"#;
    let long = format!(r#"{{"type":"enum","name":"C","symbols":["{}"]}}"#, "x".repeat(1 << 20));
    let many = format!(r#"{{"type":"array","items":{long}}}"#);
    let chain = new().raw(&vec![2; 100_000]).0;
    let symbols = new().long(1000).raw(&[0; 1000]).long(0);
    for (kind, declared, bytes) in [
        (r#""string""#, "'string'", new().long(i64::MAX)),
        (r#""string""#, "'string'", new().long(i64::MIN)),
        (r#""bytes""#, "'binary'", new().long(-1)),
        (r#"{"type":"array","items":"int"}"#, "['int32']", new().long(i64::MAX).long(0)),
        (r#"{"type":"array","items":"int"}"#, "['int32']", new().long(i64::MIN).long(-1).long(0)),
        (nulls, "['int32']", new().long(i64::MAX).long(0)),
        (nulls, "['int32']", new().long(i64::MIN).long(8).long(0)),
        (nulls, "'json'", new().long(i64::MAX).long(0)),
        (empty, "[{ a = 'int64', b = ['string'] }]", new().long(i64::MAX).long(0)),
        (empty, "'json'", new().long(i64::MAX).long(0)),
        (node, "'json'", Bytes(chain.clone())),
        (itself, "'json'", new()),
        (&many, "['string']", symbols.clone()),
        (&many, "'json'", symbols),
        (r#"{"type":"fixed","name":"F","size":9000000000000000000}"#, "'binary'", new()),
    ] {
        value(kind, declared, bytes.clone()).unwrap_err();
        // The same where it is skipped.
        let written = record(&format!(r#"{{"name":"g","type":{kind}}}"#));
        let skipped = decode(&written, "f = 'int64'", &[&bytes.0]).unwrap();
        assert!(skipped.rows.num_rows() + skipped.rejected.num_rows() == 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, rng_seed: RngSeed::Fixed(2013), failure_persistence: None, ..Default::default() })]

    /// Any bytes become a row or a rejected row, of a schema with a bit of everything.
    #[test]
    fn any_bytes_are_a_row_or_rejected(values in prop::collection::vec(prop::collection::vec(0_u8..12, 0..40), 1..4)) {
        let written = record(r#"
            {"name":"skipped","type":{"type":"map","values":["null","string",{"type":"array","items":"R"}]}},
            {"name":"list","type":{"type":"array","items":["null","R"]}},
            {"name":"text","type":["null","string"]},
            {"name":"any","type":["null","R",{"type":"array","items":"null"}]},
            {"name":"n","type":["int","null","double"]}"#);
        let declared = "list = [{ text = 'string', n = 'float64', absent = 'int64' }]\ntext = 'string'\nany = 'json'\nn = 'float64'";
        let batch = decode(&written, declared, &values).unwrap();
        prop_assert_eq!(batch.records(), values.len());
    }
}
