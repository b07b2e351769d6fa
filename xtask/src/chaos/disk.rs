//! A disk that is small enough to be filled: a file system in memory of its own for a table's lake.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Room for a table's trials, and little to fill.
const SIZE: &str = "size=64m";

/// A mounted file system; unmounted when dropped. A chaos run that is interrupted leaves it mounted.
pub(super) struct SmallDisk {
    at: PathBuf,
}

/// What takes a disk's room; gone when dropped.
pub(super) struct Filler(PathBuf);

impl SmallDisk {
    /// Why there is none here, if so. Tries it in `folder`.
    pub(super) fn try_out(folder: &Path) -> anyhow::Result<()> {
        Self::mount(&folder.join("disk")).map(drop)
    }

    /// Mounts one at a folder, which is made. Takes root's rights.
    pub(super) fn mount(at: &Path) -> anyhow::Result<Self> {
        fs::create_dir(at)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(at).stderr(Stdio::null());
        let status = mount.status().context("cannot run mount")?;
        ensure!(status.success(), "mounting a small disk takes root's rights");
        Ok(Self { at: at.to_owned() })
    }

    pub(super) fn lake(&self) -> PathBuf {
        self.at.join("lake")
    }

    /// Fills it but for about so many bytes.
    pub(super) fn fill(&self, leave: u64) -> anyhow::Result<Filler> {
        let filler = Filler(self.at.join("filler"));
        let mut file = File::create(&filler.0)?;
        let mut written = 0;
        // The last bytes one by one page, so that nothing is left.
        for size in [1 << 20, 4096] {
            let block = vec![0; size];
            loop {
                match file.write_all(&block) {
                    Ok(()) => written += size as u64,
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("cannot fill the small disk"),
                }
            }
        }
        let length = file.metadata()?.len();
        ensure!(length >= written, "the filler is shorter than what was written to it");
        file.set_len(length.saturating_sub(leave))?;
        Ok(filler)
    }

    /// Copies what is on it to a place that stays.
    pub(super) fn keep(&self, folder: &Path) -> anyhow::Result<()> {
        let status = Command::new("cp").arg("-r").arg(self.lake()).arg(folder).status()?;
        ensure!(status.success(), "cannot copy {}", self.at.display());
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is just being killed may still have a file open there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        // It is gone with its disk otherwise.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_nothing_more_until_the_filler_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let Ok(disk) = SmallDisk::mount(&folder.path().join("disk")) else {
            eprintln!("SKIPPED: mounting takes root's rights");
            return;
        };
        let file = folder.path().join("disk/file");
        let filler = disk.fill(0).unwrap();
        assert_eq!(fs::write(&file, [1; 5000]).unwrap_err().kind(), ErrorKind::StorageFull);
        drop(filler);
        fs::write(&file, [1; 5000]).unwrap();
    }
}
