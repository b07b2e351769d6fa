//! The staged files of one epoch: rows are split by partition value and leave memory as row groups.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::encoder::Encoder;
use super::file::{Closed, Finished, OpenFile, sync};
use super::log::DataFile;
use super::rows::Rows;
use super::split::{Splitter, Values};
use crate::schema::convert_but_views;
use crate::storage::Storage;
use crate::{Error, SinkConfig, hive};

/// Most bytes of rows that wait, whatever is asked for: an array of strings holds two gigabytes, of which this leaves one
/// for the batch that is added.
const MAX_BUFFER_BYTES: usize = 1 << 30;

/// Files that are made durable together: waiting for one takes as long as for some.
const SYNC_FILES: usize = 64;

/// Writes the rows of one table, be it the one of good or of rejected records.
pub(crate) struct TableWriter {
    storage: Arc<dyn Storage>,
    /// The folder's name in the lake, and the beginning of each file's.
    table: String,
    /// The staging folder, whole and relative to the lake.
    staging: PathBuf,
    staging_name: String,
    rejected: bool,
    schema: SchemaRef,
    partition_by: Vec<String>,
    splitter: Splitter,
    encoder: Encoder,
    row_group_rows: usize,
    max_open: usize,
    budget: usize,
    parts: BTreeMap<Values, Part>,
    pending_bytes: usize,
    /// Files that are whole, but not durable yet: at most [`SYNC_FILES`].
    closed: Vec<(Values, Closed)>,
    finished: Vec<(Values, Finished)>,
    /// Number of the next file. It goes on through aborted epochs, so that no name is used twice.
    next_file: u64,
    writes: u64,
}

/// What is known of one partition value in the epoch in hand.
struct Part {
    rows: Rows,
    file: Option<OpenFile>,
    last_write: u64,
}

/// What tells one table's writer from another's.
pub(crate) struct Settings<'a> {
    pub(crate) table: String,
    pub(crate) staging: PathBuf,
    pub(crate) staging_name: String,
    pub(crate) rejected: bool,
    pub(crate) schema: SchemaRef,
    pub(crate) partition_by: &'a [String],
}

