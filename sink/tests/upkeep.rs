//! The upkeep of Delta tables: small files joined, old ones deleted, whatever fails or is done meanwhile.

mod common;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use common::faults::{Fault, Faults};
use common::{OWNER, expected, feed, files, rows, schema, span};
use puddle_sink::delta::{DeltaSink, optimize, vacuum};
use puddle_sink::storage::{LocalStorage, Storage, WriteFile};
use puddle_sink::{Error, Sink, SinkConfig, SinkKind, lake};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn config() -> SinkConfig {
    SinkConfig { kind: SinkKind::Delta, ..common::config() }
}

fn open(lake: &Path, storage: Arc<dyn Storage>) -> DeltaSink {
    DeltaSink::open(lake, &config(), schema(), OWNER, storage).unwrap()
}

fn disk() -> Arc<dyn Storage> {
    Arc::new(LocalStorage { durable: false })
}

/// A table of four commits up to offset 40, several small files in each partition.
fn table() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path(), disk());
    for until in [10, 20, 30, 40] {
        feed(&mut sink, until).unwrap();
    }
    dir
}

/// Another like it, for less than making it.
fn copy_of(table: &tempfile::TempDir) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    common::job::copy(table.path(), dir.path());
    dir
}

/// Flips a bit of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    // Anew, since a copy of a table shares its files.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn run_optimize(lake: &Path, storage: Arc<dyn Storage>) -> Result<optimize::Report, Error> {
    optimize::optimize(lake, "t", &optimize::Options::default(), storage, &mut |_, _| {})
}

/// A vacuum that is run so much later than now.
fn run_vacuum(lake: &Path, later: Duration, options: vacuum::Options) -> Result<vacuum::Report, Error> {
    vacuum::vacuum(lake, "t", &options, &Later(disk(), later), &mut |_, _| {})
}

/// Ids by partition value in the order in which a reader of the log finds them.
fn ids(lake: &Path) -> Vec<(i64, Option<String>)> {
    let mut found = Vec::new();
    for file in lake::table(lake, "t").unwrap().files {
        for batch in common::read_file(&file.path) {
            let ids = batch["id"].as_primitive::<Int64Type>();
            found.extend(ids.values().iter().map(|id| (*id, file.partition[0].clone())));
        }
    }
    found
}

/// Checks that a reader of the log finds every record up to `until` exactly once, and that nothing is amiss.
fn assert_exact(lake: &Path, until: i64, context: &str) {
    let mut found = ids(lake);
    found.sort();
    assert_eq!(found, expected(until), "{context}");
    assert_eq!(lake::check(lake, "t").unwrap(), Vec::<String>::new(), "{context}");
}

fn live(lake: &Path) -> Vec<PathBuf> {
    let mut live: Vec<PathBuf> =
        lake::table(lake, "t").unwrap().files.into_iter().map(|file| file.path).collect();
    live.sort();
    live
}

/// The data files in the table's folder, whether a version names them or not.
fn on_disk(lake: &Path) -> Vec<PathBuf> {
    let mut all = files(&lake.join("t"));
    all.retain(|path| !path.starts_with(lake.join("t/_delta_log")));
    all
}

/// A storage whose clock is ahead.
struct Later(Arc<dyn Storage>, Duration);

/// A storage that lets something else happen once, just before a version is put in the log.
struct Meanwhile<F> {
    disk: Arc<dyn Storage>,
    happened: AtomicBool,
    what: F,
}

impl<F: Fn() + Send + Sync + 'static> Meanwhile<F> {
    fn arc(what: F) -> Arc<dyn Storage> {
        Arc::new(Self { disk: disk(), happened: AtomicBool::new(false), what })
    }
}

/// Forwards every operation that is not named.
macro_rules! forward {
    ($to:tt) => {
        fn create_dir(&self, path: &Path) -> io::Result<()> {
            self.$to.create_dir(path)
        }
        fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
            self.$to.create(path)
        }
        fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
            self.$to.open(path)
        }
        fn list(&self, path: &Path) -> io::Result<Vec<String>> {
            self.$to.list(path)
        }
        fn exists(&self, path: &Path) -> io::Result<bool> {
            self.$to.exists(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.$to.rename(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            self.$to.remove(path)
        }
        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            self.$to.sync_dir(path)
        }
    };
}

impl Storage for Later {
    forward!(0);

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename_new(from, to)
    }

    fn now(&self) -> i64 {
        self.0.now() + i64::try_from(self.1.as_millis()).unwrap()
    }
}

impl<F: Fn() + Send + Sync> Storage for Meanwhile<F> {
    forward!(disk);

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        if to.parent().is_some_and(|folder| folder.ends_with("_delta_log"))
            && !self.happened.swap(true, Ordering::SeqCst)
        {
            (self.what)();
        }
        self.disk.rename_new(from, to)
    }

    fn now(&self) -> i64 {
        self.disk.now()
    }
}

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
    let storage = Meanwhile::arc(move || drop(run_optimize(&lake, disk()).unwrap()));
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

#[test]
fn a_vacuum_counts_from_the_removal_and_leaves_what_is_young() {
    let dir = table();
    let files_before = live(dir.path());
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
