//! What no version needs goes, once it is old, and nothing else.

use std::fs;
use std::time::{Duration, SystemTime};

use puddle_sink::delta::vacuum;
use puddle_sink::storage::LocalStorage;
use puddle_sink::{Error, SinkConfig, SinkKind};

use crate::common::faults::{Fault, Faults};
use crate::common::{OWNER, feed, files, schema};
use crate::table::{
    DAY, HOUR, Later, assert_exact, config, copy_of, disk, live, on_disk, run_optimize, run_vacuum, table,
};

#[test]
fn a_vacuum_counts_from_the_removal_and_leaves_what_is_young() {
    let dir = table();
    let files_before = live(dir.path());
    for path in &files_before {
        // Long in the table before it was removed.
        fs::File::open(path).unwrap().set_modified(SystemTime::now() - 30 * DAY).unwrap();
    }
    run_optimize(dir.path(), disk()).unwrap();
    let report = run_vacuum(dir.path(), 7 * DAY - HOUR, vacuum::Options::default()).unwrap();
    assert_eq!((report.files.len(), report.young), (0, files_before.len() as u64), "{report:?}");
    assert_eq!(report.older_than, vacuum::DEFAULT_RETENTION);

    let dry = vacuum::Options { dry_run: true, ..vacuum::Options::default() };
    let planned = run_vacuum(dir.path(), 7 * DAY + HOUR, dry).unwrap();
    assert_eq!(on_disk(dir.path()).len(), files_before.len() + 5, "a dry run deleted something");
    let report = run_vacuum(dir.path(), 7 * DAY + HOUR, vacuum::Options::default()).unwrap();
    assert_eq!(report, planned);
    assert_eq!(report.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>(), files_before);
    assert!(report.files.iter().all(|file| file.removed));
    assert_eq!(on_disk(dir.path()), live(dir.path()));
    assert_exact(dir.path(), 40, "vacuumed");
}

#[test]
fn a_shorter_retention_must_be_forced_and_spares_what_may_be_in_flight() {
    let dir = table();
    run_optimize(dir.path(), disk()).unwrap();
    let stranger = dir.path().join("t/key=2013-01/t-unknown.parquet");
    fs::write(&stranger, "x").unwrap();
    let options =
        vacuum::Options { older_than: Some(Duration::from_millis(1)), ..vacuum::Options::default() };
    let error = run_vacuum(dir.path(), Duration::ZERO, options.clone()).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("7 days"), "{error}");

    let forced = vacuum::Options { force: true, ..options };
    let report = run_vacuum(dir.path(), Duration::from_secs(60), forced.clone()).unwrap();
    assert!(report.files.len() > 5 && report.young == 1, "{report:?}");
    assert!(stranger.exists(), "a writer may be about to commit it");
    let report = run_vacuum(dir.path(), 2 * HOUR, forced).unwrap();
    assert_eq!(report.files.iter().map(|file| &file.path).collect::<Vec<_>>(), [&stranger]);
    assert!(!report.files[0].removed && !stranger.exists());
    assert_exact(dir.path(), 40, "vacuumed");
}

/// Fault matrix 45.
#[test]
fn a_vacuum_deletes_no_more_than_forgotten_data_files_of_its_table() {
    let dir = table();
    let outside = tempfile::tempdir().unwrap();
    let root = dir.path().join("t");
    let keep = [
        outside.path().join("elsewhere.parquet"),
        root.join("_delta_log/x.parquet"),
        root.join(".hidden/x.parquet"),
        root.join("_change_data/x.parquet"),
        root.join("key=2013-01/.x.parquet"),
        root.join("key=2013-01/notes.txt"),
        dir.path().join("other/x.parquet"),
        dir.path().join(".puddle/t/staging/x/x.parquet"),
    ];
    for path in &keep {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "keep").unwrap();
    }
    std::os::unix::fs::symlink(outside.path(), root.join("key=link")).unwrap();
    std::os::unix::fs::symlink(&keep[0], root.join("link.parquet")).unwrap();
    let forgotten = root.join("key=2013-01/forgotten.parquet");
    fs::write(&forgotten, "x").unwrap();

    let rejected = files(&dir.path().join("t.rejected"));
    let report = run_vacuum(dir.path(), 8 * DAY, vacuum::Options::default()).unwrap();
    assert_eq!(report.files.iter().map(|file| &file.path).collect::<Vec<_>>(), [&forgotten]);
    assert!(!forgotten.exists());
    assert!(keep.iter().all(|path| path.exists()), "{report:?}");
    assert!(root.join("key=link").is_symlink() && root.join("link.parquet").is_symlink());
    assert_eq!(files(&dir.path().join("t.rejected")), rejected);
}

#[test]
fn nothing_is_deleted_from_a_table_that_lacks_a_file() {
    let dir = table();
    run_optimize(dir.path(), disk()).unwrap();
    let victim = live(dir.path()).swap_remove(0);
    fs::remove_file(&victim).unwrap();
    let before = on_disk(dir.path());
    let error = run_vacuum(dir.path(), 8 * DAY, vacuum::Options::default()).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == victim), "{error}");
    assert_eq!(on_disk(dir.path()), before);
}

/// Fault matrix 10.
#[test]
fn a_vacuum_that_is_killed_at_any_operation_can_be_repeated() {
    let template = table();
    run_optimize(template.path(), disk()).unwrap();
    let many = on_disk(template.path()).len() - live(template.path()).len();
    for number in 0..many {
        let dir = copy_of(&template);
        let storage = Later(Faults::at(number, Fault::Cut).arc(), 14 * 366 * DAY);
        vacuum::vacuum(dir.path(), "t", &vacuum::Options::default(), &storage, &mut |_, _| {}).unwrap_err();
        assert_eq!(on_disk(dir.path()).len(), 5 + many - number);
        assert_exact(dir.path(), 40, "half vacuumed");
        run_vacuum(dir.path(), 8 * DAY, vacuum::Options::default()).unwrap();
        assert_eq!(on_disk(dir.path()), live(dir.path()));
        assert_exact(dir.path(), 40, "vacuumed");
    }
}

#[test]
fn a_plain_table_and_none_at_all_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let plain = SinkConfig { kind: SinkKind::Parquet, ..config() };
    let mut sink = puddle_sink::open(dir.path(), &plain, schema(), OWNER).unwrap();
    feed(&mut *sink, 10).unwrap();
    for error in [
        run_optimize(dir.path(), disk()).unwrap_err(),
        run_vacuum(dir.path(), Duration::ZERO, vacuum::Options::default()).unwrap_err(),
    ] {
        assert!(matches!(error, Error::NotDelta { .. }) && error.is_usage(), "{error}");
    }
    let options = vacuum::Options::default();
    let error =
        vacuum::vacuum(dir.path(), "nothing", &options, &LocalStorage { durable: false }, &mut |_, _| {});
    assert!(matches!(error.unwrap_err(), Error::NoTable { .. }));
}
