//! Rejected records run again, by the schema and the SQL of now.
//!
//! A file of rejected records is taken out of the table as a whole, in the commit that holds what became of its records:
//! so each is in one place, at any moment and after any crash, without a list of what was done. A file of which nothing
//! comes back stays as it is. What still does not fit is in a new file, which the next retry finds.
//!
//! One file is an epoch's at most, and a portion of files is committed together, so that neither memory nor an entry of
//! the log grows with the number of rejected records.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::{AsArray, BinaryArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use puddle_ingest::format::Decoder;
use puddle_ingest::raw::{RawBatch, RawRecord};
use puddle_sink::config::REJECTED_SUFFIX;
use puddle_sink::lake::{self, TableFile};
use puddle_sink::{Epoch, Retried, Sink};
use puddle_transform::Transform;
use puddle_types::{TopicPartition, metadata};
use serde::Serialize;

use super::by_sql::rejected_rows;
use super::file::{Chunk, Chunks, origins};
use crate::prepare::{self, blocking};
use crate::{Error, Pipeline};

/// Files that one commit takes away at most: their names are in one entry of the log.
const PORTION_FILES: usize = 1_000;
/// How many reasons of records that still do not fit are told.
const REASONS_TOLD: usize = 5;

/// Lets others see how far a retry has come, and stop it.
#[derive(Debug, Default)]
pub struct Watch {
    /// Rejected records there are.
    pub whole: AtomicU64,
    /// Of these, run again.
    pub done: AtomicU64,
    /// Whether to end after the file in hand.
    pub stop: AtomicBool,
}

/// What became of the rejected records. `records = written + filtered + rejected`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The pipeline's name.
    pub pipeline: String,
    /// The table's name.
    pub table: String,
    /// Records run again.
    pub records: u64,
    /// Of these, rows of the table now.
    pub written: u64,
    /// Of these, left out by the SQL.
    pub filtered: u64,
    /// Of these, still rejected.
    pub rejected: u64,
    /// Rejected records that were not run again, since the retry was stopped.
    pub left: u64,
    /// Commits made.
    pub commits: u64,
    /// A few of the reasons why records still do not fit.
    pub reasons: Vec<String>,
}

/// Runs the rejected records of a pipeline again and moves what now fits into its table, each exactly once.
///
/// Needs no broker. Where the table has one writer, a run in progress is refused by name. A retry that is cut off can be
/// run again: what was committed is done.
///
/// # Errors
/// No schema yet; a schema or SQL that does not fit the table; a file that cannot be read; all errors of the sink.
pub async fn retry(pipeline: &Pipeline, lake: &Path, watch: Arc<Watch>) -> Result<Outcome, Error> {
    let (transform, schema) = prepare::without_broker(pipeline)?;
    let (lake, config, owner) = (lake.to_owned(), pipeline.sink.clone(), pipeline.name.clone());
    let (ingest, portion_rows) = (pipeline.ingest.clone(), pipeline.commit.rows);
    blocking(move || {
        let decoder = Decoder::new(&ingest, &schema)?;
        let rejected = format!("{}{REJECTED_SUFFIX}", config.table);
        // Before the sink is opened, which would make a table.
        lake::table(&lake, &rejected)?;
        let sink = match puddle_sink::open(&lake, &config, transform.output_schema(), &owner) {
            Err(puddle_sink::Error::Locked { table, holder }) => {
                return Err(Error::Running { table, holder });
            }
            sink => sink?,
        };
        let outcome = Outcome { pipeline: owner, table: config.table, ..Outcome::default() };
        // With the table open, so that no other writer of a table with one can come between.
        let files = lake::table(&lake, &rejected)?.files;
        let reasons = BTreeSet::new();
        let again = Again { sink, decoder, transform, lake, rejected, portion_rows, watch, outcome, reasons };
        again.run(files)
    })
    .await
}

struct Again {
    sink: Box<dyn Sink>,
    decoder: Decoder,
    transform: Transform,
    lake: PathBuf,
    /// The name of the table of rejected records.
    rejected: String,
    portion_rows: u64,
    watch: Arc<Watch>,
    outcome: Outcome,
    reasons: BTreeSet<String>,
}

