//! A Delta table's log, its writers' staging folders, and the files that no version names.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::{Left, names, newest, unseal};

/// The state of a Delta table's folders.
pub(in crate::chaos) struct Delta {
    root: PathBuf,
    /// Files of the table that are known: to versions that were read, or before the run began.
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    files: HashSet<String>,
    /// The next version to read.
    next: u64,
    /// The rejected records' files of the newest version that has any: where they are to be, in the lake.
    rejected: Vec<String>,
}

impl Delta {
    pub(super) fn new(lake: &Path) -> anyhow::Result<Self> {
        let delta = Self { root: lake.to_owned(), known: RefCell::default() };
        let mut known = Known { next: delta.newest(), ..Known::default() };
        // Killed runs leave files that only a vacuum removes.
        known.files.extend(delta.files());
        delta.known.replace(known);
        Ok(delta)
    }

    pub(super) fn newest(&self) -> u64 {
        newest(&self.log()).unwrap_or(0)
    }

    pub(super) fn left(&self, before: u64) -> anyhow::Result<Left> {
        // Before the log: a version that comes meanwhile may only name more of them.
        let files = self.files();
        self.read()?;
        let known = self.known.borrow();
        let staging = self.root.join(".puddle/chaos/staging");
        let staged: Vec<String> =
            names(&staging).iter().flat_map(|writer| names(&staging.join(writer))).collect();
        if staged.iter().any(|name| name.contains("checkpoint")) {
            return Ok(Left::Tidying);
        }
        let placed = known.rejected.iter().filter(|file| self.root.join(file).exists()).count();
        if placed < known.rejected.len() {
            return Ok(if placed == 0 { Left::Logged } else { Left::Moving });
        }
        if staged.iter().any(|name| name.ends_with(".json")) {
            return Ok(Left::Entry);
        }
        if files.iter().any(|file| !known.files.contains(file)) {
            return Ok(Left::Unnamed);
        }
        if !staged.is_empty() {
            return Ok(Left::Staged);
        }
        Ok(if known.next > before + 1 { Left::Between } else { Left::Nothing })
    }

    /// Reads the versions that are new.
    fn read(&self) -> anyhow::Result<()> {
        let mut known = self.known.borrow_mut();
        loop {
            let path = self.log().join(format!("{:020}.json", known.next));
            let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
            for line in text.lines() {
                let action: Value =
                    serde_json::from_str(line).with_context(|| format!("{} is not JSON", path.display()))?;
                if let Some(file) = action["add"]["path"].as_str() {
                    known.files.insert(file.to_owned());
                }
                if let Some(stamp) = action["commitInfo"]["puddle"].as_str() {
                    let stamp = unseal(stamp)?;
                    let files = stamp["commit"]["files"].as_array().context("a commit has files")?;
                    let rejected = files.iter().filter(|file| file["rejected"] == true);
                    let rejected = rejected.filter_map(|file| file["destination"].as_str());
                    known.rejected = rejected.map(str::to_owned).collect();
                }
            }
            known.next += 1;
        }
    }

    /// The table's files, as versions name them.
    fn files(&self) -> Vec<String> {
        let table = self.root.join("chaos");
        let buckets = names(&table).into_iter().filter(|name| !name.starts_with('_'));
        buckets
            .flat_map(|bucket| {
                names(&table.join(&bucket)).into_iter().map(move |name| format!("{bucket}/{name}"))
            })
            .collect()
    }

    /// One of the folders into which an epoch's files are moved.
    pub(super) fn staging(&self) -> PathBuf {
        self.root.join("chaos/bucket=1")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("chaos/_delta_log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_of_a_commit_is_told_from_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("chaos/bucket=1/of-a-dead-run.parquet", "");
        put("chaos/_delta_log/00000000000000000000.json", "{\"metaData\": {}}\n");
        let delta = Delta::new(folder.path()).unwrap();
        let left = || delta.left(0).unwrap();
        assert_eq!(left(), Left::Nothing);
        put(".puddle/chaos/staging/w/r.parquet", "");
        assert_eq!(left(), Left::Staged);
        put("chaos/bucket=1/a.parquet", "");
        assert_eq!(left(), Left::Unnamed);
        let version = ".puddle/chaos/staging/w/00000000000000000001.json";
        put(version, "{");
        assert_eq!(left(), Left::Entry);
        fs::remove_file(folder.path().join(version)).unwrap();
        let stamp = r#"{\"body\": {\"commit\": {\"files\": [{\"rejected\": true, \"destination\": \"chaos.rejected/r\"}]}}}"#;
        let lines = format!(
            "{{\"commitInfo\": {{\"puddle\": \"{stamp}\"}}}}\n{{\"add\": {{\"path\": \"bucket=1/a.parquet\"}}}}\n"
        );
        put("chaos/_delta_log/00000000000000000001.json", &lines);
        assert_eq!(left(), Left::Logged);
        fs::create_dir(folder.path().join("chaos.rejected")).unwrap();
        fs::rename(
            folder.path().join(".puddle/chaos/staging/w/r.parquet"),
            folder.path().join("chaos.rejected/r"),
        )
        .unwrap();
        assert_eq!(left(), Left::Between);
        assert_eq!(delta.left(1).unwrap(), Left::Nothing);
        put(".puddle/chaos/staging/w/00000000000000000001.checkpoint.parquet", "");
        assert_eq!(left(), Left::Tidying);
    }
}
