//! From the records of a raw batch to a batch: the part that does not depend on the format.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use puddle_types::{Batch, metadata};

use super::column::{Column, Object};
use super::origin::Origin;
use super::reason::{Found, Problem};
use super::rejected::Rejected;
use super::scalar;
use crate::error::Error;
use crate::raw::{RawBatch, RawRecord};
use crate::schema::SchemaDecl;

/// Why a record does not fit. Boxed, since most records do and their result should be small.
pub(crate) type Misfit = Box<Problem>;

/// The columns of a batch in the making.
#[derive(Debug)]
pub(crate) struct Rows {
    schema: SchemaRef,
    record: Object,
}

impl Rows {
    /// Columns for records with these fields.
    pub(crate) fn new(schema: &SchemaDecl) -> Self {
        let mut fields: Vec<_> = schema.to_arrow().fields().iter().cloned().collect();
        fields.extend(metadata::fields().into_iter().map(Arc::new));
        Self { schema: Arc::new(Schema::new(fields)), record: Object::new(schema.fields(), "") }
    }

    /// The declared fields, then the metadata columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Makes a batch of a raw one. `read` appends a record's values to the columns, each of which becomes one longer;
    /// where the record does not fit it may leave them longer by any number of values, at any depth.
    ///
    /// # Errors
    /// Those of `read`; the columns are empty then.
    pub(crate) fn decode(
        &mut self,
        raw: &RawBatch,
        mut read: impl FnMut(&mut Object, &RawRecord<'_>) -> Result<Result<(), Misfit>, Error>,
    ) -> Result<Batch, Error> {
        self.record.reserve(raw.len());
        let mut origin = Origin::with_capacity(raw.len());
        let mut rejected = Rejected::new();
        for record in raw.records() {
            let beyond = record.timestamp_ms.filter(|millis| !scalar::in_calendar(*millis));
            let result = match beyond {
                Some(millis) => Err(Box::new(Problem::beyond_calendar(millis))),
                None => read(&mut self.record, &record).inspect_err(|_| self.record.truncate(0))?,
            };
            match result {
                Ok(()) => origin.push(&record),
                Err(problem) => {
                    self.record.truncate(origin.len());
                    // No reader of the table could make a date of such a timestamp.
                    let timestamp_ms = record.timestamp_ms.filter(|_| beyond.is_none());
                    rejected.push(&RawRecord { timestamp_ms, ..record }, &problem.to_string());
                }
            }
        }
        let mut columns: Vec<ArrayRef> = self.record.finish_columns();
        columns.extend(origin.finish(&raw.partition));
        Ok(Batch {
            partition: raw.partition.clone(),
            generation: raw.generation,
            from: raw.from,
            next: raw.next,
            rows: RecordBatch::try_new(self.schema.clone(), columns)
                .expect("columns are built by the schema"),
            rejected: rejected.finish(&raw.partition),
            last: raw.records().next_back().map(|record| record.fingerprint()),
            bytes: raw.bytes(),
        })
    }
}

/// A value that must be there and not be empty.
pub(crate) fn value<'a>(record: &RawRecord<'a>) -> Result<&'a [u8], Misfit> {
    match record.value {
        None => Err(tombstone()),
        Some([]) => Err(misfit("empty value")),
        Some(value) => Ok(value),
    }
}

/// The misfit of a record without a value.
#[cold]
pub(crate) fn tombstone() -> Misfit {
    misfit("tombstone: the record has no value")
}

/// The bytes as text.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, Misfit> {
    str::from_utf8(bytes).map_err(|error| misfit(format!("not UTF-8 at byte {}", error.valid_up_to())))
}

/// Appends a null, if the column may have one.
pub(crate) fn null(column: &mut Column, found: Found<'_>) -> Result<(), Misfit> {
    if !column.nullable {
        return Err(mismatch(column, found));
    }
    column.append_null();
    Ok(())
}

/// Appends the value if there is one, and says whether there was.
#[inline]
pub(crate) fn push<T>(values: &mut Vec<T>, value: Option<T>) -> bool {
    value.map(|value| values.push(value)).is_some()
}

/// A misfit that this says all about.
#[cold]
pub(crate) fn misfit(what: impl Into<Cow<'static, str>>) -> Misfit {
    Box::new(Problem::new(what))
}

/// The column takes something else.
#[cold]
pub(crate) fn mismatch(column: &Column, found: Found<'_>) -> Misfit {
    Box::new(Problem::mismatch(column.expected(), column.nullable, found))
}

/// The misfit, within this field.
#[cold]
pub(crate) fn within_field(mut misfit: Misfit, name: &str) -> Misfit {
    misfit.within_field(name);
    misfit
}
