//! Files that are ahead of the log, by which it shows that it lost its newest entries.
//!
//! Without its newest entry and the `done` mark, or put back from an old copy, a log looks whole, only shorter: its
//! last records would be read again and be in the table twice. But the name of a data file carries its epoch.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::layout::Layout;
use super::log::DataFile;
use crate::Error;
use crate::storage::Storage;

/// How long a start waits for the look-out. That many milliseconds do for a hundred thousand files.
const PATIENCE: Duration = Duration::from_millis(200);

/// A look at every name in a table's folders. It has a thread of its own: a million names take a second, and a start
/// should not. Nothing may be committed before it has ended.
pub(super) struct LookOut {
    /// `None` when it has ended well.
    running: Option<Receiver<Result<(), Error>>>,
    stop: Arc<AtomicBool>,
}

impl LookOut {
    /// Begins to look for files of epochs after `last`, the log's newest. Waits a moment for the answer.
    pub(super) fn begin(layout: &Layout, last: u64) -> Result<Self, Error> {
        let (sender, receiver) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let (layout, stopped) = (layout.clone(), stop.clone());
        thread::spawn(move || {
            // Nobody waits any more if this fails.
            let _ = sender.send(look(&layout, last, &stopped));
        });
        let mut this = Self { running: Some(receiver), stop };
        this.wait(PATIENCE)?;
        Ok(this)
    }

    /// Waits until the look-out has ended.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        self.wait(Duration::MAX)
    }

    fn wait(&mut self, patience: Duration) -> Result<(), Error> {
        let Some(running) = &self.running else { return Ok(()) };
        let result = match running.recv_timeout(patience) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => panic!("the look-out panicked"),
        };
        self.running = None;
        result
    }
}

impl Drop for LookOut {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Refuses an epoch whose files would find others in their places, as long as nothing of it is committed.
pub(super) fn refuse_taken(
    storage: &dyn Storage,
    layout: &Layout,
    epoch: u64,
    files: &[DataFile],
) -> Result<(), Error> {
    for file in files {
        let path =
            file.destination_in(&layout.lake).map_err(|reason| Error::corrupt(&layout.lake, reason))?;
        if storage.exists(&path).map_err(Error::io("look for", &path))? {
            return Err(Error::Ahead { path, epoch, last: epoch - 1, log: layout.log() });
        }
    }
    Ok(())
}

/// The first file below a folder that `wanted` picks by its name, if there is one; and if there is that folder.
pub(super) fn find_file(root: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>, Error> {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        match find_in(&folder, wanted, &mut folders) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("list", &folder)(error)),
            Ok(None) => {}
            found => return Ok(found.unwrap_or_default()),
        }
    }
    Ok(None)
}

fn find_in(
    folder: &Path,
    wanted: &dyn Fn(&str) -> bool,
    folders: &mut Vec<PathBuf>,
) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        } else if wanted(&entry.file_name().to_string_lossy()) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn look(layout: &Layout, last: u64, stopped: &AtomicBool) -> Result<(), Error> {
    let folders = [(layout.root(), layout.table.clone()), (layout.rejected_root(), layout.rejected_name())];
    for (root, table) in folders {
        let is_ahead = |name: &str| {
            stopped.load(Ordering::Relaxed) || epoch_of(name, &table).is_some_and(|epoch| epoch > last)
        };
        let found = find_file(&root, &is_ahead)?;
        if stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        if let Some(path) = found {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let epoch = epoch_of(&name, &table).unwrap_or_default();
            return Err(Error::Ahead { path, epoch, last, log: layout.log() });
        }
    }
    Ok(())
}

/// The epoch in the name of a table's file; `None` if the name is a stranger's.
fn epoch_of(name: &str, table: &str) -> Option<u64> {
    let (epoch, number) =
        name.strip_prefix(table)?.strip_prefix('-')?.strip_suffix(".parquet")?.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (epoch.len() == 20 && digits(epoch) && digits(number)).then(|| epoch.parse().ok())?
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::datatypes::{DataType, Field, Schema};
    use puddle_types::TopicPartition;

    use super::*;
    use crate::parquet::ParquetSink;
    use crate::storage::LocalStorage;
    use crate::{Epoch, Sink, SinkConfig, Span};

    #[test]
    fn a_name_tells_its_epoch() {
        for (name, epoch) in [
            ("t-00000000000000000042-0.parquet", Some(42)),
            ("t-00000000000000000042-117.parquet", Some(42)),
            ("t-18446744073709551615-0.parquet", Some(u64::MAX)),
            ("t-99999999999999999999-0.parquet", None),
            ("t-0000000000000000042-0.parquet", None),
            ("t-00000000000000000042-.parquet", None),
            ("t-00000000000000000042-0.crc", None),
            ("t.rejected-00000000000000000042-0.parquet", None),
            ("_SUCCESS", None),
            ("t", None),
        ] {
            assert_eq!(epoch_of(name, "t"), epoch, "{name}");
        }
    }

    #[test]
    fn a_look_out_that_takes_long_is_waited_for_before_the_first_commit() {
        let lake = tempfile::tempdir().unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let storage = Arc::new(LocalStorage { durable: false });
        let mut sink =
            ParquetSink::open(lake.path(), &SinkConfig::new("t"), schema, "tests", storage).unwrap();
        let ((sender, receiver), (go, told)) = (sync_channel(1), sync_channel(1));
        sink.look_out = LookOut { running: Some(receiver), stop: Arc::default() };
        sink.look_out.wait(Duration::ZERO).unwrap();
        let slow = thread::spawn(move || {
            told.recv().unwrap();
            sender.send(Err(Error::Foreign { path: "t".into() })).unwrap();
        });
        go.send(()).unwrap();
        let span = Span { from: 0, next: 1, last: None, records: 1, written: 0, filtered: 1, rejected: 0 };
        let partitions = BTreeMap::from([(TopicPartition::new("t", 0), span)]);
        let error = sink.commit(Epoch { partitions, ..Epoch::default() }).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
        assert!(sink.abort().is_err(), "trying again would forget it");
        slow.join().unwrap();
    }

    #[test]
    fn a_look_out_ends_with_the_sink() {
        let lake = tempfile::tempdir().unwrap();
        let layout = Layout::new(lake.path(), "t");
        fs::create_dir(layout.root()).unwrap();
        fs::write(layout.root().join("t-00000000000000000002-0.parquet"), "").unwrap();
        let stop = AtomicBool::new(false);
        look(&layout, 1, &stop).unwrap_err();
        look(&layout, 2, &stop).unwrap();
        stop.store(true, Ordering::Relaxed);
        look(&layout, 1, &stop).unwrap();
    }
}
