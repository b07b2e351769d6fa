//! Records of any bytes, decoded by a few schemas: what the decoder makes of them is what a plain reading with
//! serde_json makes of them. `ingest/tests/json_reference.rs` does the same with the seeds.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../ingest/tests/support/reference.rs"]
mod reference;

fuzz_target!(|input: &[u8]| reference::check_input(input));
