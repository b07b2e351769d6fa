//! Splits a batch by the values of the columns that the table is partitioned by.
//!
//! ```text
//! month   1 1 1 2 2 1   runs of equal neighbours: 0..3, 3..5, 5..6   by value: 1 -> [0..3, 5..6], 2 -> [3..5]
//! ```
//!
//! Neighbours mostly share their value, and comparing columns is ten times cheaper than looking up each row's value.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::compute::{cast, partition, take};
use arrow::datatypes::{DataType, Date32Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::Error;

/// The values of the partition columns, as text; null is `None`.
pub(super) type Values = Vec<Option<String>>;
/// Rows of a batch, in order.
pub(super) type Runs = Vec<Range<usize>>;

/// Splits batches of one schema.
pub(super) struct Splitter {
    table: String,
    /// Positions and types of the partition columns, outermost first.
    keys: Vec<(usize, DataType)>,
    /// Positions of the columns that stay in the files.
    data: Vec<usize>,
    data_schema: SchemaRef,
    converter: RowConverter,
}

impl Splitter {
    /// Checks the partition columns against the stored schema.
    pub(super) fn new(table: &str, schema: &Schema, partition_by: &[String]) -> Result<Self, Error> {
        let error = |reason: String| Error::Config { key: "partition_by", reason };
        let mut keys = Vec::with_capacity(partition_by.len());
        for name in partition_by {
            let position = schema.index_of(name).map_err(|_| {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                error(format!("the rows have no column {name:?}; they have {}", names.join(", ")))
            })?;
            let kind = schema.field(position).data_type();
            if !(kind.is_integer() || matches!(kind, DataType::Utf8 | DataType::Date32 | DataType::Boolean)) {
                let allowed = "a string, an integer, a date or a bool";
                return Err(error(format!(
                    "column {name:?} is {kind}; it must be {allowed}: use CAST in the query"
                )));
            }
            keys.push((position, kind.clone()));
        }
        let is_key = |position: &usize| keys.iter().any(|(key, _)| key == position);
        let data: Vec<usize> = (0..schema.fields().len()).filter(|position| !is_key(position)).collect();
        if data.is_empty() {
            return Err(error("no column is left for the files".to_owned()));
        }
        let sort_fields = keys.iter().map(|(_, kind)| SortField::new(kind.clone()));
        let converter = RowConverter::new(sort_fields.collect()).map_err(Error::arrow(table))?;
        let data_schema = schema.project(&data).map_err(Error::arrow(table))?.into();
        Ok(Self { table: table.to_owned(), keys, data, data_schema, converter })
    }

    /// The schema of the rows in the files.
    pub(super) fn data_schema(&self) -> &SchemaRef {
        &self.data_schema
    }

    /// Those of all columns that are in the files.
    pub(super) fn data<'a>(&self, columns: &'a [ArrayRef]) -> impl Iterator<Item = &'a ArrayRef> {
        self.data.iter().map(|position| &columns[*position])
    }

    /// Where in a batch of so many rows those of each partition value are, in their order.
    pub(super) fn split(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<(Values, Runs)>, Error> {
        self.try_split(columns, rows).map_err(Error::arrow(&self.table))
    }

    fn try_split(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<(Values, Runs)>, ArrowError> {
        if rows == 0 {
            return Ok(Vec::new());
        }
        let whole = 0..rows;
        if self.keys.is_empty() {
            return Ok(vec![(Values::new(), vec![whole])]);
        }
        let keys: Vec<ArrayRef> = self.keys.iter().map(|(position, _)| columns[*position].clone()).collect();
        let runs = partition(&keys)?.ranges();
        let firsts = UInt64Array::from_iter_values(runs.iter().map(|run| run.start as u64));
        let firsts =
            keys.iter().zip(&self.keys).map(|(key, (_, kind))| cast(&take(key, &firsts, None)?, kind));
        let firsts = firsts.collect::<Result<Vec<_>, _>>()?;
        let converted = self.converter.convert_columns(&firsts)?;
        let mut known = HashMap::new();
        let mut groups: Vec<(Values, Runs)> = Vec::new();
        for (number, (run, row)) in runs.into_iter().zip(converted.iter()).enumerate() {
            let group = match known.get(&row) {
                Some(group) => *group,
                None => {
                    let values =
                        firsts.iter().map(|column| text(column, number)).collect::<Result<_, _>>()?;
                    groups.push((values, Runs::new()));
                    known.insert(row, groups.len() - 1);
                    groups.len() - 1
                }
            };
            groups[group].1.push(run);
        }
        Ok(groups)
    }
}

fn text(column: &dyn Array, row: usize) -> Result<Option<String>, ArrowError> {
    if column.is_null(row) {
        return Ok(None);
    }
    if let Some(strings) = column.as_string_opt::<i32>() {
        return Ok(Some(strings.value(row).to_owned()));
    }
    let formatter = ArrayFormatter::try_new(column, &FormatOptions::new())?;
    match formatter.value(row).try_to_string() {
        // A date too far away for a calendar is told by its days since 1970; the pipeline must not stop for it.
        Err(_) if column.data_type() == &DataType::Date32 => {
            Ok(Some(column.as_primitive::<Date32Type>().value(row).to_string()))
        }
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray, StringViewArray};
    use proptest::prelude::*;

    use super::*;

    fn splitter(batch: &RecordBatch, by: &[&str]) -> Result<Splitter, Error> {
        let by: Vec<String> = by.iter().map(|name| (*name).to_owned()).collect();
        Splitter::new("t", &batch.schema(), &by)
    }

    #[test]
    fn values_are_told_as_hive_does() {
        let columns: [(&str, ArrayRef); 5] = [
            ("n", Arc::new(Int64Array::from(vec![0, 1, 2]))),
            ("date", Arc::new(Date32Array::from(vec![Some(15706), Some(i32::MIN), None]))),
            ("bool", Arc::new(BooleanArray::from(vec![true, false, true]))),
            ("int", Arc::new(Int64Array::from(vec![-7, i64::MAX, 0]))),
            ("text", Arc::new(StringArray::from(vec![Some(""), None, Some("a/b")]))),
        ];
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
                .unwrap();
        let splitter = splitter(&batch, &["date", "bool", "int", "text"]).unwrap();
        let parts = splitter.split(batch.columns(), batch.num_rows()).unwrap();
        let values: Vec<Vec<Option<&str>>> =
            parts.iter().map(|(values, _)| values.iter().map(Option::as_deref).collect()).collect();
        assert_eq!(
            values,
            [
                [Some("2013-01-01"), Some("true"), Some("-7"), Some("")],
                [Some("-2147483648"), Some("false"), Some("9223372036854775807"), None],
                [None, Some("true"), Some("0"), Some("a/b")],
            ]
        );
        assert_eq!(splitter.data(batch.columns()).count(), 1);
    }

    #[test]
    fn columns_that_cannot_partition_are_refused() {
        let columns: [(&str, ArrayRef); 2] = [
            ("n", Arc::new(Int64Array::from(vec![0]))),
            ("f", Arc::new(arrow::array::Float64Array::from(vec![0.5]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        for by in [&["f"][..], &["missing"], &["n", "f"]] {
            let Err(error) = splitter(&batch, by) else { panic!("{by:?} passed") };
            assert!(error.is_usage() && error.to_string().contains(by[by.len() - 1]), "{error}");
        }
        let only = batch.project(&[0]).unwrap();
        assert!(splitter(&only, &["n"]).is_err());
    }

    proptest! {
        #[test]
        fn every_row_lands_once_in_its_partition_in_order(keys in prop::collection::vec((prop::option::of(0i64..4), 1..4_usize), 0..90)) {
            let keys: Vec<Option<i64>> = keys.into_iter().flat_map(|(key, rows)| vec![key; rows]).collect();
            let texts: ArrayRef = Arc::new(StringViewArray::from_iter(
                keys.iter().map(|key| key.map(|key| key.to_string())),
            ));
            let columns: [(&str, ArrayRef, bool); 3] = [
                ("key", Arc::new(Int64Array::from(keys.clone())), true),
                ("text", arrow::compute::cast(&texts, &DataType::Utf8).unwrap(), true),
                ("row", Arc::new(Int64Array::from_iter_values(0..keys.len() as i64)), false),
            ];
            let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
            let mut expected: HashMap<Values, Vec<usize>> = HashMap::new();
            for (row, key) in keys.iter().enumerate() {
                expected.entry(vec![key.map(|key| key.to_string())]).or_default().push(row);
            }
            let mut views = batch.columns().to_vec();
            views[1] = texts;
            for (by, columns) in [("key", batch.columns()), ("text", batch.columns()), ("text", &views)] {
                let parts = splitter(&batch, &[by]).unwrap().split(columns, keys.len()).unwrap();
                let found: HashMap<Values, Vec<usize>> =
                    parts.into_iter().map(|(values, runs)| (values, runs.into_iter().flatten().collect())).collect();
                prop_assert_eq!(&found, &expected);
            }
        }
    }
}
