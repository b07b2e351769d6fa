//! The proof of exactly once for a Delta table: whatever goes wrong at whichever file operation, the commit point and the
//! checkpoint among them, the table ends up whole.
//!
//! Each test runs a small job once to count its operations, then once for each operation with a fault there; goes on
//! as a pipeline would, from the sink's progress; and compares the table, read through its log, with the topic.

mod common;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use common::delta::{assert_exact, config};
use common::faults::{Fault, Faults};
use common::job::{END, IsLost, beside_the_data, copy, job_with, run_through_errors_with};
use common::{OWNER, epoch, feed, files, next_offset, schema};
use puddle_sink::delta::{CHECKPOINT_EVERY, DeltaSink};
use puddle_sink::{Error, Sink, Span, lake};

fn open(lake: &Path, faults: &Faults) -> Result<DeltaSink, Error> {
    DeltaSink::open(lake, &config(), schema(), OWNER, faults.arc())
}

/// Opens the table and commits two epochs.
fn job(lake: &Path, faults: &Faults) -> Result<(), Error> {
    job_with(|| open(lake, faults))
}

fn run_through_errors(lake: &Path, faults: &Faults, context: &str) {
    run_through_errors_with(|| open(lake, faults), context);
}

/// Goes on after a crash, on a sound disk.
fn finish(lake: &Path, context: &str) {
    run_through_errors(lake, &Faults::none(), context);
    assert_exact(lake, END, context);
}

/// The operations of the job without a fault.
fn operations() -> Vec<String> {
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::none());
    job(dir.path(), &faults).unwrap();
    assert_exact(dir.path(), 40, "without a fault");
    faults.operations()
}

fn of_the_log(folder: &Path) -> bool {
    folder.ends_with("_delta_log")
}

fn of_the_data(folder: &Path) -> bool {
    !beside_the_data(folder) && !of_the_log(folder)
}

/// The operation that commits the second epoch.
fn commit_point() -> usize {
    let all = operations();
    let is_it = |name: &String| name.starts_with("rename new") && name.ends_with("00000000000000000002.json");
    all.iter().position(is_it).unwrap()
}

/// Fault matrix 1. Fault matrix 2. Fault matrix 3. Fault matrix 4. Fault matrix 5.
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

/// Fault matrix 3. Fault matrix 4.
#[test]
fn the_version_decides_whether_an_epoch_took_place() {
    let point = commit_point();
    for (at, until) in [(point, 20), (point + 1, 40)] {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(at, Fault::Cut));
        job(dir.path(), &faults).unwrap_err();
        let progress = lake::progress(dir.path(), "t").unwrap();
        assert_eq!((next_offset(&progress, 0), next_offset(&progress, 1)), (until, until));
        let table = lake::table(dir.path(), "t").unwrap();
        assert_eq!(table.rows, common::expected(until).len() as u64);
        // Rejected records too, though they are still where they were staged.
        let rejected = lake::table(dir.path(), "t.rejected").unwrap();
        assert_eq!(rejected.rows, common::expected_rejected(until).len() as u64);
        let read: usize = rejected
            .files
            .iter()
            .flat_map(|file| common::read_file(&file.path))
            .map(|rows| rows.num_rows())
            .sum();
        assert_eq!(read as u64, rejected.rows);
        finish(dir.path(), "on either side of the commit point");
    }
}

/// Fault matrix 6.
#[test]
fn a_commit_whose_answer_is_lost_takes_place_once() {
    let point = commit_point();
    for (at, what) in [(point, "the rename's answer"), (point + 1, "the sync's answer")] {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(at, Fault::LostAnswer));
        let mut sink = open(dir.path(), &faults).unwrap();
        feed(&mut sink, 20).unwrap();
        let result = feed(&mut sink, 40);
        if at == point {
            result.unwrap();
            assert_eq!(next_offset(sink.progress(), 0), 40, "{what}");
        } else {
            // Whether it outlives a power cut is not known: the table is opened again.
            assert!(result.unwrap_err().needs_reopen(), "{what}");
        }
        drop(sink);
        assert_eq!(next_offset(open(dir.path(), &Faults::none()).unwrap().progress(), 0), 40, "{what}");
        assert_exact(dir.path(), 40, what);
        finish(dir.path(), what);
    }
}

/// Fault matrix 9.
#[test]
fn a_crash_at_any_operation_of_the_recovery_from_a_crash_at_any_operation() {
    // One short epoch: what came before it does not matter to a recovery.
    let one = |lake: &Path, faults: &Faults| open(lake, faults).and_then(|mut sink| feed(&mut sink, 8));
    let (scratch, faults) = (tempfile::tempdir().unwrap(), Faults::none());
    one(scratch.path(), &faults).unwrap();
    let lost: [Option<IsLost>; 2] = [None, Some(|_| true)];
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
                let context = format!("crash at {first}, then a power cut");
                let sink =
                    open(dir.path(), &Faults::none()).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(next_offset(sink.progress(), 0), 8, "{context}");
                drop(sink);
                assert_exact(dir.path(), 8, &context);
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
            drop(sink);
            assert_exact(dir.path(), 8, &context);
        }
    }
}

