//! Splits a batch by the values of the columns that the table is partitioned by.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Date32Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::Error;

/// The values of the partition columns, as text; null is `None`.
pub(super) type Values = Vec<Option<String>>;

/// Splits batches of one schema.
pub(super) struct Splitter {
    table: String,
    /// Positions of the partition columns, outermost first.
    keys: Vec<usize>,
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
            keys.push(position);
        }
        let data: Vec<usize> =
            (0..schema.fields().len()).filter(|position| !keys.contains(position)).collect();
        if data.is_empty() {
            return Err(error("no column is left for the files".to_owned()));
        }
        let sort_fields =
            keys.iter().map(|position| SortField::new(schema.field(*position).data_type().clone()));
        let converter = RowConverter::new(sort_fields.collect()).map_err(Error::arrow(table))?;
        let data_schema = schema.project(&data).map_err(Error::arrow(table))?.into();
        Ok(Self { table: table.to_owned(), keys, data, data_schema, converter })
    }

    /// The schema of the rows in the files.
    pub(super) fn data_schema(&self) -> &SchemaRef {
        &self.data_schema
    }

    /// The rows of each partition value, in their order, without the partition columns.
    pub(super) fn split(&self, batch: &RecordBatch) -> Result<Vec<(Values, RecordBatch)>, Error> {
        self.try_split(batch).map_err(Error::arrow(&self.table))
    }

    fn try_split(&self, batch: &RecordBatch) -> Result<Vec<(Values, RecordBatch)>, ArrowError> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let data = batch.project(&self.data)?;
        if self.keys.is_empty() {
            return Ok(vec![(Values::new(), data)]);
        }
        let groups = self.group(batch)?;
        if let [only] = groups.as_slice() {
            return Ok(vec![(self.values(batch, only[0])?, data)]);
        }
        let mut parts = Vec::with_capacity(groups.len());
        for rows in groups {
            let values = self.values(batch, rows[0])?;
            // A copy of its own: a slice would keep the whole batch in memory for as long as one partition waits.
            parts.push((values, take_record_batch(&data, &UInt32Array::from(rows))?));
        }
        Ok(parts)
    }

    /// The rows of each distinct value, in order of first appearance.
    fn group(&self, batch: &RecordBatch) -> Result<Vec<Vec<u32>>, ArrowError> {
        let keys: Vec<_> = self.keys.iter().map(|position| batch.column(*position).clone()).collect();
        let rows = self.converter.convert_columns(&keys)?;
        let mut known = HashMap::new();
        let mut groups: Vec<Vec<u32>> = Vec::new();
        let mut previous = None;
        for (number, row) in (0u32..).zip(rows.iter()) {
            // Neighbours mostly share their value, and comparing is cheaper than hashing.
            let group = match previous {
                Some((last, group)) if last == row => group,
                _ => *known.entry(row).or_insert_with(|| {
                    groups.push(Vec::new());
                    groups.len() - 1
                }),
            };
            groups[group].push(number);
            previous = Some((row, group));
        }
        Ok(groups)
    }

    fn values(&self, batch: &RecordBatch, row: u32) -> Result<Values, ArrowError> {
        self.keys.iter().map(|position| text(batch.column(*position), row as usize)).collect()
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

    use arrow::array::{ArrayRef, BooleanArray, Date32Array, Int64Array, StringArray};
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
        let parts = splitter(&batch, &["date", "bool", "int", "text"]).unwrap().split(&batch).unwrap();
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
        assert_eq!(parts[0].1.schema().fields().len(), 1);
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
        fn every_row_lands_once_in_its_partition_in_order(keys in prop::collection::vec(prop::option::of(0i64..5), 0..200)) {
            let columns: [(&str, ArrayRef, bool); 2] = [
                ("key", Arc::new(Int64Array::from(keys.clone())), true),
                ("row", Arc::new(Int64Array::from_iter_values(0..keys.len() as i64)), false),
            ];
            let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
            let mut expected: HashMap<Values, Vec<i64>> = HashMap::new();
            for (row, key) in (0..).zip(&keys) {
                expected.entry(vec![key.map(|key| key.to_string())]).or_default().push(row);
            }
            let parts = splitter(&batch, &["key"]).unwrap().split(&batch).unwrap();
            let found: HashMap<Values, Vec<i64>> = parts
                .into_iter()
                .map(|(values, rows)| (values, rows.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
