//! SQL over a lake's tables, as whole epochs show them.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Fields, Schema};
use puddle_sink::lake;
use puddle_transform::query;

use crate::Error;

/// Answers one query from the tables of `lake`.
///
/// # Errors
/// A lake that cannot be read; SQL that asks for what is not there.
pub fn ask(lake: &Path, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    let tables: Vec<query::Table> = lake::tables(lake)?.into_iter().map(for_query).collect();
    Ok(query::query(sql, &tables, None)?)
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
