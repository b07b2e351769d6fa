//! The topics that exist, in memory and on disk.
//!
//! ```text
//! topics/flights/topic.json     id and number of partitions: written last, removed first,
//! topics/flights/0/             so that a folder without it is an unfinished creation or deletion
//! topics/flights/1/
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use kafka_protocol::error::ResponseError;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use uuid::Uuid;

use crate::Error;
use crate::files;
use crate::log::{Closed, Partition, Settings, sync_dir};

const DESCRIPTION: &str = "topic.json";

/// A topic at one moment; one that gains partitions is replaced.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<Arc<Partition>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    id: String,
    partitions: usize,
}

/// Why topics could not be changed: a code and a sentence for the client.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ResponseError,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: ResponseError, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }

    fn storage(error: &io::Error) -> Refusal {
        Refusal::new(ResponseError::KafkaStorageError, error.to_string())
    }
}

/// All topics of the broker.
#[derive(Debug)]
pub(crate) struct Topics {
    dir: PathBuf,
    settings: Settings,
    max_partitions: usize,
    by_name: RwLock<BTreeMap<String, Arc<Topic>>>,
    /// Held while files are changed, so that looking up topics need not wait for the disk; false once the broker is
    /// stopping.
    changing: Mutex<bool>,
}

impl Topics {
    /// Opens all topics below `dir`, recovering their logs, and sweeps what was half made or half deleted.
    pub(crate) fn open(dir: PathBuf, settings: Settings, max_partitions: usize) -> Result<Topics, Error> {
        std::fs::create_dir_all(&dir).map_err(Error::storage(&dir))?;
        let mut by_name = BTreeMap::new();
        for entry in std::fs::read_dir(&dir).map_err(Error::storage(&dir))? {
            let entry = entry.map_err(Error::storage(&dir))?;
            let path = entry.path();
            let Some(name) =
                entry.file_name().to_str().filter(|name| check_name(name).is_ok()).map(str::to_owned)
            else {
                warn!(path = %path.display(), "ignored: not a topic's folder");
                continue;
            };
            match open_topic(&path, &name, settings)? {
                Some(topic) => {
                    by_name.insert(name, Arc::new(topic));
                }
                None => {
                    info!(path = %path.display(), "removing what is left of an unfinished change");
                    std::fs::remove_dir_all(&path).map_err(Error::storage(&path))?;
                }
            }
        }
        let (by_name, changing) = (RwLock::new(by_name), Mutex::new(true));
        Ok(Topics { dir, settings, max_partitions, by_name, changing })
    }

