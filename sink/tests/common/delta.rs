//! What a Delta table holds, read through its log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use puddle_sink::{SinkConfig, SinkKind, lake};
use puddle_types::{Offset, TopicPartition};

use super::{expected, expected_rejected, files, read_file, scan_rejected};

pub fn config() -> SinkConfig {
    SinkConfig { kind: SinkKind::Delta, ..super::config() }
}

/// Ids with their partition's value, sorted.
pub fn read(lake: &Path) -> Vec<(i64, Option<String>)> {
    let mut found = Vec::new();
    for file in lake::table(lake, "t").unwrap().files {
        for batch in read_file(&file.path) {
            let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>();
            found.extend(ids.values().iter().map(|id| (*id, file.partition[0].clone())));
        }
    }
    found.sort();
    found
}

/// Checks that a lake holds every record up to `until` exactly once: by its files, by the spans of its history, and by
/// its own check; and that nothing is left over.
pub fn assert_exact(lake: &Path, until: Offset, context: &str) {
    assert_eq!(read(lake), expected(until), "{context}: rows");
    assert_eq!(scan_rejected(lake), expected_rejected(until), "{context}: rejected records");
    assert_eq!(lake::check(lake, "t").unwrap(), Vec::<String>::new(), "{context}");
    let mut ends: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    for commit in lake::history(lake, "t").unwrap() {
        for moved in commit.unwrap().partitions {
            let end = ends.entry(moved.partition).or_default();
            assert_eq!(moved.span.from, *end, "{context}: history");
            *end = moved.span.next;
        }
    }
    assert_eq!(ends.into_values().collect::<Vec<_>>(), [until, until], "{context}: history");
    for folder in ["staging", "writers"] {
        let left = files(&lake.join(".puddle/t").join(folder));
        assert_eq!(left, Vec::<PathBuf>::new(), "{context}: left in {folder}");
    }
}
