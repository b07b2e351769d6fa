//! What every sink promises. Each test runs on each sink; a new one is added to [`stores`].

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use common::{
    OWNER, epoch, feed, id, next_offset, partition, rejected, rejected_at, rows, rows_at, schema, span,
};
use puddle_sink::memory::MemoryTable;
use puddle_sink::{Committed, Epoch, Error, Retried, Sink, SinkConfig, SinkKind, lake};
use puddle_types::{Position, metadata};

/// A place that one table is kept in, and read back from.
trait Store {
    fn open(&self, schema: SchemaRef, owner: &str) -> Result<Box<dyn Sink>, Error>;
    fn rows(&self) -> Vec<RecordBatch>;
    fn rejected(&self) -> Vec<RecordBatch>;
    fn rejected_files(&self) -> Vec<PathBuf>;
}

type Stores = Vec<(&'static str, Box<dyn Store>)>;

fn stores() -> Stores {
    let mut stores = stores_of_one_writer();
    stores.extend(stores_of_several_writers());
    stores
}

fn stores_of_one_writer() -> Stores {
    vec![("memory", Box::new(MemoryTable::new())), ("parquet", Box::new(Folder::new(SinkKind::Parquet)))]
}

fn stores_of_several_writers() -> Stores {
    vec![
        ("shared memory", Box::new(MemoryTable::with_several_writers())),
        ("delta", Box::new(Folder::new(SinkKind::Delta))),
    ]
}

/// A table in a lake of its own.
struct Folder {
    lake: tempfile::TempDir,
    kind: SinkKind,
}

impl Folder {
    fn new(kind: SinkKind) -> Self {
        Self { lake: tempfile::tempdir().unwrap(), kind }
    }
}

impl Store for MemoryTable {
    fn open(&self, schema: SchemaRef, owner: &str) -> Result<Box<dyn Sink>, Error> {
        MemoryTable::open(self, &schema, owner)
    }

    fn rows(&self) -> Vec<RecordBatch> {
        MemoryTable::rows(self)
    }

    fn rejected(&self) -> Vec<RecordBatch> {
        MemoryTable::rejected(self)
    }

    fn rejected_files(&self) -> Vec<PathBuf> {
        MemoryTable::rejected_files(self)
    }
}

impl Store for Folder {
    fn open(&self, schema: SchemaRef, owner: &str) -> Result<Box<dyn Sink>, Error> {
        let config = SinkConfig { kind: self.kind, durable: false, ..SinkConfig::new("t") };
        puddle_sink::open(self.lake.path(), &config, schema, owner)
    }

    fn rows(&self) -> Vec<RecordBatch> {
        read(self.lake.path(), "t")
    }

    fn rejected(&self) -> Vec<RecordBatch> {
        read(self.lake.path(), "t.rejected")
    }

    fn rejected_files(&self) -> Vec<PathBuf> {
        lake::table(self.lake.path(), "t.rejected").unwrap().files.into_iter().map(|file| file.path).collect()
    }
}

fn read(dir: &Path, table: &str) -> Vec<RecordBatch> {
    match lake::table(dir, table) {
        Ok(table) => table.files.iter().flat_map(|file| common::read_file(&file.path)).collect(),
        Err(Error::NoTable { .. }) => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

fn ids(batches: &[RecordBatch], column: &str) -> Vec<i64> {
    let column = |batch: &RecordBatch| {
        batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().to_vec()
    };
    batches.iter().flat_map(column).collect()
}

fn written(number: i32, until: i64) -> Vec<i64> {
    ids(&[rows(number, 0, until)], "id")
}

#[test]
fn nothing_shows_before_its_commit_and_everything_after() {
    for (name, store) in stores() {
        let mut sink = store.open(schema(), OWNER).unwrap();
        sink.write(&rows(0, 0, 20)).unwrap();
        sink.write_rejected(&rejected(0, 0, 20)).unwrap();
        assert!(store.rows().is_empty() && sink.progress().is_empty(), "{name}");
        let committed = sink.commit(epoch(&[(0, span(0, 20))])).unwrap();
        assert_eq!((committed.epoch, committed.rows), (1, span(0, 20).written), "{name}");
        assert_eq!(ids(&store.rows(), "id"), written(0, 20), "{name}: in order");
        assert_eq!(ids(&store.rejected(), metadata::OFFSET), [5, 12, 19], "{name}");
        let position = Position { next: 20, last: span(0, 20).last };
        assert_eq!(sink.progress().get(&partition(0)), Some(&position), "{name}");
    }
}

#[test]
fn progress_and_rows_outlive_the_sink() {
    for (name, store) in stores() {
        for until in [10, 25, 60] {
            let mut sink = store.open(schema(), OWNER).unwrap();
            feed(&mut *sink, until).unwrap();
        }
        let sink = store.open(schema(), OWNER).unwrap();
        assert_eq!((next_offset(sink.progress(), 0), next_offset(sink.progress(), 1)), (60, 60), "{name}");
        let mut found = ids(&store.rows(), "id");
        found.sort_unstable();
        assert_eq!(found, [written(0, 60), written(1, 60)].concat(), "{name}");
    }
}

#[test]
fn an_aborted_epoch_never_was() {
    for (name, store) in stores() {
        let mut sink = store.open(schema(), OWNER).unwrap();
        feed(&mut *sink, 10).unwrap();
        let before = sink.progress().clone();
        sink.write(&rows(0, 10, 30)).unwrap();
        sink.write_rejected(&rejected(0, 10, 30)).unwrap();
        sink.abort().unwrap();
        assert_eq!(sink.progress(), &before, "{name}");
        feed(&mut *sink, 15).unwrap();
        let mut found = ids(&store.rows(), "id");
        found.sort_unstable();
        assert_eq!(found, [written(0, 15), written(1, 15)].concat(), "{name}");
    }
}

#[test]
fn a_dropped_epoch_never_was() {
    for (name, store) in stores() {
        let mut sink = store.open(schema(), OWNER).unwrap();
        sink.write(&rows(0, 0, 30)).unwrap();
        drop(sink);
        let mut sink = store.open(schema(), OWNER).unwrap();
        assert!(sink.progress().is_empty() && store.rows().is_empty(), "{name}");
        feed(&mut *sink, 5).unwrap();
        assert_eq!(ids(&store.rows(), "id").len(), 2 * written(0, 5).len(), "{name}");
    }
}

#[test]
fn an_epoch_without_rows_moves_progress_and_one_without_news_does_nothing() {
    for (name, store) in stores() {
        let mut sink = store.open(schema(), OWNER).unwrap();
        let filtered = puddle_sink::Span { filtered: 1, written: 0, records: 1, rejected: 0, ..span(0, 9) };
        let committed = sink.commit(epoch(&[(0, filtered)])).unwrap();
        assert_eq!(committed, Committed { epoch: 1, ..Committed::default() }, "{name}");
        // A gap at the end of the partition: offsets move, records do not come.
        let gap = puddle_sink::Span {
            from: 9,
            next: 12,
            last: None,
            records: 0,
            written: 0,
            filtered: 0,
            rejected: 0,
        };
        assert_eq!(sink.commit(epoch(&[(0, gap)])).unwrap().epoch, 2, "{name}");
        let position = sink.progress()[&partition(0)];
        assert_eq!((position.next, position.last), (12, filtered.last), "{name}: the last record is kept");
        let nothing = puddle_sink::Span { from: 12, ..gap };
        for idle in [Epoch::default(), epoch(&[(0, nothing)])] {
            assert_eq!(sink.commit(idle).unwrap().epoch, 2, "{name}");
        }
        drop(sink);
        assert_eq!(next_offset(store.open(schema(), OWNER).unwrap().progress(), 0), 12, "{name}");
    }
}

#[test]
fn an_epoch_that_does_not_go_on_where_the_table_ends_is_refused() {
    for (name, store) in stores() {
        let mut sink = store.open(schema(), OWNER).unwrap();
        feed(&mut *sink, 10).unwrap();
        for (from, next) in [(0, 10), (9, 14), (11, 14)] {
            sink.write(&rows(0, from, next)).unwrap();
            sink.write_rejected(&rejected(0, from, next)).unwrap();
            let error = sink.commit(epoch(&[(0, span(from, next))])).unwrap_err();
            assert!(matches!(error, Error::Discontinuous { expected: 10, .. }), "{name}: {error}");
            assert!(matches!(sink.commit(Epoch::default()), Err(Error::Broken { .. })), "{name}");
            sink.abort().unwrap();
        }
        feed(&mut *sink, 14).unwrap();
        let mut found = ids(&store.rows(), "id");
        found.sort_unstable();
        assert_eq!(found, [written(0, 14), written(1, 14)].concat(), "{name}");
    }
}

#[test]
fn a_gap_must_be_accepted_and_never_leads_back() {
    for (name, store) in stores() {
        let mut sink = store.open(schema(), OWNER).unwrap();
        feed(&mut *sink, 10).unwrap();
        assert!(sink.accept_gap(&partition(0), 9).is_err(), "{name}");
        sink.accept_gap(&partition(0), 14).unwrap();
        sink.write(&rows(0, 14, 16)).unwrap();
        sink.commit(epoch(&[(0, span(14, 16))])).unwrap();
        assert_eq!(next_offset(sink.progress(), 0), 16, "{name}");
    }
}

#[test]
fn counts_that_do_not_match_the_rows_are_refused() {
    for (name, store) in stores() {
        let mut sink = store.open(schema(), OWNER).unwrap();
        sink.write(&rows(0, 0, 10)).unwrap();
        let error = sink.commit(epoch(&[(0, span(0, 10))])).unwrap_err();
        assert!(matches!(error, Error::Counts { .. }), "{name}: the rejected row is missing: {error}");
        sink.abort().unwrap();
        sink.write(&rows(0, 0, 3)).unwrap();
        let error = sink.commit(Epoch::default()).unwrap_err();
        assert!(matches!(error, Error::Counts { .. }), "{name}: rows that no span covers: {error}");
        sink.abort().unwrap();
        feed(&mut *sink, 3).unwrap();
        assert_eq!(store.rows().iter().map(RecordBatch::num_rows).sum::<usize>(), 6, "{name}");
    }
}

#[test]
fn a_table_has_one_writer_unless_its_kind_has_several() {
    for (name, store) in stores_of_one_writer() {
        let sink = store.open(schema(), OWNER).unwrap();
        let Err(error) = store.open(schema(), "second") else { panic!("{name}: two writers") };
        assert!(matches!(&error, Error::Locked { holder, .. } if holder.contains(OWNER)), "{name}: {error}");
        drop(sink);
        assert!(store.open(schema(), OWNER).is_ok(), "{name}: the refused one kept the lock");
    }
    for (name, store) in stores_of_several_writers() {
        let first = store.open(schema(), OWNER).unwrap();
        assert!(store.open(schema(), OWNER).is_ok(), "{name}");
        drop(first);
    }
}

#[test]
fn writers_of_one_table_share_its_partitions() {
    for (name, store) in stores_of_several_writers() {
        let mut writers = [0, 1].map(|_| store.open(schema(), OWNER).unwrap());
        for until in [10, 25, 60] {
            for (number, sink) in (0..).zip(&mut writers) {
                let from = next_offset(sink.progress(), number);
                sink.write(&rows(number, from, until)).unwrap();
                sink.write_rejected(&rejected(number, from, until)).unwrap();
                sink.commit(epoch(&[(number, span(from, until))])).unwrap();
            }
        }
        let mut found = ids(&store.rows(), "id");
        found.sort_unstable();
        assert_eq!(found, [written(0, 60), written(1, 60)].concat(), "{name}");
        let [first, _] = &mut writers;
        assert!(!first.progress().contains_key(&partition(1)), "{name}: it was not reloaded");
        first.reload().unwrap();
        assert_eq!(first.progress()[&partition(1)], Position { next: 60, last: span(25, 60).last }, "{name}");
        // The other partition's writer gave it up: this one goes on.
        feed(&mut **first, 70).unwrap();
    }
}

/// Fault matrix 22.
#[test]
fn a_writer_whose_partition_another_moved_on_is_refused_until_it_reads_again() {
    for (name, store) in stores_of_several_writers() {
        let mut zombie = store.open(schema(), OWNER).unwrap();
        feed(&mut *zombie, 10).unwrap();
        zombie.write(&rows(0, 10, 30)).unwrap();
        zombie.write_rejected(&rejected(0, 10, 30)).unwrap();
        let mut heir = store.open(schema(), OWNER).unwrap();
        feed(&mut *heir, 20).unwrap();
        let error = zombie.commit(epoch(&[(0, span(10, 30))])).unwrap_err();
        assert!(
            matches!(error, Error::Stale { from: 10, found: 20, .. }) && error.is_stale(),
            "{name}: {error}"
        );
        assert!(!error.needs_reopen() && !error.is_usage(), "{name}");
        zombie.abort().unwrap();
        zombie.reload().unwrap();
        assert_eq!(next_offset(zombie.progress(), 0), 20, "{name}");
        feed(&mut *zombie, 40).unwrap();
        let mut found = ids(&store.rows(), "id");
        found.sort_unstable();
        assert_eq!(found, [written(0, 40), written(1, 40)].concat(), "{name}");
    }
}

#[test]
fn a_table_has_one_owner() {
    for (name, store) in stores() {
        feed(&mut *store.open(schema(), OWNER).unwrap(), 3).unwrap();
        let Err(error) = store.open(schema(), "second") else { panic!("{name}: two owners") };
        assert!(matches!(&error, Error::Owner { owner, .. } if owner == OWNER), "{name}: {error}");
        assert!(store.open(schema(), OWNER).is_ok(), "{name}: the refused one kept the lock");
    }
}

#[test]
fn a_nullable_column_may_be_added_and_nothing_else() {
    let added: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None]));
    for (name, store) in stores() {
        feed(&mut *store.open(schema(), OWNER).unwrap(), 3).unwrap();
        let batch = rows(0, 3, 9).slice(0, 2);
        let mut columns = batch.columns().to_vec();
        columns.push(added.clone());
        let mut fields: Vec<_> = schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.push(arrow::datatypes::Field::new("added", added.data_type().clone(), true));
        let wider: SchemaRef = Arc::new(arrow::datatypes::Schema::new(fields));
        let mut sink = store.open(wider.clone(), OWNER).unwrap();
        sink.write(&RecordBatch::try_new(wider.clone(), columns).unwrap()).unwrap();
        let given = puddle_sink::Span { records: 2, written: 2, filtered: 0, rejected: 0, ..span(3, 9) };
        sink.commit(epoch(&[(0, given)])).unwrap();
        drop(sink);
        assert_eq!(store.rows().last().unwrap().num_columns(), 4, "{name}");
        let narrower = Arc::new(schema().project(&[0, 1]).unwrap());
        for other in [schema(), narrower] {
            let Err(error) = store.open(other, OWNER) else { panic!("{name}: a column went missing") };
            assert!(matches!(error, Error::Schema { .. }) && error.is_usage(), "{name}: {error}");
        }
        assert!(store.open(wider, OWNER).is_ok(), "{name}");
    }
}

