//! All commits of a table, oldest first, one in memory at a time.

use std::io::{BufRead, BufReader, ErrorKind, Lines, Read};
use std::path::PathBuf;

use super::{Commit, Log, SPAN, WAY_ON, missing, parse};
use crate::Error;

/// An iterator over a table's commits. It may run while the table is written: it ends with the last commit there
/// was when it began.
pub(crate) struct History {
    log: Log,
    next: u64,
    last: u64,
    bundle: Option<Bundle>,
}

struct Bundle {
    path: PathBuf,
    lines: Lines<BufReader<Box<dyn Read + Send>>>,
}

/// The first epoch of the bundle that an epoch belongs to.
pub(super) fn bundle_of(epoch: u64) -> u64 {
    (epoch - 1) / SPAN * SPAN + 1
}

impl History {
    pub(super) fn new(log: Log, last: u64) -> Self {
        Self { log, next: 1, last, bundle: None }
    }

    fn read(&mut self, epoch: u64) -> Result<Commit, Error> {
        if bundle_of(epoch) == epoch {
            self.bundle = self.open_bundle(epoch)?;
        }
        if let Some(bundle) = &mut self.bundle {
            return bundle.read(epoch);
        }
        match self.log.entry(epoch) {
            // Bundled since the bundle was looked for.
            Err(Error::Io { path, source, .. }) if source.kind() == ErrorKind::NotFound => {
                let Some(mut bundle) = self.open_bundle(bundle_of(epoch))? else {
                    return Err(missing(&path));
                };
                for before in bundle_of(epoch)..epoch {
                    bundle.read(before)?;
                }
                self.bundle.insert(bundle).read(epoch)
            }
            result => result,
        }
    }

    fn open_bundle(&self, first: u64) -> Result<Option<Bundle>, Error> {
        let path = self.log.bundle_path(first);
        match self.log.storage.open(&path) {
            Ok(file) => Ok(Some(Bundle { path, lines: BufReader::new(file).lines() })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }
}

impl Iterator for History {
    type Item = Result<Commit, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next > self.last {
            return None;
        }
        let result = self.read(self.next);
        // An error ends it: what follows a hole would look like the whole.
        self.next = if result.is_ok() { self.next + 1 } else { u64::MAX };
        Some(result)
    }
}

impl Bundle {
    fn read(&mut self, epoch: u64) -> Result<Commit, Error> {
        let corrupt = |reason: String| Error::corrupt(&self.path, format!("epoch {epoch}: {reason}"));
        let line = match self.lines.next() {
            Some(Ok(line)) => line,
            Some(Err(error)) if error.kind() == ErrorKind::InvalidData => {
                return Err(corrupt(format!("{error}; {WAY_ON}")));
            }
            Some(Err(error)) => return Err(Error::io("read", &self.path)(error)),
            None => return Err(corrupt(format!("it ends before; {WAY_ON}"))),
        };
        parse(line.as_bytes(), epoch).map_err(corrupt)
    }
}
