//! Whether a table's files are what its log says.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{find, storage, visible_epoch};
use crate::Error;
use crate::parquet::file::holds;
use crate::parquet::layout::Layout;

/// What in the folders of a table, and of its rejected records, is not as the log says, in words. Every file is read.
/// Safe while a writer runs.
pub fn check(lake: &Path, table: &str) -> Result<Vec<String>, Error> {
    let layout = Layout::new(lake, table);
    // Before the log: a file that is there by now was named by an entry before.
    let mut there = BTreeSet::new();
    for root in [layout.root(), layout.rejected_root()] {
        collect_files(&root, &mut there).map_err(Error::io("list", &root))?;
    }
    let (log, loaded) = find(lake, table)?;
    let visible = visible_epoch(&log, lake, &loaded);
    let mut problems = Vec::new();
    for commit in log.history()? {
        let commit = commit?;
        for file in commit.files {
            let path = file.destination_in(lake).map_err(|reason| Error::corrupt(log.dir(), reason))?;
            there.remove(&path);
            if commit.epoch > visible {
                continue;
            }
            match holds(&*storage(), &path, file.bytes, &file.hash) {
                Ok(true) => {}
                Ok(false) => {
                    problems
                        .push(format!("{}: it does not hold the bytes that were committed", path.display()));
                }
                Err(Error::Io { source, .. }) => problems.push(format!("{}: {source}", path.display())),
                Err(error) => return Err(error),
            }
        }
    }
    problems.extend(there.iter().map(|path| format!("{}: no commit names this file", path.display())));
    Ok(problems)
}

/// All files below a folder, which may not exist.
fn collect_files(folder: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect_files(&entry.path(), files)?;
        } else {
            files.insert(entry.path());
        }
    }
    Ok(())
}
