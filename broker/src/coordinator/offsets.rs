//! The offsets that groups have committed: in memory, and in a journal that is replayed at start.
//!
//! The journal is a text file, one change a line, each with the CRC-32C of its text in front, so that a torn last line
//! is noticed. When it has grown to several times what is still true, it is written anew.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::info;

use crate::config::Fsync;
use crate::log::sync_dir;

/// The journal is not rewritten below this size.
const SMALLEST_REWRITE: u64 = 1 << 20;
/// The journal is rewritten when it has grown by this factor.
const GROWTH: u64 = 4;

/// What a group has committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// The next offset to read.
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Commit { group: String, offsets: Vec<Committed> },
    ForgetGroup { group: String },
    ForgetTopic { topic: String },
    ForgetPartitions { group: String, topic: String, partitions: Vec<i32> },
}

type ByPartition = BTreeMap<(String, i32), Committed>;

/// All groups' offsets.
#[derive(Debug)]
pub(crate) struct OffsetStore {
    path: PathBuf,
    fsync: Fsync,
    state: Mutex<Journal>,
}

#[derive(Debug)]
struct Journal {
    groups: BTreeMap<String, ByPartition>,
    file: File,
    bytes: u64,
    bytes_when_rewritten: u64,
    unsynced: bool,
    /// The broker is stopping: nothing may be written any more.
    closed: bool,
}

impl OffsetStore {
    /// Opens the journal, or begins one. What follows the last whole line is cut off.
    pub(crate) fn open(path: PathBuf, fsync: Fsync) -> io::Result<OffsetStore> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let text = std::fs::read(&path)?;
        let mut groups = BTreeMap::new();
        let mut sound = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let Some(change) = parse(line) else { break };
            apply(&mut groups, change);
            sound += line.len();
        }
        if sound < text.len() {
            info!(path = %path.display(), bytes = text.len() - sound, "cut off a torn tail");
            file.set_len(sound as u64)?;
        }
        let bytes = sound as u64;
        let journal =
            Journal { groups, file, bytes, bytes_when_rewritten: bytes, unsynced: false, closed: false };
        Ok(OffsetStore { path, fsync, state: Mutex::new(journal) })
    }

    /// Stores offsets. Blocks on the disk.
    pub(crate) fn commit(&self, group: &str, offsets: Vec<Committed>) -> io::Result<()> {
        self.change(Change::Commit { group: group.to_owned(), offsets })
    }

    /// Forgets what a group has committed. Blocks on the disk.
    pub(crate) fn forget_group(&self, group: &str) -> io::Result<()> {
        self.change(Change::ForgetGroup { group: group.to_owned() })
    }

    /// Forgets a deleted topic. Blocks on the disk.
    pub(crate) fn forget_topic(&self, topic: &str) -> io::Result<()> {
        self.change(Change::ForgetTopic { topic: topic.to_owned() })
    }

    /// Forgets some partitions of a group. Blocks on the disk.
    pub(crate) fn forget_partitions(&self, group: &str, topic: &str, partitions: Vec<i32>) -> io::Result<()> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        self.change(Change::ForgetPartitions { group, topic, partitions })
    }

    /// What a group has committed for a partition.
    pub(crate) fn get(&self, group: &str, topic: &str, partition: i32) -> Option<Committed> {
        self.state().groups.get(group)?.get(&(topic.to_owned(), partition)).cloned()
    }

    /// Everything that a group has committed, by topic and partition; `None` for an unknown group.
    pub(crate) fn of_group(&self, group: &str) -> Option<Vec<Committed>> {
        self.state().groups.get(group).map(|offsets| offsets.values().cloned().collect())
    }

    /// The groups with committed offsets.
    pub(crate) fn groups(&self) -> Vec<String> {
        self.state().groups.keys().cloned().collect()
    }

    /// How many groups have committed offsets.
    pub(crate) fn group_count(&self) -> usize {
        self.state().groups.len()
    }

    /// Waits for the change under way and refuses others from now on.
    pub(crate) fn close(&self) {
        self.state().closed = true;
    }

    /// Forces the journal to disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut journal = self.state();
        if std::mem::take(&mut journal.unsynced) { journal.file.sync_data() } else { Ok(()) }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let line = format(&change)?;
        let mut journal = self.state();
        let journal = &mut *journal;
        if journal.closed {
            return Err(io::Error::other("the broker is stopping"));
        }
        if let Err(error) = journal.file.write_all(&line) {
            // A torn line would end the replay, and with it hide every later one.
            journal.file.set_len(journal.bytes)?;
            return Err(error);
        }
        journal.bytes += line.len() as u64;
        journal.unsynced = true;
        if self.fsync == Fsync::Always {
            journal.file.sync_data()?;
            journal.unsynced = false;
        }
        apply(&mut journal.groups, change);
        if journal.bytes > SMALLEST_REWRITE.max(GROWTH * journal.bytes_when_rewritten) {
            self.rewrite(journal)?;
        }
        Ok(())
    }

    fn rewrite(&self, journal: &mut Journal) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        let mut bytes = 0;
        for (group, offsets) in &journal.groups {
            let offsets = offsets.values().cloned().collect();
            let line = format(&Change::Commit { group: group.clone(), offsets })?;
            file.write_all(&line)?;
            bytes += line.len() as u64;
        }
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        self.path.parent().map_or(Ok(()), sync_dir)?;
        journal.file = OpenOptions::new().append(true).open(&self.path)?;
        (journal.bytes, journal.bytes_when_rewritten, journal.unsynced) = (bytes, bytes, false);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, Journal> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply(groups: &mut BTreeMap<String, ByPartition>, change: Change) {
    match change {
        Change::Commit { group, offsets } => {
            let of_group = groups.entry(group).or_default();
            for committed in offsets {
                of_group.insert((committed.topic.clone(), committed.partition), committed);
            }
        }
        Change::ForgetGroup { group } => {
            groups.remove(&group);
        }
        Change::ForgetTopic { topic } => {
            for offsets in groups.values_mut() {
                offsets.retain(|(name, _), _| *name != topic);
            }
        }
        Change::ForgetPartitions { group, topic, partitions } => {
            if let Some(offsets) = groups.get_mut(&group) {
                offsets.retain(|(name, partition), _| *name != topic || !partitions.contains(partition));
            }
        }
    }
}

