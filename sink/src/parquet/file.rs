//! One Parquet file being written, a row group at a time, and how a file is known to hold what was written.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;
use xxhash_rust::xxh3::Xxh3;

use super::encoder::Encoder;
use super::rows::Rows;
use crate::Error;
use crate::storage::{Storage, WriteFile};

/// A file that has at least one row group.
pub(crate) struct OpenFile {
    writer: SerializedFileWriter<HashingWriter>,
    path: PathBuf,
    rows: u64,
    failure: Failure,
}

/// The first error of the file itself. The Parquet writer passes on the text of some and drops what they are, but a full
/// disk must be told from one that is broken.
type Failure = Arc<Mutex<Option<io::Error>>>;

/// What a finished file is.
pub(crate) struct Finished {
    pub(crate) path: PathBuf,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) hash: String,
}

/// A whole file that is not durable yet.
pub(crate) struct Closed {
    file: Box<dyn WriteFile>,
    pub(crate) finished: Finished,
}

/// Hashes what goes through, so that no file is read again to know what it should hold.
struct HashingWriter {
    file: Box<dyn WriteFile>,
    hasher: Box<Xxh3>,
    bytes: u64,
    failure: Failure,
}

impl OpenFile {
    pub(crate) fn create(storage: &dyn Storage, path: PathBuf, encoder: &Encoder) -> Result<Self, Error> {
        let file = storage.create(&path).map_err(Error::io("create", &path))?;
        let failure = Failure::default();
        let inner = HashingWriter { file, hasher: Box::new(Xxh3::new()), bytes: 0, failure: failure.clone() };
        let writer = encoder.begin(inner).map_err(|error| told(&path, error, &failure))?;
        Ok(Self { writer, path, rows: 0, failure })
    }

    /// Encodes all that waits, as one row group or as many as their size asks for.
    pub(crate) fn write(&mut self, encoder: &Encoder, rows: &mut Rows) -> Result<(), Error> {
        self.rows += rows.len() as u64;
        encoder.write(&mut self.writer, rows).map_err(|error| told(&self.path, error, &self.failure))
    }

    /// Writes the footer.
    pub(crate) fn close(self) -> Result<Closed, Error> {
        let Self { writer, path, rows, failure } = self;
        let inner = writer.into_inner().map_err(|error| told(&path, error, &failure))?;
        let finished = Finished { path, rows, bytes: inner.bytes, hash: hex(&inner.hasher) };
        Ok(Closed { file: inner.file, finished })
    }
}

/// Makes files durable.
pub(crate) fn sync(storage: &dyn Storage, files: &mut [Closed]) -> Result<(), Error> {
    let mut handles: Vec<&mut dyn WriteFile> = files.iter_mut().map(|file| &mut *file.file as _).collect();
    let synced = storage.sync_files(&mut handles);
    synced.map_err(|(position, error)| Error::sync(&files[position].finished.path)(error))
}

impl Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self.file.write(bytes) {
            Ok(written) => written,
            Err(error) => {
                let text = io::Error::new(error.kind(), error.to_string());
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return Err(text);
            }
        };
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// An error of the writer, told as the file's own if that failed.
fn told(path: &Path, error: ParquetError, failure: &Failure) -> Error {
    match failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(source) => Error::Io { action: "write", path: path.to_owned(), source },
        None => Error::parquet(path, error),
    }
}

/// Whether a file holds exactly the bytes that were written to it.
pub(crate) fn holds(storage: &dyn Storage, path: &Path, bytes: u64, hash: &str) -> Result<bool, Error> {
    let mut file = storage.open(path).map_err(Error::io("read", path))?;
    let mut hasher = Xxh3::new();
    let mut length = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(length == bytes && hex(&hasher) == hash),
            read => {
                hasher.update(&buffer[..read]);
                length += read as u64;
            }
        }
    }
}

fn hex(hasher: &Xxh3) -> String {
    format!("{:016x}", hasher.digest())
}
