//! Small files become one, and nothing else changes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use puddle_sink::delta::{DeltaSink, vacuum};
use puddle_sink::{Error, Sink, lake};

use crate::common::faults::{Fault, Faults};
use crate::common::{self, OWNER, feed, files, rows, span};
use crate::table::{
    DAY, Meanwhile, assert_exact, config, copy_of, damage, disk, ids, live, on_disk, open, run_optimize,
    run_vacuum, table,
};

#[test]
fn small_files_become_one_in_each_partition_and_the_rows_keep_their_order() {
    let dir = table();
    let by_value = |lake: &Path| {
        let mut ids = ids(lake);
        ids.sort_by_key(|(_, value)| value.clone());
        ids
    };
    let (before, progress) = (by_value(dir.path()), lake::progress(dir.path(), "t").unwrap());
    let commits = lake::history(dir.path(), "t").unwrap().count();
    let files_before = live(dir.path()).len();

    let report = run_optimize(dir.path(), disk()).unwrap();
    assert_eq!((report.files_removed, report.files_added), (files_before as u64, 5), "{report:?}");
    assert_eq!((report.partitions, report.rows), (5, before.len() as u64), "{report:?}");
    assert_eq!(live(dir.path()).len(), 5);
    assert_eq!(by_value(dir.path()), before);
    assert_exact(dir.path(), 40, "optimized");
    assert_eq!(lake::progress(dir.path(), "t").unwrap(), progress);
    assert_eq!(lake::history(dir.path(), "t").unwrap().count(), commits);

    let again = run_optimize(dir.path(), disk()).unwrap();
    assert_eq!((again.commits, again.version), (0, report.version), "there is nothing left to join");
}

#[test]
fn a_column_that_was_added_is_null_in_rows_from_before() {
    let dir = table();
    let wider = |rows: RecordBatch| {
        let mut columns: Vec<(String, arrow::array::ArrayRef, bool)> = Vec::new();
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            columns.push((field.name().clone(), column.clone(), field.is_nullable()));
        }
        columns.push((
            "more".to_owned(),
            Arc::new(arrow::array::Int64Array::from(vec![7; rows.num_rows()])),
            true,
        ));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    let schema = wider(rows(0, 0, 0)).schema();
    let mut sink = DeltaSink::open(dir.path(), &config(), schema, OWNER, disk()).unwrap();
    for number in 0..2 {
        sink.write(&wider(rows(number, 40, 50))).unwrap();
        sink.write_rejected(&common::rejected(number, 40, 50)).unwrap();
    }
    sink.commit(common::epoch(&[(0, span(40, 50)), (1, span(40, 50))])).unwrap();

    run_optimize(dir.path(), disk()).unwrap();
    assert_exact(dir.path(), 50, "optimized");
    let mut filled = 0;
    for path in live(dir.path()) {
        for batch in common::read_file(&path) {
            let (ids, more) = (batch["id"].as_primitive::<Int64Type>(), &batch["more"]);
            for row in 0..batch.num_rows() {
                assert_eq!(more.is_valid(row), ids.value(row) % 1_000_000 >= 40);
                filled += usize::from(more.is_valid(row));
            }
        }
    }
    assert_eq!(filled as u64, 2 * span(40, 50).written);
}

#[test]
fn a_running_pipeline_does_not_notice() {
    let dir = table();
    let mut sink = open(dir.path(), disk());
    feed(&mut sink, 50).unwrap();
    sink.write(&rows(0, 50, 60)).unwrap();
    sink.write_rejected(&common::rejected(0, 50, 60)).unwrap();
    run_optimize(dir.path(), disk()).unwrap();
    run_vacuum(dir.path(), Duration::ZERO, vacuum::Options::default()).unwrap();
    sink.commit(common::epoch(&[(0, span(50, 60))])).unwrap();
    sink.write(&rows(1, 50, 60)).unwrap();
    sink.write_rejected(&common::rejected(1, 50, 60)).unwrap();
    sink.commit(common::epoch(&[(1, span(50, 60))])).unwrap();
    assert_exact(dir.path(), 60, "after both");
}

#[test]
fn a_version_that_only_adds_is_no_conflict() {
    let dir = table();
    let lake = dir.path().to_owned();
    let storage = Meanwhile::arc(move || feed(&mut open(&lake, disk()), 50).unwrap());
    let report = run_optimize(dir.path(), storage).unwrap();
    assert_eq!((report.files_added, report.left_alone), (5, 0), "{report:?}");
    assert_exact(dir.path(), 50, "both");
}

#[test]
fn what_another_has_taken_away_meanwhile_is_not_joined_again() {
    let dir = table();
    let lake = dir.path().to_owned();
    let storage = Meanwhile::arc(move || _ = run_optimize(&lake, disk()).unwrap());
    let report = run_optimize(dir.path(), storage).unwrap();
    assert_eq!((report.commits, report.files_added), (0, 0), "{report:?}");
    assert!(report.left_alone > 0, "{report:?}");
    assert_exact(dir.path(), 40, "once");
    run_vacuum(dir.path(), 8 * DAY, vacuum::Options::default()).unwrap();
    assert_eq!(on_disk(dir.path()), live(dir.path()), "the joined files that nobody wants are gone");
}

