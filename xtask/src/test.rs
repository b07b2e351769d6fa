//! `cargo xtask test`: every test on its rung, and one count at the end.
//!
//! ```text
//! rungs 1 and 2   cargo test --workspace             pure, and with the embedded broker
//! rung 3          the same run, with an Apache Kafka started for it
//! chaos           a small part of `cargo xtask chaos`, always the same
//! bench           a small `cargo xtask bench`: Puddle's tables are compared with the data set's rows and sums
//! readers         the demo's lake read by DuckDB, pyarrow and the Python Polars; a Delta table of their own by
//!                 Polars, deltalake and DuckDB
//! notebooks       run headless on that lake
//! ```

mod count;

use std::process::Command;

use anyhow::Context;

use crate::apache::Apache;
use crate::chaos::TableKind;
use crate::tools::{cargo, puddle, run};
use crate::{bench, chaos, python};
use count::Count;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the tests whose name contains this, and neither chaos, bench, readers nor notebooks
    filter: Option<String>,
}

/// Runs the tests. Where `CI` is `true`, a skipped rung is a failure.
pub(crate) fn test(args: Args) -> anyhow::Result<()> {
    let strict = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let mut count = Count::default();
    let kafka = match Apache::start()? {
        Ok(kafka) => Some(kafka),
        Err(missing) => {
            skip("Apache Kafka (rung 3)", &missing, strict, &mut count);
            None
        }
    };
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--locked", "--no-fail-fast"]).args(args.filter.as_deref());
    if let Some(kafka) = &kafka {
        tests.env("PUDDLE_APACHE_KAFKA", kafka.address());
    }
    count.add_cargo_test(&mut tests)?;
    if args.filter.is_none() {
        match python::available() {
            Ok(()) => {
                count.add("chaos, Parquet", chaos::chaos(chaos::Args::small(TableKind::Parquet)));
                count.add("chaos, Delta", chaos::chaos(chaos::Args::small(TableKind::Delta)));
                if let Some(kafka) = &kafka {
                    count.add("bench", bench::bench(bench::Args::small(kafka.address())));
                }
                on_the_demos_lake(&mut count)?;
            }
            Err(missing) => skip("bench, chaos, readers and notebooks", missing, strict, &mut count),
        }
    }
    drop(kafka);
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped);
    anyhow::ensure!(count.failed == 0, "{} tests failed", count.failed);
    Ok(())
}

/// Runs the demo in a folder of its own, then reads what it made as others would.
fn on_the_demos_lake(count: &mut Count) -> anyhow::Result<()> {
    let python = python::interpreter()?;
    let folder = crate::tools::cache()?.join(format!("test-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = (|| {
        run(cargo().args(["build", "--locked", "--package", "puddle"]))?;
        count.add("demo", run(Command::new(puddle()?).arg("demo").current_dir(&folder)));
        for script in ["xtask/tests/readers.py", "notebooks/test_notebooks.py"] {
            let lake = folder.join("lake");
            count.add(script, run(python::script(&python, script).env("PUDDLE_LAKE", lake)));
        }
        let script = "xtask/tests/delta_readers.py";
        count.add(script, run(python::script(&python, script).env("PUDDLE", puddle()?)));
        Ok(())
    })();
    std::fs::remove_dir_all(&folder).context("cannot remove the folder of the demo's lake")?;
    result
}

fn skip(what: &str, missing: &str, strict: bool, count: &mut Count) {
    eprintln!("\n**** SKIPPED: {what}\n**** {missing}\n");
    if strict {
        count.failed += 1;
    } else {
        count.skipped += 1;
    }
}
