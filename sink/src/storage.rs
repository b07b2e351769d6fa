//! The file operations a table is made of, as a seam: a decorator around [`Storage`] can fail, count or cut each.
//!
//! ```text
//! ParquetSink --> dyn Storage --> LocalStorage --> the disk
//!                 (or a decorator in a test)
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::Error;

/// The file system and the clock that a table is written with. No operation retries or buffers.
pub trait Storage: Send + Sync {
    /// Creates one folder; its parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates a file that must not exist yet.
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;
    /// The names in a folder, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Whether there is a file or folder.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Moves a file, replacing what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Moves a file; [`io::ErrorKind::AlreadyExists`] if there is something already.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder's names durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// [`sync_dir`](Self::sync_dir) for several, in any order. An error comes with the position of its folder.
    fn sync_dirs(&self, paths: &[&Path]) -> Result<(), (usize, io::Error)> {
        (0..)
            .zip(paths)
            .try_for_each(|(position, path)| self.sync_dir(path).map_err(|error| (position, error)))
    }
    /// [`WriteFile::sync`] for several, each once, in any order. An error comes with the position of its file.
    fn sync_files(&self, files: &mut [&mut dyn WriteFile]) -> Result<(), (usize, io::Error)> {
        (0..).zip(files).try_for_each(|(position, file)| file.sync().map_err(|error| (position, error)))
    }
    /// Milliseconds since 1970, UTC.
    fn now(&self) -> i64;
}

/// A file being written.
pub trait WriteFile: Write + Send {
    /// Makes its content durable. After a failure the content is unknown, and so it must not be called again.
    fn sync(&mut self) -> io::Result<()>;
}

/// The local disk.
#[derive(Clone, Copy, Debug)]
pub struct LocalStorage {
    /// Whether syncing waits for the disk, or does nothing.
    pub durable: bool,
}

/// Most threads that sync at a time. With more, a commit of a dozen files takes no less.
const SYNC_THREADS: usize = 8;

struct LocalFile {
    file: File,
    durable: bool,
}

impl Storage for LocalStorage {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Box::new(LocalFile { file, durable: self.durable }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(path)?))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // File systems without this flag (NFS, some FUSE ones) have links, which never replace either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::hard_link(from, to)?;
                fs::remove_file(from)
            }
            result => Ok(result?),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.durable { File::open(path)?.sync_all() } else { Ok(()) }
    }

    fn sync_dirs(&self, paths: &[&Path]) -> Result<(), (usize, io::Error)> {
        let mut paths = paths.to_vec();
        side_by_side(self.durable, &mut paths, |path| self.sync_dir(path))
    }

    fn sync_files(&self, files: &mut [&mut dyn WriteFile]) -> Result<(), (usize, io::Error)> {
        side_by_side(self.durable, files, |file| file.sync())
    }

    fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Write for LocalFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteFile for LocalFile {
    fn sync(&mut self) -> io::Result<()> {
        if self.durable { self.file.sync_all() } else { Ok(()) }
    }
}

/// Does something for each, on a few threads: a sync mostly waits, and the file system joins those that wait together.
fn side_by_side<T: Send>(
    durable: bool,
    all: &mut [T],
    sync: impl Fn(&mut T) -> io::Result<()> + Sync,
) -> Result<(), (usize, io::Error)> {
    if !durable {
        return Ok(());
    }
    let share = all.len().div_ceil(SYNC_THREADS).max(1);
    let of = |first: usize, some: &mut [T]| {
        (first..).zip(some).try_for_each(|(position, one)| sync(one).map_err(|error| (position, error)))
    };
    let of = &of;
    thread::scope(|scope| {
        let shares = (0..).step_by(share).zip(all.chunks_mut(share));
        let threads: Vec<_> = shares.map(|(first, some)| scope.spawn(move || of(first, some))).collect();
        let results: Vec<_> =
            threads.into_iter().map(|thread| thread.join().expect("a sync does not panic")).collect();
        results.into_iter().collect()
    })
}

/// Creates a folder and those above it that are missing, each made durable before anything is put into it: what
/// lies in a folder that a power cut takes back is lost, however well it was synced itself.
pub(crate) fn create_dirs(storage: &dyn Storage, path: &Path) -> Result<(), Error> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let created = match storage.create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && parent != Path::new(".") => {
            create_dirs(storage, parent)?;
            storage.create_dir(path)
        }
        result => result,
    };
    match created {
        Ok(()) => storage.sync_dir(parent).map_err(Error::sync(parent)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::io("create the folder", path)(error)),
    }
}

/// Reads a file whole.
pub(crate) fn read(storage: &dyn Storage, path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    storage.open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a new file whole and syncs it. One of that name that a crash left behind is removed first.
pub(crate) fn write_synced(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let file = match storage.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            storage.remove(path).map_err(Error::io("remove", path))?;
            storage.create(path)
        }
        result => result,
    };
    let mut file = file.map_err(Error::io("create", path))?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.sync().map_err(Error::sync(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_synced_side_by_side_each_is_and_an_error_names_its_own() {
        let storage = LocalStorage { durable: true };
        let dir = tempfile::tempdir().unwrap();
        let mut folders: Vec<_> = (0..21).map(|n| dir.path().join(n.to_string())).collect();
        folders.iter().for_each(|folder| fs::create_dir(folder).unwrap());
        let sync = |folders: &[std::path::PathBuf]| {
            storage.sync_dirs(&folders.iter().map(AsRef::as_ref).collect::<Vec<_>>())
        };
        sync(&folders).unwrap();
        folders[17] = dir.path().join("missing");
        let (position, error) = sync(&folders).unwrap_err();
        assert_eq!((position, error.kind()), (17, io::ErrorKind::NotFound));

        for files in 0..20 {
            let mut synced: Vec<u32> = vec![0; files];
            side_by_side(true, &mut synced, |count| {
                *count += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(synced, vec![1; files]);
        }
    }
}
