//! The proof of exactly once under kill -9: wherever a process ends, the table ends up whole.
//!
//! The general tests run a small job once to count its operations, then once for each operation with the end of the
//! process there; go on as a pipeline would, from the sink's progress; and compare the table with the topic. The
//! others show what is there after an end at one chosen step.

mod common;

use std::fs;
use std::path::Path;

use common::faults::{Fault, Faults};
use common::job::{
    IsLost, beside_the_data, copy, finish, job, killed, of_the_data, open, operation, operations,
};
use common::{OWNER, assert_exact, config, feed, files, schema};
use puddle_sink::parquet::ParquetSink;
use puddle_sink::storage::LocalStorage;
use puddle_sink::{Sink, SinkConfig, Span, lake};

/// Where the job's table goes on, by the log.
fn next(lake: &Path) -> i64 {
    common::next_offset(&lake::progress(lake, "t").unwrap(), 0)
}

fn staged(lake: &Path) -> Vec<std::path::PathBuf> {
    files(&lake.join(".puddle/t/staging"))
}

/// Fault matrix 1.
#[test]
fn killed_in_the_middle_of_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    // With so little memory each batch is written at once, to files that are still open at the end.
    let config = SinkConfig { buffer_bytes: 1, ..config() };
    let mut sink = ParquetSink::open(dir.path(), &config, schema(), OWNER, Faults::none().arc()).unwrap();
    feed(&mut sink, 20).unwrap();
    sink.write(&common::rows(0, 20, 30)).unwrap();
    drop(sink);
    assert!(!staged(dir.path()).is_empty(), "the batch never got to the disk");
    assert_eq!(next(dir.path()), 20);
    assert_exact_but_for_staging(dir.path(), 20);
    drop(open(dir.path(), &Faults::none()).unwrap());
    assert!(staged(dir.path()).is_empty(), "a start leaves what nothing names");
    finish(dir.path(), "in the middle of a batch");
}

/// Fault matrix 2.
#[test]
fn killed_in_the_middle_of_a_footer() {
    let dir = killed(operation("sync /", ".parquet", 0) - 1, Fault::Torn);
    let files: Vec<Vec<u8>> = staged(dir.path()).iter().map(|path| fs::read(path).unwrap()).collect();
    let is_torn = |file: &&Vec<u8>| file.starts_with(b"PAR1") && !file.ends_with(b"PAR1");
    assert_eq!(files.iter().filter(is_torn).count(), 1, "the footer is whole");
    assert_exact_but_for_staging(dir.path(), 20);
    finish(dir.path(), "in the middle of a footer");
}

/// Fault matrix 3.
#[test]
fn killed_between_the_files_sync_and_the_log_entry() {
    let dir = killed(operation("rename new /", "log/00000000000000000002.json", 0), Fault::Cut);
    let whole = staged(dir.path());
    assert!(whole.len() > 2 && whole.iter().all(|path| fs::read(path).unwrap().ends_with(b"PAR1")));
    assert_eq!(next(dir.path()), 20);
    assert_exact_but_for_staging(dir.path(), 20);
    finish(dir.path(), "before the log entry");
}

/// Fault matrix 4.
#[test]
fn killed_after_the_log_entry() {
    let dir = killed(operation("rename new /", ".parquet", 0), Fault::Cut);
    assert_eq!(next(dir.path()), 40);
    assert_eq!(common::scan(dir.path()), common::expected(20), "something is visible already");
    drop(open(dir.path(), &Faults::none()).unwrap());
    assert_exact(dir.path(), 40, "the start rolls forward");
    finish(dir.path(), "after the log entry");
}

/// Fault matrix 5.
#[test]
fn killed_between_two_renames() {
    let dir = killed(operation("rename new /", ".parquet", 1), Fault::Cut);
    let scanned = common::scan(dir.path()).len();
    assert!(common::expected(20).len() < scanned && scanned < common::expected(40).len(), "{scanned}");
    assert_eq!(lake::table(dir.path(), "t").unwrap().epoch, 1, "a reader sees half an epoch");
    drop(open(dir.path(), &Faults::none()).unwrap());
    assert_exact(dir.path(), 40, "the start rolls forward");
    finish(dir.path(), "between two renames");
}

/// Fault matrix 6.
#[test]
fn the_log_entrys_answer_is_lost() {
    for answer in [operation("rename new /", "02.json", 0), operation("rename new /", "02.json", 0) + 1] {
        let dir = killed(answer, Fault::LostAnswer);
        assert_eq!(next(dir.path()), 40, "the entry is not there");
        let sink = open(dir.path(), &Faults::none()).unwrap();
        assert_eq!(common::next_offset(sink.progress(), 0), 40, "it would be read again");
        drop(sink);
        assert_exact(dir.path(), 40, "it took place, once");
        finish(dir.path(), "the answer was lost");
    }
}

/// Fault matrix 1 to 5.
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

/// Fault matrix 9.
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

/// Fault matrix 7.
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

/// As [`assert_exact`], when staging holds what an ended process left.
fn assert_exact_but_for_staging(lake: &Path, until: i64) {
    assert_eq!(common::scan(lake), common::expected(until), "rows of a plain scan");
    assert_eq!(common::scan_rejected(lake), common::expected_rejected(until), "rejected records");
}
