//! The proof of exactly once: whatever goes wrong at whichever file operation, the table ends up whole.
//!
//! Each test runs a small job once to count its operations, then once for each operation with a fault there; goes on
//! as a pipeline would, from the sink's progress; and compares the table with the topic.

mod common;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use common::faults::{Fault, Faults};
use common::{OWNER, assert_exact, config, feed, files, schema};
use puddle_sink::parquet::ParquetSink;
use puddle_sink::storage::LocalStorage;
use puddle_sink::{Error, Sink, Span};

const END: i64 = 60;

/// Says of a path whether a crash loses what was written there and not synced.
type IsLost = fn(&Path) -> bool;

fn open(lake: &Path, faults: &Faults) -> Result<ParquetSink, Error> {
    ParquetSink::open(lake, &config(), schema(), OWNER, faults.arc())
}

/// Opens the table and commits two epochs.
fn job(lake: &Path, faults: &Faults) -> Result<(), Error> {
    let mut sink = open(lake, faults)?;
    feed(&mut sink, 20)?;
    feed(&mut sink, 40)
}

/// What a pipeline does on errors: aborts, and if that is not enough opens the table again.
fn run_through_errors(lake: &Path, faults: &Faults, context: &str) {
    let mut errors = Vec::new();
    for _ in 0..5 {
        let mut sink = match open(lake, faults) {
            Ok(sink) => sink,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        for until in [20, 40, END] {
            if common::next_offset(sink.progress(), 0) >= until {
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
        if common::next_offset(sink.progress(), 0) == END {
            return;
        }
    }
    panic!("{context}: the job did not get to its end: {errors:#?}");
}

/// The operations of the job without a fault.
fn operations() -> Vec<String> {
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::none());
    job(dir.path(), &faults).unwrap();
    assert_exact(dir.path(), 40, "without a fault");
    faults.operations()
}

/// Goes on after a crash, on a sound disk.
fn finish(lake: &Path, context: &str) {
    run_through_errors(lake, &Faults::none(), context);
    assert_exact(lake, END, context);
}

#[test]
fn a_crash_at_any_operation() {
    for (number, operation) in operations().iter().enumerate() {
        for fault in [Fault::Cut, Fault::Torn] {
            let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(number, fault));
            job(dir.path(), &faults).unwrap_err();
            finish(dir.path(), &format!("{fault:?} at {number} ({operation})"));
        }
    }
}

#[test]
fn a_crash_at_any_operation_of_the_recovery_from_a_crash_at_any_operation() {
    // One short epoch: what came before it does not matter to a recovery.
    let one = |lake: &Path, faults: &Faults| open(lake, faults).and_then(|mut sink| feed(&mut sink, 8));
    let (scratch, faults) = (tempfile::tempdir().unwrap(), Faults::none());
    one(scratch.path(), &faults).unwrap();
    let lost: [Option<IsLost>; 4] = [None, Some(|_| true), Some(beside_the_data), Some(of_the_data)];
    for first in 0..faults.operations().len() {
        for (second, lost) in (0..).flat_map(|second| lost.map(|lost| (second, lost))) {
            let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(first, Fault::Cut));
            one(dir.path(), &faults).unwrap_err();
            faults.revive(Some((second, Fault::Cut)));
            if let Ok(mut sink) = open(dir.path(), &faults) {
                // Past the last operation: what this process commits must outlive what the first left unsynced.
                faults.revive(None);
                if sink.progress().is_empty() {
                    feed(&mut sink, 8).unwrap();
                }
                drop(sink);
                faults.power_cut(lost.unwrap_or(|_| true));
                let sink = open(dir.path(), &Faults::none()).unwrap();
                assert_eq!(common::next_offset(sink.progress(), 0), 8, "crash at {first}, then a power cut");
                assert_exact(dir.path(), 8, &format!("crash at {first}, then a power cut"));
                break;
            }
            if let Some(lost) = lost {
                faults.power_cut(lost);
            }
            let context = format!("crash at {first}, then at {second} of the recovery; {}", lost.is_some());
            let mut sink =
                open(dir.path(), &Faults::none()).unwrap_or_else(|error| panic!("{context}: {error}"));
            if sink.progress().is_empty() {
                feed(&mut sink, 8).unwrap_or_else(|error| panic!("{context}: {error}"));
            }
            assert_exact(dir.path(), 8, &context);
        }
    }
}

#[test]
fn an_error_at_any_operation() {
    for (number, operation) in operations().iter().enumerate() {
        for fault in [Fault::Fail(ErrorKind::StorageFull), Fault::Fail(ErrorKind::Other), Fault::LostAnswer] {
            let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(number, fault));
            let context = format!("{fault:?} at {number} ({operation})");
            run_through_errors(dir.path(), &faults, &context);
            assert_exact(dir.path(), END, &context);
        }
    }
}

