//! A connection of any bytes, and record batches of any bytes. `broker/tests/hostile.rs` does the same with the seeds.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use puddle_broker::fuzz::Bench;
use tempfile::TempDir;

/// Topics, groups and offsets pile up, and in the end would be what is measured.
const RUNS_OF_A_BENCH: u32 = 500;

thread_local! {
    static BENCH: RefCell<Option<(Bench, TempDir, u32)>> = const { RefCell::new(None) };
}

fuzz_target!(|input: &[u8]| {
    BENCH.with_borrow_mut(|bench| {
        let (bench_, _, runs) = bench.get_or_insert_with(|| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            (Bench::new(folder.path()), folder, 0)
        });
        bench_.run(input);
        *runs += 1;
        if *runs >= RUNS_OF_A_BENCH {
            *bench = None;
        }
    });
});
