//! The commit log of a table: the truth about its files and its progress.
//!
//! ```text
//! .puddle/flights/log/00000000000000000142.json              one commit: the entry of epoch 142
//!                     00000000000000000100.checkpoint.json   what epochs 1 to 100 add up to
//!                     done                                   the newest epoch whose files are all in place
//!                     history/00000000000000000001.jsonl     entries 1 to 100, a line each
//! ```
//!
//! - An entry is written to a temporary name, synced, and moved to its own name only if nothing is there; with the
//!   folder synced, the epoch is committed. So an entry is whole or absent, and two writers cannot both win.
//! - Every [`SPAN`] epochs a checkpoint is written, and the entries before the newest [`SPAN`] are bundled into
//!   a file of `history/`. So the folder never holds more than a few hundred names, and opening reads one
//!   checkpoint and fewer than [`SPAN`] entries, after a million commits as after a hundred. The last [`SPAN`]
//!   entries stay for writers that lost a race, and so that the checkpoint before the newest can stand in for it.
//! - Every file carries its checksum ([`seal`]). What is damaged is named and left alone.
//! - Bundles have a fixed place for each epoch, so reading the history needs no list of names either.

mod entry;
mod history;
mod seal;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::storage::{Storage, create_dirs, read, write_synced};
use crate::{Error, error};

pub use entry::{Commit, DataFile, Moved, RetriedPartition};
pub(crate) use entry::{Form, State, VERSION, inside};
pub(crate) use history::History;
pub(crate) use seal::{seal, unseal};

/// Epochs between two checkpoints, and of one file of the history.
pub(crate) const SPAN: u64 = 100;
/// How often a reader begins anew when the writer bundles entries below its hands. Each time takes the writer at
/// least [`SPAN`] commits, so a second time is rare.
const READ_ATTEMPTS: usize = 5;
const DONE: &str = "done";

/// What to do about an entry, or a file of the table, that is lost.
pub(crate) const WAY_ON: &str = "put it back from a copy, or read the topic again into a new table";

/// A table's log.
#[derive(Clone)]
pub(crate) struct Log {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
}

/// What the log says now.
pub(crate) struct Loaded {
    pub(crate) state: State,
    /// The newest commit.
    pub(crate) last: Commit,
}

/// The content of `done`.
#[derive(Serialize, Deserialize)]
struct Done {
    epoch: u64,
}

/// The names in the folder, sorted.
#[derive(Default)]
struct Names {
    entries: Vec<u64>,
    checkpoints: Vec<u64>,
    temporary: Vec<String>,
}

