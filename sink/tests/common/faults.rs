//! A storage whose operations are counted, and go wrong where a test says; and that can lose what was not synced.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use puddle_sink::storage::{LocalStorage, Storage, WriteFile};

/// How the operation goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends before it: nothing works from here on.
    Cut,
    /// The same, but a write gets half of its bytes to the file.
    Torn,
    /// It alone fails, without effect.
    Fail(ErrorKind),
    /// It takes effect, but is reported as failed.
    LostAnswer,
    /// A write flips a bit and is reported as done.
    Flip,
    /// From it on there is no room: only removing works.
    Full,
    /// From it on there is no room for another file or folder, but for more in those that are there.
    NoInodes,
    /// From it on nothing can be changed.
    ReadOnly,
}

/// Operations that change the disk are counted from 0; the one at `at` goes wrong.
#[derive(Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

struct Shared {
    disk: LocalStorage,
    state: Mutex<State>,
    /// Where removed and replaced files are kept.
    trash: tempfile::TempDir,
}

struct State {
    plan: Option<(usize, Fault)>,
    /// Picks the files and folders whose syncs do nothing, and say they did.
    ignored: fn(&Path) -> bool,
    operations: Vec<String>,
    cut: bool,
    unsynced: BTreeSet<PathBuf>,
    undo: Vec<Undo>,
    trashed: usize,
}

/// A change of a folder's names that a power cut takes back unless the folder was synced.
struct Undo {
    dir: PathBuf,
    change: Change,
}

enum Change {
    Created(PathBuf),
    CreatedDir(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<PathBuf> },
    Removed { path: PathBuf, kept: PathBuf },
}

enum Step {
    Go,
    Half,
    Flip,
    GoThenFail,
}

struct FaultyFile {
    file: Box<dyn WriteFile>,
    path: PathBuf,
    shared: Arc<Shared>,
}

impl Faults {
    pub fn none() -> Self {
        Self::plan(None)
    }

    pub fn at(operation: usize, fault: Fault) -> Self {
        Self::plan(Some((operation, fault)))
    }

    /// A new process on the same disk: what was not synced before still is not.
    pub fn revive(&self, plan: Option<(usize, Fault)>) {
        let mut state = self.shared.lock();
        state.plan = plan;
        state.operations.clear();
        state.cut = false;
    }

    /// From here on, syncs of these files and folders do nothing, and say they did.
    pub fn ignore_syncs(&self, of: fn(&Path) -> bool) {
        self.shared.lock().ignored = of;
    }

