//! What a table's log adds up to, as far as a writer must know it.

use std::collections::BTreeMap;
use std::path::Path;

use delta_kernel::snapshot::SnapshotRef;
use puddle_types::{Position, Progress, TopicPartition};

use super::CHECKPOINT_EVERY;
use super::engine::{self, LOG};
use super::schema::{OWNER, to_arrow};
use super::version::{self, Mark, REJECTED_DOMAIN, Rejected, Stamp};
use crate::Error;
use crate::parquet::log::Form;
use crate::schema::columns;

/// The table as of one version.
pub(super) struct State {
    pub(super) snapshot: SnapshotRef,
    /// The table's identity, a UUID.
    pub(super) table: String,
    /// The pipeline that it belongs to.
    pub(super) owner: String,
    pub(super) form: Form,
    pub(super) marks: BTreeMap<TopicPartition, Mark>,
    /// The newest version that added or took away files of rejected records.
    pub(super) rejected: Option<u64>,
}

impl State {
    /// Reads the newest version; `None` if there is no table. A table that Puddle did not make is refused.
    pub(super) fn load(root: &Path) -> Result<Option<Self>, Error> {
        let log = root.join(LOG);
        let Some(snapshot) = engine::snapshot(root).map_err(|error| blame(&log, error))? else {
            return Ok(None);
        };
        // A version that is cut short would be passed over without a word: its records would be read once more.
        version::read(&log, snapshot.version())?;
        let domains =
            snapshot.get_all_domain_metadata(engine::engine()).map_err(Error::delta("read", &log))?;
        let (owner, table, form) = pinned(root, &snapshot)?;
        let mut state = Self { snapshot, table, owner, form, marks: BTreeMap::new(), rejected: None };
        for domain in domains {
            state
                .set(domain.domain(), domain.configuration())
                .map_err(|reason| Error::corrupt(&log, reason))?;
        }
        Ok(Some(state))
    }

    /// Checks every version that was read, and not just the newest.
    pub(super) fn check(&self, root: &Path) -> Result<(), Error> {
        let log = root.join(LOG);
        let checkpoint = self.snapshot.log_segment().checkpoint_version;
        (checkpoint.map_or(0, |version| version + 1)..self.version())
            .try_for_each(|number| version::read(&log, number).map(|_| ()))
    }

    pub(super) fn version(&self) -> u64 {
        self.snapshot.version()
    }

    /// Goes on to the newest version; what Puddle committed since.
    pub(super) fn refresh(&mut self, root: &Path) -> Result<Vec<Stamp>, Error> {
        let newest = engine::refresh(root, &self.snapshot)?;
        self.advance(root, newest)
    }

    /// Goes on to a newer version; what Puddle committed since.
    pub(super) fn advance(&mut self, root: &Path, newest: SnapshotRef) -> Result<Vec<Stamp>, Error> {
        let log = root.join(LOG);
        let mut stamps = Vec::new();
        for number in self.version() + 1..=newest.version() {
            let version = version::read(&log, number)?
                .ok_or_else(|| Error::corrupt(&engine::version_path(&log, number), "it is gone"))?;
            for (domain, content) in &version.domains {
                self.set(domain, content)
                    .map_err(|reason| Error::corrupt(&engine::version_path(&log, number), reason))?;
            }
            stamps.extend(version.stamp);
        }
        if newest.version() > self.version() {
            (self.owner, self.table, self.form) = pinned(root, &newest)?;
        }
        self.snapshot = newest;
        Ok(stamps)
    }

    pub(super) fn progress(&self) -> Progress {
        let position = |mark: &Mark| Position { next: mark.next, last: mark.last };
        self.marks.iter().map(|(partition, mark)| (partition.clone(), position(mark))).collect()
    }

    fn set(&mut self, domain: &str, content: &str) -> Result<(), String> {
        let unreadable = |error| format!("the content of domain {domain:?} is not known ({error})");
        if domain == REJECTED_DOMAIN {
            let rejected: Rejected = serde_json::from_str(content).map_err(unreadable)?;
            self.rejected = Some(rejected.version);
        } else if version::is_mark(domain) {
            let mark: Mark = serde_json::from_str(content).map_err(unreadable)?;
            self.marks.insert(mark.partition.clone(), mark);
        }
        Ok(())
    }
}

/// Owner, identity and form of a table.
fn pinned(root: &Path, snapshot: &SnapshotRef) -> Result<(String, String, Form), Error> {
    let metadata = snapshot.table_configuration().metadata();
    let owner =
        metadata.configuration().get(OWNER).ok_or_else(|| Error::Foreign { path: root.to_owned() })?;
    let schema = to_arrow(&snapshot.schema()).map_err(|reason| Error::corrupt(&root.join(LOG), reason))?;
    let form = Form { columns: columns(&schema), partition_by: metadata.partition_columns().to_vec() };
    Ok((owner.clone(), metadata.id().to_owned(), form))
}

/// The file at which the kernel failed, if it can be found: its own errors do not name it.
fn blame(log: &Path, error: Error) -> Error {
    let Ok(entries) = std::fs::read_dir(log) else { return error };
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    // What is older is behind a checkpoint.
    let newest = numbers.iter().rev().take(2 * CHECKPOINT_EVERY as usize);
    newest.filter_map(|number| version::read(log, *number).err()).next_back().unwrap_or(error)
}