#[test]
fn a_batch_of_another_schema_breaks_the_epoch_until_it_is_aborted() {
    for (name, store) in stores() {
        let mut sink = store.open(schema(), OWNER).unwrap();
        let error = sink.write(&rejected(0, 0, 10)).unwrap_err();
        assert!(matches!(error, Error::Batch { .. }), "{name}: {error}");
        assert!(matches!(sink.write(&rows(0, 0, 3)), Err(Error::Broken { .. })), "{name}");
        sink.abort().unwrap();
        feed(&mut *sink, 3).unwrap();
        assert!(ids(&store.rows(), "id").contains(&id(1, 0)), "{name}");
    }
}

/// The epoch of a retry of partition 0: so many became rows, were left out, and were rejected anew.
fn again([written, filtered, rejected]: [u64; 3]) -> Epoch {
    let retried = Retried { records: written + filtered + rejected, written, filtered, rejected };
    Epoch { retried: BTreeMap::from([(partition(0), retried)]), ..Epoch::default() }
}

/// A table that has partition 0 up to offset 20; the records at 5, 12 and 19 were rejected.
fn with_rejected(store: &dyn Store) -> Box<dyn Sink> {
    let mut sink = store.open(schema(), OWNER).unwrap();
    sink.write(&rows(0, 0, 20)).unwrap();
    sink.write_rejected(&rejected(0, 0, 20)).unwrap();
    sink.commit(epoch(&[(0, span(0, 20))])).unwrap();
    sink
}