/// What the next commit will cover.
#[derive(Default)]
struct Portion {
    files: Vec<TableFile>,
    retried: BTreeMap<TopicPartition, Retried>,
}

/// What became of some records of one partition.
struct Tried {
    partition: TopicPartition,
    rows: RecordBatch,
    rejected: RecordBatch,
    count: Retried,
}

impl Again {
    fn run(mut self, files: Vec<TableFile>) -> Result<Outcome, Error> {
        self.watch.whole.store(files.iter().map(|file| file.rows).sum(), Ordering::Relaxed);
        let result = self.all(files);
        if result.is_err() {
            // The error is what the caller must see; what was staged is swept at the next start in any case.
            if let Err(error) = self.sink.abort() {
                tracing::debug!(%error, "staged files are left for the next start to sweep");
            }
        }
        self.outcome.reasons = self.reasons.into_iter().collect();
        result.map(|()| self.outcome)
    }

    fn all(&mut self, files: Vec<TableFile>) -> Result<(), Error> {
        let mut left = VecDeque::from(files);
        while !left.is_empty() && !self.watch.stop.load(Ordering::Relaxed) {
            let mut portion = Portion::default();
            match self.portion(&mut left, &mut portion) {
                Ok(()) => {}
                // Another retry was faster with one of the files, which a table with several writers allows.
                Err(error) if is_taken(&error) => self.begin_anew(portion, &mut left, error)?,
                Err(error) => return Err(error),
            }
        }
        self.outcome.left = left.iter().map(|file| file.rows).sum();
        Ok(())
    }

    /// Runs as many files again as one commit takes, and commits them.
    fn portion(&mut self, left: &mut VecDeque<TableFile>, portion: &mut Portion) -> Result<(), Error> {
        let mut rows = 0;
        while rows < self.portion_rows && portion.files.len() < PORTION_FILES {
            if self.watch.stop.load(Ordering::Relaxed) {
                break;
            }
            let Some(file) = left.pop_front() else { break };
            portion.files.push(file.clone());
            if self.comes_back(&file.path)? {
                self.sink.retry(std::slice::from_ref(&file.path))?;
                for chunk in Chunks::open(&file.path)? {
                    for tried in self.attempt(&chunk?)? {
                        self.write(tried, portion)?;
                    }
                }
                rows += file.rows;
            } else {
                portion.files.pop();
                self.outcome.records += file.rows;
                self.outcome.rejected += file.rows;
            }
            self.watch.done.fetch_add(file.rows, Ordering::Relaxed);
        }
        if portion.files.is_empty() { Ok(()) } else { self.commit(&portion.retried) }
    }

    /// Throws a portion away and puts back those of its files that are still there, and may be run again with the rest.
    fn begin_anew(
        &mut self,
        portion: Portion,
        left: &mut VecDeque<TableFile>,
        error: Error,
    ) -> Result<(), Error> {
        let before = left.len() + portion.files.len();
        self.sink.abort()?;
        self.sink.reload()?;
        let there = lake::table(&self.lake, &self.rejected)?.files;
        let there: HashSet<PathBuf> = there.into_iter().map(|file| file.path).collect();
        for file in portion.files.into_iter().rev() {
            left.push_front(file);
        }
        left.retain(|file| there.contains(&file.path));
        let rows: u64 = left.iter().map(|file| file.rows).sum();
        let whole = self.watch.whole.load(Ordering::Relaxed);
        self.watch.done.store(whole.saturating_sub(rows), Ordering::Relaxed);
        // Nothing was taken after all: it would be the same again.
        if left.len() < before { Ok(()) } else { Err(error) }
    }

    /// Whether any record of a file fits now. It is known at the first that does, usually at once.
    fn comes_back(&mut self, path: &Path) -> Result<bool, Error> {
        for chunk in Chunks::open(path)? {
            let tried = self.attempt(&chunk?)?;
            if tried.iter().any(|tried| tried.count.rejected < tried.count.records) {
                return Ok(true);
            }
            tried.iter().for_each(|tried| self.note(&tried.rejected));
        }
        Ok(false)
    }

