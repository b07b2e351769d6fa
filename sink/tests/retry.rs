//! Rejected records that come back: whatever goes wrong at whichever file operation, each is in one place, once.
//!
//! As in `crash.rs`: the retry runs once to count its operations, then once for each operation with a fault there; then
//! it is run again, as a user would, until nothing comes back any more.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use common::faults::{Fault, Faults};
use common::{OWNER, config, expected, expected_rejected, feed, files, id, partition, schema};
use puddle_sink::parquet::ParquetSink;
use puddle_sink::storage::LocalStorage;
use puddle_sink::{Epoch, Error, Retried, Sink, lake};
use puddle_types::{Offset, metadata};

const END: Offset = 40;

/// Says of a path whether a crash loses what was written there and not synced.
type IsLost = fn(&Path) -> bool;

/// What becomes of a rejected record when it is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Written,
    Filtered,
    Rejected,
}

fn again(offset: Offset) -> Again {
    match offset % 3 {
        0 => Again::Written,
        1 => Again::Filtered,
        _ => Again::Rejected,
    }
}

fn open(lake: &Path, faults: &Faults) -> Result<ParquetSink, Error> {
    ParquetSink::open(lake, &config(), schema(), OWNER, faults.arc())
}

/// A lake with two files of rejected records, of two partitions each.
fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path(), &Faults::none()).unwrap();
    feed(&mut sink, 20).unwrap();
    feed(&mut sink, END).unwrap();
    dir
}

fn rejected_files(lake: &Path) -> Vec<PathBuf> {
    lake::table(lake, "t.rejected").unwrap().files.into_iter().map(|file| file.path).collect()
}

/// Runs the rejected records again, a commit for each file, and leaves files alone of which nothing comes back.
fn retry(lake: &Path, sink: &mut dyn Sink) -> Result<(), Error> {
    for path in rejected_files(lake) {
        let mut records: BTreeMap<i32, Vec<Offset>> = BTreeMap::new();
        for batch in common::read_file(&path) {
            let partitions = batch.column_by_name(metadata::PARTITION).unwrap().as_primitive::<Int32Type>();
            let offsets = batch.column_by_name(metadata::OFFSET).unwrap().as_primitive::<Int64Type>();
            for (partition, offset) in partitions.values().iter().zip(offsets.values()) {
                records.entry(*partition).or_default().push(*offset);
            }
        }
        if records.values().flatten().all(|offset| again(*offset) == Again::Rejected) {
            continue;
        }
        sink.retry(std::slice::from_ref(&path))?;
        let mut retried = BTreeMap::new();
        for (number, offsets) in records {
            let of = |what| offsets.iter().copied().filter(|o| again(*o) == what).collect::<Vec<_>>();
            let (written, rejected) = (of(Again::Written), of(Again::Rejected));
            sink.write(&common::rows_at(number, &written))?;
            sink.write_rejected(&common::rejected_at(number, &rejected))?;
            let count = Retried {
                records: offsets.len() as u64,
                written: written.len() as u64,
                filtered: of(Again::Filtered).len() as u64,
                rejected: rejected.len() as u64,
            };
            retried.insert(partition(number), count);
        }
        sink.commit(Epoch { retried, ..Epoch::default() })?;
    }
    Ok(())
}

/// The operations of a retry without a fault, those of opening the table among them.
fn operations() -> Vec<String> {
    let (dir, faults) = (prepared(), Faults::none());
    open(dir.path(), &faults).and_then(|mut sink| retry(dir.path(), &mut sink)).unwrap();
    assert_exact(dir.path(), "without a fault");
    assert_eq!(files(&dir.path().join("t.rejected")).len(), 2);
    let operations = faults.operations();
    assert_eq!(
        operations.iter().filter(|name| name.contains("remove") && name.ends_with("parquet")).count(),
        2
    );
    operations
}

/// Runs the retry again on a sound disk.
fn finish(lake: &Path, context: &str) {
    assert_a_scan_misses_nothing(lake, context);
    let mut sink = open(lake, &Faults::none()).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_nothing_lost(lake, context);
    retry(lake, &mut sink).unwrap_or_else(|error| panic!("{context}: {error}"));
    drop(sink);
    assert_exact(lake, context);
}

