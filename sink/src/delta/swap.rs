//! How joined files take the place of those that they were made of, whatever others commit meanwhile.
//!
//! ```text
//! staged, synced, read back --> beside the old files --> look: are the old ones still in the table?   no: drop it
//!                                                          |
//!                                 version n+1: remove the old, add the new --- taken by another --> look again
//! ```

use std::path::PathBuf;

use delta_kernel::FilteredEngineData;
use delta_kernel::transaction::UpdateTableOperation;

use super::MAX_ATTEMPTS;
use super::commit::{added, info};
use super::engine::{self, ENGINE_INFO, LOG, Outcome, engine, refresh};
use super::land::delay;
use super::live::Live;
use super::optimize::{Joined, Optimizer, Report};
use super::version::{JOINED, sealed};
use crate::Error;
use crate::parquet::log::DataFile;
use crate::parquet::publish;

impl Optimizer {
    /// Puts joined files in place, and makes one version of them.
    pub(super) fn commit(&mut self, mut joined: Vec<Joined>, report: &mut Report) -> Result<(), Error> {
        if joined.is_empty() {
            return Ok(());
        }
        self.place(&joined)?;
        let root = self.layout.root();
        let log = root.join(LOG);
        for attempt in 0..MAX_ATTEMPTS {
            std::thread::sleep(delay(attempt));
            self.snapshot = refresh(&root, &self.snapshot)?;
            let live = Live::read(&self.snapshot, &log)?;
            let (still, gone): (Vec<_>, Vec<_>) = joined
                .into_iter()
                .partition(|one| one.bin.iter().all(|file| live.paths.contains(&file.path)));
            joined = still;
            for one in gone {
                report.left_alone += one.bin.len() as u64;
                // What cannot be removed is a file that no version names.
                drop(one.file.destination_in(&self.layout.lake).map(|path| self.storage.remove(&path)));
            }
            if joined.is_empty() {
                return Ok(());
            }
            let wanted = joined.iter().flat_map(|one| &one.bin).map(|file| file.path.as_str()).collect();
            let removed = live.select(&wanted).map_err(Error::delta("read", &log))?;
            match self.try_commit(&joined, removed)? {
                Outcome::Conflict => {}
                Outcome::Committed(newest) => {
                    self.snapshot = newest;
                    report.count(&joined);
                    return Ok(());
                }
            }
        }
        Err(Error::Contended { table: self.layout.table.clone(), attempts: MAX_ATTEMPTS })
    }

    /// Moves joined files beside those that they stand for, durably and after a look at what they hold.
    fn place(&self, joined: &[Joined]) -> Result<(), Error> {
        let lake = &self.layout.lake;
        let files: Vec<DataFile> = joined.iter().map(|one| one.file.clone()).collect();
        self.storage.sync_dir(&self.staging.dir).map_err(Error::sync(&self.staging.dir))?;
        publish::verify_staged(&*self.storage, lake, &files)?;
        let inside = |path: Result<PathBuf, String>| path.map_err(|reason| Error::corrupt(lake, reason));
        let moves: Result<Vec<_>, Error> = files
            .iter()
            .map(|file| Ok((inside(file.source_in(lake))?, inside(file.destination_in(lake))?)))
            .collect();
        publish::place(&*self.storage, lake, &moves?)
    }

    /// After an error, only reading the log can tell whether it took place: the files stay where they are.
    fn try_commit(&self, joined: &[Joined], removed: Vec<FilteredEngineData>) -> Result<Outcome, Error> {
        let root = self.layout.root();
        let log = root.join(LOG);
        let kernel = |error| Error::delta("commit to", &log)(error);
        let files: Vec<DataFile> = joined.iter().map(|one| one.file.clone()).collect();
        let (info, schema) = info(JOINED, sealed(&files)).map_err(kernel)?;
        let transaction =
            self.snapshot.clone().update_table(UpdateTableOperation::Optimize, ENGINE_INFO, false);
        let mut transaction = transaction
            .with_commit_info(info, schema)
            .build(engine(), Box::new(self.log.clone()))
            .map_err(kernel)?
            .with_operation_metrics(metrics(joined));
        let files: Vec<&DataFile> = files.iter().collect();
        transaction.add_files(added(&files, &self.partition_by, self.storage.now()).map_err(kernel)?);
        removed.into_iter().for_each(|removed| transaction.remove_files(removed));
        engine::commit(&root, transaction)
    }
}

/// What the table's history tells of the version, by the names that Delta's own optimize uses.
fn metrics(joined: &[Joined]) -> [(&'static str, Option<String>); 4] {
    let removed = || joined.iter().flat_map(|one| &one.bin);
    let number = |count: u64| Some(count.to_string());
    [
        ("numRemovedFiles", number(removed().count() as u64)),
        ("numRemovedBytes", number(removed().map(|file| file.bytes).sum())),
        ("numAddedFiles", number(joined.len() as u64)),
        ("numAddedBytes", number(joined.iter().map(|one| one.file.bytes).sum())),
    ]
}
