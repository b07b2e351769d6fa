//! One segment file: batches one after the other, named after the offset of its first record.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::{BatchError, BatchHeader, HEADER_LEN, REWRITTEN_LEN};
use super::index::SparseIndex;

const EXTENSION: &str = "log";

/// A segment, sealed or active.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: i64,
    path: PathBuf,
    file: Arc<File>,
    /// Bytes of whole batches; nothing beyond is ever read.
    size: u64,
    next_offset: i64,
    /// The latest timestamp in the segment and the position of the batch that has it.
    latest: Option<(i64, u64)>,
    index: SparseIndex,
}

impl Segment {
    /// Makes an empty segment whose first record will have `base_offset`.
    pub(crate) fn create(dir: &Path, base_offset: i64) -> io::Result<Segment> {
        let path = path(dir, base_offset);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok(Segment::empty(base_offset, path, file))
    }

    /// Opens the segment and rebuilds its index by walking its batches, telling `each` of every one. The walk ends at
    /// the first batch that is not whole and sound; with `checksums` that includes reading every byte.
    ///
    /// Returns the segment and how many bytes follow the last sound batch.
    pub(crate) fn recover(
        dir: &Path,
        base_offset: i64,
        checksums: bool,
        mut each: impl FnMut(&BatchHeader),
    ) -> io::Result<(Segment, u64)> {
        let path = path(dir, base_offset);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let on_disk = file.metadata()?.len();
        let mut segment = Segment::empty(base_offset, path, file);
        let mut buffer = Vec::new();
        while let Some(header) = segment.sound_batch(on_disk, checksums, &mut buffer)? {
            segment.note(&header);
            each(&header);
        }
        let torn = on_disk - segment.size;
        Ok((segment, torn))
    }

    fn empty(base_offset: i64, path: PathBuf, file: File) -> Segment {
        let file = Arc::new(file);
        let index = SparseIndex::default();
        Segment { base_offset, path, file, size: 0, next_offset: base_offset, latest: None, index }
    }

    /// The batch that follows those known so far, if it is whole and sound.
    fn sound_batch(
        &self,
        on_disk: u64,
        checksums: bool,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Option<BatchHeader>> {
        let left = on_disk - self.size;
        if left < HEADER_LEN as u64 {
            return Ok(None);
        }
        buffer.resize(HEADER_LEN, 0);
        self.file.read_exact_at(buffer, self.size)?;
        let Ok(header) = BatchHeader::parse(buffer) else { return Ok(None) };
        if header.len as u64 > left || header.base_offset < self.next_offset {
            return Ok(None);
        }
        if checksums {
            // The claimed length was compared with the file's, so that garbage cannot claim much memory.
            buffer.resize(header.len, 0);
            self.file.read_exact_at(buffer, self.size)?;
            if BatchHeader::checked(buffer).is_err() {
                return Ok(None);
            }
        }
        Ok(Some(header))
    }

    /// Appends a batch whose first record gets `base_offset`. If that fails, the segment is as it was.
    pub(crate) fn append(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
        base_offset: i64,
        leader_epoch: i32,
    ) -> io::Result<()> {
        // Two writes rather than a patched copy of the batch: a tear between them looks like any torn tail.
        let written = self
            .file
            .write_all_at(&header.rewritten(base_offset, leader_epoch), self.size)
            .and_then(|()| self.file.write_all_at(&batch[REWRITTEN_LEN..], self.size + REWRITTEN_LEN as u64));
        if let Err(error) = written {
            // Whatever part of it arrived must not be taken for a batch after a restart.
            self.file.set_len(self.size)?;
            return Err(error);
        }
        self.note(&BatchHeader { base_offset, ..*header });
        Ok(())
    }

    fn note(&mut self, header: &BatchHeader) {
        let latest_before = self.latest.map_or(i64::MIN, |(time, _)| time);
        self.index.note(header.base_offset, self.size, latest_before);
        if header.max_timestamp > latest_before {
            self.latest = Some((header.max_timestamp, self.size));
        }
        self.size += header.len as u64;
        self.next_offset = header.next_offset();
    }

    /// Cuts off what follows the last sound batch.
    pub(crate) fn truncate_torn(&self) -> io::Result<()> {
        self.file.set_len(self.size)?;
        self.file.sync_all()
    }

    /// Forces the segment to disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Removes the file; readers that hold it may go on reading.
    pub(crate) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    pub(crate) fn latest(&self) -> Option<(i64, u64)> {
        self.latest
    }

    /// Position and header of the batch that holds `offset`, or of the first after it.
    pub(crate) fn find_offset(&self, offset: i64) -> io::Result<Option<(u64, BatchHeader)>> {
        self.scan(self.index.before_offset(offset), |header| header.next_offset() > offset)
    }

    /// Position and header of the first batch with a record at `timestamp` or later.
    pub(crate) fn find_time(&self, timestamp: i64) -> io::Result<Option<(u64, BatchHeader)>> {
        if self.latest.is_none_or(|(latest, _)| latest < timestamp) {
            return Ok(None);
        }
        self.scan(self.index.before_time(timestamp), |header| header.max_timestamp >= timestamp)
    }

    fn scan(
        &self,
        mut position: u64,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> io::Result<Option<(u64, BatchHeader)>> {
        let mut head = [0; HEADER_LEN];
        while position < self.size {
            self.file.read_exact_at(&mut head, position)?;
            let header = BatchHeader::parse(&head).map_err(|error| self.damaged(position, error))?;
            if wanted(&header) {
                return Ok(Some((position, header)));
            }
            position += header.len as u64;
        }
        Ok(None)
    }

    fn damaged(&self, position: u64, error: BatchError) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} at byte {position}: {error}", self.path.display()),
        )
    }
}

/// Base offsets of the segments in `dir`, rising. Files that are no segments are left alone.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<i64>> {
    let mut offsets = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let base = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<i64>().ok());
        if let Some(base) = base
            && path.extension().is_some_and(|extension| extension == EXTENSION)
            && base >= 0
        {
            offsets.push(base);
        }
    }
    offsets.sort_unstable();
    Ok(offsets)
}

/// Makes the creation, renaming or removal of files in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn path(dir: &Path, base_offset: i64) -> PathBuf {
    dir.join(format!("{base_offset:020}.{EXTENSION}"))
}
