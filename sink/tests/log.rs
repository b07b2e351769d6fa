//! The commit log: what damage it notices, and what it is like after many commits.

mod common;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{OWNER, assert_exact, config, epoch, feed, files, next_offset, schema};
use puddle_sink::parquet::ParquetSink;
use puddle_sink::storage::{LocalStorage, Storage, WriteFile};
use puddle_sink::{Error, Sink, SinkConfig, Span, lake};

const DISK: LocalStorage = LocalStorage { durable: false };

fn open(lake: &Path) -> Result<Box<dyn Sink>, Error> {
    puddle_sink::open(lake, &SinkConfig { durable: false, ..config() }, schema(), OWNER)
}

fn log(lake: &Path) -> PathBuf {
    lake.join(".puddle/t/log")
}

fn entry(lake: &Path, epoch: u64) -> PathBuf {
    log(lake).join(format!("{epoch:020}.json"))
}

/// Makes this many commits in which every record was filtered.
fn idle(sink: &mut dyn Sink, commits: u64) {
    for _ in 0..commits {
        let from = next_offset(sink.progress(), 0);
        let span =
            Span { from, next: from + 1, last: None, records: 1, written: 0, filtered: 1, rejected: 0 };
        sink.commit(epoch(&[(0, span), (1, span)])).unwrap();
    }
}

/// The local disk, counting the files that are read.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

fn corrupt_at(lake: &Path) -> PathBuf {
    match open(lake) {
        Err(Error::Corrupt { path, .. }) => path,
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("the damage was not noticed"),
    }
}

/// Fault matrix 36.
#[test]
fn an_entry_torn_or_flipped_at_any_byte_is_named_and_the_data_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path()).unwrap();
    feed(&mut *sink, 20).unwrap();
    feed(&mut *sink, 40).unwrap();
    drop(sink);
    let (path, before) = (entry(dir.path(), 2), files(dir.path()));
    let whole = fs::read(&path).unwrap();
    let first = fs::read(entry(dir.path(), 1)).unwrap();
    // The last byte is a line end, which says nothing.
    let torn = (0..whole.len() - 1).map(|length| whole[..length].to_vec());
    let flipped = (0..whole.len()).map(|position| {
        let mut flipped = whole.clone();
        flipped[position] ^= 1 << (position % 7);
        flipped
    });
    let garbage = [b"garbage\0\xff".to_vec(), b"{}".to_vec(), vec![0; whole.len()], first];
    for (number, damaged) in torn.chain(flipped).chain(garbage).enumerate() {
        if damaged.trim_ascii_end() == whole.trim_ascii_end() {
            continue;
        }
        fs::write(&path, &damaged).unwrap();
        let Err(error) = lake::progress(dir.path(), "t") else {
            panic!("{damaged:?} was taken for an entry")
        };
        assert!(matches!(&error, Error::Corrupt { path: named, .. } if *named == path), "{error}");
        assert!(error.to_string().contains("put it back from a copy"), "{error}");
        if number % 97 == 0 {
            assert_eq!(corrupt_at(dir.path()), path);
            assert!(lake::table(dir.path(), "t").is_err());
            assert_eq!(fs::read(&path).unwrap(), damaged, "the damaged entry was changed");
            assert_eq!(files(dir.path()), before);
        }
    }
    fs::write(&path, whole).unwrap();
    feed(&mut *open(dir.path()).unwrap(), 60).unwrap();
    assert_exact(dir.path(), 60, "restored");
}

#[test]
fn a_missing_entry_is_noticed_in_the_middle_and_at_the_end() {
    for epoch in [1, 2, 3] {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = open(dir.path()).unwrap();
        for until in [20, 40, 60] {
            feed(&mut *sink, until).unwrap();
        }
        drop(sink);
        fs::remove_file(entry(dir.path(), epoch)).unwrap();
        let named = corrupt_at(dir.path());
        assert!(named == entry(dir.path(), epoch) || named == log(dir.path()), "{}", named.display());
        assert_eq!(common::scan(dir.path()), common::expected(60));
    }
}

#[test]
fn an_entry_of_a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    feed(&mut *open(dir.path()).unwrap(), 20).unwrap();
    let text = fs::read_to_string(entry(dir.path(), 1)).unwrap();
    let body = text.trim_end().split_once("\"body\":").unwrap().1.strip_suffix('}').unwrap();
    let newer = body.replacen("\"version\":1", "\"version\":3", 1);
    let checksum = xxhash_rust::xxh3::xxh3_64(newer.as_bytes());
    fs::write(entry(dir.path(), 1), format!("{{\"checksum\":\"{checksum:016x}\",\"body\":{newer}}}\n"))
        .unwrap();
    let Err(error) = open(dir.path()) else { panic!("it was read") };
    assert!(error.to_string().contains("version 3"), "{error}");
}

#[test]
fn a_damaged_checkpoint_is_made_up_for() {
    for commits in [150, 350] {
        let dir = tempfile::tempdir().unwrap();
        idle(&mut *open(dir.path()).unwrap(), commits);
        let mut checkpoints = files(&log(dir.path()));
        checkpoints.retain(|path| path.to_string_lossy().ends_with(".checkpoint.json"));
        fs::write(checkpoints.last().unwrap(), "garbage").unwrap();
        let sink = open(dir.path()).unwrap();
        assert_eq!(next_offset(sink.progress(), 1), i64::try_from(commits).unwrap());
    }
}

