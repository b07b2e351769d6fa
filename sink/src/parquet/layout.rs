//! Where a table's files are in a lake.

use std::path::{Path, PathBuf};

use crate::Error;
use crate::config::REJECTED_SUFFIX;
use crate::storage::{Storage, create_dirs};

/// The folder of what is not data.
pub(crate) const HIDDEN: &str = ".puddle";

/// The folders of one table.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) lake: PathBuf,
    pub(crate) table: String,
}

impl Layout {
    pub(crate) fn new(lake: &Path, table: &str) -> Self {
        Self { lake: lake.to_owned(), table: table.to_owned() }
    }

    /// The name of the table of rejected records.
    pub(crate) fn rejected_name(&self) -> String {
        format!("{}{REJECTED_SUFFIX}", self.table)
    }

    /// The folder of finished files.
    pub(crate) fn root(&self) -> PathBuf {
        self.lake.join(&self.table)
    }

    /// The folder of finished files of rejected records.
    pub(crate) fn rejected_root(&self) -> PathBuf {
        self.lake.join(self.rejected_name())
    }

    pub(crate) fn hidden(&self) -> PathBuf {
        self.lake.join(HIDDEN).join(&self.table)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.hidden().join("log")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.hidden().join("lock")
    }

    /// The staging folder's name, relative to the lake.
    pub(crate) fn staging_name(&self) -> String {
        format!("{HIDDEN}/{}/staging", self.table)
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.hidden().join("staging")
    }

    /// The locks of a table's writers, where it may have several.
    pub(crate) fn writers(&self) -> PathBuf {
        self.hidden().join("writers")
    }

    /// The mark up to where the files of rejected records are known to be in place.
    pub(crate) fn placed(&self) -> PathBuf {
        self.hidden().join("placed")
    }

    /// Creates the folders beside the data, and makes them durable: those that are there may be of a run that ended
    /// before it did.
    pub(crate) fn create(&self, storage: &dyn Storage) -> Result<(), Error> {
        for dir in [self.log(), self.staging()] {
            create_dirs(storage, &dir)?;
        }
        for dir in [&self.lake, &self.lake.join(HIDDEN), &self.hidden()] {
            storage.sync_dir(dir).map_err(Error::sync(dir))?;
        }
        Ok(())
    }
}
