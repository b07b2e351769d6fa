//! The commit log: what damage it notices, and what it is like after many commits.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{OWNER, assert_exact, config, epoch, feed, files, next_offset, schema};
use puddle_sink::{Error, Sink, SinkConfig, Span, lake};

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

fn corrupt_at(lake: &Path) -> PathBuf {
    match open(lake) {
        Err(Error::Corrupt { path, .. }) => path,
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("the damage was not noticed"),
    }
}

#[test]
fn a_torn_or_garbled_entry_is_named_and_the_data_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path()).unwrap();
    feed(&mut *sink, 20).unwrap();
    feed(&mut *sink, 40).unwrap();
    drop(sink);
    let (path, before) = (entry(dir.path(), 2), common::scan(dir.path()));
    let whole = fs::read(&path).unwrap();
    let first = fs::read(entry(dir.path(), 1)).unwrap();
    let mut flipped = whole.clone();
    let digit = flipped.windows(7).position(|window| window == b"\"next\":").unwrap() + 7;
    flipped[digit] ^= 1;
    for damaged in [&whole[..whole.len() / 2], b"", b"garbage\0\xff", b"{}", &flipped, &first] {
        fs::write(&path, damaged).unwrap();
        assert_eq!(corrupt_at(dir.path()), path);
        assert!(matches!(lake::progress(dir.path(), "t"), Err(Error::Corrupt { .. })));
        assert!(lake::table(dir.path(), "t").is_err());
        assert_eq!(fs::read(&path).unwrap(), damaged, "the damaged entry was changed");
        assert_eq!(common::scan(dir.path()), before);
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
fn when_no_checkpoint_is_whole_the_newest_is_named() {
    let dir = tempfile::tempdir().unwrap();
    idle(&mut *open(dir.path()).unwrap(), 350);
    for epoch in [200, 300] {
        fs::write(log(dir.path()).join(format!("{epoch:020}.checkpoint.json")), "garbage").unwrap();
    }
    assert!(corrupt_at(dir.path()).to_string_lossy().ends_with(".checkpoint.json"));
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
