//! Records of the formats `csv` and `bytes`.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use puddle_ingest::IngestConfig;
use puddle_ingest::format::Decoder;
use puddle_ingest::raw::RawBatch;
use puddle_types::{Batch, TopicPartition, metadata};

fn config(text: &str) -> IngestConfig {
    toml::from_str(&format!("topics = ['t']\n{text}")).unwrap()
}

fn decode(config: &IngestConfig, values: &[Option<&[u8]>]) -> Batch {
    let mut raw = RawBatch::new(TopicPartition::new("t", 0), 1, 0);
    for (offset, value) in values.iter().enumerate() {
        raw.push(offset as i64, Some(1_357_000_000_000), Some(b"key"), *value);
    }
    let schema = config.known_schema().unwrap();
    Decoder::new(config, &schema).unwrap().decode(&raw).unwrap()
}

fn decode_lines(text: &str, lines: &[&str]) -> Batch {
    let values: Vec<_> = lines.iter().map(|line| Some(line.as_bytes())).collect();
    decode(&config(text), &values)
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> &'a arrow::array::ArrayRef {
    rows.column_by_name(name).unwrap()
}

fn reasons(batch: &Batch) -> Vec<String> {
    let reasons = column(&batch.rejected, metadata::REASON).as_string::<i32>();
    reasons.iter().map(|reason| reason.unwrap().to_owned()).collect()
}

/// Why this line is rejected.
fn reason(text: &str, line: &str) -> String {
    let batch = decode_lines(text, &[line]);
    assert_eq!(batch.rows.num_rows(), 0, "{line}");
    reasons(&batch).remove(0)
}

const ALL: &str = "format = 'csv'
[schema]
b = 'bool'
i = 'int32'
l = 'int64 not null'
f = 'float64'
s = 'string'
t = 'timestamp'
d = 'date'
j = 'json'";

#[test]
fn a_line_becomes_a_row_by_the_schema() {
    let lines = [
        "true,-5,7,1.5,\"a,b\",2013-01-01T00:00:00Z,2013-01-01,\"{\"\"a\"\": [1]}\"\r\n",
        ",,8,,,,,",
        "false,0,-9,1e3,\"\",1700000000123,1969-12-31,null",
    ];
    let batch = decode_lines(ALL, &lines);
    assert_eq!(reasons(&batch), Vec::<String>::new());
    let rows = &batch.rows;
    assert_eq!(column(rows, "b").as_boolean().iter().collect::<Vec<_>>(), [Some(true), None, Some(false)]);
    let ints = column(rows, "i").as_primitive::<Int32Type>().iter().collect::<Vec<_>>();
    assert_eq!(ints, [Some(-5), None, Some(0)]);
    assert_eq!(column(rows, "l").as_primitive::<Int64Type>().values(), &[7, 8, -9]);
    let floats = column(rows, "f").as_primitive::<Float64Type>().iter().collect::<Vec<_>>();
    assert_eq!(floats, [Some(1.5), None, Some(1000.0)]);
    let strings = column(rows, "s").as_string::<i32>().iter().collect::<Vec<_>>();
    assert_eq!(strings, [Some("a,b"), None, Some("")]);
    let times = column(rows, "t").as_primitive::<TimestampMicrosecondType>().iter().collect::<Vec<_>>();
    assert_eq!(times, [Some(1_356_998_400_000_000), None, Some(1_700_000_000_123_000)]);
    let dates = column(rows, "d").as_primitive::<Date32Type>().iter().collect::<Vec<_>>();
    assert_eq!(dates, [Some(15_706), None, Some(-1)]);
    let texts = column(rows, "j").as_string::<i32>().iter().collect::<Vec<_>>();
    assert_eq!(texts, [Some("{\"a\": [1]}"), None, Some("null")]);
    assert_eq!(column(rows, metadata::OFFSET).as_primitive::<Int64Type>().values(), &[0, 1, 2]);
}