#[test]
fn rejected_records_come_back_with_the_commit_and_not_before() {
    for (name, store) in stores() {
        let mut sink = with_rejected(&*store);
        let before = sink.progress().clone();
        sink.retry(&store.rejected_files()).unwrap();
        sink.write(&rows_at(0, &[12])).unwrap();
        sink.write_rejected(&rejected_at(0, &[19])).unwrap();
        assert_eq!(ids(&store.rejected(), metadata::OFFSET), [5, 12, 19], "{name}: before the commit");
        let committed = sink.commit(again([1, 1, 1])).unwrap();
        assert_eq!((committed.epoch, committed.rows), (2, 1), "{name}");
        assert_eq!(ids(&store.rejected(), metadata::OFFSET), [19], "{name}");
        assert_eq!(ids(&store.rows(), "id"), [written(0, 20), vec![id(0, 12)]].concat(), "{name}");
        assert_eq!(sink.progress(), &before, "{name}: offsets do not move");
        // What was rejected anew can be run again, too, also by the next one who opens the table.
        drop(sink);
        let mut sink = store.open(schema(), OWNER).unwrap();
        assert_eq!(sink.progress(), &before, "{name}");
        sink.retry(&store.rejected_files()).unwrap();
        sink.commit(again([0, 1, 0])).unwrap();
        assert!(store.rejected().is_empty() && store.rejected_files().is_empty(), "{name}");
        assert_eq!(ids(&store.rows(), "id").len(), written(0, 20).len() + 1, "{name}");
    }
}

