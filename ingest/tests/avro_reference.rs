//! The Avro decoder against the JSON one: arrow-avro encodes what JSON records became, and the same rows come back.

#[path = "support/avro.rs"]
mod avro;

use arrow_avro::schema::FingerprintStrategy;
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;
use avro::{config, raw, reasons, rows};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use puddle_ingest::UnknownFields;
use puddle_ingest::format::Decoder;
use puddle_ingest::json;
use puddle_ingest::schema::{FieldDecl, Kind, SchemaDecl, ValueDecl};
use puddle_testkit::SchemaRegistry;
use puddle_types::metadata;
use serde_json::{Map, Value};

fn kind() -> impl Strategy<Value = Kind> {
    let scalars =
        [Kind::Bool, Kind::Int32, Kind::Int64, Kind::Float64, Kind::String, Kind::Timestamp, Kind::Date];
    prop::sample::select(scalars.to_vec()).prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            fields(inner.clone()).prop_map(Kind::Struct),
            (inner, any::<bool>())
                .prop_map(|(kind, required)| Kind::List(Box::new(declared(kind, required)))),
        ]
    })
}

fn fields(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = Vec<FieldDecl>> {
    prop::collection::vec((kind, any::<bool>()), 1..5).prop_map(|kinds| {
        let field = |(place, (kind, required))| FieldDecl {
            name: format!("f{place}"),
            value: declared(kind, required),
        };
        kinds.into_iter().enumerate().map(field).collect()
    })
}

/// Tables and lists may always be null.
fn declared(kind: Kind, required: bool) -> ValueDecl {
    let nested = matches!(kind, Kind::Struct(_) | Kind::List(_));
    ValueDecl { nullable: nested || !required, kind }
}

/// A value that fits; `seeds` decide which.
fn fitting(value: &ValueDecl, seeds: &mut impl Iterator<Item = u64>) -> Value {
    let seed = seeds.next().unwrap_or(1);
    if value.nullable && seed.is_multiple_of(4) {
        return Value::Null;
    }
    match &value.kind {
        Kind::Bool => (seed.is_multiple_of(2)).into(),
        Kind::Int32 => (seed as i32).into(),
        Kind::Int64 => (seed as i64).into(),
        Kind::Float64 => (seed as i64 as f64 / 8.0).into(),
        Kind::String => ["", "a", "é\"\n", "some longer text than others"][seed as usize % 4].into(),
        Kind::Timestamp => (seed as i64 % 4_000_000_000_000).into(),
        Kind::Date => format!("{:04}-{:02}-{:02}", seed % 3000, seed % 12 + 1, seed % 28 + 1).into(),
        Kind::Struct(fields) => record(fields, seeds),
        Kind::List(element) => (0..seed % 4).map(|_| fitting(element, seeds)).collect(),
        Kind::Json | Kind::Binary => Value::Null,
    }
}

fn record(fields: &[FieldDecl], seeds: &mut impl Iterator<Item = u64>) -> Value {
    let field = |field: &FieldDecl| (field.name.clone(), fitting(&field.value, seeds));
    Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, rng_seed: RngSeed::Fixed(2013), failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_json_says_avro_says(
        fields in fields(kind()),
        seeds in prop::collection::vec(any::<u64>(), 1..200),
        records in 1_usize..8,
    ) {
        thread_local!(static REGISTRY: SchemaRegistry = SchemaRegistry::start());
        let schema = SchemaDecl::new(fields).unwrap();
        let mut seeds = seeds.into_iter().cycle();
        let texts: Vec<String> = (0..records).map(|_| record(schema.fields(), &mut seeds).to_string()).collect();
        let expected = json::Decoder::new(&schema, UnknownFields::Reject).decode(&raw(&texts));
        prop_assert_eq!(expected.rows.num_rows(), records, "{:?}", reasons(&expected));

        let payload = expected.rows.num_columns() - metadata::fields().len();
        let payload = expected.rows.project(&(0..payload).collect::<Vec<_>>()).unwrap();
        let writer = |id| WriterBuilder::new(payload.schema().as_ref().clone())
            .with_fingerprint_strategy(FingerprintStrategy::Id(id))
            .build_encoder::<AvroSoeFormat>()
            .unwrap();
        let avro = writer(0).schema().metadata()["avro.schema"].clone();
        let (url, id) = REGISTRY.with(|registry| (registry.url(), registry.register("other-value", &avro)));
        let mut encoder = writer(id);
        encoder.encode(&payload).unwrap();
        let values: Vec<Vec<u8>> = encoder.flush().iter().map(|row| row.to_vec()).collect();

        let config = config(&format!("registry = {{ url = '{url}' }}"));
        let found = Decoder::new(&config, &schema).unwrap().decode(&raw(&values)).unwrap();
        prop_assert_eq!(reasons(&found), Vec::<String>::new(), "{}", avro);
        prop_assert_eq!(rows(&found.rows), rows(&expected.rows));
        prop_assert_eq!(found.rows, expected.rows);
    }
}
