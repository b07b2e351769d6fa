//! The upkeep of tables as a user meets it.

use crate::sandbox::{Sandbox, json};

/// A sandbox with the table `events` of this kind, made by three runs: three files in each of two partitions.
fn with_table(kind: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.pipeline("events", "schema = { id = \"int64\", name = \"string\" }", None);
    for run in 0..3 {
        let lines = (0..10).map(|n| format!("{{\"id\": {}, \"name\": \"{}\"}}\n", run * 10 + n, n % 2));
        sandbox.write("events.ndjson", &lines.collect::<String>());
        sandbox.puddle(&["replay", "events.ndjson", "--topic", "events", "--partitions", "1"]).ok();
        let kind = format!("sink.kind=\"{kind}\"");
        let by = "sink.partition_by=[\"name\"]";
        sandbox.puddle(&["run", "events", "--until-caught-up", "--set", &kind, "--set", by]).ok();
    }
    sandbox
}

fn ids(sandbox: &Sandbox) -> String {
    sandbox.puddle(&["query", "SELECT id, name FROM events ORDER BY id", "--format", "csv"]).ok()
}

#[test]
fn a_delta_table_is_optimized_and_vacuumed_and_audited() {
    let sandbox = with_table("delta");
    let before = ids(&sandbox);
    assert_eq!(before.lines().count(), 31);

    let report = json(&sandbox.puddle(&["table", "optimize", "events", "--json"]).ok());
    assert_eq!((&report["files_removed"], &report["files_added"]), (&6.into(), &2.into()), "{report}");
    assert_eq!((&report["rows"], &report["left_alone"]), (&30.into(), &0.into()), "{report}");
    let again = sandbox.puddle(&["table", "optimize", "events"]).ok();
    assert!(again.contains("nothing to join"), "{again}");
    assert_eq!(ids(&sandbox), before);

    let shown = json(&sandbox.puddle(&["table", "show", "events", "--json"]).ok());
    assert_eq!((&shown["kind"], &shown["files"], &shown["rows"]), (&"delta".into(), &2.into(), &30.into()));
    assert_eq!(shown["commit"], report["version"]);

    let young = json(&sandbox.puddle(&["table", "vacuum", "events", "--json"]).ok());
    assert_eq!((young["files"].as_array().unwrap().len(), &young["too_young"]), (0, &6.into()), "{young}");
    sandbox
        .puddle(&["table", "vacuum", "events", "--older-than", "1h"])
        .fails(2, &["\"events\"", "7 days", "1 hours"]);
    let force = ["table", "vacuum", "events", "--older-than", "0s", "--force"];
    let dry = sandbox.puddle(&[&force[..], &["--dry-run"]].concat()).ok();
    assert_eq!(dry.matches(".parquet\n").count(), 6, "{dry}");
    let done = sandbox.puddle(&force).ok();
    assert!(done.contains("6 files") && done.contains("deleted"), "{done}");
    assert_eq!(ids(&sandbox), before);
    let kind = ["--set", "sink.kind=\"delta\"", "--set", "sink.partition_by=[\"name\"]"];
    sandbox.puddle(&[&["verify", "events"][..], &kind].concat()).ok();
    sandbox.puddle(&[&["run", "events", "--until-caught-up"][..], &kind].concat()).ok();
    assert_eq!(ids(&sandbox), before);
}

#[test]
fn a_plain_table_is_listed_and_needs_no_upkeep() {
    let sandbox = with_table("parquet");
    let list = sandbox.puddle(&["table", "list"]).ok();
    let line = list.lines().find(|line| line.contains(" events ")).expect("the table is listed");
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[..4], ["events", "parquet", "6", "30"], "{list}");
    let columns = sandbox.puddle(&["table", "show", "events"]).ok();
    assert!(columns.contains("30 rows in 6 files") && columns.contains("_offset"), "{columns}");
    for action in ["optimize", "vacuum"] {
        sandbox
            .puddle(&["table", action, "events"])
            .fails(2, &["\"events\"", "\"parquet\"", "\"delta\"", action]);
        sandbox.puddle(&["table", action, "evnts"]).fails(2, &["\"evnts\""]);
    }
}

#[test]
fn every_table_command_has_help_with_an_example() {
    let sandbox = Sandbox::new();
    for action in ["list", "show", "optimize", "vacuum"] {
        let help = sandbox.puddle(&["table", action, "--help"]).ok();
        assert!(help.contains("Example") && help.contains("--lake") && help.contains("--json"), "{help}");
    }
}
