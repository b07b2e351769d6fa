//! The fast way against the general one: the same batches, reasons and counts, whatever the records.

#[path = "../../tests/support/documents.rs"]
mod documents;

use documents::{damage, records};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use puddle_types::{Batch, TopicPartition};

use super::*;

fn raw(values: &[Vec<u8>]) -> RawBatch {
    let mut raw = RawBatch::new(TopicPartition::new("t", 0), 0, 0);
    for (offset, value) in (0..).zip(values) {
        raw.push(offset, Some(offset), None, Some(value));
    }
    raw
}

/// What both ways make of these records, in batches of three.
fn compare(schema: &SchemaDecl, unknown: UnknownFields, values: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let mut fast = Decoder::new(schema, unknown);
    let mut general = Decoder { fast: None, ..Decoder::new(schema, unknown) };
    for values in values.chunks(3) {
        let raw = raw(values);
        let (fast, general): (Batch, Batch) = (fast.decode(&raw), general.decode(&raw));
        prop_assert_eq!(&fast.rejected, &general.rejected);
        prop_assert_eq!(&fast.rows, &general.rows);
    }
    prop_assert_eq!(fast.unknown_fields(), general.unknown_fields());
    Ok(())
}

fn policy() -> impl Strategy<Value = UnknownFields> {
    select(vec![UnknownFields::Ignore, UnknownFields::Reject])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, rng_seed: RngSeed::Fixed(2013), failure_persistence: None, ..Default::default() })]

    /// Fault matrix 37.
    #[test]
    fn both_ways_read_the_same((schema, values) in records(), unknown in policy()) {
        compare(&schema, unknown, &values)?;
    }

    /// Fault matrix 37.
    #[test]
    fn both_ways_read_the_same_of_damaged_records((schema, mut values) in records(), changes in damage()) {
        changes.apply(&mut values);
        compare(&schema, UnknownFields::Ignore, &values)?;
    }
}

const FLAT: &str = r#"{"b":"bool","i":"int32","n":"int64","f":"float64","s":"string","t":"timestamp","d":"date","j":"json"}"#;
const NESTED: &str = r#"{"o":{"x":"float64","y":"float64","p":{"s":"string"}},"l":["int64"],"q":[{"s":"string","n":[["int32"]]}]}"#;

/// Whether all of these records but the first are read the fast way: the first may teach it.
fn all_fast(schema: &str, values: &[&str]) -> bool {
    let schema: SchemaDecl = serde_json::from_str(schema).unwrap();
    let (mut fast, mut record) = (Fast::new(schema.fields()), Object::new(schema.fields(), ""));
    values.iter().all(|value| fast.read(value.as_bytes(), &mut record, true).is_some())
}

/// What is a little unusual is no reason to be slow.
#[test]
fn ordinary_records_are_read_the_fast_way() {
    let flat = [
        r#"{"b":true,"i":-5,"n":1234567890123,"f":1.25,"s":"abc","t":"2013-01-01T05:15:00Z","d":"2013-01-01","j":[1,{"a":"b"}]}"#,
        r#"{"b": false, "i": 0, "n": -9223372036854775808, "f": -1e-7, "s": "a longer string than fits into a few words", "t": 1357017300123}"#,
        r#" { "s" : "\n\u00e9\ud83d\ude00\"" , "b" : null } "#,
        r#"{"j":"é","s":"é","t":"2013-01-01T05:15:00.123456+05:15","d":null,"f":123456789.12345679e-30,"f2":0,"n":-0}"#,
        r#"{"unknown":[{"a":[[]]},"x\u00e9",-1.5e+7,true,false,null,{}],"\u0062":true}"#,
        "{}",
    ];
    assert!(all_fast(FLAT, &flat));
    let nested = [
        r#"{"o":{"x":1,"y":2.5,"p":{"s":"t"}},"l":[1,2,3],"q":[{"s":"u","n":[[1],[],[2,3]]},{}]}"#,
        r#"{"q": [], "l": [ null , 1 ], "o": {"y": 0, "z": {}, "x": null, "p": null}}"#,
        r#"{"o":null,"l":null,"q":[null]}"#,
    ];
    assert!(all_fast(NESTED, &nested));
    for odd in ["", "[]", r#"{"i":"x"}"#, r#"{"i":1,"i":1}"#, "{\"s\":\"\t\"}", r#"{"i":01}"#, r#"{"i":1"#] {
        assert!(!all_fast(FLAT, &[odd]), "{odd}");
    }
}

/// Names may be data, and never end: keys are learnt up to a bound.
#[test]
fn keys_are_not_learnt_for_ever() {
    let schema: SchemaDecl = serde_json::from_str(r#"{"id":"int64"}"#).unwrap();
    let (mut fast, mut record) = (Fast::new(schema.fields()), Object::new(schema.fields(), ""));
    for n in 0..10_000 {
        let value = format!(r#"{{"user_{n}":1,"id":{n}}}"#);
        assert_eq!(fast.read(value.as_bytes(), &mut record, true), Some(1));
    }
    assert_eq!(fast.learnt(), fast::MAX_LEARNT);
    assert_eq!(record.len(), 10_000);
}