    /// What holds for every partition.
    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    /// The topic of that name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.read().get(name).cloned()
    }

    /// The topic of that id; names may be reused, ids never are.
    pub(crate) fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.read().values().find(|topic| topic.id == id).cloned()
    }

    /// A partition of a topic that exists.
    pub(crate) fn partition(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        let index = usize::try_from(partition).ok()?;
        self.read().get(topic)?.partitions.get(index).cloned()
    }

    /// All topics by name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.read().values().cloned().collect()
    }

    /// Makes a topic, or with `dry_run` only says whether that would work. Blocks on the disk.
    pub(crate) fn create(&self, name: &str, partitions: i32, dry_run: bool) -> Result<Arc<Topic>, Refusal> {
        let _changing = self.changing()?;
        check_name(name).map_err(|why| Refusal::new(ResponseError::InvalidTopicException, why))?;
        if self.get(name).is_some() {
            return Err(Refusal::new(
                ResponseError::TopicAlreadyExists,
                format!("Topic '{name}' already exists."),
            ));
        }
        if let Some(other) = self.all().iter().find(|other| collide(&other.name, name)) {
            let message = format!("Topic '{name}' collides with existing topic '{}'.", other.name);
            return Err(Refusal::new(ResponseError::InvalidTopicException, message));
        }
        let wanted = self.check_room(0, partitions)?;
        let id = Uuid::new_v4();
        let mut topic = Topic { name: name.to_owned(), id, partitions: Vec::new() };
        if dry_run {
            return Ok(Arc::new(topic));
        }
        let dir = self.dir.join(name);
        topic.partitions = self.grow(&dir, id, &[], wanted).map_err(|error| {
            let _ = std::fs::remove_dir_all(&dir);
            Refusal::storage(&error)
        })?;
        info!(topic = name, partitions, "created topic");
        Ok(self.publish(topic))
    }

    /// Raises the number of partitions of a topic to `partitions`. Blocks on the disk.
    pub(crate) fn add_partitions(&self, name: &str, partitions: i32, dry_run: bool) -> Result<(), Refusal> {
        let _changing = self.changing()?;
        let topic = self.get(name).ok_or_else(|| unknown(name))?;
        let now = topic.partitions.len();
        let wanted = self.check_room(now, partitions)?;
        if wanted <= now {
            let message = format!("Topic '{name}' has {now} partitions, which can only grow.");
            return Err(Refusal::new(ResponseError::InvalidPartitions, message));
        }
        if !dry_run {
            let grown = self
                .grow(&self.dir.join(name), topic.id, &topic.partitions, wanted)
                .map_err(|error| Refusal::storage(&error))?;
            self.publish(Topic { name: name.to_owned(), id: topic.id, partitions: grown });
        }
        Ok(())
    }

    /// Deletes a topic and its records. Blocks on the disk.
    pub(crate) fn delete(&self, name: &str) -> Result<(), Refusal> {
        let _changing = self.changing()?;
        let topic = self.get(name).ok_or_else(|| unknown(name))?;
        let dir = self.dir.join(name);
        std::fs::remove_file(dir.join(DESCRIPTION))
            .and_then(|()| sync_dir(&dir))
            .map_err(|error| Refusal::storage(&error))?;
        self.write().remove(name);
        topic.partitions.iter().for_each(|partition| partition.close(Closed::Deleted));
        info!(topic = name, "deleted topic");
        // The topic is gone by now; files that stay are swept at the next start.
        if let Err(error) = std::fs::remove_dir_all(&dir) {
            warn!(topic = name, %error, "files of a deleted topic remain");
        }
        Ok(())
    }

    /// Waits for changes and appends under way and refuses others from now on.
    pub(crate) fn close(&self) {
        *self.changing.lock().unwrap_or_else(PoisonError::into_inner) = false;
        for topic in self.all() {
            topic.partitions.iter().for_each(|partition| partition.close(Closed::Stopped));
        }
    }

    /// Forces all partitions to disk; the first error is returned, the others are still tried.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut result = Ok(());
        for topic in self.all() {
            for partition in &topic.partitions {
                result = result.and(partition.sync());
            }
        }
        result
    }

    /// Lets every partition remove what its retention no longer covers. `now` is in ms since 1970.
    pub(crate) fn enforce_retention(&self, now: i64) {
        for topic in self.all() {
            for (partition, log) in topic.partitions.iter().enumerate() {
                if let Err(error) = log.enforce_retention(now) {
                    warn!(topic = topic.name, partition, %error, "retention failed");
                }
            }
        }
    }

    /// The number of partitions wanted, if there is room for those that a topic with `now` partitions lacks.
    fn check_room(&self, now: usize, wanted: i32) -> Result<usize, Refusal> {
        let wanted = usize::try_from(wanted).ok().filter(|&wanted| wanted > 0).ok_or_else(|| {
            Refusal::new(ResponseError::InvalidPartitions, "Number of partitions must be larger than 0.")
        })?;
        let taken: usize = self.read().values().map(|topic| topic.partitions.len()).sum();
        if wanted > now && taken + (wanted - now) > self.max_partitions {
            let message = format!("This broker holds {taken} of at most {} partitions.", self.max_partitions);
            return Err(Refusal::new(ResponseError::InvalidPartitions, message));
        }
        Ok(wanted)
    }

    fn grow(
        &self,
        dir: &Path,
        id: Uuid,
        existing: &[Arc<Partition>],
        wanted: usize,
    ) -> io::Result<Vec<Arc<Partition>>> {
        std::fs::create_dir_all(dir)?;
        let mut partitions = existing.to_vec();
        for index in existing.len()..wanted {
            let partition_dir = dir.join(index.to_string());
            if partition_dir.exists() {
                std::fs::remove_dir_all(&partition_dir)?;
            }
            partitions.push(Arc::new(Partition::create(&partition_dir, self.settings)?));
        }
        files::write_json(&dir.join(DESCRIPTION), &Description { id: id.to_string(), partitions: wanted })?;
        sync_dir(&self.dir)?;
        Ok(partitions)
    }

    fn publish(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        self.write().insert(topic.name.clone(), Arc::clone(&topic));
        topic
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Topic>>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<Topic>>> {
        self.by_name.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> Result<MutexGuard<'_, bool>, Refusal> {
        let open = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if *open {
            Ok(open)
        } else {
            Err(Refusal::new(ResponseError::BrokerNotAvailable, "the broker is stopping"))
        }
    }
}