/// Checks that a plain scan at any moment finds each record, in one place or in two. Returns what it finds.
fn assert_a_scan_misses_nothing(lake: &Path, context: &str) -> Vec<i64> {
    let mut found: Vec<i64> = common::scan(lake).into_iter().map(|(id, _)| id).collect();
    found.extend(common::scan_rejected(lake));
    found.sort_unstable();
    let mut missing: Vec<i64> =
        expected(END).into_iter().map(|(id, _)| id).chain(expected_rejected(END)).collect();
    missing.retain(|id| found.binary_search(id).is_err() && again(id % 1_000_000) != Again::Filtered);
    assert_eq!(missing, Vec::<i64>::new(), "{context}: in no place");
    found
}

/// Checks that a plain scan after an opening finds each record in one place, however far the retry had come.
fn assert_nothing_lost(lake: &Path, context: &str) {
    let found = assert_a_scan_misses_nothing(lake, context);
    let doubled = found.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(doubled, None, "{context}: in two places");
}

/// Checks that all rejected records are where they belong after the retry, by a plain scan and by the log.
fn assert_exact(lake: &Path, context: &str) {
    let was_rejected = expected_rejected(END);
    let of = |what| was_rejected.iter().copied().filter(move |id| again(id % 1_000_000) == what);
    let mut rows = expected(END);
    rows.extend(of(Again::Written).map(|id| (id, common::value(id % 1_000_000).map(str::to_owned))));
    rows.sort();
    assert_eq!(common::scan(lake), rows, "{context}: rows of a plain scan");
    let rejected: Vec<i64> = of(Again::Rejected).collect();
    assert_eq!(common::scan_rejected(lake), rejected, "{context}: rejected records of a plain scan");
    for name in ["t", "t.rejected"] {
        let table = lake::table(lake, name).unwrap();
        let mut listed: Vec<PathBuf> = table.files.into_iter().map(|file| file.path).collect();
        listed.sort();
        assert_eq!(listed, files(&lake.join(name)), "{context}: files in the log");
        let count = if name == "t" { rows.len() } else { rejected.len() };
        assert_eq!(table.rows, count as u64, "{context}: rows by the log");
    }
    let mut sum = Retried::default();
    for commit in lake::history(lake, "t").unwrap() {
        for again in commit.unwrap().retried {
            sum.records += again.retried.records;
            sum.written += again.retried.written;
            sum.filtered += again.retried.filtered;
            sum.rejected += again.retried.rejected;
        }
    }
    let [written, filtered, rejected] =
        [Again::Written, Again::Filtered, Again::Rejected].map(|what| of(what).count() as u64);
    let once = Retried { records: was_rejected.len() as u64, written, filtered, rejected };
    assert_eq!(sum, once, "{context}: each was run again once, by the history");
    assert_eq!(lake::check(lake, "t").unwrap(), Vec::<String>::new(), "{context}");
    assert_eq!(files(&lake.join(".puddle/t/staging")), Vec::<PathBuf>::new(), "{context}: staging");
}

/// Fault matrix 1 to 6, of a retry.
#[test]
fn a_crash_at_any_operation_of_a_retry() {
    for (number, operation) in operations().iter().enumerate() {
        for fault in [Fault::Cut, Fault::Torn] {
            let (dir, faults) = (prepared(), Faults::at(number, fault));
            open(dir.path(), &faults).and_then(|mut sink| retry(dir.path(), &mut sink)).unwrap_err();
            finish(dir.path(), &format!("{fault:?} at {number} ({operation})"));
        }
    }
}

#[test]
fn a_crash_at_any_operation_of_the_recovery_from_a_crash_at_any_operation_of_a_retry() {
    let lost: [Option<IsLost>; 2] = [None, Some(|_| true)];
    // Before its commit point, a retry is an epoch like any other; see `crash.rs`.
    let all = operations();
    let at =
        |end: &str| all.iter().position(|name| name.starts_with("rename") && name.ends_with(end)).unwrap();
    for first in at("3.json")..=at("done") {
        for (second, lost) in (0..).flat_map(|second| lost.map(|lost| (second, lost))) {
            let (dir, faults) = (prepared(), Faults::at(first, Fault::Cut));
            open(dir.path(), &faults).and_then(|mut sink| retry(dir.path(), &mut sink)).unwrap_err();
            faults.revive(Some((second, Fault::Cut)));
            let recovered = open(dir.path(), &faults).is_ok();
            if let Some(lost) = lost {
                faults.power_cut(lost);
            }
            finish(
                dir.path(),
                &format!("crash at {first}, then at {second} of the recovery; {}", lost.is_some()),
            );
            if recovered {
                break;
            }
        }
    }
}