#[test]
fn a_line_that_does_not_fit_is_rejected_by_the_name_of_its_column() {
    for (line, expected) in [
        ("yes,,1,,,,,", "field `b`: expected bool, found string \"yes\""),
        (",2147483648,1,,,,,", "field `i`: expected int32, found string \"2147483648\""),
        (",1.0,1,,,,,", "field `i`: expected int32, found string \"1.0\""),
        (",,,,,,,", "field `l`: expected int64 not null, found null"),
        (",, 1,,,,,", "field `l`: expected int64 not null, found string \" 1\""),
        (",,1,inf,,,,", "field `f`: expected float64, found string \"inf\""),
        (",,1,1e999,,,,", "field `f`: expected float64, found string \"1e999\""),
        (",,1,,,2013-01-01,,", "field `t`: expected timestamp"),
        (",,1,,,,2013-02-29,", "field `d`: expected date (YYYY-MM-DD), found string \"2013-02-29\""),
        (",,1,,,,,{", "field `j`: expected json, found string \"{\""),
        (",,1,,,,", "7 of 8 fields"),
        (",,1,,,,,,", "more than 8 fields"),
        (",,1,,\"x,,,", "field 5: a quote is not closed"),
        (",,1,,,,,\n,,1,,,,,", "field 8: more than one line"),
        ("", "empty value"),
    ] {
        let reason = reason(ALL, line);
        assert!(reason.starts_with(expected), "{line}: {reason}");
    }
    let deep = format!(",,1,,,,,\"{}{}\"", "[".repeat(200), "]".repeat(200));
    assert!(reason(ALL, &deep).starts_with("field `j`: expected json"));
    let batch = decode(&config(ALL), &[None, Some(b",,1,,\xff,,,"), Some(b",,1,,,,,")]);
    assert_eq!(reasons(&batch), ["tombstone: the record has no value", "not UTF-8 at byte 5"]);
    assert_eq!(batch.rows.num_rows(), 1);
    assert_eq!(column(&batch.rejected, metadata::VALUE).as_binary::<i32>().value(1), b",,1,,\xff,,,");
}

#[test]
fn a_rejected_line_leaves_nothing_behind() {
    let lines = [",,1,,,,,", "true,5,2,2.5,text,0,2013-01-01,bad", ",,3,,,,,"];
    let batch = decode_lines(ALL, &lines);
    assert_eq!(column(&batch.rows, "l").as_primitive::<Int64Type>().values(), &[1, 3]);
    assert!(
        ["b", "i", "f", "s", "t", "d", "j"].iter().all(|name| column(&batch.rows, name).null_count() == 2)
    );
}

#[test]
fn columns_may_be_named_and_skipped_and_written_otherwise() {
    let text = "format = 'csv'
        [csv]
        columns = ['s', 'unused', 'n']
        delimiter = ';'
        quote = \"'\"
        null = 'NA'
        [schema]
        n = 'int64'
        s = 'string'";
    let batch = decode_lines(text, &["'a;b';x,y;5", "NA;;NA", ";;7", "'NA';;1"]);
    assert_eq!(reasons(&batch), Vec::<String>::new());
    let strings = column(&batch.rows, "s").as_string::<i32>().iter().collect::<Vec<_>>();
    assert_eq!(strings, [Some("a;b"), None, Some(""), Some("NA")]);
    let numbers = column(&batch.rows, "n").as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
    assert_eq!(numbers, [Some(5), None, Some(7), Some(1)]);
    assert_eq!(reason(text, "a;b;"), "field `n`: expected int64, found string \"\"");
}

#[test]
fn what_cannot_be_read_is_refused_before_a_record_is() {
    for (text, expected) in [
        ("format = 'csv'", "declare them in [ingest.schema]"),
        ("format = 'csv'\nschema = { a = ['int64'] }", "field `a`: CSV has only text"),
        ("format = 'csv'\nschema = { a = 'binary' }", "field `a`: CSV has only text"),
        (
            "format = 'csv'\nschema = { a = 'int64' }\ncsv = { columns = ['b'] }",
            "`a` of the schema is not among them",
        ),
        ("format = 'csv'\nschema = { a = 'int64' }\ncsv = { columns = ['a', 'a'] }", "`a` is named twice"),
        ("format = 'csv'\nschema = { a = 'int64' }\ncsv = { delimiter = 'é' }", "one ASCII character"),
        ("format = 'csv'\nschema = { a = 'int64' }\ncsv = { delimiter = '\"' }", "are both"),
        ("csv = {}", "[ingest.csv] is for format = \"csv\""),
        ("schema = { a = { b = ['binary'] } }", "field `a.b[]`: JSON has no bytes"),
        ("format = 'bytes'\nschema = { a = 'int64' }", "one field, of type `binary` or `string`"),
        (
            "format = 'bytes'\nschema = { a = 'string', b = 'string' }",
            "one field, of type `binary` or `string`",
        ),
    ] {
        let error = config(text).validate().unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(expected), "{text}: {error}");
    }
}

