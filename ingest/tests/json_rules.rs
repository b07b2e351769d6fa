//! Each rule of the JSON decoder, one by one: what fits, what is rejected, and in which words.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType};
use arrow::json::WriterBuilder;
use arrow::json::writer::JsonArray;
use puddle_ingest::UnknownFields;
use puddle_ingest::json::{Decoder, MAX_FILLED};
use puddle_ingest::raw::{RawBatch, fingerprint};
use puddle_types::{Batch, TopicPartition, metadata};
use serde_json::{Value, json};

fn decoder(schema: Value, unknown: UnknownFields) -> Decoder {
    Decoder::new(&serde_json::from_value(schema).unwrap(), unknown)
}

fn raw(values: &[&[u8]]) -> RawBatch {
    let mut raw = RawBatch::new(TopicPartition::new("t", 3), 7, 100);
    for (offset, value) in (100..).zip(values) {
        raw.push(offset, Some(1_000 + offset), None, Some(value));
    }
    raw
}

fn decode(schema: Value, values: &[&str]) -> Batch {
    let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
    decoder(schema, UnknownFields::Ignore).decode(&raw(&values))
}

/// The payload columns of all rows, as JSON.
fn rows(batch: &Batch) -> Value {
    let payload: Vec<usize> = (0..batch.rows.num_columns() - metadata::fields().len()).collect();
    let mut text = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(&mut text);
    writer.write(&batch.rows.project(&payload).unwrap()).unwrap();
    writer.finish().unwrap();
    if text.is_empty() { json!([]) } else { serde_json::from_slice(&text).unwrap() }
}

fn reasons(batch: &Batch) -> Vec<String> {
    let reasons = batch.rejected.column_by_name(metadata::REASON).unwrap();
    reasons.as_string::<i32>().iter().map(|reason| reason.unwrap().to_owned()).collect()
}

/// Decodes one value for a field `f` of this type: what the column holds, or why the record was rejected.
fn one(kind: &str, value: &str) -> Result<Value, String> {
    let batch = decode(json!({ "f": kind }), &[&format!("{{\"f\":{value}}}")]);
    assert_eq!(batch.records(), 1);
    match reasons(&batch).pop() {
        Some(reason) => Err(reason),
        None => Ok(rows(&batch)[0]["f"].clone()),
    }
}

fn rejected(kind: &str, value: &str, reason: &str) {
    assert_eq!(one(kind, value), Err(reason.to_owned()), "{kind} {value}");
}

fn accepted(kind: &str, value: &str, column: Value) {
    assert_eq!(one(kind, value), Ok(column), "{kind} {value}");
}

#[test]
fn integers_have_no_fraction_and_stay_in_range() {
    accepted("int64", "9223372036854775807", json!(i64::MAX));
    accepted("int64", "-9223372036854775808", json!(i64::MIN));
    accepted("int32", "-2147483648", json!(i32::MIN));
    accepted("int64", "-0", json!(0));
    rejected("int64", "9223372036854775808", "field `f`: expected int64, found integer 9223372036854775808");
    rejected(
        "int64",
        "-9223372036854775809",
        "field `f`: expected int64, found number -9.223372036854776e18",
    );
    rejected("int32", "2147483648", "field `f`: expected int32, found integer 2147483648");
    rejected("int64", "1.0", "field `f`: expected int64, found number 1.0");
    rejected("int64", "1e0", "field `f`: expected int64, found number 1.0");
    rejected("int64", "\"1\"", "field `f`: expected int64, found string \"1\"");
    rejected("int32", "true", "field `f`: expected int32, found boolean true");
    rejected("int64", "[1]", "field `f`: expected int64, found array");
    rejected("int64", "{\"f\":1}", "field `f`: expected int64, found object");
}