impl TableWriter {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        settings: Settings<'_>,
        config: &SinkConfig,
    ) -> Result<Self, Error> {
        let Settings { table, staging, staging_name, rejected, schema, partition_by } = settings;
        let splitter = Splitter::new(&table, &schema, partition_by)?;
        Ok(Self {
            encoder: Encoder::new(&table, splitter.data_schema(), config)?,
            splitter,
            partition_by: partition_by.to_vec(),
            row_group_rows: config.row_group_rows,
            max_open: config.max_open_partitions,
            budget: config.buffer_bytes.min(MAX_BUFFER_BYTES),
            parts: BTreeMap::new(),
            pending_bytes: 0,
            closed: Vec::new(),
            finished: Vec::new(),
            next_file: 0,
            writes: 0,
            storage,
            table,
            staging,
            staging_name,
            rejected,
            schema,
        })
    }

    /// Takes rows of any schema that is stored as this table's.
    pub(crate) fn write(&mut self, epoch: u64, rows: &RecordBatch) -> Result<(), Error> {
        self.writes += 1;
        let columns = convert_but_views(rows, &self.schema, &self.table)?;
        for (values, runs) in self.splitter.split(&columns, rows.num_rows())? {
            let part = match self.parts.entry(values.clone()) {
                Entry::Occupied(part) => part.into_mut(),
                Entry::Vacant(none) => {
                    let rows = Rows::new(self.encoder.schema()).map_err(Error::arrow(&self.table))?;
                    none.insert(Part { rows, file: None, last_write: 0 })
                }
            };
            part.last_write = self.writes;
            let before = part.rows.bytes();
            part.rows.extend(self.splitter.data(&columns), &runs).map_err(Error::arrow(&self.table))?;
            self.pending_bytes = self.pending_bytes + part.rows.bytes() - before;
            if part.rows.len() >= self.row_group_rows {
                self.encode(epoch, &values)?;
            }
        }
        while self.pending_bytes > self.budget {
            let largest = self.parts.iter().max_by_key(|(_, part)| part.rows.bytes());
            let Some(values) = largest.map(|(values, _)| values.clone()) else { break };
            self.encode(epoch, &values)?;
        }
        Ok(())
    }

    /// Finishes and syncs every file, and tells what there is to commit.
    pub(crate) fn finish(&mut self, epoch: u64) -> Result<Vec<DataFile>, Error> {
        while let Some(values) = self.parts.keys().next().cloned() {
            if self.parts[&values].rows.len() > 0 {
                self.encode(epoch, &values)?;
            }
            self.close(&values)?;
        }
        self.sync()?;
        Ok(self.finished.iter().map(|(values, file)| self.describe(values, file)).collect())
    }

    /// Forgets the epoch's files, which have been published.
    pub(crate) fn published(&mut self) {
        self.finished.clear();
        self.next_file = 0;
    }

    /// Throws away what waits; the staged files that there were are left to the caller.
    pub(crate) fn abort(&mut self) {
        self.parts.clear();
        self.pending_bytes = 0;
        self.closed.clear();
        self.finished.clear();
    }

    /// Writes what waits for a partition value to its file.
    fn encode(&mut self, epoch: u64, values: &Values) -> Result<(), Error> {
        if self.parts[values].file.is_none() {
            self.make_room(values)?;
        }
        let Some(part) = self.parts.get_mut(values) else { return Ok(()) };
        let file = match &mut part.file {
            Some(file) => file,
            none => {
                let name = format!("{}-{epoch:020}-{}.parquet", self.table, self.next_file);
                self.next_file += 1;
                let path = self.staging.join(name);
                none.insert(OpenFile::create(&*self.storage, path, &self.encoder)?)
            }
        };
        self.pending_bytes -= part.rows.bytes();
        file.write(&self.encoder, &mut part.rows)
    }

    /// Ends what is whole, and then the file that was not written to for longest, if one more would be too many.
    fn make_room(&mut self, but: &Values) -> Result<(), Error> {
        let is_open = |(values, part): &(&Values, &Part)| part.file.is_some() && *values != but;
        let open = self.parts.iter().filter(is_open).count();
        if open + self.closed.len() < self.max_open {
            return Ok(());
        }
        self.sync()?;
        if open < self.max_open {
            return Ok(());
        }
        let oldest = self.parts.iter().filter(is_open).min_by_key(|(_, part)| part.last_write);
        let Some(values) = oldest.map(|(values, _)| values.clone()) else { return Ok(()) };
        if self.parts[&values].rows.len() == 0 {
            self.close(&values)?;
        } else {
            let file = self.parts.get_mut(&values).and_then(|part| part.file.take());
            self.finish_file(values, file)?;
        }
        self.sync()
    }

    fn close(&mut self, values: &Values) -> Result<(), Error> {
        let Some((values, part)) = self.parts.remove_entry(values) else { return Ok(()) };
        self.finish_file(values, part.file)
    }

    fn finish_file(&mut self, values: Values, file: Option<OpenFile>) -> Result<(), Error> {
        if let Some(file) = file {
            self.closed.push((values, file.close()?));
        }
        if self.closed.len() >= SYNC_FILES { self.sync() } else { Ok(()) }
    }

    /// Makes whole files durable.
    fn sync(&mut self) -> Result<(), Error> {
        let (values, mut files): (Vec<Values>, Vec<Closed>) =
            std::mem::take(&mut self.closed).into_iter().unzip();
        sync(&*self.storage, &mut files)?;
        self.finished.extend(values.into_iter().zip(files.into_iter().map(|file| file.finished)));
        Ok(())
    }

    fn describe(&self, values: &Values, file: &Finished) -> DataFile {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        let mut destination = self.table.clone();
        for (column, value) in self.partition_by.iter().zip(values) {
            destination.push('/');
            destination.push_str(&hive::encode(column, value.as_deref()));
        }
        DataFile {
            source: format!("{}/{name}", self.staging_name),
            destination: format!("{destination}/{name}"),
            partition: values.clone(),
            rejected: self.rejected,
            rows: file.rows,
            bytes: file.bytes,
            hash: file.hash.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;
    use crate::storage::LocalStorage;

    #[test]
    fn what_waits_is_counted_and_never_above_the_budget() {
        let dir = tempfile::tempdir().unwrap();
        let keys = StringArray::from_iter_values((0..3000).map(|row| (row % 250).to_string()));
        let numbers = Int64Array::from_iter_values(0..3000);
        let columns: [(&str, ArrayRef); 2] = [("key", Arc::new(keys)), ("n", Arc::new(numbers))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let config = SinkConfig { buffer_bytes: 128 << 10, row_group_rows: 500, ..SinkConfig::new("t") };
        let settings = Settings {
            table: "t".to_owned(),
            staging: dir.path().to_owned(),
            staging_name: "staging".to_owned(),
            rejected: false,
            schema: batch.schema(),
            partition_by: &["key".to_owned()],
        };
        let mut writer =
            TableWriter::new(Arc::new(LocalStorage { durable: false }), settings, &config).unwrap();
        let mut most = 0;
        for _ in 0..20 {
            writer.write(1, &batch).unwrap();
            let waiting: usize = writer.parts.values().map(|part| part.rows.bytes()).sum();
            assert_eq!(writer.pending_bytes, waiting);
            assert!(waiting <= config.buffer_bytes, "{waiting} bytes wait");
            most = most.max(waiting);
        }
        assert!(most > config.buffer_bytes / 2, "the budget was never needed");
        let files = writer.finish(1).unwrap();
        assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 60_000);
        assert_eq!((writer.pending_bytes, writer.parts.len()), (0, 0));
    }
}