#[test]
fn bytes_are_kept_as_they_are() {
    let values: [Option<&[u8]>; 4] = [Some(b"\xff\x00"), None, Some(b""), Some(b"{}")];
    let batch = decode(&config("format = 'bytes'"), &values);
    assert_eq!(batch.rows.schema().field(0).data_type(), &DataType::Binary);
    assert_eq!(column(&batch.rows, "value").as_binary::<i32>().iter().collect::<Vec<_>>(), values);
    assert_eq!(column(&batch.rows, metadata::KEY).as_binary::<i32>().value(1), b"key");
    assert_eq!(batch.rejected.num_rows(), 0);
}

#[test]
fn bytes_may_be_text_and_must_then_be_utf8() {
    let values: [Option<&[u8]>; 4] = [Some("é".as_bytes()), None, Some(b"a\xff"), Some(b"")];
    let batch = decode(&config("format = 'bytes'\nschema = { line = 'string' }"), &values);
    let lines = column(&batch.rows, "line").as_string::<i32>().iter().collect::<Vec<_>>();
    assert_eq!(lines, [Some("é"), None, Some("")]);
    assert_eq!(reasons(&batch), ["field `line`: not UTF-8 at byte 1"]);
    let batch = decode(&config("format = 'bytes'\nschema = { line = 'string not null' }"), &values);
    assert_eq!(
        reasons(&batch),
        ["field `line`: missing, expected string not null", "field `line`: not UTF-8 at byte 1"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(2013), failure_persistence: None, ..Default::default() })]

    /// What the `csv` crate writes, whenever it needs quotes and when not.
    #[test]
    fn reads_what_another_program_writes(
        fields in prop::collection::vec("[a-c,;\"'\r\n é]{0,6}", 1..5),
        always in any::<bool>(),
        semicolon in any::<bool>(),
    ) {
        let delimiter = if semicolon { b';' } else { b',' };
        let style = if always { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).quote_style(style).from_writer(Vec::new());
        writer.write_record(&fields).unwrap();
        let line = writer.into_inner().unwrap();
        let names: Vec<String> = (0..fields.len()).map(|n| format!("f{n} = 'string'")).collect();
        let text = format!(
            "format = 'csv'\ncsv = {{ delimiter = '{}', null = 'none' }}\n[schema]\n{}",
            char::from(delimiter), names.join("\n"),
        );
        let batch = decode(&config(&text), &[Some(&line)]);
        prop_assert_eq!(reasons(&batch), Vec::<String>::new());
        for (index, field) in fields.iter().enumerate() {
            prop_assert_eq!(batch.rows.column(index).as_string::<i32>().value(0), field);
        }
    }

    /// Where both take a line as one, they find the same fields.
    #[test]
    fn reads_lines_as_another_program_does(line in "[ab,\"\r\n]{1,12}") {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_bytes());
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        for count in 1..6 {
            let names: Vec<String> = (0..count).map(|n| format!("f{n} = 'string'")).collect();
            let text = format!("format = 'csv'\ncsv = {{ null = 'none' }}\n[schema]\n{}", names.join("\n"));
            let batch = decode_lines(&text, &[&line]);
            if batch.rows.num_rows() == 0 {
                continue;
            }
            let found: Vec<&str> = (0..count).map(|n| batch.rows.column(n).as_string::<i32>().value(0)).collect();
            // The other program has no record for an empty line.
            let expected: Vec<&str> = records.first().map_or(vec![""], |record| record.iter().collect());
            prop_assert_eq!(found, expected);
            prop_assert!(records.len() <= 1);
        }
    }
}
