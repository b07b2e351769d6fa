//! A bit flipped in each kind of file of a lake: what `puddle run` and `puddle verify` say of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use puddle_sink::{Epoch, SinkConfig, Span, lake};
use puddle_types::TopicPartition;

use crate::sandbox::{Ended, Sandbox, json};

/// What a command says of the damage.
enum Says {
    /// It fails, names the file and says what to do.
    Stops(&'static str),
    /// It has no need of what is damaged, or makes up for it.
    GoesOn,
    /// The same, but it warns and names the file.
    Warns,
}

/// A table whose log is long enough to have a checkpoint and a bundle: epoch 1 has files, 2 to 251 have none, 252 has.
fn long_table() -> Sandbox {
    let sandbox = Sandbox::new();
    let lines = |count: usize| "{\"id\": 1}\n".repeat(count) + "{\"id\": \"x\"}\n";
    sandbox.pipeline("events", "schema = { id = \"int64\" }", None);
    sandbox.write("events.ndjson", &lines(9));
    sandbox.puddle(&["replay", "events.ndjson", "--partitions", "1"]).ok();
    sandbox.puddle(&["run", "events", "--until-caught-up"]).ok();
    sandbox.write("more.ndjson", &"{\"id\": 2}\n".repeat(250));
    sandbox.puddle(&["replay", "more.ndjson", "--topic", "events"]).ok();
    filter(&sandbox.path("lake"), 10..260);
    sandbox.puddle(&["replay", "events.ndjson"]).ok();
    sandbox.puddle(&["run", "events", "--until-caught-up"]).ok();
    sandbox
}

/// Commits each of these records as one that the SQL left out.
fn filter(lake: &Path, records: std::ops::Range<i64>) {
    let config = SinkConfig { durable: false, ..SinkConfig::new("events") };
    let schema = lake::table(lake, "events").unwrap().schema;
    let mut sink = puddle_sink::open(lake, &config, schema, "events").unwrap();
    for from in records {
        let span =
            Span { from, next: from + 1, last: None, records: 1, written: 0, filtered: 1, rejected: 0 };
        let partitions = BTreeMap::from([(TopicPartition::new("events", 0), span)]);
        sink.commit(Epoch { partitions, ..Epoch::default() }).unwrap();
    }
}

fn flip(path: &Path) {
    let mut content = fs::read(path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(path, content).unwrap();
}

#[track_caller]
fn check(ended: &Ended, says: &Says, path: &Path) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let told = format!("{}{}", ended.out, ended.err);
    let code = i32::from(matches!(says, Says::Stops(_)));
    assert_eq!(ended.code, code, "{name}: {told}");
    match says {
        Says::Stops(what) => assert!(told.contains(name) && told.contains(what), "{name}, {what:?}: {told}"),
        Says::Warns => assert!(told.contains(name), "{name}: {told}"),
        Says::GoesOn => assert!(!told.contains("damaged"), "{name}: {told}"),
    }
}

/// Fault matrix 35, 36.
#[test]
fn a_flipped_bit_in_any_file_of_a_lake_is_named_and_never_silently_wrong() {
    let sandbox = long_table();
    let hidden = |name: &str| sandbox.path("lake/.puddle/events").join(name);
    let entry = |epoch: u64| hidden(&format!("log/{epoch:020}.json"));
    let data = |epoch: u64| sandbox.path(&format!("lake/events/events-{epoch:020}-0.parquet"));
    let rejected = sandbox.path("lake/events.rejected/events.rejected-00000000000000000001-0.parquet");
    let copy = "put it back from a copy";
    // (file, `puddle verify`, `puddle run`)
    let kinds: [(PathBuf, Says, Says); 9] = [
        (entry(252), Says::Stops(copy), Says::Stops(copy)),
        (entry(205), Says::Stops(copy), Says::Stops(copy)),
        // Older than the checkpoint: a run has no need of it.
        (entry(150), Says::Stops(copy), Says::GoesOn),
        (hidden("log/history/00000000000000000001.jsonl"), Says::Stops(copy), Says::GoesOn),
        (hidden("log/00000000000000000200.checkpoint.json"), Says::Stops("may also be removed"), Says::Warns),
        (hidden("log/done"), Says::Stops("The next run makes up for it"), Says::GoesOn),
        // What is committed is never read again by a run.
        (data(1), Says::Stops(copy), Says::GoesOn),
        (data(252), Says::Stops(copy), Says::GoesOn),
        (rejected, Says::Stops(copy), Says::GoesOn),
    ];
    for (path, verify, run) in kinds {
        let whole = fs::read(&path).unwrap();
        flip(&path);
        check(&sandbox.puddle(&["verify", "events"]), &verify, &path);
        check(&sandbox.puddle(&["run", "events", "--until-caught-up"]), &run, &path);
        fs::write(&path, whole).unwrap();
        sandbox.puddle(&["verify", "events"]).ok();
    }

    // As a power cut after the commit point may leave it: committed, not in the table yet, and the staged file damaged.
    let staged = hidden("staging/events-00000000000000000252-0.parquet");
    fs::rename(data(252), &staged).unwrap();
    fs::remove_file(hidden("log/done")).unwrap();
    flip(&staged);
    let report = json(&sandbox.puddle(&["verify", "events", "--json"]).ok());
    assert_eq!(
        (&report["commits"], &report["behind"]),
        (&251.into(), &10.into()),
        "half an epoch is not seen"
    );
    let stops = sandbox.puddle(&["run", "events", "--until-caught-up"]);
    check(&stops, &Says::Stops("take the epoch back"), &staged);
    // The way on that it names: the entry away, then what the table has of the epoch.
    fs::remove_file(entry(252)).unwrap();
    let ahead = sandbox.path("lake/events.rejected/events.rejected-00000000000000000252-0.parquet");
    let stops = sandbox.puddle(&["run", "events", "--until-caught-up"]);
    check(&stops, &Says::Stops("the log lost its newest entries"), &ahead);
    fs::remove_file(ahead).unwrap();
    sandbox.puddle(&["run", "events", "--until-caught-up"]).ok();
    let report = json(&sandbox.puddle(&["verify", "events", "--json"]).ok());
    assert_eq!(
        (&report["records"], &report["written"], &report["rejected"]),
        (&270.into(), &18.into(), &2.into())
    );
}