#[test]
fn a_power_cut_at_any_operation() {
    let loses: [(&str, IsLost); 4] = [
        ("every folder", |_| true),
        ("no folder", |_| false),
        ("folders beside the data", beside_the_data),
        ("folders of the data", of_the_data),
    ];
    for (number, operation) in operations().iter().enumerate() {
        for (which, loses) in loses {
            let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(number, Fault::Cut));
            job(dir.path(), &faults).unwrap_err();
            faults.power_cut(loses);
            finish(dir.path(), &format!("power cut at {number} ({operation}), {which} not synced lost"));
        }
    }
}

#[test]
fn a_commit_that_was_answered_outlives_a_power_cut() {
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::none());
    job(dir.path(), &faults).unwrap();
    faults.power_cut(|_| true);
    let sink = open(dir.path(), &Faults::none()).unwrap();
    assert_eq!(common::next_offset(sink.progress(), 0), 40);
    assert_exact(dir.path(), 40, "after the power cut");
}

#[test]
fn a_crash_at_any_operation_while_the_log_is_tidied() {
    let idle =
        |from| Span { from, next: from + 1, last: None, records: 1, written: 0, filtered: 1, rejected: 0 };
    let template = tempfile::tempdir().unwrap();
    let mut sink = open(template.path(), &Faults::none()).unwrap();
    feed(&mut sink, 20).unwrap();
    for offset in 20..218 {
        sink.commit(common::epoch(&[(0, idle(offset)), (1, idle(offset))])).unwrap();
    }
    drop(sink);
    let lost: [Option<IsLost>; 2] = [None, Some(|folder| folder.ends_with("history"))];
    for (number, lost) in (0..).flat_map(|number| lost.map(|lost| (number, lost))) {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(number, Fault::Cut));
        copy(template.path(), dir.path());
        let commit = || {
            let mut sink = open(dir.path(), &faults)?;
            sink.commit(common::epoch(&[(0, idle(218)), (1, idle(218))]))
        };
        let result = commit();
        if let Some(lost) = lost {
            faults.power_cut(lost);
        }
        let storage = std::sync::Arc::new(LocalStorage { durable: false });
        let mut sink = ParquetSink::open(dir.path(), &config(), schema(), OWNER, storage).unwrap();
        let next = common::next_offset(sink.progress(), 0);
        assert!(next == 219 || (next == 218 && result.is_err()), "crash at {number}: {next}");
        let last = sink.commit(common::epoch(&[(0, idle(next)), (1, idle(next))])).unwrap().epoch;
        drop(sink);
        let history = puddle_sink::lake::history(dir.path(), "t").unwrap();
        let epochs: Vec<u64> = history.map(|commit| commit.unwrap().epoch).collect();
        assert_eq!(epochs, (1..=last).collect::<Vec<_>>(), "crash at {number}");
        if faults.operations().len() <= number {
            assert!(number > 100, "the entries were never bundled");
            break;
        }
    }
}

#[test]
fn a_bit_flipped_on_the_way_to_the_disk_is_found_before_the_commit() {
    let all = operations();
    let writes =
        all.iter().enumerate().filter(|(_, name)| name.starts_with("write") && name.ends_with(".parquet"));
    for (number, operation) in writes {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(number, Fault::Flip));
        let error = job(dir.path(), &faults).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{operation}: {error}");
        finish(dir.path(), operation);
    }
}

#[test]
fn a_bit_flipped_in_a_staged_file_is_found_before_it_is_published() {
    let all = operations();
    let publishing =
        all.iter().position(|name| name.starts_with("rename new") && name.ends_with(".parquet")).unwrap();
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(publishing, Fault::Cut));
    job(dir.path(), &faults).unwrap_err();
    let staged = files(&dir.path().join(".puddle/t/staging"));
    let mut content = fs::read(&staged[0]).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&staged[0], &content).unwrap();
    let Err(error) = open(dir.path(), &Faults::none()) else { panic!("a flipped bit was published") };
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == staged[0]), "{error}");
    assert!(files(&dir.path().join("t")).is_empty(), "something was published");
    // With the file restored, it goes on.
    content[middle] ^= 1;
    fs::write(&staged[0], &content).unwrap();
    finish(dir.path(), "restored");
}

#[test]
fn a_failed_sync_closes_the_sink_for_good() {
    for (number, operation) in operations().iter().enumerate().filter(|(_, name)| name.starts_with("sync")) {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(number, Fault::Fail(ErrorKind::Other)));
        let Ok(mut sink) = open(dir.path(), &faults) else { continue };
        let error = feed(&mut sink, 20).and_then(|()| feed(&mut sink, 40)).unwrap_err();
        assert!(matches!(&error, Error::Sync { .. }) && error.needs_reopen(), "{operation}: {error}");
        for result in [sink.abort(), sink.write(&common::rows(0, 0, 1)), feed(&mut sink, 40)] {
            assert!(matches!(result, Err(Error::Poisoned { .. })), "{operation}");
        }
    }
}

fn beside_the_data(folder: &Path) -> bool {
    folder.components().any(|part| part.as_os_str() == ".puddle")
}

fn of_the_data(folder: &Path) -> bool {
    !beside_the_data(folder)
}

/// Copies a lake; its files are never changed in place, but for the lock's.
fn copy(from: &Path, to: &Path) {
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
