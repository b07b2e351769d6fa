//! A small job that is run with a fault at one of its operations, and brought to its end as a pipeline would.

use std::fs;
use std::path::Path;

use puddle_sink::parquet::ParquetSink;
use puddle_sink::{Error, Sink};

use super::faults::{Fault, Faults};
use super::{OWNER, assert_exact, config, feed, files, next_offset, schema};

/// Where the job's topic ends.
pub const END: i64 = 60;

/// Says of a path whether a crash loses what was written there and not synced.
pub type IsLost = fn(&Path) -> bool;

pub fn open(lake: &Path, faults: &Faults) -> Result<ParquetSink, Error> {
    ParquetSink::open(lake, &config(), schema(), OWNER, faults.arc())
}

/// Opens the table and commits two epochs.
pub fn job(lake: &Path, faults: &Faults) -> Result<(), Error> {
    job_with(|| open(lake, faults))
}

/// The same with a table of any kind.
pub fn job_with<S: Sink>(open: impl Fn() -> Result<S, Error>) -> Result<(), Error> {
    let mut sink = open()?;
    feed(&mut sink, 20)?;
    feed(&mut sink, 40)
}

/// What a pipeline does on errors: aborts, and if that is not enough opens the table again.
pub fn run_through_errors(lake: &Path, faults: &Faults, context: &str) {
    run_through_errors_with(|| open(lake, faults), context);
}

/// The same with a table of any kind.
pub fn run_through_errors_with<S: Sink>(open: impl Fn() -> Result<S, Error>, context: &str) {
    let mut errors = Vec::new();
    for _ in 0..5 {
        let mut sink = match open() {
            Ok(sink) => sink,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        for until in [20, 40, END] {
            if next_offset(sink.progress(), 0) >= until {
                continue;
            }
            let mut result = feed(&mut sink, until);
            if result.is_err() && sink.abort().is_ok() {
                result = feed(&mut sink, until);
            }
            if let Err(error) = result {
                errors.push(error);
                break;
            }
        }
        if next_offset(sink.progress(), 0) == END {
            return;
        }
    }
    panic!("{context}: the job did not get to its end: {errors:#?}");
}

/// The operations of the job without a fault.
pub fn operations() -> Vec<String> {
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::none());
    job(dir.path(), &faults).unwrap();
    assert_exact(dir.path(), 40, "without a fault");
    faults.operations()
}

/// The number of the operation in the job's second epoch that begins and ends like this, of several the `nth`.
pub fn operation(begins: &str, ends: &str, nth: usize) -> usize {
    let all = operations();
    let second = all.iter().position(|name| name.contains("/staging/t-00000000000000000002-")).unwrap();
    let wanted = |name: &String| name.starts_with(begins) && name.ends_with(ends);
    (second..all.len())
        .filter(|number| wanted(&all[*number]))
        .nth(nth)
        .unwrap_or_else(|| panic!("no {begins} ... {ends} in {all:#?}"))
}

/// Runs the job up to an operation, at which the process is killed.
pub fn killed(at: usize, fault: Fault) -> tempfile::TempDir {
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(at, fault));
    job(dir.path(), &faults).unwrap_err();
    dir
}

/// Goes on after a crash, on a sound disk.
pub fn finish(lake: &Path, context: &str) {
    run_through_errors(lake, &Faults::none(), context);
    assert_exact(lake, END, context);
}

pub fn beside_the_data(folder: &Path) -> bool {
    folder.components().any(|part| part.as_os_str() == ".puddle")
}

pub fn of_the_data(folder: &Path) -> bool {
    !beside_the_data(folder)
}

/// Copies a lake; its files are never changed in place, but for the lock's.
pub fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let copy = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        if path.ends_with("lock") {
            fs::copy(&path, copy).map(drop).unwrap()
        } else {
            fs::hard_link(&path, copy).unwrap()
        }
    }
    fs::create_dir_all(to.join(".puddle/t/staging")).unwrap();
}