#[test]
fn an_error_at_any_operation_of_a_retry() {
    for (number, operation) in operations().iter().enumerate() {
        for fault in [Fault::Fail(ErrorKind::StorageFull), Fault::Fail(ErrorKind::Other), Fault::LostAnswer] {
            let (dir, faults) = (prepared(), Faults::at(number, fault));
            let context = format!("{fault:?} at {number} ({operation})");
            let Ok(mut sink) = open(dir.path(), &faults) else {
                finish(dir.path(), &context);
                continue;
            };
            // The same sink goes on if an abort is enough.
            if retry(dir.path(), &mut sink).is_err() && sink.abort().is_ok() {
                retry(dir.path(), &mut sink).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_exact(dir.path(), &context);
            }
            drop(sink);
            finish(dir.path(), &context);
        }
    }
}

#[test]
fn a_power_cut_at_any_operation_of_a_retry() {
    let beside = |folder: &Path| folder.components().any(|part| part.as_os_str() == ".puddle");
    type Loses<'a> = &'a dyn Fn(&Path) -> bool;
    let loses: [(&str, Loses<'_>); 4] = [
        ("every folder", &|_| true),
        ("no folder", &|_| false),
        ("folders beside the data", &beside),
        ("folders of the data", &|folder| !beside(folder)),
    ];
    for (number, operation) in operations().iter().enumerate() {
        for (which, loses) in loses {
            let (dir, faults) = (prepared(), Faults::at(number, Fault::Cut));
            open(dir.path(), &faults).and_then(|mut sink| retry(dir.path(), &mut sink)).unwrap_err();
            faults.power_cut(loses);
            finish(dir.path(), &format!("power cut at {number} ({operation}), {which} not synced lost"));
        }
    }
}

#[test]
fn a_retry_that_was_answered_outlives_a_power_cut() {
    let (dir, faults) = (prepared(), Faults::none());
    open(dir.path(), &faults).and_then(|mut sink| retry(dir.path(), &mut sink)).unwrap();
    faults.power_cut(|_| true);
    open(dir.path(), &Faults::none()).unwrap();
    assert_exact(dir.path(), "after the power cut");
}

#[test]
fn a_file_that_was_taken_away_but_is_there_is_found() {
    let dir = prepared();
    let before = rejected_files(dir.path());
    let kept = dir.path().join("kept");
    fs::copy(&before[0], &kept).unwrap();
    retry(dir.path(), &mut open(dir.path(), &Faults::none()).unwrap()).unwrap();
    fs::rename(&kept, &before[0]).unwrap();
    let problems = lake::check(dir.path(), "t").unwrap();
    assert!(problems.len() == 1 && problems[0].contains("took this file away"), "{problems:?}");
    assert!(!rejected_files(dir.path()).contains(&before[0]), "readers through the log must not see it");
}

#[test]
fn a_damaged_file_is_not_run_again() {
    let dir = prepared();
    let path = rejected_files(dir.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let mut sink = open(dir.path(), &Faults::none()).unwrap();
    let error = sink.retry(std::slice::from_ref(&path)).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path: named, .. } if *named == path), "{error}");
    fs::write(&path, whole).unwrap();
    retry(dir.path(), &mut sink).unwrap();
    assert_exact(dir.path(), "restored");
}

#[test]
fn what_was_run_again_stays_so_when_the_log_is_checkpointed_and_bundled() {
    let dir = prepared();
    let mut sink = open(dir.path(), &Faults::none()).unwrap();
    retry(dir.path(), &mut sink).unwrap();
    for from in END..END + 250 {
        let span = puddle_sink::Span {
            from,
            next: from + 1,
            last: None,
            records: 1,
            written: 0,
            filtered: 1,
            rejected: 0,
        };
        sink.commit(common::epoch(&[(0, span)])).unwrap();
    }
    drop(sink);
    assert!(dir.path().join(".puddle/t/log/history").is_dir(), "nothing was bundled");
    let storage = std::sync::Arc::new(LocalStorage { durable: false });
    let mut sink = ParquetSink::open(dir.path(), &config(), schema(), OWNER, storage).unwrap();
    assert_exact(dir.path(), "bundled");
    let rows = rejected_files(dir.path()).len();
    retry(dir.path(), &mut sink).unwrap();
    assert_eq!(rejected_files(dir.path()).len(), rows, "nothing is left to come back");
    // Only logs that take files away need a Puddle that knows of it.
    let versions: Vec<u32> =
        lake::history(dir.path(), "t").unwrap().map(|commit| commit.unwrap().version).collect();
    assert_eq!(versions[..5], [1, 1, 2, 2, 1]);
    assert!(id(1, 0) > END + 250, "ids of the partitions do not overlap");
}