impl Log {
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: PathBuf) -> Self {
        Self { storage, dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of the bundled entries.
    pub(crate) fn history_dir(&self) -> PathBuf {
        self.dir.join("history")
    }

    /// What the log says; `None` before the first commit.
    pub(crate) fn load(&self) -> Result<Option<Loaded>, Error> {
        let mut attempt = 1;
        loop {
            match self.load_once() {
                Err(Error::Io { source, .. })
                    if source.kind() == ErrorKind::NotFound && attempt < READ_ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(Error::Io { path, source, .. }) if source.kind() == ErrorKind::NotFound => {
                    return Err(missing(&path));
                }
                result => return result,
            }
        }
    }

    /// Checks that no entry is missing at the end, given what [`done`](Self::done) said before the log was loaded.
    pub(crate) fn check_whole(&self, done: Option<u64>, loaded: &Loaded) -> Result<(), Error> {
        let epoch = loaded.state.epoch;
        match done {
            Some(done) if done > epoch => {
                let reason =
                    format!("its newest entry is epoch {epoch}, but epoch {done} was committed; {WAY_ON}");
                Err(Error::corrupt(&self.dir, reason))
            }
            _ => Ok(()),
        }
    }

    /// Commits an epoch: once this returns, the entry stays. After any error but a conflict, only reading the log
    /// can tell whether it is there.
    pub(crate) fn append(&self, commit: &Commit) -> Result<(), Error> {
        let path = self.entry_path(commit.epoch);
        let conflict = || Error::Conflict { epoch: commit.epoch, path: path.clone() };
        // A writer so far behind that its next entry was bundled away finds its last one gone too.
        let before = commit.epoch - 1;
        if before > 0 && !self.exists(&self.entry_path(before))? {
            return Err(conflict());
        }
        let temporary = self.write_temporary(&path, &seal(commit))?;
        match self.storage.rename_new(&temporary, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(conflict()),
            result => result.map_err(Error::io("create", &path))?,
        }
        self.sync()
    }

    /// Makes durable what is there. A crash may have come between an entry and its folder's sync; were its files
    /// published before that, a power cut could leave them in the table without an entry.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.storage.sync_dir(&self.dir).map_err(Error::sync(&self.dir))
    }

    /// Marks an epoch's files as being in place, so that a start need not look at them.
    pub(crate) fn mark_done(&self, epoch: u64) -> Result<(), Error> {
        self.replace(&self.dir.join(DONE), &seal(&Done { epoch }))
    }

    /// The newest epoch marked as done. A mark that is missing or damaged only means more to check.
    pub(crate) fn done(&self) -> Option<u64> {
        let bytes = read(&*self.storage, &self.dir.join(DONE)).ok()?;
        unseal::<Done>(&bytes).ok().map(|done| done.epoch)
    }

    /// Files that are damaged without harm to the log, what they say being told elsewhere too.
    pub(crate) fn damaged(&self) -> Result<Vec<Error>, Error> {
        let mut damaged = Vec::new();
        for epoch in self.names()?.checkpoints {
            damaged.extend(self.checkpoint(epoch).err());
        }
        damaged.extend(self.unseal_file::<Done>(&self.dir.join(DONE)).err());
        // The writer may have removed a checkpoint meanwhile, and a table whose first commit was cut off has no mark.
        damaged.retain(|error| matches!(error, Error::Corrupt { .. }));
        Ok(damaged)
    }

    /// After a commit: a checkpoint when one is due, and the old entries bundled. The commit stands whether or not
    /// this succeeds, and the next time makes up for it.
    pub(crate) fn maintain(&self, state: &State) -> Result<(), Error> {
        if !state.epoch.is_multiple_of(SPAN) {
            return Ok(());
        }
        self.replace(&self.checkpoint_path(state.epoch), &seal(state))?;
        let names = self.names()?;
        let Some(oldest) = names.entries.first() else { return Ok(()) };
        let mut first = history::bundle_of(*oldest);
        while first + SPAN + SPAN <= state.epoch + 1 {
            self.bundle(first, &names)?;
            first += SPAN;
        }
        for epoch in names.checkpoints.iter().filter(|epoch| **epoch + 2 * SPAN <= state.epoch) {
            self.remove(&self.checkpoint_path(*epoch))?;
        }
        Ok(())
    }

    /// Removes what a crash left half-written.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        for name in self.names()?.temporary {
            self.remove(&self.dir.join(name))?;
        }
        Ok(())
    }

    /// All commits, oldest first.
    pub(crate) fn history(&self) -> Result<History, Error> {
        let last = self.load()?.map_or(0, |loaded| loaded.state.epoch);
        Ok(History::new(self.clone(), last))
    }

    fn load_once(&self) -> Result<Option<Loaded>, Error> {
        let names = self.names()?;
        let Some(newest) = names.entries.last().copied() else {
            return match names.checkpoints.last() {
                None => Ok(None),
                Some(epoch) => Err(missing(&self.entry_path(*epoch))),
            };
        };
        let mut state = match self.newest_checkpoint(&names)? {
            None => self.replay(&names)?,
            state => state,
        };
        let mut last = None;
        let begin = state.as_ref().map_or(1, |state| state.epoch + 1);
        for epoch in begin..=newest {
            let commit: Commit = self.entry(epoch)?;
            let applied = match &mut state {
                None => State::begin(&commit).map(|first| state = Some(first)),
                Some(state) => state.apply(&commit),
            };
            applied.map_err(|reason| Error::corrupt(&self.entry_path(epoch), reason))?;
            last = Some(commit);
        }
        let state = state.expect("a checkpoint or the entry of epoch 1 was read");
        let last = match last {
            Some(last) => last,
            None => self.entry(state.epoch)?,
        };
        Ok(Some(Loaded { state, last }))
    }

    /// The newest checkpoint that is whole. It only repeats what the entries say, so a damaged one costs time.
    fn newest_checkpoint(&self, names: &Names) -> Result<Option<State>, Error> {
        for epoch in names.checkpoints.iter().rev() {
            match self.checkpoint(*epoch) {
                Ok(state) if state.version > VERSION => {
                    return Err(Error::corrupt(&self.checkpoint_path(*epoch), newer(state.version)));
                }
                Ok(state) => return Ok(Some(state)),
                Err(error @ Error::Io { .. }) => return Err(error),
                Err(error) => {
                    let error = error::chain(&error);
                    tracing::warn!(error, "a checkpoint is damaged; what is before it stands in for it");
                }
            }
        }
        Ok(None)
    }

    fn checkpoint(&self, epoch: u64) -> Result<State, Error> {
        let path = self.checkpoint_path(epoch);
        let state: State = self.unseal_file(&path)?;
        if state.epoch != epoch {
            return Err(Error::corrupt(&path, format!("it holds epoch {}", state.epoch)));
        }
        Ok(state)
    }

    /// What the bundled entries add up to, where no checkpoint does.
    fn replay(&self, names: &Names) -> Result<Option<State>, Error> {
        let Some(bundled) = names.entries.first().map(|first| first - 1).filter(|last| *last > 0) else {
            return Ok(None);
        };
        let mut state: Option<State> = None;
        for commit in History::new(self.clone(), bundled) {
            let commit = commit?;
            let applied = match &mut state {
                None => State::begin(&commit).map(|first| state = Some(first)),
                Some(state) => state.apply(&commit),
            };
            applied.map_err(|reason| {
                Error::corrupt(&self.bundle_path(history::bundle_of(commit.epoch)), reason)
            })?;
        }
        Ok(state)
    }

    fn entry(&self, epoch: u64) -> Result<Commit, Error> {
        let path = self.entry_path(epoch);
        let bytes = read(&*self.storage, &path).map_err(Error::io("read", &path))?;
        parse(&bytes, epoch).map_err(|reason| Error::corrupt(&path, reason))
    }

    /// Bundles the entries of [`SPAN`] epochs and removes them. A bundle that is there is whole: what is left to do
    /// is the removing.
    fn bundle(&self, first: u64, names: &Names) -> Result<(), Error> {
        let path = self.bundle_path(first);
        if !self.exists(&path)? {
            let mut lines = String::new();
            for epoch in first..first + SPAN {
                lines.push_str(&seal(&self.entry(epoch)?));
            }
            create_dirs(&*self.storage, &self.history_dir())?;
            let temporary = self.write_temporary(&path, &lines)?;
            self.storage.rename(&temporary, &path).map_err(Error::io("create", &path))?;
            for dir in [&self.history_dir(), &self.dir] {
                self.storage.sync_dir(dir).map_err(Error::sync(dir))?;
            }
        }
        for epoch in names.entries.iter().filter(|epoch| (first..first + SPAN).contains(epoch)) {
            self.remove(&self.entry_path(*epoch))?;
        }
        Ok(())
    }

    /// Puts a file in place, whole or not at all, over what is there.
    fn replace(&self, path: &Path, line: &str) -> Result<(), Error> {
        let temporary = self.write_temporary(path, line)?;
        self.storage.rename(&temporary, path).map_err(Error::io("replace", path))?;
        self.sync()
    }

    /// Temporary files are all in the log's own folder, where [`sweep`](Self::sweep) finds them.
    fn write_temporary(&self, path: &Path, content: &str) -> Result<PathBuf, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = self.dir.join(format!("{name}.tmp"));
        write_synced(&*self.storage, &temporary, content.as_bytes())?;
        Ok(temporary)
    }

    fn unseal_file<T: DeserializeOwned>(&self, path: &Path) -> Result<T, Error> {
        let bytes = read(&*self.storage, path).map_err(Error::io("read", path))?;
        unseal(&bytes).map_err(|reason| Error::corrupt(path, reason))
    }

    fn exists(&self, path: &Path) -> Result<bool, Error> {
        self.storage.exists(path).map_err(Error::io("look for", path))
    }

    fn remove(&self, path: &Path) -> Result<(), Error> {
        self.storage.remove(path).map_err(Error::io("remove", path))
    }

    fn names(&self) -> Result<Names, Error> {
        let mut names = Names::default();
        for name in self.storage.list(&self.dir).map_err(Error::io("list", &self.dir))? {
            if name.ends_with(".tmp") {
                names.temporary.push(name);
            } else if let Some(epoch) = name.strip_suffix(".checkpoint.json").and_then(parse_epoch) {
                names.checkpoints.push(epoch);
            } else if let Some(epoch) = name.strip_suffix(".json").and_then(parse_epoch) {
                names.entries.push(epoch);
            }
        }
        names.entries.sort_unstable();
        names.checkpoints.sort_unstable();
        Ok(names)
    }

    /// The place of an entry.
    pub(crate) fn entry_path(&self, epoch: u64) -> PathBuf {
        self.dir.join(format!("{epoch:020}.json"))
    }

    fn checkpoint_path(&self, epoch: u64) -> PathBuf {
        self.dir.join(format!("{epoch:020}.checkpoint.json"))
    }

    fn bundle_path(&self, first: u64) -> PathBuf {
        self.history_dir().join(format!("{first:020}.jsonl"))
    }
}

/// The entry that a sealed line holds, if it is that of this epoch.
fn parse(line: &[u8], epoch: u64) -> Result<Commit, String> {
    let way_on = |reason| format!("{reason}; {WAY_ON}");
    let commit: Commit = unseal(line).map_err(way_on)?;
    if commit.version > VERSION {
        return Err(newer(commit.version));
    }
    if commit.epoch != epoch {
        return Err(way_on(format!("it holds epoch {}, not {epoch}", commit.epoch)));
    }
    Ok(commit)
}

fn missing(path: &Path) -> Error {
    Error::corrupt(path, format!("it is missing, but newer files of the log are there; {WAY_ON}"))
}

fn newer(version: u32) -> String {
    format!("its format is version {version}, this Puddle knows up to {VERSION}")
}

fn parse_epoch(digits: &str) -> Option<u64> {
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}
