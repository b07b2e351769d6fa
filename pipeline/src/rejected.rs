//! Rejected records: why there are some, what they are, and how they come back.
//!
//! ```text
//! run    decode --does not fit--> rejected rows       SQL --fails--> rejected rows, values read again   (by_sql)
//! list   files of `<table>.rejected` --> how many for which reason, and the newest                      (list)
//! retry  file --> decode --> SQL --rows--> Sink::write                                                  (retry)
//!                    '--------'--fits still not--> Sink::write_rejected
//!        commit: the file goes, and what became of its records appears; offsets do not move
//! ```

mod by_sql;
mod file;
mod list;
mod retry;
#[cfg(test)]
mod tests;

pub(crate) use by_sql::by_sql;
pub use list::{Bytes, Listing, Partition, Reason, Record, Selection, list};
pub use retry::{Outcome, Watch, retry};
