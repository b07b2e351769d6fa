//! What the log says: one [`Commit`] an epoch, and the [`State`] that they add up to.

use std::path::{Component, Path, PathBuf};

use puddle_types::{Position, Progress, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::schema::Column;
use crate::{Retried, Span};

/// The newest version of the log's format that is known; a newer one is refused.
///
/// An entry carries the oldest version that has all it says, so that a Puddle that does not know of a thing refuses a
/// log that uses it, and no other: 1, or 2 where files were removed.
pub(crate) const VERSION: u32 = 2;
/// The version of an entry that only adds.
const ADDING: u32 = 1;

/// One commit of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// The version of the log's format.
    pub version: u32,
    /// The commit's number, from 1.
    pub epoch: u64,
    /// The table's identity: a UUID made with its first commit.
    pub table: String,
    /// The pipeline that wrote it.
    pub owner: String,
    /// When, in milliseconds since 1970 (UTC).
    pub time: i64,
    /// The partitions that moved on.
    pub partitions: Vec<Moved>,
    /// The files that became visible.
    pub files: Vec<DataFile>,
    /// The partitions of which rejected records were run again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retried: Vec<RetriedPartition>,
    /// The files of rejected records that this commit takes away, relative to the lake: the records in them were run
    /// again. Readers leave them out, whether they are still there or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// The table's form, in the first commit and in each that changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) form: Option<Form>,
}

/// A partition's stretch in a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The partition.
    #[serde(flatten)]
    pub partition: TopicPartition,
    /// The stretch.
    #[serde(flatten)]
    pub span: Span,
}

/// What became of a partition's rejected records that were run again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetriedPartition {
    /// The partition.
    #[serde(flatten)]
    pub partition: TopicPartition,
    /// The records.
    #[serde(flatten)]
    pub retried: Retried,
}

/// A Parquet file of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// Where it was staged, relative to the lake.
    pub source: String,
    /// Where it is, relative to the lake.
    pub destination: String,
    /// The exact values of the columns that the table is partitioned by, as text; null is `None`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition: Vec<Option<String>>,
    /// Whether its rows are rejected records.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rejected: bool,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// XXH3-64 of its bytes, 16 hexadecimal digits.
    pub hash: String,
}

/// What a table keeps for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Form {
    pub(crate) columns: Vec<Column>,
    pub(crate) partition_by: Vec<String>,
}

/// What all commits up to one add up to; the content of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) version: u32,
    pub(crate) epoch: u64,
    pub(crate) table: String,
    pub(crate) owner: String,
    pub(crate) form: Form,
    #[serde(with = "positions")]
    pub(crate) progress: Progress,
    pub(crate) files: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) rejected: u64,
}

impl Commit {
    /// The version of an entry that takes these files away.
    pub(crate) fn version_for(removed: &[String]) -> u32 {
        if removed.is_empty() { ADDING } else { VERSION }
    }

    /// The places of the files that it takes away.
    pub(crate) fn removed_in(&self, lake: &Path) -> Result<Vec<PathBuf>, String> {
        self.removed.iter().map(|path| inside(lake, path)).collect()
    }
}

impl DataFile {
    /// Its staged place. The log is data, and no data may lead out of the lake.
    pub(crate) fn source_in(&self, lake: &Path) -> Result<PathBuf, String> {
        inside(lake, &self.source)
    }

    /// Its place in the table.
    pub(crate) fn destination_in(&self, lake: &Path) -> Result<PathBuf, String> {
        inside(lake, &self.destination)
    }
}

impl State {
    /// The state after the first commit.
    pub(crate) fn begin(commit: &Commit) -> Result<Self, String> {
        let form = commit.form.clone().ok_or("it is the first commit but does not tell the table's form")?;
        let mut state = Self {
            version: ADDING,
            epoch: 0,
            table: commit.table.clone(),
            owner: commit.owner.clone(),
            form,
            progress: Progress::new(),
            files: 0,
            rows: 0,
            bytes: 0,
            rejected: 0,
        };
        state.apply(commit)?;
        Ok(state)
    }

    /// Adds the next commit, or says why it cannot be the next one.
    pub(crate) fn apply(&mut self, commit: &Commit) -> Result<(), String> {
        if commit.epoch != self.epoch + 1 {
            return Err(format!("it holds epoch {} where {} is due", commit.epoch, self.epoch + 1));
        }
        if commit.table != self.table {
            return Err(format!("it is of table {}, not of {}", commit.table, self.table));
        }
        for Moved { partition, span } in &commit.partitions {
            span.advance(partition, &mut self.progress);
        }
        for file in &commit.files {
            self.files += 1;
            if file.rejected {
                self.rejected += file.rows;
            } else {
                self.rows += file.rows;
                self.bytes += file.bytes;
            }
        }
        let again = commit.retried.iter().map(|again| again.retried.records).sum();
        let less = |all: u64, gone| all.checked_sub(gone).ok_or("it takes away more than there is");
        self.files = less(self.files, commit.removed.len() as u64)?;
        self.rejected = less(self.rejected, again)?;
        if let Some(form) = &commit.form {
            self.form = form.clone();
        }
        self.version = self.version.max(commit.version);
        self.epoch = commit.epoch;
        Ok(())
    }
}

/// A path that data gives as one in the lake, or in another folder; nothing leads out of it.
pub(crate) fn inside(lake: &Path, relative: &str) -> Result<PathBuf, String> {
    let path = Path::new(relative);
    let normal = path.components().all(|part| matches!(part, Component::Normal(_)));
    if relative.is_empty() || !normal {
        Err(format!("it names a file outside the lake: {relative:?}"))
    } else {
        Ok(lake.join(path))
    }
}

/// Progress as a list, JSON's keys being strings only.
mod positions {
    use serde::{Deserializer, Serializer};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct At {
        #[serde(flatten)]
        partition: TopicPartition,
        #[serde(flatten)]
        position: Position,
    }

    pub(super) fn serialize<S: Serializer>(progress: &Progress, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(
            progress
                .iter()
                .map(|(partition, position)| At { partition: partition.clone(), position: *position }),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Progress, D::Error> {
        let list = Vec::<At>::deserialize(from)?;
        Ok(list.into_iter().map(|at| (at.partition, at.position)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_entry_leads_out_of_the_lake() {
        let lake = Path::new("/lake");
        assert_eq!(inside(lake, "t/m=.../t-1.parquet"), Ok(PathBuf::from("/lake/t/m=.../t-1.parquet")));
        for path in ["", "/etc/passwd", "../x", "t/../../x", "./.."] {
            inside(lake, path).unwrap_err();
        }
    }
}