#[test]
fn a_retry_that_was_aborted_or_dropped_never_was() {
    for (name, store) in stores() {
        let mut sink = with_rejected(&*store);
        for dropped in [false, true] {
            sink.retry(&store.rejected_files()).unwrap();
            sink.write(&rows_at(0, &[5, 12, 19])).unwrap();
            if dropped {
                drop(sink);
                sink = store.open(schema(), OWNER).unwrap();
            } else {
                sink.abort().unwrap();
            }
            assert_eq!(sink.commit(Epoch::default()).unwrap().epoch, 1, "{name}: nothing was left of it");
            assert_eq!(ids(&store.rejected(), metadata::OFFSET), [5, 12, 19], "{name}");
            assert_eq!(ids(&store.rows(), "id"), written(0, 20), "{name}");
        }
        sink.retry(&store.rejected_files()).unwrap();
        sink.write(&rows_at(0, &[5, 12, 19])).unwrap();
        sink.commit(again([3, 0, 0])).unwrap();
        assert!(store.rejected().is_empty(), "{name}");
    }
}

#[test]
fn a_retry_must_account_for_every_record_of_its_files() {
    for (name, store) in stores() {
        let mut sink = with_rejected(&*store);
        let other = Epoch {
            retried: BTreeMap::from([(partition(7), again([0, 3, 0]).retried[&partition(0)])]),
            ..Epoch::default()
        };
        for epoch in [Epoch::default(), again([0, 2, 0]), again([0, 4, 0]), again([1, 2, 0]), other] {
            sink.retry(&store.rejected_files()).unwrap();
            let error = sink.commit(epoch).unwrap_err();
            assert!(matches!(error, Error::Counts { .. }), "{name}: {error}");
            sink.abort().unwrap();
        }
        // Records that come from no file.
        let error = sink.commit(again([0, 3, 0])).unwrap_err();
        assert!(matches!(error, Error::Counts { .. }), "{name}: {error}");
        sink.abort().unwrap();
        assert_eq!(ids(&store.rejected(), metadata::OFFSET), [5, 12, 19], "{name}");
    }
}

