//! What a killed run left on the disk, read before the next one mends it: how a reader of the report sees where the
//! kills struck.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

/// How far the killed run was, by what it left. In the order of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Left {
    /// Nothing: it had not begun to write.
    Nothing,
    /// Commits, the last of them at its end.
    Between,
    /// Files of an epoch that no log entry names.
    Staged,
    /// The same, and a log entry that has not got its name yet.
    Entry,
    /// A log entry, and none of its files in place.
    Logged,
    /// A log entry, and some of its files in place.
    Moving,
    /// A log entry and all of its files in place, but not the mark that says so.
    Placed,
    /// A checkpoint or a bundle of the log that was being written.
    Tidying,
}

impl Left {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing yet",
            Self::Between => "whole commits only",
            Self::Staged => "staged files, not in the log",
            Self::Entry => "staged files, and a log entry half written",
            Self::Logged => "a log entry, no file in place",
            Self::Moving => "a log entry, some files in place",
            Self::Placed => "a log entry, all files in place, not marked as done",
            Self::Tidying => "a checkpoint or bundle half written",
        }
    }

    /// Whether it struck between the first file of an epoch and the end of its commit.
    pub(super) fn is_within_a_commit(self) -> bool {
        !matches!(self, Self::Nothing | Self::Between)
    }
}

/// The state of a Parquet table's hidden folder.
pub(super) struct Lake {
    root: PathBuf,
    hidden: PathBuf,
}

impl Lake {
    pub(super) fn new(lake: &Path) -> Self {
        Self { root: lake.to_owned(), hidden: lake.join(".puddle/chaos") }
    }

    /// The number of the newest log entry, 0 without one.
    pub(super) fn newest(&self) -> u64 {
        let is_entry = |name: &String| name.len() == 25 && name.ends_with(".json");
        let entries = names(&self.hidden.join("log")).into_iter().filter(is_entry);
        entries.filter_map(|name| name[..20].parse().ok()).max().unwrap_or(0)
    }

    /// What a kill left, when the newest log entry was `before` as the killed run began.
    pub(super) fn left(&self, before: u64) -> anyhow::Result<Left> {
        let log = self.hidden.join("log");
        let newest = self.newest();
        let temporary: Vec<String> = names(&log).into_iter().filter(|name| name.ends_with(".tmp")).collect();
        if temporary.iter().any(|name| name.contains("checkpoint") || name.contains(".jsonl")) {
            return Ok(Left::Tidying);
        }
        if newest > 0 && self.done() != Some(newest) {
            let entry = unseal(&log.join(format!("{newest:020}.json")))?;
            let files = entry["files"].as_array().context("an entry has files")?;
            let destinations = files.iter().filter_map(|file| file["destination"].as_str());
            let placed = destinations.filter(|path| self.root.join(path).exists()).count();
            return Ok(match placed {
                all if all == files.len() => Left::Placed,
                0 => Left::Logged,
                _ => Left::Moving,
            });
        }
        if temporary.iter().any(|name| !name.starts_with("done")) {
            return Ok(Left::Entry);
        }
        if !names(&self.hidden.join("staging")).is_empty() {
            return Ok(Left::Staged);
        }
        Ok(if newest > before { Left::Between } else { Left::Nothing })
    }

    fn done(&self) -> Option<u64> {
        unseal(&self.hidden.join("log/done")).ok()?["epoch"].as_u64()
    }
}

/// The body of a file of the log.
fn unseal(path: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut sealed: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    Ok(sealed["body"].take())
}

/// The names in a folder, which may not exist.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_of_a_commit_is_told_from_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::new(folder.path());
        let left = || lake.left(0).unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let entry = ".puddle/chaos/log/00000000000000000001.json";
        assert_eq!(left(), Left::Nothing);
        put(".puddle/chaos/staging/a.parquet", "");
        assert_eq!(left(), Left::Staged);
        put(&format!("{entry}.tmp"), "{");
        assert_eq!(left(), Left::Entry);
        fs::remove_file(folder.path().join(format!("{entry}.tmp"))).unwrap();
        put(
            entry,
            r#"{"checksum": "", "body": {"files": [{"destination": "chaos/a"}, {"destination": "chaos/b"}]}}"#,
        );
        assert_eq!(left(), Left::Logged);
        put("chaos/a", "");
        assert_eq!(left(), Left::Moving);
        put("chaos/b", "");
        assert_eq!(left(), Left::Placed);
        fs::remove_file(folder.path().join(".puddle/chaos/staging/a.parquet")).unwrap();
        put(".puddle/chaos/log/done", r#"{"checksum": "", "body": {"epoch": 1}}"#);
        assert_eq!(left(), Left::Between);
        assert_eq!(lake.left(1).unwrap(), Left::Nothing);
        put(".puddle/chaos/log/00000000000000000001.checkpoint.json.tmp", "{");
        assert_eq!(left(), Left::Tidying);
    }
}