#[test]
fn when_no_checkpoint_is_whole_the_history_stands_in() {
    let dir = tempfile::tempdir().unwrap();
    idle(&mut *open(dir.path()).unwrap(), 350);
    let checkpoint = |epoch: u64| log(dir.path()).join(format!("{epoch:020}.checkpoint.json"));
    let next = || next_offset(open(dir.path()).unwrap().progress(), 0);
    for epoch in [200, 300] {
        fs::write(checkpoint(epoch), "garbage").unwrap();
    }
    assert_eq!(next(), 350);
    let problems = lake::check(dir.path(), "t").unwrap().join("\n");
    for epoch in [200, 300] {
        assert!(problems.contains(checkpoint(epoch).to_str().unwrap()), "{problems}");
        fs::remove_file(checkpoint(epoch)).unwrap();
    }
    assert_eq!(next(), 350);
    let bundle = log(dir.path()).join("history/00000000000000000101.jsonl");
    fs::remove_file(&bundle).unwrap();
    assert_eq!(corrupt_at(dir.path()), entry(dir.path(), 101));
}

#[test]
fn a_damaged_bundle_is_named_with_its_epoch() {
    let dir = tempfile::tempdir().unwrap();
    idle(&mut *open(dir.path()).unwrap(), 350);
    let bundle = log(dir.path()).join("history/00000000000000000101.jsonl");
    let text = fs::read_to_string(&bundle).unwrap();
    fs::write(&bundle, text.replacen("\"epoch\":150", "\"epoch\":151", 1)).unwrap();
    let read: Vec<_> = lake::history(dir.path(), "t").unwrap().collect();
    assert_eq!(read.len(), 150, "it goes on after the damage");
    let error = read.into_iter().next_back().unwrap().unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == bundle), "{error}");
    assert!(error.to_string().contains("epoch 150"), "{error}");
}

#[test]
fn ten_thousand_commits_open_fast_and_their_history_is_whole() {
    const COMMITS: u64 = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path()).unwrap();
    feed(&mut *sink, 20).unwrap();
    idle(&mut *sink, COMMITS - 1);
    drop(sink);
    assert!(fs::read_dir(log(dir.path())).unwrap().count() < 300, "the log's folder grows");
    let begin = Instant::now();
    let sink = open(dir.path()).unwrap();
    let took = begin.elapsed();
    // It takes a few milliseconds; one that reads every entry takes a hundred times that.
    assert!(took < Duration::from_millis(500), "{took:?}");
    let next = 20 + i64::try_from(COMMITS).unwrap() - 1;
    assert_eq!(next_offset(sink.progress(), 0), next);
    let mut end = 0;
    let mut last = 0;
    for commit in lake::history(dir.path(), "t").unwrap() {
        let commit = commit.unwrap();
        assert_eq!((commit.epoch, commit.partitions[0].span.from), (last + 1, end));
        (last, end) = (commit.epoch, commit.partitions[0].span.next);
    }
    assert_eq!((last, end), (COMMITS, next));
    assert_eq!(lake::table(dir.path(), "t").unwrap().rows, common::expected(20).len() as u64);
}

#[test]
fn opening_reads_as_little_after_many_commits_as_after_few() {
    let (dir, counting) = (tempfile::tempdir().unwrap(), Counting::default());
    let mut most = [0; 2];
    for (most, commits) in most.iter_mut().zip([250, 1000]) {
        idle(&mut *open(dir.path()).unwrap(), commits);
        for _ in 0..99 {
            idle(&mut *open(dir.path()).unwrap(), 1);
            counting.0.store(0, Ordering::Relaxed);
            let config = SinkConfig { durable: false, ..config() };
            ParquetSink::open(dir.path(), &config, schema(), OWNER, Arc::new(counting.clone())).unwrap();
            *most = counting.0.load(Ordering::Relaxed).max(*most);
        }
    }
    // The mark, a checkpoint, and the entries since.
    assert!(most[0] == most[1] && most[1] <= 2 + 100, "{most:?} files were read");
}

#[test]
fn a_history_read_while_the_writer_goes_on_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path()).unwrap();
    idle(&mut *sink, 150);
    let mut history = lake::history(dir.path(), "t").unwrap();
    let mut epochs: Vec<u64> = history.by_ref().take(20).map(|commit| commit.unwrap().epoch).collect();
    // Now the entries that the reader is about to read are bundled away.
    idle(&mut *sink, 300);
    epochs.extend(history.map(|commit| commit.unwrap().epoch));
    assert_eq!(epochs, (1..=150).collect::<Vec<_>>());
}

impl Storage for Counting {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        DISK.open(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DISK.create_dir(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        DISK.create(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        DISK.list(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        DISK.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        DISK.rename(from, to)
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        DISK.rename_new(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        DISK.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        DISK.sync_dir(path)
    }
    fn now(&self) -> i64 {
        DISK.now()
    }
}