#[test]
fn only_files_of_rejected_records_can_be_run_again_and_only_once() {
    for (name, store) in stores() {
        let mut sink = with_rejected(&*store);
        let files = store.rejected_files();
        let twice = [files.clone(), files.clone()].concat();
        let escaping = vec![files[0].join("../../t/key=2013-01")];
        for wrong in [twice, vec![files[0].with_extension("other")], escaping] {
            let error = sink.retry(&wrong).unwrap_err();
            assert!(matches!(error, Error::NotRejected { .. }), "{name}: {error}");
        }
        // After a refusal nothing has changed: an epoch may go on.
        feed(&mut *sink, 20).unwrap();
        sink.retry(&files).unwrap();
        sink.commit(again([0, 3, 0])).unwrap();
        let error = sink.retry(&files).unwrap_err();
        assert!(matches!(error, Error::NotRejected { .. }), "{name}: {error}");
    }
}

#[test]
fn a_retry_may_share_its_commit_with_new_records() {
    for (name, store) in stores() {
        let mut sink = with_rejected(&*store);
        sink.retry(&store.rejected_files()).unwrap();
        sink.write(&rows_at(0, &[5, 12, 19])).unwrap();
        sink.write(&rows(0, 20, 40)).unwrap();
        sink.write_rejected(&rejected(0, 20, 40)).unwrap();
        sink.commit(Epoch { retried: again([3, 0, 0]).retried, ..epoch(&[(0, span(20, 40))]) }).unwrap();
        assert_eq!(ids(&store.rejected(), metadata::OFFSET), [26, 33], "{name}");
        assert_eq!(ids(&store.rows(), "id").len(), written(0, 40).len() + 3, "{name}");
        assert_eq!(next_offset(sink.progress(), 0), 40, "{name}");
    }
}

#[test]
fn a_sink_without_other_writers_has_nothing_to_reload() {
    for (name, store) in stores() {
        let mut sink = with_rejected(&*store);
        let before = sink.progress().clone();
        sink.reload().unwrap();
        assert_eq!(sink.progress(), &before, "{name}");
        feed(&mut *sink, 30).unwrap();
    }
}