fn open_topic(dir: &Path, name: &str, settings: Settings) -> Result<Option<Topic>, Error> {
    let description = dir.join(DESCRIPTION);
    let Some(Description { id, partitions }) = files::read_json(&description)? else { return Ok(None) };
    let id =
        Uuid::parse_str(&id).map_err(|error| Error::Damaged { path: description, why: error.to_string() })?;
    let partitions = (0..partitions)
        .map(|index| {
            let path = dir.join(index.to_string());
            Partition::open(&path, settings).map(Arc::new).map_err(Error::storage(&path))
        })
        .collect::<Result<_, _>>()?;
    Ok(Some(Topic { name: name.to_owned(), id, partitions }))
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(ResponseError::UnknownTopicOrPartition, format!("Topic '{name}' does not exist."))
}

/// Kafka's rule for topic names, which also makes them safe as names of folders.
fn check_name(name: &str) -> Result<(), &'static str> {
    const MAX_LEN: usize = 249;
    if name.is_empty() || name == "." || name == ".." {
        return Err("a topic name must not be empty, '.' or '..'");
    }
    if name.len() > MAX_LEN {
        return Err("a topic name must not have more than 249 characters");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return Err("a topic name may only have ASCII letters, digits, '.', '_' and '-'");
    }
    Ok(())
}

/// Kafka does not let names differ in '.' and '_' only, since both become '_' in names of metrics.
fn collide(one: &str, other: &str) -> bool {
    one.replace('.', "_") == other.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::config::Fsync;

    fn open(dir: &Path) -> Topics {
        let settings = Settings {
            segment_bytes: 1 << 20,
            max_batch_bytes: 1 << 20,
            fsync: Fsync::Never,
            retention_bytes: None,
            retention_time: None,
        };
        Topics::open(dir.to_owned(), settings, 10).unwrap()
    }

    #[test]
    fn names_that_kafka_refuses_are_refused() {
        let temp = TempDir::new().unwrap();
        let topics = open(temp.path());
        for name in ["", ".", "..", "../x", "a/b", "a b", "a\0", "ä", &"x".repeat(250)] {
            let refusal = topics.create(name, 1, false).unwrap_err();
            assert_eq!(refusal.code, ResponseError::InvalidTopicException, "{name:?}");
        }
        topics.create("a.b", 1, false).unwrap();
        assert_eq!(topics.create("a_b", 1, false).unwrap_err().code, ResponseError::InvalidTopicException);
        assert_eq!(topics.create("a.b", 1, false).unwrap_err().code, ResponseError::TopicAlreadyExists);
        topics.create(&"x".repeat(249), 1, false).unwrap();
    }

    #[test]
    fn topics_and_their_growth_survive_reopening_and_deleted_ones_do_not() {
        let temp = TempDir::new().unwrap();
        let topics = open(temp.path());
        let id = topics.create("kept", 2, false).unwrap().id;
        topics.create("gone", 1, false).unwrap();
        topics.add_partitions("kept", 3, false).unwrap();
        topics.delete("gone").unwrap();
        drop(topics);
        let topics = open(temp.path());
        assert_eq!(topics.all().len(), 1);
        let kept = topics.by_id(id).unwrap();
        assert_eq!((kept.name.as_str(), kept.partitions.len()), ("kept", 3));
    }

    #[test]
    fn unfinished_creations_and_deletions_are_swept() {
        let temp = TempDir::new().unwrap();
        std::fs::create_dir_all(temp.path().join("half/0")).unwrap();
        assert!(open(temp.path()).all().is_empty());
        assert!(!temp.path().join("half").exists());
    }

    #[test]
    fn the_number_of_partitions_is_limited() {
        let temp = TempDir::new().unwrap();
        let topics = open(temp.path());
        topics.create("a", 8, false).unwrap();
        for partitions in [3, 0, -5, i32::MAX] {
            let refusal = topics.create("b", partitions, false).unwrap_err();
            assert_eq!(refusal.code, ResponseError::InvalidPartitions);
        }
        topics.create("b", 2, true).unwrap();
        topics.create("b", 2, false).unwrap();
        assert_eq!(topics.add_partitions("a", 9, false).unwrap_err().code, ResponseError::InvalidPartitions);
        assert_eq!(topics.add_partitions("a", 8, false).unwrap_err().code, ResponseError::InvalidPartitions);
    }
}