    pub fn arc(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    /// The operations so far, for messages.
    pub fn operations(&self) -> Vec<String> {
        self.shared.lock().operations.clone()
    }

    /// Takes back what was not synced: half of the content of files, and the changes to those folders that
    /// `loses` picks.
    pub fn power_cut(&self, loses: impl Fn(&Path) -> bool) {
        let mut state = self.shared.lock();
        state.cut = true;
        for path in &std::mem::take(&mut state.unsynced) {
            if let Ok(file) = fs::OpenOptions::new().write(true).open(path) {
                file.set_len(file.metadata().unwrap().len() / 2).unwrap();
            }
        }
        for undo in std::mem::take(&mut state.undo).into_iter().rev().filter(|undo| loses(&undo.dir)) {
            // What lies in a folder that is gone is gone with it; so an undo may find nothing to do.
            match undo.change {
                Change::Created(path) => drop(fs::remove_file(path)),
                Change::CreatedDir(path) => drop(fs::remove_dir_all(path)),
                Change::Renamed { from, to, replaced } => {
                    // A writer that ended removed its folder: what was there before is gone either way.
                    if fs::rename(&to, from).is_err() {
                        drop(fs::remove_file(&to));
                    }
                    if let Some(kept) = replaced {
                        drop(fs::rename(kept, to));
                    }
                }
                Change::Removed { path, kept } => drop(fs::rename(kept, path)),
            }
        }
    }

    fn plan(plan: Option<(usize, Fault)>) -> Self {
        let state = State {
            plan,
            ignored: |_| false,
            operations: Vec::new(),
            cut: false,
            unsynced: BTreeSet::new(),
            undo: Vec::new(),
            trashed: 0,
        };
        // Real syncs would only slow the tests down: what they promise is modelled here.
        let disk = LocalStorage { durable: false };
        // In memory or not, the trash must be on the file system of the other temporary folders for its links.
        let trash = tempfile::tempdir().unwrap();
        Self { shared: Arc::new(Shared { disk, state: Mutex::new(state), trash }) }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Counts an operation and says how it goes.
    fn step(&self, name: &str, path: &Path) -> io::Result<Step> {
        let mut state = self.lock();
        let cut = || io::Error::other("cut");
        if state.cut {
            return Err(cut());
        }
        let number = state.operations.len();
        state.operations.push(format!("{name} {}", path.display()));
        let lasts = |fault| matches!(fault, Fault::Full | Fault::NoInodes | Fault::ReadOnly);
        match state.plan.filter(|(at, fault)| *at == number || (*at < number && lasts(*fault))) {
            None => Ok(Step::Go),
            Some((_, Fault::Full)) if name == "remove" => Ok(Step::Go),
            Some((_, Fault::NoInodes)) if !name.starts_with("create") => Ok(Step::Go),
            Some((_, Fault::Full | Fault::NoInodes)) => Err(ErrorKind::StorageFull.into()),
            Some((_, Fault::ReadOnly)) => Err(ErrorKind::ReadOnlyFilesystem.into()),
            Some((_, Fault::Fail(kind))) => Err(kind.into()),
            Some((_, Fault::LostAnswer)) => Ok(Step::GoThenFail),
            Some((_, Fault::Flip)) => Ok(Step::Flip),
            Some((_, fault)) => {
                state.cut = true;
                if fault == Fault::Torn { Ok(Step::Half) } else { Err(cut()) }
            }
        }
    }

    fn answer(step: &Step) -> io::Result<()> {
        match step {
            Step::Go | Step::Flip => Ok(()),
            Step::Half => Err(io::Error::other("cut")),
            Step::GoThenFail => Err(io::Error::other("the answer was lost")),
        }
    }

    /// Does an operation that has no half.
    fn whole(&self, name: &str, path: &Path, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let step = self.step(name, path)?;
        if !matches!(step, Step::Half) {
            act()?;
        }
        Self::answer(&step)
    }

    fn note(&self, dir: &Path, change: Change) {
        self.lock().undo.push(Undo { dir: dir.parent().unwrap().to_owned(), change });
    }

    /// A second name for a file that is about to lose its only one.
    fn keep(&self, path: &Path) -> Option<PathBuf> {
        let mut state = self.lock();
        state.trashed += 1;
        let kept = self.trash.path().join(state.trashed.to_string());
        fs::hard_link(path, &kept).is_ok().then_some(kept)
    }

    fn moved(&self, from: &Path, to: &Path, replaced: Option<PathBuf>) {
        let mut state = self.lock();
        if state.unsynced.remove(from) {
            state.unsynced.insert(to.to_owned());
        }
        drop(state);
        self.note(to, Change::Renamed { from: from.to_owned(), to: to.to_owned(), replaced });
    }
}

impl Storage for Faults {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        // A folder that is there already, or has no parent yet, is a look and no change.
        if path.exists() || !path.parent().unwrap().exists() {
            return if self.shared.lock().cut {
                Err(io::Error::other("cut"))
            } else {
                self.shared.disk.create_dir(path)
            };
        }
        self.shared.whole("create folder", path, || {
            self.shared.disk.create_dir(path)?;
            self.shared.note(path, Change::CreatedDir(path.to_owned()));
            Ok(())
        })
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut file = None;
        self.shared.whole("create", path, || {
            file = Some(self.shared.disk.create(path)?);
            self.shared.lock().unsynced.insert(path.to_owned());
            self.shared.note(path, Change::Created(path.to_owned()));
            Ok(())
        })?;
        let file = file.expect("an operation that succeeds was done");
        Ok(Box::new(FaultyFile { file, path: path.to_owned(), shared: self.shared.clone() }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        self.shared.disk.open(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.shared.disk.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.shared.disk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.whole("rename", to, || {
            let replaced = self.shared.keep(to);
            self.shared.disk.rename(from, to)?;
            self.shared.moved(from, to, replaced);
            Ok(())
        })
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.whole("rename new", to, || {
            self.shared.disk.rename_new(from, to)?;
            self.shared.moved(from, to, None);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.shared.whole("remove", path, || {
            let kept = self.shared.keep(path);
            self.shared.disk.remove(path)?;
            if let Some(kept) = kept {
                self.shared.note(path, Change::Removed { path: path.to_owned(), kept });
            }
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.whole("sync folder", path, || {
            let mut state = self.shared.lock();
            if !(state.ignored)(path) {
                state.undo.retain(|undo| undo.dir != path);
            }
            Ok(())
        })
    }

    fn now(&self) -> i64 {
        1_357_000_000_000
    }
}

impl Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let step = self.shared.step("write", &self.path)?;
        let mut bytes = bytes.to_vec();
        match step {
            Step::Half => bytes.truncate(bytes.len() / 2),
            Step::Flip => bytes[0] ^= 0x10,
            Step::Go | Step::GoThenFail => {}
        }
        self.file.write_all(&bytes)?;
        Shared::answer(&step).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl WriteFile for FaultyFile {
    fn sync(&mut self) -> io::Result<()> {
        let Self { shared, path, .. } = self;
        shared.whole("sync", path, || {
            let mut state = shared.lock();
            if !(state.ignored)(path) {
                state.unsynced.remove(path);
            }
            Ok(())
        })
    }
}
