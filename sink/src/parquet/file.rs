//! One Parquet file being written: rows wait in memory and are encoded a row group at a time.
//!
//! An encoder keeps a compressor and its pages for each column, about a megabyte a column. Were a row group begun in
//! every partition, a few hundred partitions would need gigabytes. So rows wait as Arrow, which can be counted, and
//! only the file whose row group is due has an encoder.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use xxhash_rust::xxh3::Xxh3;

use crate::storage::{Storage, WriteFile};
use crate::{Error, SinkConfig};

/// A piece with fewer rows is joined with others, an Arrow array costing a few hundred bytes however short.
const SMALL_ROWS: usize = 4096;
/// How many small pieces are joined at the latest.
const SMALL_PIECES: usize = 64;

/// Rows that wait for their row group.
#[derive(Default)]
pub(crate) struct Pending {
    whole: Vec<RecordBatch>,
    small: Vec<RecordBatch>,
    small_rows: usize,
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

/// A file that has at least one row group.
pub(crate) struct OpenFile {
    writer: ArrowWriter<HashingWriter>,
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

/// Hashes what goes through, so that no file is read again to know what it should hold.
struct HashingWriter {
    file: Box<dyn WriteFile>,
    hasher: Box<Xxh3>,
    bytes: u64,
    failure: Failure,
}

/// The writer's settings: zstd pages of format 1, which every reader knows.
pub(crate) fn properties(config: &SinkConfig) -> Result<WriterPropertiesPtr, Error> {
    let level = ZstdLevel::try_new(config.compression)
        .map_err(|error| Error::Config { key: "compression", reason: error.to_string() })?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(config.row_group_rows))
        .set_created_by("puddle".to_owned())
        .build();
    Ok(Arc::new(properties))
}

impl Pending {
    pub(crate) fn push(&mut self, rows: RecordBatch) -> Result<(), arrow::error::ArrowError> {
        self.rows += rows.num_rows();
        self.bytes += rows.get_array_memory_size();
        if rows.num_rows() >= SMALL_ROWS {
            self.join()?;
            self.whole.push(rows);
            return Ok(());
        }
        self.small_rows += rows.num_rows();
        self.small.push(rows);
        if self.small_rows >= SMALL_ROWS || self.small.len() >= SMALL_PIECES { self.join() } else { Ok(()) }
    }

    /// All rows, in order.
    fn take(&mut self) -> Vec<RecordBatch> {
        let mut all = std::mem::take(self);
        all.whole.append(&mut all.small);
        all.whole
    }

    fn join(&mut self) -> Result<(), arrow::error::ArrowError> {
        let Some(first) = self.small.first() else { return Ok(()) };
        let joined = concat_batches(&first.schema(), &self.small)?;
        let before: usize = self.small.iter().map(RecordBatch::get_array_memory_size).sum();
        self.bytes = self.bytes - before + joined.get_array_memory_size();
        self.whole.push(joined);
        self.small.clear();
        self.small_rows = 0;
        Ok(())
    }
}

impl OpenFile {
    pub(crate) fn create(
        storage: &dyn Storage,
        path: PathBuf,
        schema: &SchemaRef,
        properties: &WriterPropertiesPtr,
    ) -> Result<Self, Error> {
        let file = storage.create(&path).map_err(Error::io("create", &path))?;
        let failure = Failure::default();
        let inner = HashingWriter { file, hasher: Box::new(Xxh3::new()), bytes: 0, failure: failure.clone() };
        let writer = ArrowWriter::try_new(inner, schema.clone(), Some((**properties).clone()))
            .map_err(|error| told(&path, error, &failure))?;
        Ok(Self { writer, path, rows: 0, failure })
    }

    /// Encodes all that waits, as one row group or as many as their size asks for.
    pub(crate) fn write(&mut self, pending: &mut Pending) -> Result<(), Error> {
        for batch in pending.take() {
            self.rows += batch.num_rows() as u64;
            self.writer.write(&batch).map_err(|error| told(&self.path, error, &self.failure))?;
        }
        self.writer.flush().map_err(|error| told(&self.path, error, &self.failure))
    }

    /// Writes the footer and makes the file durable.
    pub(crate) fn finish(self) -> Result<Finished, Error> {
        let Self { writer, path, rows, failure } = self;
        let mut inner = writer.into_inner().map_err(|error| told(&path, error, &failure))?;
        inner.file.sync().map_err(Error::sync(&path))?;
        Ok(Finished { path, rows, bytes: inner.bytes, hash: hex(&inner.hasher) })
    }
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
