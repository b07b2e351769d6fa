//! One writer for a table: a lock that the kernel releases when the process ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::Error;

/// Most bytes to read of another writer's name.
const MAX_HOLDER: u64 = 1024;

/// The held lock; dropping it releases it. The file itself stays: removing it would let two writers each lock
/// a file of their own.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes a table's lock and writes the holder into it, or names who has it.
    pub(crate) fn take(path: &Path, table: &str, owner: &str) -> Result<Self, Error> {
        Self::open(path, table, owner, FlockOperation::NonBlockingLockExclusive)
    }

    /// The same, beside others that share it.
    pub(crate) fn share(path: &Path, table: &str, owner: &str) -> Result<Self, Error> {
        Self::open(path, table, owner, FlockOperation::NonBlockingLockShared)
    }

    fn open(path: &Path, table: &str, owner: &str, how: FlockOperation) -> Result<Self, Error> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(Error::io("open", path))?;
        match flock(&file, how) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // The holder may not have written its name yet.
                let read = (&mut file).take(MAX_HOLDER).read_to_string(&mut holder);
                let known = read.is_ok() && !holder.trim().is_empty();
                let holder = if known { holder.trim().to_owned() } else { "another process".to_owned() };
                return Err(Error::Locked { table: table.to_owned(), holder });
            }
            Err(error) => return Err(Error::io("lock", path)(error.into())),
        }
        let holder = format!("pipeline {owner:?} (process {})\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())).map_err(Error::io("write", path))?;
        Ok(Self { _file: file })
    }
}
