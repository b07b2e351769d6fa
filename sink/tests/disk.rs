//! The proof of exactly once under faults of the disk: full, failing, read-only, flipping bits, losing what was not
//! synced.

mod common;

use std::fs;
use std::io::ErrorKind;

use common::faults::{Fault, Faults};
use common::job::{
    END, IsLost, beside_the_data, finish, job, of_the_data, open, operation, operations, run_through_errors,
};
use common::{assert_exact, feed, files};
use puddle_sink::{Error, Sink, lake};

/// Fault matrix 29, 30.
#[test]
fn a_disk_that_is_full_from_any_operation_on_is_told_and_is_gone_on_with_when_there_is_room() {
    let all = operations();
    for fault in [Fault::Full, Fault::NoInodes] {
        let mut stopped = 0;
        for (number, operation) in all.iter().enumerate() {
            let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(number, fault));
            let context = format!("{fault:?} from {number} ({operation}) on");
            // As long as it lasts, what a pipeline would try again ends the same way.
            let Err(error) = job(dir.path(), &faults) else { continue };
            assert!(error.is_full() && !error.is_usage(), "{context}: {error}");
            assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{context}: {error}");
            let error = job_from_progress(dir.path(), &faults).unwrap_err();
            assert!(error.is_full(), "{context}, again: {error}");
            stopped += 1;
            faults.revive(None);
            run_through_errors(dir.path(), &faults, &context);
            assert_exact(dir.path(), END, &context);
        }
        assert!(stopped * 3 > all.len(), "{fault:?} stopped the job {stopped} of {} times", all.len());
    }
}

/// Fault matrix 29.
#[test]
fn an_epoch_that_found_no_room_can_be_written_again_without_opening_the_table_anew() {
    for (begins, ends) in [("create /", ".parquet"), ("write /", ".parquet")] {
        let (dir, faults) =
            (tempfile::tempdir().unwrap(), Faults::at(operation(begins, ends, 0), Fault::Full));
        let mut sink = open(dir.path(), &faults).unwrap();
        feed(&mut sink, 20).unwrap();
        let error = feed(&mut sink, 40).unwrap_err();
        assert!(error.is_full() && !error.needs_reopen(), "{error:?}");
        sink.abort().unwrap();
        assert!(
            files(&dir.path().join(".puddle/t/staging")).is_empty(),
            "what was written still takes up room"
        );
        faults.revive(None);
        feed(&mut sink, 40).unwrap();
        assert_exact(dir.path(), 40, "with room again");
    }
}

/// Fault matrix 31.
#[test]
fn a_files_failed_sync_is_never_tried_again() {
    failed_syncs("sync /");
}

/// Fault matrix 32.
#[test]
fn a_folders_failed_sync_is_never_tried_again() {
    failed_syncs("sync folder /");
}

/// Lets each operation of this kind fail once: the sink must not go on with what it has, and a new one must be exact.
fn failed_syncs(kind: &str) {
    let mut failed = 0;
    for (number, operation) in operations().iter().enumerate().filter(|(_, name)| name.starts_with(kind)) {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(number, Fault::Fail(ErrorKind::Other)));
        let opened = open(dir.path(), &faults);
        let Ok(mut sink) = opened else { continue };
        let error = feed(&mut sink, 20).and_then(|()| feed(&mut sink, 40)).unwrap_err();
        assert!(matches!(&error, Error::Sync { .. }) && error.needs_reopen(), "{operation}: {error}");
        for result in [sink.abort(), sink.write(&common::rows(0, 0, 1)), feed(&mut sink, 40)] {
            assert!(matches!(result, Err(Error::Poisoned { .. })), "{operation}");
        }
        drop(sink);
        // What was not synced is lost at the worst moment: right after.
        faults.power_cut(|_| true);
        finish(dir.path(), &format!("{operation} failed, then a power cut"));
        failed += 1;
    }
    assert!(failed > 4, "only {failed} syncs failed");
}

/// Fault matrix 34.
#[test]
fn a_disk_that_is_read_only_from_any_operation_on_is_told_by_name() {
    for (number, operation) in operations().iter().enumerate() {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(number, Fault::ReadOnly));
        let context = format!("read-only from {number} ({operation}) on");
        job(dir.path(), &faults).unwrap_err();
        let before = files(dir.path());
        let error = job_from_progress(dir.path(), &faults).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(dir.path().to_str().unwrap()) && !error.is_full(), "{context}: {text}");
        assert_eq!(files(dir.path()), before, "{context}: something changed");
        faults.revive(None);
        run_through_errors(dir.path(), &faults, &context);
        assert_exact(dir.path(), END, &context);
    }
}

/// What the next start of a pipeline does.
fn job_from_progress(lake: &std::path::Path, faults: &Faults) -> Result<(), Error> {
    let mut sink = open(lake, faults)?;
    feed(&mut sink, END)
}

/// Fault matrix 6, 29, 31, 32.
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

/// Fault matrix 33.
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

/// Fault matrix 33. Each guard off: a sync that is left out must be missed, or the tests above prove nothing.
#[test]
fn without_any_one_of_the_syncs_a_power_cut_loses_records() {
    let syncs: [(&str, IsLost); 7] = [
        ("staged files", |path| path.extension().is_some_and(|end| end == "parquet")),
        ("the staging folder", |path| path.ends_with("staging")),
        ("log entries", |path| path.to_string_lossy().ends_with(".json.tmp")),
        ("the log's folder", |path| path.ends_with("log")),
        ("the folders of partitions", |path| path.to_string_lossy().contains("key=")),
        ("the folder of rejected records", |path| path.ends_with("t.rejected")),
        ("the folders above", |path| {
            path.ends_with("t") || path.ends_with(".puddle") || path.join("t").exists()
        }),
    ];
    let end = operations().len();
    for (which, ignored) in syncs {
        let loses = |at: usize| {
            let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::at(at, Fault::Cut));
            faults.ignore_syncs(ignored);
            // Past the last operation, both epochs are committed and answered.
            let committed = if job(dir.path(), &faults).is_ok() { 40 } else { 0 };
            faults.power_cut(|_| true);
            let run = || {
                let kept = lake::progress(dir.path(), "t").map_or(0, |all| common::next_offset(&all, 0));
                assert!(kept >= committed, "{which}: only {kept} of {committed} records outlived it");
                finish(dir.path(), which);
            };
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err()
        };
        assert!((0..=end).rev().any(loses), "{which}: nobody misses their syncs");
    }
}

/// Fault matrix 33.
#[test]
fn a_commit_that_was_answered_outlives_a_power_cut() {
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::none());
    job(dir.path(), &faults).unwrap();
    faults.power_cut(|_| true);
    let sink = open(dir.path(), &Faults::none()).unwrap();
    assert_eq!(common::next_offset(sink.progress(), 0), 40);
    assert_exact(dir.path(), 40, "after the power cut");
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

/// Fault matrix 35.
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
