//! What it costs to write and commit, by the kind of rows: `cargo bench --profile dev -p puddle-sink`.
//!
//! Each turn is one epoch into a table that goes on growing. Nothing waits for the disk, so that it is the sink that is
//! measured. The bytes of a row in the files are printed at the end.

mod flights;

use std::collections::BTreeMap;
use std::sync::Mutex;

use arrow::array::RecordBatch;
use divan::Bencher;
use divan::counter::ItemsCount;
use puddle_sink::{Committed, Epoch, Sink, SinkConfig, SinkKind, Span};
use puddle_types::TopicPartition;

/// Rows of an epoch of columns made for it.
const ROWS: usize = 100_000;

static SIZES: Mutex<BTreeMap<String, f64>> = Mutex::new(BTreeMap::new());

fn main() {
    divan::main();
    for (what, bytes) in SIZES.lock().unwrap().iter() {
        println!("{what}: {bytes:.1} bytes a row");
    }
}

/// 328,000 rows of 24 columns.
#[divan::bench(args = ["", "month", "month,day"], sample_count = 10)]
fn flights_by(bencher: Bencher, by: &str) {
    write(bencher, "flights by", SinkKind::Parquet, by, &flights::flights());
}

#[divan::bench(sample_count = 10)]
fn flights_delta(bencher: Bencher) {
    write(bencher, "flights, Delta, by", SinkKind::Delta, "month", &flights::flights());
}

#[divan::bench(args = [5, 20, 100], sample_count = 10)]
fn columns(bencher: Bencher, columns: usize) {
    write(bencher, &format!("{columns} columns"), SinkKind::Parquet, "", &flights::wide(columns, ROWS, 10));
}

/// Values whose rows come in no order, so that each batch has rows of many of them.
#[divan::bench(args = [4, 64, 1024], sample_count = 10)]
fn partitions(bencher: Bencher, keys: usize) {
    write(bencher, &format!("{keys} values of"), SinkKind::Parquet, "key", &flights::wide(20, ROWS, keys));
}

/// An epoch of a few rows, of which the commit is most.
#[divan::bench(args = [SinkKind::Parquet, SinkKind::Delta], sample_count = 100)]
fn small_commits(bencher: Bencher, kind: SinkKind) {
    write(bencher, &format!("small commits, {kind}"), kind, "", &flights::wide(20, 100, 1));
}

fn write(bencher: Bencher, what: &str, kind: SinkKind, by: &str, batches: &[RecordBatch]) {
    let lake = tempfile::tempdir().unwrap();
    let partition_by: Vec<String> = by.split(',').filter(|by| !by.is_empty()).map(str::to_owned).collect();
    let config = SinkConfig { kind, partition_by, durable: false, ..SinkConfig::new("t") };
    let mut sink = puddle_sink::open(lake.path(), &config, batches[0].schema(), "bench").unwrap();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    bencher.counter(ItemsCount::new(rows)).bench_local(|| {
        let committed = epoch(&mut *sink, batches);
        SIZES.lock().unwrap().insert(format!("{what} {by}"), committed.bytes as f64 / rows as f64);
    });
}

fn epoch(sink: &mut dyn Sink, batches: &[RecordBatch]) -> Committed {
    let partition = TopicPartition::new("bench", 0);
    let from = sink.progress().get(&partition).map_or(0, |position| position.next);
    let mut records = 0;
    for batch in batches {
        sink.write(batch).unwrap();
        records += batch.num_rows() as u64;
    }
    let next = from + records as i64;
    let span = Span { from, next, last: None, records, written: records, filtered: 0, rejected: 0 };
    sink.commit(Epoch { partitions: BTreeMap::from([(partition, span)]), ..Epoch::default() }).unwrap()
}