/// Fault matrix 29. Fault matrix 31. Fault matrix 32.
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

/// Fault matrix 29.
#[test]
fn a_full_disk_is_told_as_such_wherever_it_is_met() {
    for (number, operation) in operations().iter().enumerate() {
        // What follows from a commit is not lost for want of room, and what is tidied up need not be.
        let (dir, faults) =
            (tempfile::tempdir().unwrap(), Faults::at(number, Fault::Fail(ErrorKind::StorageFull)));
        if let Err(error) = job(dir.path(), &faults) {
            assert!(error.is_full(), "{operation}: {error}");
        }
    }
}

/// Fault matrix 33.
#[test]
fn a_power_cut_at_any_operation() {
    let loses: [(&str, IsLost); 5] = [
        ("every folder", |_| true),
        ("no folder", |_| false),
        ("folders beside the data", beside_the_data),
        ("the log's folder", of_the_log),
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

/// Fault matrix 33.
#[test]
fn a_commit_that_was_answered_outlives_a_power_cut() {
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::none());
    job(dir.path(), &faults).unwrap();
    faults.power_cut(|_| true);
    let sink = open(dir.path(), &Faults::none()).unwrap();
    assert_eq!(next_offset(sink.progress(), 0), 40);
    drop(sink);
    assert_exact(dir.path(), 40, "after the power cut");
}

/// Fault matrix 7.
#[test]
fn a_crash_at_any_operation_while_a_checkpoint_is_written() {
    let idle =
        |from| Span { from, next: from + 1, last: None, records: 1, written: 0, filtered: 1, rejected: 0 };
    let commit = |sink: &mut DeltaSink, from| sink.commit(epoch(&[(0, idle(from)), (1, idle(from))]));
    let template = tempfile::tempdir().unwrap();
    let mut sink = open(template.path(), &Faults::none()).unwrap();
    feed(&mut sink, 20).unwrap();
    let before = i64::try_from(CHECKPOINT_EVERY).unwrap() + 18;
    for offset in 20..before {
        commit(&mut sink, offset).unwrap();
    }
    drop(sink);
    let checkpoints = |lake: &Path| -> Vec<PathBuf> {
        let mut found = files(&lake.join("t/_delta_log"));
        found.retain(|path| path.to_string_lossy().ends_with(".checkpoint.parquet"));
        found
    };
    assert_eq!(checkpoints(template.path()), Vec::<PathBuf>::new());
    let lost: [Option<IsLost>; 2] = [None, Some(of_the_log)];
    let mut written = false;
    for (number, lost) in (0..).flat_map(|number| lost.map(|lost| (number, lost))) {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(number, Fault::Cut));
        copy(template.path(), dir.path());
        let result = open(dir.path(), &faults).and_then(|mut sink| commit(&mut sink, before));
        if let Some(lost) = lost {
            faults.power_cut(lost);
        }
        written |= !checkpoints(dir.path()).is_empty();
        let mut sink = open(dir.path(), &Faults::none()).unwrap();
        let next = next_offset(sink.progress(), 0);
        assert!(next == before + 1 || (next == before && result.is_err()), "crash at {number}: {next}");
        commit(&mut sink, next).unwrap();
        drop(sink);
        assert_eq!(lake::progress(dir.path(), "t").unwrap()[&common::partition(0)].next, next + 1);
        let history: u64 =
            lake::history(dir.path(), "t").unwrap().map(|commit| commit.map(|_| 1).unwrap()).sum();
        assert_eq!(history, u64::try_from(next + 1 - 20).unwrap() + 1, "crash at {number}");
        if faults.operations().len() <= number {
            assert!(written && !checkpoints(dir.path()).is_empty(), "no checkpoint was ever written");
            break;
        }
    }
}

/// Fault matrix 35.
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

/// Fault matrix 9.
#[test]
fn writers_that_recover_the_same_crash_at_once_all_go_on() {
    let point = commit_point();
    for round in 0..10 {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(point + 2, Fault::Cut));
        job(dir.path(), &faults).unwrap_err();
        assert!(
            common::scan_rejected(dir.path()).len() < common::expected_rejected(40).len(),
            "nothing is left to do"
        );
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    let mut sink = open(dir.path(), &Faults::none()).unwrap();
                    assert_eq!(next_offset(sink.progress(), 0), 40, "round {round}");
                    sink.reload().unwrap();
                });
            }
        });
        assert_exact(dir.path(), 40, &format!("round {round}"));
    }
}
