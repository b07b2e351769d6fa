//! What a run did, for people and machines.

use serde::Serialize;

/// The outcome of one run. `records = written + filtered + rejected`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// The pipeline's name.
    pub pipeline: String,
    /// The table's name.
    pub table: String,
    /// Records read and committed.
    pub records: u64,
    /// Rows written to the table.
    pub written: u64,
    /// Records that the SQL's WHERE or a join left out.
    pub filtered: u64,
    /// Records that did not fit the schema or failed in the SQL; they are in the table `<table>.rejected`.
    pub rejected: u64,
    /// The first few distinct reasons for a rejection.
    pub reasons: Vec<String>,
    /// Bytes of the keys and values read.
    pub bytes_read: u64,
    /// Commits made.
    pub commits: u64,
    /// Files that became visible.
    pub files: u64,
    /// Bytes of those files.
    pub bytes_written: u64,
    /// From the start of the run to its last commit.
    pub seconds: f64,
    /// From the start of the run to its first batch of records, in seconds: connecting, planning the SQL, opening the
    /// table, joining the group.
    pub first_record_s: Option<f64>,
    /// `records` per second of the time from the first record to the last commit.
    pub records_per_second: f64,
    /// From a record's timestamp to its row being visible.
    pub latency: Option<Latency>,
    /// Records not yet committed when the run ended, as far as the broker's watermarks tell.
    pub lag: u64,
}

/// Latency from a record's timestamp to its row being visible, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// The median.
    pub p50_ms: u64,
    /// Ninety-nine of a hundred records were visible within this time.
    pub p99_ms: u64,
}