    /// Decodes records and applies the SQL. Records without a value are taken over as they are: a tombstone never fits,
    /// and a value that is gone must not be taken for one.
    fn attempt(&mut self, chunk: &Chunk) -> Result<Vec<Tried>, Error> {
        let mut all = Vec::new();
        for raw in &chunk.records {
            all.push(self.attempt_records(raw)?);
        }
        for rows in &chunk.without_value {
            let mut first = 0;
            for run in origins(rows).chunk_by(|(a, _), (b, _)| a == b) {
                all.push(Tried {
                    partition: run[0].0.clone(),
                    rows: RecordBatch::new_empty(self.transform.output_schema()),
                    rejected: rows.slice(first, run.len()),
                    count: Retried {
                        records: run.len() as u64,
                        rejected: run.len() as u64,
                        ..Retried::default()
                    },
                });
                first += run.len();
            }
        }
        Ok(all)
    }

    fn attempt_records(&mut self, raw: &RawBatch) -> Result<Tried, Error> {
        let batch = self.decoder.decode(raw)?;
        let (rows, failed) = self.transform.apply_or_reject(&batch.rows)?;
        let mut rejected = batch.rejected;
        if !failed.is_empty() {
            let records: Vec<RawRecord<'_>> = raw.records().collect();
            let offsets = batch.rows.column_by_name(metadata::OFFSET).expect("every batch has its offsets");
            let offsets = offsets.as_primitive::<Int64Type>();
            let values: BinaryArray = failed
                .iter()
                .map(|failed| {
                    let offset = offsets.value(failed.row);
                    let found = records.binary_search_by_key(&offset, |record| record.offset);
                    found.ok().and_then(|i| records[i].value)
                })
                .collect();
            let more = rejected_rows(&batch.rows, &failed, &values, |_| false);
            rejected = concat_batches(&rejected.schema(), [&rejected, &more])
                .expect("both have the schema of rejected records");
        }
        let (records, written) = (raw.len() as u64, rows.num_rows() as u64);
        let still = rejected.num_rows() as u64;
        let count = Retried { records, written, filtered: records - written - still, rejected: still };
        Ok(Tried { partition: raw.partition.clone(), rows, rejected, count })
    }

    fn write(&mut self, tried: Tried, portion: &mut Portion) -> Result<(), Error> {
        if tried.rows.num_rows() > 0 {
            self.sink.write(&tried.rows)?;
        }
        if tried.rejected.num_rows() > 0 {
            self.sink.write_rejected(&tried.rejected)?;
            self.note(&tried.rejected);
        }
        let sum = portion.retried.entry(tried.partition).or_default();
        sum.records += tried.count.records;
        sum.written += tried.count.written;
        sum.filtered += tried.count.filtered;
        sum.rejected += tried.count.rejected;
        Ok(())
    }

    fn commit(&mut self, retried: &BTreeMap<TopicPartition, Retried>) -> Result<(), Error> {
        let count = |pick: fn(&Retried) -> u64| retried.values().map(pick).sum::<u64>();
        let (records, written) = (count(|again| again.records), count(|again| again.written));
        let (filtered, rejected) = (count(|again| again.filtered), count(|again| again.rejected));
        self.sink.commit(Epoch { retried: retried.clone(), ..Epoch::default() })?;
        self.outcome.records += records;
        self.outcome.written += written;
        self.outcome.filtered += filtered;
        self.outcome.rejected += rejected;
        self.outcome.commits += 1;
        Ok(())
    }

    /// Remembers the first few reasons.
    fn note(&mut self, rejected: &RecordBatch) {
        let reasons = rejected.column_by_name(metadata::REASON).expect("rejected records have a reason");
        for reason in reasons.as_string::<i32>().iter().flatten() {
            if self.reasons.len() >= REASONS_TOLD {
                return;
            }
            if !self.reasons.contains(reason) {
                self.reasons.insert(reason.to_owned());
            }
        }
    }
}

/// Whether a file of rejected records was run again by another.
fn is_taken(error: &Error) -> bool {
    match error {
        Error::Sink(error) => matches!(error, puddle_sink::Error::NotRejected { .. }),
        Error::Read { source, .. } => source.kind() == ErrorKind::NotFound,
        _ => false,
    }
}
