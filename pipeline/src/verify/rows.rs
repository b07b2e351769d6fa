//! The rows of the table and of its rejected table, entered into the ledgers by their offsets.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use puddle_sink::config::REJECTED_SUFFIX;
use puddle_sink::lake;
use puddle_transform::query;
use puddle_types::{TopicPartition, metadata};

use super::Depth;
use super::offsets::Ledger;
use crate::Error;
use crate::ask::for_query;

/// A part of a table ends with the file that makes it this large. Its two columns take about 16 bytes a row.
const ROWS_AT_A_TIME: u64 = 1 << 20;

/// Enters every row of the table and of its rejected table, which must all be readable. Returns how closely the rows
/// could be told apart.
pub(super) fn enter(
    tables: [lake::Table; 2],
    ledgers: &mut BTreeMap<TopicPartition, Ledger>,
    problems: &mut Vec<String>,
) -> Result<Depth, Error> {
    let one_topic = ledgers.keys().next().map(|partition| partition.topic.clone());
    let several = ledgers.keys().any(|partition| Some(&partition.topic) != one_topic.as_ref());
    let mut columns = vec![metadata::PARTITION, metadata::OFFSET];
    if several {
        columns.push(metadata::TOPIC);
    }
    if tables.iter().any(|table| columns.iter().any(|column| table.schema.field_with_name(column).is_err())) {
        return Ok(Depth::Counts);
    }
    let mut unknown = 0;
    for table in tables {
        let rejected = table.name.ends_with(REJECTED_SUFFIX);
        let sql = format!("SELECT {} FROM \"{}\"", columns.join(", "), table.name);
        for part in parts(table) {
            for batch in query::query(&sql, &[for_query(part)], None)? {
                unknown += enter_batch(&batch, one_topic.as_deref(), rejected, ledgers);
            }
        }
    }
    if unknown > 0 {
        problems.push(format!("{unknown} rows come from partitions that the log does not know"));
    }
    Ok(Depth::Offsets)
}

/// A table as several of fewer files, each small enough to be in memory.
fn parts(mut table: lake::Table) -> Vec<lake::Table> {
    let mut parts: Vec<lake::Table> = Vec::new();
    let mut rows = ROWS_AT_A_TIME;
    for file in std::mem::take(&mut table.files) {
        if rows >= ROWS_AT_A_TIME {
            parts.push(table.clone());
            rows = 0;
        }
        rows += file.rows;
        parts.last_mut().expect("one was just added").files.push(file);
    }
    parts
}

/// Enters the rows of a batch. Returns how many are of partitions without a ledger.
fn enter_batch(
    batch: &RecordBatch,
    one_topic: Option<&str>,
    rejected: bool,
    ledgers: &mut BTreeMap<TopicPartition, Ledger>,
) -> u64 {
    let column =
        |i: usize, to: &DataType| cast(batch.column(i), to).expect("metadata columns are of their kinds");
    let partitions = column(0, &DataType::Int32);
    let offsets = column(1, &DataType::Int64);
    let topics = (batch.num_columns() > 2).then(|| column(2, &DataType::Utf8));
    let (partitions, offsets) = (partitions.as_primitive::<Int32Type>(), offsets.as_primitive::<Int64Type>());
    let mut unknown = 0;
    // Rows come in runs of one partition; the ledger is looked up once a run.
    let mut row = 0;
    while row < batch.num_rows() {
        let topic = |row: usize| match &topics {
            Some(topics) => topics.as_string::<i32>().value(row),
            None => one_topic.unwrap_or_default(),
        };
        let (partition, name) = (partitions.value(row), topic(row));
        let ledger = ledgers.get_mut(&TopicPartition::new(name, partition));
        let end = (row..batch.num_rows())
            .find(|&i| partitions.value(i) != partition || topic(i) != name)
            .unwrap_or(batch.num_rows());
        match ledger {
            Some(ledger) => (row..end).for_each(|i| ledger.in_table(offsets.value(i), rejected)),
            None => unknown += (end - row) as u64,
        }
        row = end;
    }
    unknown
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_table_is_read_in_parts_that_have_each_file_once() {
        let file = |number: u64| lake::TableFile {
            path: number.to_string().into(),
            partition: Vec::new(),
            rows: number * ROWS_AT_A_TIME / 4,
            bytes: 0,
        };
        let table = lake::Table {
            name: "t".to_owned(),
            root: "t".into(),
            files: (0..10).map(file).collect(),
            partition_by: Vec::new(),
            schema: Arc::new(arrow::datatypes::Schema::empty()),
            epoch: 1,
            rows: 0,
            bytes: 0,
        };
        let all = table.files.clone();
        let parts = parts(table);
        let rows = |files: &[lake::TableFile]| files.iter().map(|file| file.rows).sum::<u64>();
        assert!(parts.iter().all(|part| rows(&part.files[..part.files.len() - 1]) < ROWS_AT_A_TIME));
        assert!(parts.len() > 5);
        assert_eq!(parts.into_iter().flat_map(|part| part.files).collect::<Vec<_>>(), all);
    }
}
