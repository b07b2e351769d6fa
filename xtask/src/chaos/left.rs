//! What a killed run left on the disk, read before the next one mends it: how a reader of the report sees where the
//! kills struck.

mod delta;
mod parquet;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::TableKind;
use delta::Delta;
use parquet::Parquet;

/// How far the killed run was, by what it left. In the order of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Left {
    /// Nothing: it had not begun to write.
    Nothing,
    /// Commits, the last of them at its end.
    Between,
    /// Files of an epoch that no log entry names.
    Staged,
    /// The same, in the table's folder: only a Delta table has them there before the entry.
    Unnamed,
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
            Self::Unnamed => "files in the table's folder, not in the log",
            Self::Entry => "staged files, and a log entry half written",
            Self::Logged => "a log entry, none of what follows it in place",
            Self::Moving => "a log entry, some of what follows it in place",
            Self::Placed => "a log entry, all in place, not marked as done",
            Self::Tidying => "a checkpoint or bundle half written",
        }
    }

    /// Whether it struck between the first file of an epoch and the end of its commit.
    pub(super) fn is_within_a_commit(self) -> bool {
        !matches!(self, Self::Nothing | Self::Between)
    }
}

/// What is looked at of a table's folders.
pub(super) enum Lake {
    Parquet(Parquet),
    Delta(Delta),
}

impl Lake {
    /// Looks at a lake whose run has not begun yet: what is there was left by others.
    pub(super) fn new(kind: TableKind, lake: &Path) -> anyhow::Result<Self> {
        Ok(match kind {
            TableKind::Parquet => Self::Parquet(Parquet::new(lake)),
            TableKind::Delta => Self::Delta(Delta::new(lake)?),
        })
    }

    /// The number of the newest log entry, 0 without one.
    pub(super) fn newest(&self) -> u64 {
        match self {
            Self::Parquet(lake) => lake.newest(),
            Self::Delta(lake) => lake.newest(),
        }
    }

    /// What a kill left, when the newest log entry was `before` as the killed run began.
    pub(super) fn left(&self, before: u64) -> anyhow::Result<Left> {
        match self {
            Self::Parquet(lake) => lake.left(before),
            Self::Delta(lake) => lake.left(before),
        }
    }

    /// The folder in which an epoch's files come and go.
    pub(super) fn staging(&self) -> PathBuf {
        match self {
            Self::Parquet(lake) => lake.staging(),
            Self::Delta(lake) => lake.staging(),
        }
    }

    /// The folder of the log.
    pub(super) fn log(&self) -> PathBuf {
        match self {
            Self::Parquet(lake) => lake.log(),
            Self::Delta(lake) => lake.log(),
        }
    }
}

/// The content of a file that says whether it is whole.
fn unseal(text: &str) -> anyhow::Result<Value> {
    let mut sealed: Value = serde_json::from_str(text).context("it is not JSON")?;
    Ok(sealed["body"].take())
}

/// The newest of the names that are a log entry's: twenty digits and `.json`.
fn newest(folder: &Path) -> Option<u64> {
    let is_entry = |name: &String| name.len() == 25 && name.ends_with(".json");
    let entries = names(folder).into_iter().filter(is_entry);
    entries.filter_map(|name| name[..20].parse().ok()).max()
}

/// The names in a folder, which may not exist.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