/// Fault matrix 35.
#[test]
fn a_flipped_bit_is_found_before_anything_is_joined() {
    let dir = table();
    let victim = live(dir.path()).swap_remove(3);
    damage(&victim);
    let version = lake::table(dir.path(), "t").unwrap().epoch;
    let error = run_optimize(dir.path(), disk()).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == victim), "{error}");
    assert_eq!(lake::table(dir.path(), "t").unwrap().epoch, version);

    // As many rows, but others: only the hash tells.
    let dir = table();
    let victim = live(dir.path()).swap_remove(3);
    let rows = common::read_file(&victim).swap_remove(0);
    let id: Arc<dyn Array> = Arc::new(arrow::array::Int64Array::from(vec![1; rows.num_rows()]));
    let forged = RecordBatch::try_new(rows.schema(), vec![id, rows["text"].clone()]).unwrap();
    let file = std::fs::File::create(&victim).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, forged.schema(), None).unwrap();
    writer.write(&forged).unwrap();
    writer.close().unwrap();
    let error = run_optimize(dir.path(), disk()).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == victim), "{error}");

    let template = table();
    let faults = Faults::none();
    run_optimize(copy_of(&template).path(), faults.arc()).unwrap();
    let is_write = |name: &String| name.starts_with("write ") && name.ends_with(".parquet");
    for (number, _) in faults.operations().iter().enumerate().filter(|(_, name)| is_write(name)) {
        let dir = copy_of(&template);
        let error = run_optimize(dir.path(), Faults::at(number, Fault::Flip).arc()).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert_exact(dir.path(), 40, "nothing was joined");
    }
}

#[test]
fn a_joined_file_that_is_damaged_is_named_by_the_check() {
    let dir = table();
    run_optimize(dir.path(), disk()).unwrap();
    let victim = live(dir.path()).swap_remove(2);
    damage(&victim);
    let problems = lake::check(dir.path(), "t").unwrap();
    assert!(matches!(&problems[..], [one] if one.contains(victim.to_str().unwrap())), "{problems:?}");
}

/// Fault matrix 10.
#[test]
fn an_optimize_that_is_killed_at_any_operation_leaves_the_old_table_or_the_new() {
    let template = table();
    let faults = Faults::none();
    run_optimize(copy_of(&template).path(), faults.arc()).unwrap();
    let (mut old, mut new) = (0, 0);
    for (number, name) in faults.operations().iter().enumerate() {
        for fault in [Fault::Cut, Fault::Torn] {
            let (dir, context) = (copy_of(&template), format!("{fault:?} at {number} ({name})"));
            let before = live(dir.path());
            run_optimize(dir.path(), Faults::at(number, fault).arc()).unwrap_err();
            assert_exact(dir.path(), 40, &context);
            *(if live(dir.path()) == before { &mut old } else { &mut new }) += 1;
            feed(&mut open(dir.path(), disk()), 50).unwrap();
            run_optimize(dir.path(), disk()).unwrap();
            assert_exact(dir.path(), 50, &context);
            run_vacuum(dir.path(), 8 * DAY, vacuum::Options::default()).unwrap();
            assert_eq!(on_disk(dir.path()), live(dir.path()), "{context}");
            assert_eq!(files(&dir.path().join(".puddle/t/staging")), Vec::<PathBuf>::new(), "{context}");
            assert_exact(dir.path(), 50, &context);
        }
    }
    assert!(old > 10 && new > 0, "{old} old, {new} new");
}

/// Fault matrix 33.
#[test]
fn an_optimize_outlives_a_power_cut() {
    let template = table();
    let faults = Faults::none();
    run_optimize(copy_of(&template).path(), faults.arc()).unwrap();
    let operations = faults.operations();
    for number in 0..=operations.len() {
        let (dir, faults) = (copy_of(&template), Faults::at(number, Fault::Cut));
        let result = run_optimize(dir.path(), faults.arc());
        assert_eq!(result.is_ok(), number == operations.len());
        faults.power_cut(|_| true);
        let context = format!("cut at {number} of {operations:#?}");
        assert_exact(dir.path(), 40, &context);
        if result.is_ok() {
            assert_eq!(live(dir.path()).len(), 5, "{context}");
        }
    }
}

/// Fault matrix 29. Fault matrix 30. Fault matrix 31. Fault matrix 32. Fault matrix 34.
#[test]
fn an_optimize_that_fails_anywhere_leaves_every_row() {
    let template = table();
    let faults = Faults::none();
    run_optimize(copy_of(&template).path(), faults.arc()).unwrap();
    for (number, name) in faults.operations().iter().enumerate() {
        for fault in [
            Fault::Fail(io::ErrorKind::Other),
            Fault::Full,
            Fault::NoInodes,
            Fault::ReadOnly,
            Fault::LostAnswer,
        ] {
            let (dir, context) = (copy_of(&template), format!("{fault:?} at {number} ({name})"));
            if let Err(error) = run_optimize(dir.path(), Faults::at(number, fault).arc()) {
                let full = matches!(fault, Fault::Full | Fault::NoInodes);
                assert!(!full || error.is_full(), "{context}: {error}");
            }
            assert_exact(dir.path(), 40, &context);
            run_optimize(dir.path(), disk()).unwrap();
            assert_exact(dir.path(), 40, &context);
        }
    }
}
