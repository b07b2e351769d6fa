//! Files of a table that were lost, changed or put there by others: what is said, and that what is said to do helps.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::faults::{Fault, Faults};
use common::job::{finish, killed, open, operation, operations};
use common::{assert_exact, epoch, feed, files, partition, rows};
use puddle_sink::{Epoch, Error, Retried, Sink, lake};

fn entry(lake: &Path, epoch: u64) -> PathBuf {
    lake.join(format!(".puddle/t/log/{epoch:020}.json"))
}

fn done(lake: &Path) -> PathBuf {
    lake.join(".puddle/t/log/done")
}

/// The files of an epoch that are in the table or that of its rejected records.
fn placed(lake: &Path, epoch: u64) -> Vec<PathBuf> {
    let mut paths = files(&lake.join("t"));
    paths.extend(files(&lake.join("t.rejected")));
    paths.retain(|path| path.to_string_lossy().contains(&format!("-{epoch:020}-")));
    paths
}

fn refusal(lake: &Path) -> Error {
    match open(lake, &Faults::none()) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

/// A table of two epochs.
fn table() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path(), &Faults::none()).unwrap();
    feed(&mut sink, 20).unwrap();
    feed(&mut sink, 40).unwrap();
    dir
}

fn flip(path: &Path) {
    let mut content = fs::read(path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(path, content).unwrap();
}

#[test]
fn a_log_that_lost_its_newest_entry_and_its_mark_is_found_out_by_the_tables_files() {
    let dir = table();
    let newest = fs::read(entry(dir.path(), 2)).unwrap();
    fs::remove_file(entry(dir.path(), 2)).unwrap();
    fs::remove_file(done(dir.path())).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(&error, Error::Ahead { epoch: 2, last: 1, .. }), "{error}");
    assert_eq!(common::scan(dir.path()), common::expected(40));
    // One of the two ways on: the log as it was.
    fs::write(entry(dir.path(), 2), newest).unwrap();
    finish(dir.path(), "put back");
}

#[test]
fn files_of_epochs_that_the_log_lost_can_be_moved_away_and_their_records_read_again() {
    let dir = table();
    fs::remove_file(entry(dir.path(), 2)).unwrap();
    fs::remove_file(done(dir.path())).unwrap();
    let mut moved = 0;
    loop {
        match open(dir.path(), &Faults::none()) {
            Ok(_) => break,
            Err(Error::Ahead { path, .. }) => fs::remove_file(path).unwrap(),
            Err(error) => panic!("{error}"),
        }
        moved += 1;
    }
    assert!(moved > 2, "both tables have files of the epoch");
    finish(dir.path(), "moved away");
}

#[test]
fn a_file_in_the_place_of_one_to_come_stops_the_commit_before_it_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path(), &Faults::none()).unwrap();
    feed(&mut sink, 20).unwrap();
    let first = placed(dir.path(), 1).remove(0);
    let name = first.file_name().unwrap().to_string_lossy().replace("0001-", "0002-");
    let stranger = first.with_file_name(name);
    fs::write(&stranger, "theirs").unwrap();
    let error = feed(&mut sink, 40).unwrap_err();
    assert!(matches!(&error, Error::Ahead { path, .. } if *path == stranger), "{error}");
    assert!(!entry(dir.path(), 2).exists(), "it was committed");
    // It is not forgotten by trying again.
    sink.abort().unwrap_err();
    drop(sink);
    assert!(matches!(refusal(dir.path()), Error::Ahead { path, .. } if path == stranger));
    assert_eq!(fs::read(&stranger).unwrap(), b"theirs");
    fs::remove_file(&stranger).unwrap();
    finish(dir.path(), "with the stranger gone");
}