#[test]
fn floats_take_any_number_and_the_nearest_double_to_it() {
    // Read from the column itself: the last three are off by one bit in readers that round twice, serde_json among them.
    let texts = [
        "1",
        "-1.5e3",
        "-0",
        "5e-324",
        "103.79940792808947",
        "-125.11618471525969",
        "123456789.12345679e-30",
    ];
    let records = texts.map(|text| format!("{{\"f\":{text}}}"));
    let batch = decode(json!({ "f": "float64" }), &records.each_ref().map(String::as_str));
    let bits: Vec<u64> =
        batch.rows.column(0).as_primitive::<Float64Type>().values().iter().map(|f| f.to_bits()).collect();
    assert_eq!(bits, texts.map(|text| text.parse::<f64>().unwrap().to_bits()));
    rejected("float64", "1e400", "field `f`: expected float64, found number 1e400");
    rejected("float64", "\"1.5\"", "field `f`: expected float64, found string \"1.5\"");
    rejected("float64", "\"NaN\"", "field `f`: expected float64, found string \"NaN\"");
    rejected("float64", "false", "field `f`: expected float64, found boolean false");
    rejected("float64", "[]", "field `f`: expected float64, found array");
    rejected("float64", "{}", "field `f`: expected float64, found object");
}

#[test]
fn strings_and_booleans_are_themselves_only() {
    accepted("string", r#""\u00e9\n\ud83d\ude00\u0000""#, json!("é\n😀\0"));
    accepted("string", "\"\"", json!(""));
    rejected("string", "5", "field `f`: expected string, found integer 5");
    accepted("bool", "true", json!(true));
    rejected("bool", "0", "field `f`: expected bool, found integer 0");
    rejected("bool", "\"true\"", "field `f`: expected bool, found string \"true\"");
}

#[test]
fn timestamps_are_rfc_3339_or_milliseconds() {
    accepted("timestamp", "\"2013-01-01T05:15:00.25Z\"", json!("2013-01-01T05:15:00.250Z"));
    accepted("timestamp", "\"2013-01-01T05:15:00+05:15\"", json!("2013-01-01T00:00:00Z"));
    accepted("timestamp", "1357017300123", json!("2013-01-01T05:15:00.123Z"));
    accepted("timestamp", "-1", json!("1969-12-31T23:59:59.999Z"));
    let expected = "field `f`: expected timestamp (RFC 3339, or integer milliseconds since 1970), found ";
    rejected("timestamp", "\"2013-01-01 05:15\"", &format!("{expected}string \"2013-01-01 05:15\""));
    rejected("timestamp", "\"2013-01-01T05:15:00\"", &format!("{expected}string \"2013-01-01T05:15:00\""));
    rejected("timestamp", "9223372036854775807", &format!("{expected}integer 9223372036854775807"));
    rejected("timestamp", "1357017300.5", &format!("{expected}number 1357017300.5"));
}

#[test]
fn dates_are_year_month_day() {
    accepted("date", "\"2013-02-28\"", json!("2013-02-28"));
    rejected("date", "\"2013-02-29\"", "field `f`: expected date (YYYY-MM-DD), found string \"2013-02-29\"");
    rejected("date", "15706", "field `f`: expected date (YYYY-MM-DD), found integer 15706");
}

#[test]
fn json_keeps_the_text_as_it_stands() {
    for text in ["[1, 2.50,  \"\\u0041\"]", "{\"a\":1,\"a\":2}", "1e400", "\"x\"", "false", "[]"] {
        accepted("json", &format!("  {text} "), json!(text));
    }
    accepted("json", "null", json!(null));
    rejected("json not null", "null", "field `f`: expected json not null, found null");
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    accepted("json", &nested(127), json!(nested(127)));
    rejected("json", &nested(128), "field `f`: expected json, found more than 127 levels of nesting");
    assert!(serde_json::from_str::<Value>(&nested(127)).is_ok());
    assert!(serde_json::from_str::<Value>(&nested(128)).is_err());
}

#[test]
fn missing_is_null_unless_not_null() {
    let kinds = ["bool", "int32", "int64", "float64", "string", "timestamp", "date", "json"];
    for kind in kinds {
        accepted(kind, "null", json!(null));
        let expected = one(&format!("{kind} not null"), "null").unwrap_err();
        assert!(expected.contains(kind) && expected.ends_with("not null, found null"), "{expected}");
        let batch = decode(json!({ "f": format!("{kind} not null") }), &["{}", "{\"g\":1}"]);
        assert_eq!(rows(&batch), json!([]));
        assert!(
            reasons(&batch).iter().all(|r| r.starts_with(&format!("field `f`: missing, expected {kind}")))
        );
    }
    let nested = json!({ "s": { "n": "int64" }, "l": ["int64"] });
    let batch = decode(nested, &["{}", "{\"s\":null,\"l\":null}", "{\"s\":{},\"l\":[]}"]);
    let nothing = json!({ "s": null, "l": null });
    assert_eq!(rows(&batch), json!([nothing, nothing, { "s": { "n": null }, "l": [] }]));
}

#[test]
fn not_null_within_a_null_object_is_no_fault() {
    let schema =
        json!({ "s": { "n": "int64 not null", "t": "string not null" }, "l": [{ "n": "bool not null" }] });
    let batch = decode(schema, &["{}", r#"{"s":{"n":1,"t":"a"},"l":[null,{"n":true}]}"#, r#"{"l":[{}]}"#]);
    assert_eq!(
        rows(&batch),
        json!([{ "s": null, "l": null }, { "s": { "n": 1, "t": "a" }, "l": [null, { "n": true }] }])
    );
    assert_eq!(reasons(&batch), ["field `l[0].n`: missing, expected bool not null"]);
}

#[test]
fn nulls_in_lists_are_bounded() {
    let wide: serde_json::Map<_, _> = (0..1000).map(|n| (format!("f{n}"), json!("bool"))).collect();
    let schema = json!({ "l": [wide], "n": "int64" });
    let list =
        |objects: usize, object: &str| format!("{{\"l\":[{}],\"n\":1}}", vec![object; objects].join(","));
    let fits = MAX_FILLED / 1001;
    let many = [list(fits, "null"), list(fits + 1, "null"), list(MAX_FILLED / 1000 + 1, "{}"), list(1, "{}")];
    let batch = decode(schema, &many.each_ref().map(String::as_str));
    let column = batch.rows.column(0).as_list::<i32>();
    assert_eq!((column.value_length(0) as usize, column.value_length(1)), (fits, 1));
    let end = "the record's lists lack too many values to fill them all with nulls";
    let (null, object) = (format!("field `l[{fits}]`: {end}"), format!("field `l[{}].f", MAX_FILLED / 1000));
    let reasons = reasons(&batch);
    assert_eq!((batch.rows.num_rows(), reasons.len()), (2, 2));
    assert_eq!(reasons[0], null);
    assert!(reasons[1].starts_with(&object) && reasons[1].ends_with(end), "{}", reasons[1]);
}

#[test]
fn reasons_name_the_whole_path() {
    let schema = json!({ "a": { "b": [{ "c": "int64", "d": [["string not null"]] }] } });
    let batch = decode(
        schema,
        &[
            r#"{"a":{"b":[{"c":1},{"c":2},{"c":"x"}]}}"#,
            r#"{"a":{"b":[{"d":[[],["x",null]]}]}}"#,
            r#"{"a":{"b":{"c":1}}}"#,
            r#"{"a":[]}"#,
            r#"{"a":{"b":[{"c":1,"c":1}]}}"#,
        ],
    );
    assert_eq!(
        reasons(&batch),
        [
            "field `a.b[2].c`: expected int64, found string \"x\"",
            "field `a.b[0].d[1][1]`: expected string not null, found null",
            "field `a.b`: expected array, found object",
            "field `a`: expected object, found array",
            "field `a.b[0].c`: appears twice in one object",
        ]
    );
}

#[test]
fn duplicates_are_rejected_where_they_are_declared() {
    let batch = decode(
        json!({ "f": "int64", "g": "int64" }),
        &[r#"{"f":1,"g":2,"f":1}"#, r#"{"f":null,"f":1}"#, r#"{"x":1,"x":2,"f":3}"#, r#"{"f":4,"\u0066":5}"#],
    );
    assert_eq!(rows(&batch), json!([{ "f": 3, "g": null }]));
    assert_eq!(reasons(&batch), ["field `f`: appears twice in one object"; 3]);
}

#[test]
fn what_is_not_one_json_object_is_rejected() {
    let cases: [(&[u8], &str); 16] = [
        (b"", "empty value"),
        (b"  ", "not JSON: EOF while parsing a value at line 1 column 2"),
        (b"{\"f\":1", "not JSON: EOF while parsing an object at line 1 column 6"),
        (b"{\"f\":01}", "not JSON: invalid number at line 1 column 7"),
        (b"{\"f\":1,}", "not JSON: trailing comma at line 1 column 8"),
        (b"{\"f\":NaN}", "not JSON: expected value at line 1 column 6"),
        (b"{\"f\":1} x", "not JSON: trailing characters at line 1 column 9"),
        (b"{\"f\":1}{\"f\":2}", "not JSON: trailing characters at line 1 column 8"),
        (b"{\"f\":1,\"g\":\"\xff\"}", "not JSON: not UTF-8 at byte 12"),
        (b"\xef\xbb\xbf", "not JSON: EOF while parsing a value at line 1 column 0"),
        (b"null", "expected a JSON object, found null"),
        (b"[{\"f\":1}]", "expected a JSON object, found array"),
        (b"\"x\"", "expected a JSON object, found string \"x\""),
        (b"-7", "expected a JSON object, found integer -7"),
        (b"0.5", "expected a JSON object, found number 0.5"),
        (b"true", "expected a JSON object, found boolean true"),
    ];
    let values: Vec<&[u8]> = cases.iter().map(|(value, _)| *value).collect();
    let batch = decoder(json!({ "f": "int64" }), UnknownFields::Ignore).decode(&raw(&values));
    assert_eq!(batch.rows.num_rows(), 0);
    assert_eq!(reasons(&batch), cases.map(|(_, reason)| reason));
}

#[test]
fn a_byte_order_mark_and_whitespace_around_are_ignored() {
    let batch = decode(json!({ "f": "int64" }), &["\u{feff}{\"f\":1}", " \r\n\t{ \"f\" : 2 }\n"]);
    assert_eq!(rows(&batch), json!([{ "f": 1 }, { "f": 2 }]));
}

#[test]
fn unknown_fields_are_skipped_and_counted() {
    let mut decoder =
        decoder(json!({ "a": { "b": "int64" }, "l": [{ "c": "int64" }] }), UnknownFields::Ignore);
    assert_eq!((decoder.unknown_fields().count, decoder.unknown_fields().first), (0, None));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let value = format!(r#"{{"l":[{{"x":{deep},"c":1}}],"y":{{"a":1}},"a":{{"z":"\\","b":2}}}}"#);
    let batch = decoder.decode(&raw(&[value.as_bytes(), b"{\"x\":1}"]));
    assert_eq!(rows(&batch), json!([{ "a": { "b": 2 }, "l": [{ "c": 1 }] }, { "a": null, "l": null }]));
    assert_eq!((decoder.unknown_fields().count, decoder.unknown_fields().first), (4, Some("l[].x")));
}

#[test]
fn unknown_fields_are_rejected_where_the_policy_says_so() {
    let mut decoder = decoder(json!({ "a": { "b": "int64" } }), UnknownFields::Reject);
    let batch = decoder.decode(&raw(&[b"{\"a\":{\"b\":1,\"c\":2}}", b"{\"a\":{\"b\":3}}", b"{\"x\":1}"]));
    assert_eq!(rows(&batch), json!([{ "a": { "b": 3 } }]));
    let end = "unknown field, and unknown fields are rejected";
    assert_eq!(reasons(&batch), [format!("field `a.c`: {end}"), format!("field `x`: {end}")]);
}

#[test]
fn reasons_are_short_whatever_the_record() {
    let long = "é\\n".repeat(10_000);
    let value = format!("{{\"f\":\"{long}\"}}");
    let unknown = format!("{{\"{long}\":1}}");
    let mut decoder = decoder(json!({ "f": "int64" }), UnknownFields::Reject);
    let batch = decoder.decode(&raw(&[value.as_bytes(), unknown.as_bytes()]));
    let reasons = reasons(&batch);
    assert_eq!(reasons.len(), 2);
    assert!(reasons.iter().all(|reason| reason.chars().count() <= 200), "{reasons:?}");
    assert!(reasons[0].starts_with("field `f`: expected int64, found string \"é\\né"), "{reasons:?}");
    assert!(decoder.unknown_fields().first.unwrap().chars().count() <= 200);
}

#[test]
fn field_order_may_change_from_record_to_record() {
    let schema = json!({ "a": "int64", "b": "int64", "c": "int64" });
    let batch = decode(
        schema,
        &[
            r#"{"c":3,"b":2,"a":1}"#,
            r#"{"a":1,"b":2,"c":3}"#,
            r#"{"x":0,"b":2,"y":0,"a":1,"c":3}"#,
            r#"{"b":2,"c":3,"a":1}"#,
            r#"{"b":2,"c":3,"\u0061":1}"#,
        ],
    );
    assert_eq!(rows(&batch), Value::from(vec![json!({ "a": 1, "b": 2, "c": 3 }); 5]));
}

#[test]
fn rejected_records_leave_nothing_behind() {
    let schema = json!({
        "a": "int64", "t": "string", "l": [{ "s": "string", "n": ["int32"] }], "o": { "p": { "q": "float64" } }, "z": "bool"
    });
    let good =
        r#"{"a":1,"t":"x","l":[{"s":"ab","n":[1,2]},{"s":"c","n":null}],"o":{"p":{"q":0.5}},"z":true}"#;
    let bad = [
        r#"{"a":2,"t":"yy","l":[{"s":"de","n":[3]},{"s":"f","n":[4,"5"]}]}"#,
        r#"{"o":{"p":{"q":1.5}},"a":3,"l":[{"s":"g"}],"z":1}"#,
        r#"{"l":[{"s":"h","n":[6,7]},7],"a":4}"#,
        r#"{"a":5,"t":"k","l":[],"o":{"p":{"q":"x"}}}"#,
        r#"{"a":6,"t":"m","l":[{"n":[8],"s":"n","n":[]}]}"#,
        r#"{"a":7,"t":"o","l":[{"n":[9],"s":"p"}],"o":{"p":{"q":1}},"z":false}}"#,
        r#"{"a":8,"t":"unfinished","l":[{"n":[10"#,
    ];
    let alone = decode(schema.clone(), &[good; 8]);
    let mixed: Vec<&str> = bad.iter().flat_map(|bad| [good, bad]).chain([good]).collect();
    let batch = decode(schema, &mixed);
    assert_eq!(rows(&batch), rows(&alone));
    assert_eq!(batch.rejected.num_rows(), bad.len());
}

#[test]
fn metadata_says_where_each_row_came_from() {
    let partition = TopicPartition::new("flights", 3);
    let mut raw = RawBatch::new(partition.clone(), 9, 10);
    raw.push(10, Some(1_700_000_000_000), Some(b"k"), Some(b"{\"f\":1}"));
    raw.push(12, None, None, None);
    raw.push(15, Some(5), Some(b""), Some(b"{\"f\":\"\xff\"}"));
    raw.push(16, None, Some(b"\xff\x00"), Some(b"{\"f\":2}"));
    raw.next = 20;
    let mut decoder = decoder(json!({ "f": "int64" }), UnknownFields::Ignore);
    let batch = decoder.decode(&raw);

    assert_eq!((batch.partition, batch.generation, batch.from, batch.next), (partition, 9, 10, 20));
    assert_eq!(batch.bytes, raw.bytes());
    assert_eq!(batch.last, Some(fingerprint(16, None, Some(b"\xff\x00"), Some(b"{\"f\":2}"))));
    assert_eq!(batch.rows.schema(), *decoder.schema());
    assert_eq!(batch.rejected.schema(), metadata::rejected_schema());

    let column = |rows: &RecordBatch, name: &str| rows.column_by_name(name).unwrap().clone();
    for (rows, offsets) in [(&batch.rows, [10, 16]), (&batch.rejected, [12, 15])] {
        assert_eq!(
            column(rows, metadata::TOPIC).as_string::<i32>().iter().collect::<Vec<_>>(),
            [Some("flights"); 2]
        );
        assert_eq!(column(rows, metadata::PARTITION).as_primitive::<Int32Type>().values(), &[3, 3]);
        assert_eq!(column(rows, metadata::OFFSET).as_primitive::<Int64Type>().values(), &offsets);
    }
    let times =
        |rows| column(rows, metadata::TIMESTAMP).as_primitive::<TimestampMillisecondType>().iter().collect();
    let (good, bad): (Vec<_>, Vec<_>) = (times(&batch.rows), times(&batch.rejected));
    assert_eq!((good, bad), (vec![Some(1_700_000_000_000), None], vec![None, Some(5)]));
    let keys = column(&batch.rows, metadata::KEY);
    assert_eq!(keys.as_binary::<i32>().iter().collect::<Vec<_>>(), [Some(&b"k"[..]), Some(b"\xff\x00")]);
    let keys = column(&batch.rejected, metadata::KEY);
    assert_eq!(keys.as_binary::<i32>().iter().collect::<Vec<_>>(), [None, Some(&b""[..])]);
    let values = column(&batch.rejected, metadata::VALUE);
    assert_eq!(values.as_binary::<i32>().iter().collect::<Vec<_>>(), [None, Some(&b"{\"f\":\"\xff\"}"[..])]);
    let reasons = column(&batch.rejected, metadata::REASON);
    assert_eq!(reasons.as_string::<i32>().value(0), "tombstone: the record has no value");
}

#[test]
fn a_decoder_goes_on_from_batch_to_batch() {
    let mut decoder = decoder(json!({ "f": "string", "l": ["int64"] }), UnknownFields::Ignore);
    let empty = decoder.decode(&raw(&[]));
    assert_eq!((empty.records(), empty.last, empty.next), (0, None, 100));
    for n in 0..3 {
        let value = format!("{{\"f\":\"{n}\",\"l\":[{n}]}}");
        let batch = decoder.decode(&raw(&[b"{\"f\":\"x\",\"l\":[1,", value.as_bytes()]));
        assert_eq!(rows(&batch), json!([{ "f": n.to_string(), "l": [n] }]));
        assert_eq!(batch.rejected.num_rows(), 1);
    }
}

#[test]
fn columns_have_the_declared_types() {
    let schema = json!({
        "b": "bool", "i": "int32 not null", "t": "timestamp", "d": "date", "j": "json", "l": [{ "s": "string not null" }]
    });
    let batch = decode(schema, &[r#"{"i":1,"t":0,"d":"1970-01-02","l":[{"s":"x"}],"j":{}}"#]);
    let types: Vec<String> =
        batch.rows.schema().fields().iter().take(6).map(|f| f.data_type().to_string()).collect();
    assert_eq!(types[..5], ["Boolean", "Int32", "Timestamp(µs, \"UTC\")", "Date32", "Utf8"]);
    assert!(types[5].contains("non-null Utf8"), "{}", types[5]);
    assert!(!batch.rows.schema().field(1).is_nullable());
    assert_eq!(batch.rows.column(0).null_count(), 1);
}
