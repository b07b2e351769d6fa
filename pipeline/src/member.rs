//! A fixed name in the group for each of several runs of a pipeline.
//!
//! ```text
//! lake/.puddle/<table>/members/0    locked by the first run    member <group>-0
//!                              1    locked by the second       member <group>-1
//! ```
//!
//! The kernel releases a lock when its process ends, however it ends. So a run that is started after a kill takes the
//! lowest free place, which is that of the dead one, and with its name its partitions, at once; two runs that are alive
//! never have the same name.

use std::fs::{File, OpenOptions, TryLockError, create_dir_all};
use std::io;
use std::path::Path;

use crate::Error;

/// Runs that may share a table. More than a group of this size gains nothing on one machine.
const PLACES: usize = 1000;

/// A place among the runs of a table, held until dropped.
#[derive(Debug)]
pub(crate) struct Member {
    place: usize,
    _lock: File,
}

impl Member {
    /// Takes the lowest free place.
    pub(crate) fn take(lake: &Path, table: &str) -> Result<Self, Error> {
        let folder = lake.join(".puddle").join(table).join("members");
        take(&folder).map_err(|source| Error::Members { folder, source })
    }

    /// The name in the group.
    pub(crate) fn name(&self, group: &str) -> String {
        format!("{group}-{}", self.place)
    }
}

fn take(folder: &Path) -> io::Result<Member> {
    create_dir_all(folder)?;
    for place in 0..PLACES {
        let path = folder.join(place.to_string());
        // The file stays: removing it would let two runs each lock a file of their own.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => return Ok(Member { place, _lock: file }),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::other(format!("{PLACES} runs are at work already")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_a_name_of_its_own_and_the_next_one_takes_that_of_a_dead_one() {
        let lake = tempfile::tempdir().unwrap();
        let take = || Member::take(lake.path(), "t").unwrap();
        let (first, second, third) = (take(), take(), take());
        assert_eq!([&first, &second, &third].map(|member| member.name("g")), ["g-0", "g-1", "g-2"]);
        drop(second);
        assert_eq!(take().name("g"), "g-1");
        assert_eq!(Member::take(lake.path(), "other").unwrap().name("g"), "g-0");
    }
}
