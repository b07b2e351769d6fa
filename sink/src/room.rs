//! What is left on a disk.

use std::fmt;
use std::io;
use std::path::Path;

/// What a file system still takes from an ordinary user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: u64,
    /// Files and folders (inodes); 0 also where the file system does not count them.
    pub files: u64,
}

impl Room {
    /// What is left where `path` is, or would be.
    ///
    /// # Errors
    /// What the system says.
    pub fn at(path: &Path) -> io::Result<Room> {
        let whole = std::path::absolute(path)?;
        let existing = whole.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
        let found = rustix::fs::statvfs(existing)?;
        Ok(Room { bytes: found.f_bavail.saturating_mul(found.f_frsize), files: found.f_favail })
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB and {} inodes are free", self.bytes / 1024, self.files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_does_not_exist_yet_has_the_room_of_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::at(&folder.path().join("a/b")).unwrap();
        assert!(room.bytes > 0);
        assert!(room.to_string().ends_with("inodes are free"), "{room}");
    }
}
