//! SQL over a lake's tables, as whole epochs show them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Fields, Schema};
use puddle_sink::lake;
use puddle_transform::query;

use crate::Error;

/// A file is moved once and taken away once, so a second time is rare.
const ATTEMPTS: usize = 5;
/// Before the next attempt.
const PAUSE: Duration = Duration::from_millis(10);

/// Answers one query from the tables of `lake`.
///
/// # Errors
/// A lake that cannot be read; SQL that asks for what is not there.
pub fn ask(lake: &Path, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    while_files_move(|| {
        let tables: Vec<query::Table> = lake::tables(lake)?.into_iter().map(for_query).collect();
        Ok(query::query(sql, &tables, None)?)
    })
}

/// Answers anew, at most [`ATTEMPTS`] times, where a file went between being listed and being read: a writer puts
/// staged files into place, and takes files away, while others read.
pub(crate) fn while_files_move<T>(mut answer: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..ATTEMPTS {
        match answer() {
            Err(Error::Transform(puddle_transform::Error::File { path, .. })) if !path.exists() => {
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
    answer()
}

/// A table of the lake, as queries see it.
pub(crate) fn for_query(table: lake::Table) -> query::Table {
    let in_path = |field: &&FieldRef| !table.partition_by.iter().any(|by| by.name() == field.name());
    let in_files: Fields = table.schema.fields().iter().filter(in_path).cloned().collect();
    query::Table {
        name: table.name,
        root: table.root,
        files: table.files.into_iter().map(|file| file.path).collect(),
        partitions: table.partition_by.into(),
        schema: Some(Arc::new(Schema::new(in_files))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a query fails with that cannot read this file.
    fn unreadable(path: &Path) -> Error {
        puddle_transform::Error::File { path: path.to_owned(), what: "cannot be read".into() }.into()
    }

    #[test]
    fn a_file_that_moved_is_looked_for_again_and_one_that_is_gone_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let mut attempts = 0;
        let answer = while_files_move(|| {
            attempts += 1;
            if attempts == 1 { Err(unreadable(&gone)) } else { Ok(attempts) }
        });
        assert_eq!(answer.unwrap(), 2);

        let mut attempts = 0;
        let answer: Result<(), Error> = while_files_move(|| {
            attempts += 1;
            Err(unreadable(&gone))
        });
        answer.unwrap_err();
        assert_eq!(attempts, ATTEMPTS);
    }

    #[test]
    fn a_file_that_is_there_and_cannot_be_read_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut attempts = 0;
        let answer: Result<(), Error> = while_files_move(|| {
            attempts += 1;
            Err(unreadable(folder.path()))
        });
        answer.unwrap_err();
        assert_eq!(attempts, 1);
    }
}
