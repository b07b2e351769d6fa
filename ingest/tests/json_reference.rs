//! The decoder against a plain reading: random schemas, random documents that fit them or nearly do, and damaged bytes.

#[path = "support/documents.rs"]
mod documents;
#[path = "support/reference.rs"]
mod reference;

use documents::{damage, records};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use puddle_ingest::UnknownFields;
use puddle_testkit::hostile::damaged;
use reference::{check, check_input, decode, offsets};

fn policy() -> impl Strategy<Value = UnknownFields> {
    select(vec![UnknownFields::Ignore, UnknownFields::Reject])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, rng_seed: RngSeed::Fixed(2013), failure_persistence: None, ..Default::default() })]

    /// Fault matrix 37.
    #[test]
    fn agrees_with_a_plain_reading((schema, values) in records(), unknown in policy()) {
        let values: Vec<Option<Vec<u8>>> = values.into_iter().map(Some).collect();
        check(&schema, unknown, &values);
    }

    /// Fault matrix 37.
    #[test]
    fn damaged_records_touch_no_other((schema, mut values) in records(), changes in damage()) {
        changes.apply(&mut values);
        let values: Vec<Option<Vec<u8>>> = values.into_iter().map(Some).collect();
        check(&schema, UnknownFields::Ignore, &values);
        let batch = decode(&schema, UnknownFields::Ignore, &values);
        let kept: Vec<_> = offsets(&batch.rows).into_iter().map(|at| values[at].clone()).collect();
        let alone = decode(&schema, UnknownFields::Ignore, &kept);
        let payload: Vec<usize> = (0..schema.fields().len()).collect();
        prop_assert_eq!(batch.rows.project(&payload).unwrap(), alone.rows.project(&payload).unwrap());
    }
}

/// What the fuzz target `json_decoder` does, with its seeds and damaged copies of them.
///
/// Fault matrix 37.
#[test]
fn agrees_with_a_plain_reading_of_whatever_bytes() {
    damaged("json_decoder", 300, 37).for_each(|input| check_input(&input));
}
