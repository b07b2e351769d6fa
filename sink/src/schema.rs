//! Which Arrow types a table stores, and how its log names them.
//!
//! Polars, DuckDB, pyarrow and Spark must see the same rows and types, so each family of Arrow types is stored as
//! its one plain member: string views and dictionaries as strings, every timestamp in microseconds and those with
//! a zone in UTC, and so on. What has no such member is refused when the table is opened, before any row.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The name that the Parquet format gives to the elements of a list.
const ELEMENT: &str = "element";

/// A column as the log writes it: `{"name":"dest","type":"string","nullable":true}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
}

/// A type as the log writes it: a name, `{"list": column}` or `{"struct": [column, ...]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Kind {
    Plain(String),
    List { list: Box<Column> },
    Struct { r#struct: Vec<Column> },
}

/// The schema that rows of this one are stored with; an error names the column that cannot be stored.
pub(crate) fn stored(schema: &Schema) -> Result<SchemaRef, Error> {
    let error = |column: &str, reason: String| Error::Column { column: column.to_owned(), reason };
    let mut fields: Vec<Field> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = field.name();
        if name.is_empty() {
            return Err(error(name, "it has no name; give it one with AS".to_owned()));
        }
        if fields.iter().any(|earlier| earlier.name() == name) {
            return Err(error(name, "there are two of that name; rename one with AS".to_owned()));
        }
        let kind = stored_type(field.data_type()).map_err(|reason| error(name, reason))?;
        fields.push(Field::new(name, kind, field.is_nullable()));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Converts a batch to a stored schema of the same columns. A value that does not fit its stored type, and a null
/// where there may be none, are errors.
pub(crate) fn convert(batch: &RecordBatch, to: &SchemaRef, table: &str) -> Result<RecordBatch, Error> {
    let columns = convert_columns(batch, to, table, |_| false)?;
    RecordBatch::try_new(to.clone(), columns).map_err(Error::arrow(table))
}

/// As [`convert`], but columns of strings and bytes may stay views: whoever copies them out of their batch anyway makes
/// them plain as cheaply.
pub(crate) fn convert_but_views(
    batch: &RecordBatch,
    to: &SchemaRef,
    table: &str,
) -> Result<Vec<ArrayRef>, Error> {
    convert_columns(batch, to, table, |kind| matches!(kind, DataType::Utf8View | DataType::BinaryView))
}

fn convert_columns(
    batch: &RecordBatch,
    to: &SchemaRef,
    table: &str,
    may_stay: fn(&DataType) -> bool,
) -> Result<Vec<ArrayRef>, Error> {
    let error = |reason: String| Error::Batch { table: table.to_owned(), reason };
    if batch.num_columns() != to.fields().len() {
        return Err(error(format!("it has {} columns, not {}", batch.num_columns(), to.fields().len())));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let mut columns = Vec::with_capacity(batch.num_columns());
    for ((found, column), field) in batch.schema().fields().iter().zip(batch.columns()).zip(to.fields()) {
        if found.name() != field.name() {
            return Err(error(format!("it has column {:?} where {:?} is due", found.name(), field.name())));
        }
        let (name, kind) = (field.name(), column.data_type());
        if stored_type(kind).ok().as_ref() != Some(field.data_type()) {
            return Err(error(format!("column {name:?} is {kind}, not {}", field.data_type())));
        }
        if !field.is_nullable() && column.logical_null_count() > 0 {
            return Err(error(format!("column {name:?} has a null, where the table may have none")));
        }
        columns.push(if kind == field.data_type() || may_stay(kind) {
            column.clone()
        } else {
            cast_with_options(column, field.data_type(), &options).map_err(Error::arrow(table))?
        });
    }
    Ok(columns)
}

/// The columns of a stored schema, for the log.
pub(crate) fn columns(schema: &Schema) -> Vec<Column> {
    schema.fields().iter().map(|field| column(field)).collect()
}

/// The schema of a log's columns; an error is the type that is not known.
pub(crate) fn schema(columns: &[Column]) -> Result<SchemaRef, String> {
    let fields = columns.iter().map(field).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

/// The columns of the table once it takes rows of `found`: in that order, with all that the table has. New ones must be
/// nullable, because the rows before have nothing there.
pub(crate) fn evolve(table: &str, pinned: &[Column], found: &[Column]) -> Result<Vec<Column>, Error> {
    let differs = |column: &str, pinned: String, found: String| Error::Schema {
        table: table.to_owned(),
        column: column.to_owned(),
        pinned,
        found,
    };
    let of = |columns: &[Column], name: &str| columns.iter().find(|column| column.name == name).cloned();
    if let Some(gone) = pinned.iter().find(|old| of(found, &old.name).is_none()) {
        return Err(differs(&gone.name, gone.describe(), "no such column".to_owned()));
    }
    let mut columns = Vec::with_capacity(found.len());
    for new in found {
        columns.push(match of(pinned, &new.name) {
            Some(old) if new.kind != old.kind || (new.nullable && !old.nullable) => {
                return Err(differs(&old.name, old.describe(), new.describe()));
            }
            Some(old) => old,
            None if !new.nullable => {
                return Err(differs(&new.name, "no such column".to_owned(), new.describe()));
            }
            None => new.clone(),
        });
    }
    Ok(columns)
}

impl Column {
    /// Its type, in the words of `pipeline.toml`: `string`, `int64 not null`.
    pub(crate) fn describe(&self) -> String {
        let kind = match &self.kind {
            Kind::Plain(name) => name.clone(),
            Kind::List { list } => format!("[{}]", list.describe()),
            Kind::Struct { r#struct } => {
                let fields: Vec<String> =
                    r#struct.iter().map(|field| format!("{}: {}", field.name, field.describe())).collect();
                format!("{{{}}}", fields.join(", "))
            }
        };
        if self.nullable { kind } else { kind + " not null" }
    }
}

/// The type that stands for a family, or why there is none.
fn stored_type(kind: &DataType) -> Result<DataType, String> {
    Ok(match kind {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Decimal128(_, _) => kind.clone(),
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Dictionary(_, value) => stored_type(value)?,
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => {
            let kind = stored_type(element.data_type())?;
            DataType::List(Arc::new(Field::new(ELEMENT, kind, element.is_nullable())))
        }
        DataType::Struct(fields) if fields.is_empty() => return Err("a struct needs a field".to_owned()),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| {
                let kind = stored_type(field.data_type())?;
                Ok(Field::new(field.name(), kind, field.is_nullable()))
            });
            DataType::Struct(fields.collect::<Result<Fields, String>>()?)
        }
        DataType::Null => return Err("nothing says its type; use CAST(... AS ...)".to_owned()),
        other => return Err(format!("its type {other} is not supported; use CAST(... AS ...)")),
    })
}

fn column(field: &Field) -> Column {
    let kind = match field.data_type() {
        DataType::List(element) => Kind::List { list: Box::new(column(element)) },
        DataType::Struct(fields) => {
            Kind::Struct { r#struct: fields.iter().map(|field| column(field)).collect() }
        }
        plain => Kind::Plain(plain_name(plain)),
    };
    Column { name: field.name().clone(), kind, nullable: field.is_nullable() }
}

fn field(column: &Column) -> Result<Field, String> {
    let kind = match &column.kind {
        Kind::List { list } => DataType::List(Arc::new(field(list)?)),
        Kind::Struct { r#struct } => {
            DataType::Struct(r#struct.iter().map(field).collect::<Result<Fields, _>>()?)
        }
        Kind::Plain(name) => plain_type(name).ok_or_else(|| format!("the type {name:?} is not known"))?,
    };
    Ok(Field::new(&column.name, kind, column.nullable))
}

/// A timestamp with a zone: [`PLAIN`] cannot hold it, its zone being an `Arc`.
const TIMESTAMP: &str = "timestamp";
const PLAIN: [(&str, DataType); 16] = [
    ("bool", DataType::Boolean),
    ("int8", DataType::Int8),
    ("int16", DataType::Int16),
    ("int32", DataType::Int32),
    ("int64", DataType::Int64),
    ("uint8", DataType::UInt8),
    ("uint16", DataType::UInt16),
    ("uint32", DataType::UInt32),
    ("uint64", DataType::UInt64),
    ("float32", DataType::Float32),
    ("float64", DataType::Float64),
    ("string", DataType::Utf8),
    ("binary", DataType::Binary),
    ("date", DataType::Date32),
    ("time", DataType::Time64(TimeUnit::Microsecond)),
    ("local timestamp", DataType::Timestamp(TimeUnit::Microsecond, None)),
];

fn plain_name(kind: &DataType) -> String {
    match kind {
        DataType::Timestamp(_, Some(_)) => TIMESTAMP.to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        kind => PLAIN
            .iter()
            .find(|(_, plain)| plain == kind)
            .map_or_else(|| kind.to_string(), |(name, _)| (*name).to_owned()),
    }
}

fn plain_type(name: &str) -> Option<DataType> {
    if name == TIMESTAMP {
        return Some(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    }
    if let Some(digits) = name.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')')) {
        let (precision, scale) = digits.split_once(',')?;
        return Some(DataType::Decimal128(precision.parse().ok()?, scale.parse().ok()?));
    }
    PLAIN.iter().find(|(plain, _)| *plain == name).map(|(_, kind)| kind.clone())
}

#[cfg(test)]
mod tests {
    use arrow::array::{StringViewArray, TimestampMillisecondArray, TimestampSecondArray};

    use super::*;

    fn one(kind: DataType) -> Schema {
        Schema::new(vec![Field::new("c", kind, true)])
    }

    fn nested() -> Vec<Field> {
        let item = Arc::new(Field::new("item", DataType::LargeUtf8, true));
        let zone = DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Paris".into()));
        let fields: Vec<Field> =
            PLAIN.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect();
        let mut all = fields.clone();
        all.push(Field::new("zone", zone, false));
        all.push(Field::new("decimal", DataType::Decimal64(12, 2), true));
        all.push(Field::new("list", DataType::LargeList(item), true));
        all.push(Field::new("struct", DataType::Struct(fields.into()), true));
        all
    }

    #[test]
    fn the_log_brings_back_every_type() {
        let stored = stored(&Schema::new(nested())).unwrap();
        let json = serde_json::to_string(&columns(&stored)).unwrap();
        let read: Vec<Column> = serde_json::from_str(&json).unwrap();
        assert_eq!(schema(&read).unwrap(), stored);
        assert!(schema(&[Column { kind: Kind::Plain("int99".to_owned()), ..read[0].clone() }]).is_err());
    }

    #[test]
    fn what_has_no_plain_type_is_refused_by_name() {
        let empty = DataType::Struct(Fields::empty());
        for kind in [DataType::Null, DataType::Duration(TimeUnit::Second), empty] {
            let error = stored(&one(kind)).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("\"c\""), "{error}");
        }
        let twice =
            Schema::new(vec![Field::new("c", DataType::Int8, true), Field::new("c", DataType::Int8, true)]);
        stored(&twice).unwrap_err();
    }

    #[test]
    fn a_batch_is_converted_or_told_apart() {
        let column: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None]));
        let batch = RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap();
        let to = stored(&batch.schema()).unwrap();
        assert_eq!(convert(&batch, &to, "t").unwrap().schema().field(0).data_type(), &DataType::Utf8);
        for other in [one(DataType::Int64), Schema::new(vec![Field::new("d", DataType::Utf8, true)])] {
            let error = convert(&batch, &stored(&other).unwrap(), "t").unwrap_err();
            assert!(matches!(error, Error::Batch { .. }), "{error}");
        }
        let strict = Arc::new(Schema::new(vec![Field::new("c", DataType::Utf8, false)]));
        convert(&batch, &strict, "t").unwrap_err();
    }

    #[test]
    fn a_time_beyond_microseconds_is_an_error_and_no_null() {
        let far: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]).with_timezone("UTC"));
        let near: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1]).with_timezone("+02:00"));
        for (column, fits) in [(far, false), (near, true)] {
            let batch = RecordBatch::try_from_iter([("c", column)]).unwrap();
            assert_eq!(convert(&batch, &stored(&batch.schema()).unwrap(), "t").is_ok(), fits);
        }
    }

    #[test]
    fn only_nullable_columns_may_be_added() {
        let column = |name: &str, kind: &str, nullable| Column {
            name: name.to_owned(),
            kind: Kind::Plain(kind.to_owned()),
            nullable,
        };
        let (a, b) = (column("a", "int64", false), column("b", "string", true));
        let pinned = [a.clone(), b.clone()];
        let more = [a.clone(), b.clone(), column("c", "date", true)];
        assert_eq!(evolve("t", &pinned, &pinned).unwrap(), pinned);
        assert_eq!(evolve("t", &pinned, &more).unwrap(), more);
        // A table without SQL ends with its metadata columns, so a new field comes before them.
        let between = [a.clone(), column("c", "date", true), b.clone()];
        assert_eq!(evolve("t", &pinned, &between).unwrap(), between);
        // A column that may hold nulls goes on doing so.
        assert_eq!(evolve("t", &pinned, &[a.clone(), column("b", "string", false)]).unwrap(), pinned);
        for (found, culprit) in [
            (vec![a.clone()], "b"),
            (vec![column("a", "int64", true), b.clone()], "a"),
            (vec![a.clone(), column("b", "int64", true)], "b"),
            (vec![a, b, column("c", "date", false)], "c"),
        ] {
            let error = evolve("t", &pinned, &found).unwrap_err();
            assert!(matches!(&error, Error::Schema { column, .. } if column == culprit), "{error}");
        }
    }
}
