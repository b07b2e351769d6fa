//! A Parquet table's log and staging folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::{Left, names, newest, unseal};

/// The state of a Parquet table's hidden folder.
pub(in crate::chaos) struct Parquet {
    root: PathBuf,
    hidden: PathBuf,
}

impl Parquet {
    pub(super) fn new(lake: &Path) -> Self {
        Self { root: lake.to_owned(), hidden: lake.join(".puddle/chaos") }
    }

    /// The number of the newest log entry, 0 without one.
    pub(super) fn newest(&self) -> u64 {
        newest(&self.log()).unwrap_or(0)
    }

    /// What a kill left, when the newest log entry was `before` as the killed run began.
    pub(super) fn left(&self, before: u64) -> anyhow::Result<Left> {
        let log = self.log();
        let newest = self.newest();
        let temporary: Vec<String> = names(&log).into_iter().filter(|name| name.ends_with(".tmp")).collect();
        if temporary.iter().any(|name| name.contains("checkpoint") || name.contains(".jsonl")) {
            return Ok(Left::Tidying);
        }
        if newest > 0 && self.done() != Some(newest) {
            let entry = read(&log.join(format!("{newest:020}.json")))?;
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
        if !names(&self.staging()).is_empty() {
            return Ok(Left::Staged);
        }
        Ok(if newest > before { Left::Between } else { Left::Nothing })
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.hidden.join("staging")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.hidden.join("log")
    }

    fn done(&self) -> Option<u64> {
        read(&self.log().join("done")).ok()?["epoch"].as_u64()
    }
}

/// The body of a file of the log.
fn read(path: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    unseal(&text).with_context(|| format!("{} is not a file of the log", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_of_a_commit_is_told_from_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Parquet::new(folder.path());
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