#[test]
fn a_file_that_comes_after_the_commit_point_is_never_replaced() {
    let dir = killed(operation("rename new /", ".parquet", 0), Fault::Cut);
    let commits: Vec<_> = lake::history(dir.path(), "t").unwrap().map(Result::unwrap).collect();
    let stranger = dir.path().join(&commits[1].files[0].destination);
    fs::create_dir_all(stranger.parent().unwrap()).unwrap();
    fs::write(&stranger, "theirs").unwrap();
    assert!(matches!(refusal(dir.path()), Error::Corrupt { path, .. } if path == stranger));
    assert_eq!(fs::read(&stranger).unwrap(), b"theirs");
    fs::remove_file(&stranger).unwrap();
    finish(dir.path(), "with the stranger gone");
}

/// Fault matrix 35.
#[test]
fn an_epoch_whose_staged_files_are_damaged_can_be_taken_back() {
    let placing = |name: &String| name.starts_with("rename new /") && name.ends_with(".parquet");
    let first = operations().iter().position(placing).unwrap();
    for harm in [flip as fn(&Path), |path| fs::remove_file(path).unwrap()] {
        take_back(killed(first, Fault::Cut).path(), 1, 0, harm);
        for published in 0..3 {
            let at = operation("rename new /", ".parquet", published);
            take_back(killed(at, Fault::Cut).path(), 2, published, harm);
        }
    }
}

fn take_back(lake: &Path, epoch: u64, published: usize, harm: fn(&Path)) {
    let staged = files(&lake.join(".puddle/t/staging"));
    harm(staged.last().unwrap());
    assert_eq!(placed(lake, epoch).len(), published);
    let error = refusal(lake);
    let text = error.to_string();
    assert!(matches!(error, Error::Corrupt { .. }), "{text}");
    let name = staged.last().unwrap().file_name().unwrap().to_str().unwrap();
    assert!(text.contains(name) && text.contains(entry(lake, epoch).to_str().unwrap()), "{text}");
    // As it says.
    fs::rename(entry(lake, epoch), lake.join("taken-back.json")).unwrap();
    if published > 0 {
        // Who forgets the second half is told.
        assert!(matches!(refusal(lake), Error::Ahead { .. }));
    }
    placed(lake, epoch).iter().for_each(|path| fs::remove_file(path).unwrap());
    finish(lake, "taken back");
}

#[test]
fn an_epoch_is_not_to_be_taken_back_once_rejected_records_are_gone_for_it() {
    let dir = table();
    let mut sink = open(dir.path(), &Faults::none()).unwrap();
    let file = lake::table(dir.path(), "t.rejected").unwrap().files.remove(0);
    sink.retry(&[file.path]).unwrap();
    sink.write(&rows(0, 0, 1)).unwrap();
    let retried = Retried { records: file.rows, written: 1, filtered: file.rows - 1, rejected: 0 };
    sink.commit(Epoch { retried: [(partition(0), retried)].into(), ..epoch(&[]) }).unwrap();
    drop(sink);
    // Without the mark, a start looks at the files.
    fs::remove_file(done(dir.path())).unwrap();
    flip(&placed(dir.path(), 3)[0]);
    let text = refusal(dir.path()).to_string();
    assert!(text.contains("put it back as it was") && !text.contains("take the epoch back"), "{text}");
}

#[test]
fn what_is_damaged_is_named_by_the_check() {
    let dir = table();
    assert_eq!(lake::check(dir.path(), "t").unwrap(), Vec::<String>::new());
    let mut kinds =
        vec![files(&dir.path().join("t")).remove(0), files(&dir.path().join("t.rejected")).remove(0)];
    kinds.push(done(dir.path()));
    for path in kinds {
        let whole = fs::read(&path).unwrap();
        flip(&path);
        let problems = lake::check(dir.path(), "t").unwrap();
        assert!(problems.len() == 1 && problems[0].contains(path.to_str().unwrap()), "{problems:?}");
        fs::write(&path, whole).unwrap();
    }
    assert_exact(dir.path(), 40, "all as it was");
}
