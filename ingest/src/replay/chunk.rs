//! Rows as JSON lines: what a data set is read in.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMillisecondType};
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;

/// The columns that a replay looks at.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    pub(super) key: Option<String>,
    pub(super) time: Option<String>,
}

/// Some records: their values one behind the other, and what the replay must know of each.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) values: Vec<u8>,
    /// The end of each value in `values`; the next one begins `gap` bytes later.
    pub(super) ends: Vec<usize>,
    /// Bytes between two values.
    pub(super) gap: usize,
    pub(super) keys: Option<StringArray>,
    /// The events' times, in milliseconds since 1970.
    pub(super) times: Option<Vec<Option<i64>>>,
}

impl Chunk {
    /// Encodes rows: every column a field, nulls explicit, timestamps as RFC 3339 in UTC.
    pub(super) fn encode(rows: &RecordBatch, columns: &Columns) -> Result<Chunk, ArrowError> {
        let column = |name: &Option<String>| name.as_ref().and_then(|name| rows.column_by_name(name));
        let keys = column(&columns.key).map(texts).transpose()?;
        let times = column(&columns.time).map(millis).transpose()?;

        // About what a row of flights takes; the vector grows where rows are wider.
        let values = Vec::with_capacity(rows.num_rows() * 384);
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(values);
        writer.write(&in_utc(rows)?)?;
        writer.finish()?;
        let values = writer.into_inner();
        // A line break within a string is escaped in JSON, so the raw ones end rows.
        let ends = values.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(i, _)| i).collect();
        Ok(Chunk { values, ends, gap: 1, keys, times })
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Value, key and event time of each record.
    pub(super) fn records(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>, Option<i64>)> {
        let mut begin = 0;
        self.ends.iter().enumerate().map(move |(i, end)| {
            let value = &self.values[begin..*end];
            begin = end + self.gap;
            let key = self.keys.as_ref().filter(|keys| keys.is_valid(i)).map(|keys| keys.value(i).as_bytes());
            (value, key, self.times.as_ref().and_then(|times| times[i]))
        })
    }
}

/// A column's values as text, the way they print.
fn texts(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// A column's values as milliseconds since 1970: times, days, texts of such, or integers that are milliseconds already.
fn millis(column: &ArrayRef) -> Result<Vec<Option<i64>>, ArrowError> {
    let column = match column.data_type() {
        DataType::Int64 => column.clone(),
        integer if integer.is_integer() => cast(column, &DataType::Int64)?,
        _ => Arc::clone(column),
    };
    let times = cast(&column, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
    Ok(times.as_primitive::<TimestampMillisecondType>().iter().collect())
}

/// The same instants with the time zone UTC, which is what makes them print with a `Z`. A timestamp without a zone is
/// taken as UTC.
fn in_utc(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let utc: Arc<str> = "UTC".into();
    let is_foreign = |t: &DataType| matches!(t, DataType::Timestamp(_, zone) if zone.as_ref() != Some(&utc));
    let schema = rows.schema();
    if !schema.fields().iter().any(|field| is_foreign(field.data_type())) {
        return Ok(rows.clone());
    }
    let mut fields = Vec::with_capacity(rows.num_columns());
    let mut columns = Vec::with_capacity(rows.num_columns());
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        let column = match field.data_type() {
            DataType::Timestamp(unit, _) if is_foreign(field.data_type()) => {
                cast(column, &DataType::Timestamp(*unit, Some(Arc::clone(&utc))))?
            }
            _ => Arc::clone(column),
        };
        fields.push(Field::new(field.name(), column.data_type().clone(), true));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date32Array, Float64Array, Int64Array, TimestampSecondArray};

    use super::*;

    fn rows() -> RecordBatch {
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("name", Arc::new(StringArray::from(vec![Some("a\n\"b"), None]))),
            ("at", Arc::new(TimestampSecondArray::from(vec![Some(1_357_016_400), None]))),
            ("day", Arc::new(Date32Array::from(vec![15_706, 15_707]))),
            ("x", Arc::new(Float64Array::from(vec![0.5, f64::NAN]))),
        ])
        .unwrap()
    }

    #[test]
    fn rows_become_json_with_nulls_and_utc() {
        let chunk = Chunk::encode(&rows(), &Columns::default()).unwrap();
        let values: Vec<_> = chunk.records().map(|(value, ..)| str::from_utf8(value).unwrap()).collect();
        assert_eq!(
            values,
            [
                r#"{"id":1,"name":"a\n\"b","at":"2013-01-01T05:00:00Z","day":"2013-01-01","x":0.5}"#,
                r#"{"id":2,"name":null,"at":null,"day":"2013-01-02","x":null}"#,
            ]
        );
        assert!(chunk.records().all(|(_, key, time)| key.is_none() && time.is_none()));
    }

    #[test]
    fn other_time_zones_keep_their_instants() {
        let zoned = TimestampSecondArray::from(vec![1_357_016_400]).with_timezone("America/New_York");
        let rows = RecordBatch::try_from_iter([("at", Arc::new(zoned) as ArrayRef)]).unwrap();
        let chunk = Chunk::encode(&rows, &Columns::default()).unwrap();
        assert_eq!(chunk.records().next().unwrap().0, br#"{"at":"2013-01-01T05:00:00Z"}"#);
    }

    #[test]
    fn keys_are_texts_and_times_are_milliseconds() {
        let columns = Columns { key: Some("id".into()), time: Some("at".into()) };
        let chunk = Chunk::encode(&rows(), &columns).unwrap();
        let parts: Vec<_> = chunk.records().map(|(_, key, time)| (key, time)).collect();
        assert_eq!(parts, [(Some(&b"1"[..]), Some(1_357_016_400_000)), (Some(&b"2"[..]), None)]);
        let columns = Columns { key: Some("name".into()), time: Some("day".into()) };
        let chunk = Chunk::encode(&rows(), &columns).unwrap();
        let parts: Vec<_> = chunk.records().map(|(_, key, time)| (key, time)).collect();
        assert_eq!(parts[0], (Some(&b"a\n\"b"[..]), Some(15_706 * 86_400_000)));
        assert_eq!(parts[1].0, None);
    }
}