fn format(change: &Change) -> io::Result<Vec<u8>> {
    let text = serde_json::to_string(change)?;
    Ok(format!("{:08x} {text}\n", crc32c::crc32c(text.as_bytes())).into_bytes())
}

fn parse(line: &[u8]) -> Option<Change> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (checksum, text) = line.split_once(' ')?;
    let checksum = u32::from_str_radix(checksum, 16).ok()?;
    if checksum != crc32c::crc32c(text.as_bytes()) {
        return None;
    }
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn at(topic: &str, partition: i32, offset: i64) -> Committed {
        Committed {
            topic: topic.into(),
            partition,
            offset,
            leader_epoch: -1,
            metadata: "a \"note\"\n".into(),
        }
    }

    fn store(temp: &TempDir) -> OffsetStore {
        OffsetStore::open(temp.path().join("offsets"), Fsync::Never).unwrap()
    }

    #[test]
    fn commits_and_deletions_survive_reopening() {
        let temp = TempDir::new().unwrap();
        let offsets = store(&temp);
        offsets.commit("g", vec![at("t", 0, 5), at("t", 1, 6), at("u", 0, 7)]).unwrap();
        offsets.commit("g", vec![at("t", 0, 50)]).unwrap();
        offsets.commit("h", vec![at("u", 0, 9)]).unwrap();
        offsets.commit("gone", vec![at("t", 0, 1)]).unwrap();
        offsets.forget_group("gone").unwrap();
        offsets.forget_topic("u").unwrap();
        offsets.forget_partitions("g", "t", vec![1]).unwrap();
        drop(offsets);
        let offsets = store(&temp);
        assert_eq!(offsets.of_group("g").unwrap(), [at("t", 0, 50)]);
        assert_eq!(offsets.of_group("h").unwrap(), []);
        assert_eq!(offsets.of_group("gone"), None);
    }

    #[test]
    fn a_line_torn_at_any_byte_is_cut_off_and_the_journal_goes_on() {
        let temp = TempDir::new().unwrap();
        let offsets = store(&temp);
        offsets.commit("g", vec![at("t", 0, 5)]).unwrap();
        let first = std::fs::metadata(temp.path().join("offsets")).unwrap().len() as usize;
        offsets.commit("g", vec![at("t", 0, 6)]).unwrap();
        let whole = std::fs::read(temp.path().join("offsets")).unwrap();
        for cut in first..whole.len() {
            std::fs::write(temp.path().join("offsets"), &whole[..cut]).unwrap();
            let offsets = store(&temp);
            assert_eq!(offsets.get("g", "t", 0), Some(at("t", 0, 5)), "cut at {cut}");
            offsets.commit("g", vec![at("t", 0, 7)]).unwrap();
            drop(offsets);
            assert_eq!(store(&temp).get("g", "t", 0), Some(at("t", 0, 7)));
        }
    }

    #[test]
    fn the_journal_does_not_grow_without_bound() {
        let temp = TempDir::new().unwrap();
        let offsets = store(&temp);
        for offset in 0..20_000 {
            offsets.commit("g", vec![at("t", 0, offset)]).unwrap();
        }
        let bytes = std::fs::metadata(temp.path().join("offsets")).unwrap().len();
        assert!(bytes <= SMALLEST_REWRITE + 1_000, "{bytes} bytes");
        drop(offsets);
        assert_eq!(store(&temp).get("g", "t", 0), Some(at("t", 0, 19_999)));
    }
}
