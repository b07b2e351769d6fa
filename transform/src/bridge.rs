//! Arrow to Polars and back, through the Arrow C data interface.
//!
//! ```text
//! RecordBatch --to_polars--> DataFrame        numbers, times, booleans, lists and structs: the same buffers
//!                                             strings, binary: the same bytes, with Polars' views made for them
//! DataFrame --to_arrow--> RecordBatch         as above; then cast to the plain types below
//! ```
//!
//! Both sides implement the same C structs, so handing over an array is handing over a pointer, and each side frees
//! the other's memory through the function that came with it.
//!
//! What comes out has *plain* types, those that every reader of Parquet knows: `Utf8`, `Binary` and `List` with
//! 32-bit offsets, times in microseconds, instants labelled `UTC`. See [`plain_type`].

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType as ArrowType, Field, FieldRef, Schema as ArrowSchema, SchemaRef, TimeUnit};
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi, to_ffi};
use polars::prelude::{Column, CompatLevel, DataFrame, DataType, IntoColumn, Schema, Series};
use polars_arrow::ffi::{
    ArrowArray as PolarsCArray, ArrowSchema as PolarsCSchema, export_array_to_c, export_field_to_c,
    import_array_from_c, import_field_from_c,
};

use crate::Error;

/// The batch as a data frame that shares its buffers.
pub(crate) fn to_polars(batch: &RecordBatch) -> Result<DataFrame, Error> {
    if batch.num_rows() == 0 {
        return Ok(DataFrame::empty_with_schema(&polars_schema(&batch.schema())?));
    }
    let columns = batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, array)| to_column(field, array))
        .collect::<Result<Vec<_>, Error>>()?;
    DataFrame::new(batch.num_rows(), columns).map_err(engine)
}

/// The array as a column that shares its buffers.
pub(crate) fn to_column(field: &Field, array: &ArrayRef) -> Result<Column, Error> {
    let field = importable(field)?;
    let array = if array.data_type() == field.data_type() {
        array.clone()
    } else {
        cast_with_options(array, field.data_type(), &CastOptions { safe: false, ..CastOptions::default() })?
    };
    let imported = import_field(&field)?;
    let array = to_polars_array(&array, imported.dtype().clone())?;
    let series = Series::from_arrow(field.name().as_str().into(), array).map_err(engine)?;
    Ok(series.into_column())
}

/// The Polars types of these Arrow columns.
pub(crate) fn polars_schema(schema: &ArrowSchema) -> Result<Schema, Error> {
    schema
        .fields()
        .iter()
        .map(|field| {
            let imported = import_field(&importable(field)?)?;
            Ok((field.name().as_str().into(), DataType::from_arrow_field(&imported)))
        })
        .collect()
}

/// The column as an array of this type, which must be that of [`plain_type`].
///
/// Strings leave Polars as views and are copied together here: 15% less time for the flights pipeline as a whole than
/// with `CompatLevel::oldest`, under which Polars writes 64-bit offsets that then have to be narrowed.
pub(crate) fn to_array(column: &Column, plain: &ArrowType) -> Result<ArrayRef, Error> {
    let series = column.as_materialized_series().rechunk();
    let exported = from_polars_array(series.to_arrow(0, CompatLevel::newest()))?;
    if exported.data_type() == plain {
        return Ok(exported);
    }
    // An overflow, as of a time in microseconds, must be an error and not a null.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(&exported, plain, &options)?)
}

/// The frame as a batch of this schema, whose types must be those of [`plain_type`] for the frame's columns.
pub(crate) fn to_arrow(frame: DataFrame, schema: &SchemaRef) -> Result<RecordBatch, Error> {
    let rows = frame.height();
    if rows == 0 {
        return Ok(RecordBatch::new_empty(schema.clone()));
    }
    let arrays = frame
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| to_array(column, field.data_type()))
        .collect::<Result<Vec<_>, Error>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?)
}

/// The schema of what [`to_array`] makes of the columns of this schema; every column may hold nulls.
/// An error names the first column whose type has no plain form.
pub(crate) fn plain_schema(schema: &Schema) -> Result<SchemaRef, (String, DataType)> {
    schema
        .iter()
        .map(|(name, dtype)| match plain_type(dtype) {
            Some(plain) => Ok(Field::new(name.as_str(), plain, true)),
            None => Err((name.to_string(), dtype.clone())),
        })
        .collect::<Result<Vec<_>, _>>()
        .map(|fields| Arc::new(ArrowSchema::new(fields)))
}

/// The Arrow type that a Polars type leaves as; none for types that Arrow files cannot hold.
fn plain_type(dtype: &DataType) -> Option<ArrowType> {
    Some(match dtype {
        DataType::Boolean => ArrowType::Boolean,
        DataType::Int8 => ArrowType::Int8,
        DataType::Int16 => ArrowType::Int16,
        DataType::Int32 => ArrowType::Int32,
        DataType::Int64 => ArrowType::Int64,
        DataType::UInt8 => ArrowType::UInt8,
        DataType::UInt16 => ArrowType::UInt16,
        DataType::UInt32 => ArrowType::UInt32,
        DataType::UInt64 => ArrowType::UInt64,
        DataType::Float32 => ArrowType::Float32,
        DataType::Float64 => ArrowType::Float64,
        DataType::Decimal(precision, scale) => {
            ArrowType::Decimal128(u8::try_from(*precision).ok()?, i8::try_from(*scale).ok()?)
        }
        DataType::String => ArrowType::Utf8,
        DataType::Binary => ArrowType::Binary,
        DataType::Date => ArrowType::Date32,
        DataType::Time => ArrowType::Time64(TimeUnit::Microsecond),
        // Whatever zone it is shown in, an instant is stored as UTC, and Parquet keeps no other zone.
        DataType::Datetime(_, zone) => {
            ArrowType::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| "UTC".into()))
        }
        DataType::Duration(_) => ArrowType::Duration(TimeUnit::Microsecond),
        DataType::List(item) | DataType::Array(item, _) => {
            ArrowType::List(Arc::new(Field::new_list_field(plain_type(item)?, true)))
        }
        DataType::Struct(fields) if !fields.is_empty() => ArrowType::Struct(
            fields
                .iter()
                .map(|field| {
                    Some(Arc::new(Field::new(field.name().as_str(), plain_type(field.dtype())?, true)))
                })
                .collect::<Option<Vec<FieldRef>>>()?
                .into(),
        ),
        DataType::Null => ArrowType::Null,
        _ => return None,
    })
}

/// The field with a type that Polars can import: dictionaries become their values; what it has no type for is refused.
fn importable(field: &Field) -> Result<Field, Error> {
    fn convert(dtype: &ArrowType) -> Option<ArrowType> {
        Some(match dtype {
            ArrowType::Dictionary(_, values) => convert(values)?,
            ArrowType::List(item) => ArrowType::List(convert_field(item)?),
            ArrowType::LargeList(item) => ArrowType::LargeList(convert_field(item)?),
            ArrowType::FixedSizeList(item, _) => ArrowType::List(convert_field(item)?),
            ArrowType::Struct(fields) if !fields.is_empty() => {
                ArrowType::Struct(fields.iter().map(convert_field).collect::<Option<Vec<_>>>()?.into())
            }
            ArrowType::FixedSizeBinary(_) => ArrowType::Binary,
            ArrowType::Float16 => ArrowType::Float32,
            ArrowType::Null
            | ArrowType::Boolean
            | ArrowType::Int8
            | ArrowType::Int16
            | ArrowType::Int32
            | ArrowType::Int64
            | ArrowType::UInt8
            | ArrowType::UInt16
            | ArrowType::UInt32
            | ArrowType::UInt64
            | ArrowType::Float32
            | ArrowType::Float64
            | ArrowType::Decimal128(_, _)
            | ArrowType::Utf8
            | ArrowType::LargeUtf8
            | ArrowType::Utf8View
            | ArrowType::Binary
            | ArrowType::LargeBinary
            | ArrowType::BinaryView
            | ArrowType::Date32
            | ArrowType::Date64
            | ArrowType::Time32(_)
            | ArrowType::Time64(_)
            | ArrowType::Timestamp(_, _)
            | ArrowType::Duration(_) => dtype.clone(),
            _ => return None,
        })
    }
    fn convert_field(field: &FieldRef) -> Option<FieldRef> {
        Some(Arc::new(Field::new(field.name(), convert(field.data_type())?, true)))
    }
    match convert(field.data_type()) {
        Some(dtype) => Ok(Field::new(field.name(), dtype, true)),
        None => Err(Error::ColumnType { column: field.name().clone(), dtype: field.data_type().to_string() }),
    }
}

fn import_field(field: &Field) -> Result<polars_arrow::datatypes::Field, Error> {
    let exported = FFI_ArrowSchema::try_from(field)?;
    // SAFETY: both types are the C struct `ArrowSchema` of the Arrow C data interface (`repr(C)`, the same fields),
    // and `exported` was just made by arrow-rs. Its release function goes along and runs when `c_schema` is dropped.
    unsafe {
        let c_schema = std::mem::transmute::<FFI_ArrowSchema, PolarsCSchema>(exported);
        import_field_from_c(&c_schema).map_err(engine)
    }
}

fn to_polars_array(
    array: &ArrayRef,
    dtype: polars_arrow::datatypes::ArrowDataType,
) -> Result<Box<dyn polars_arrow::array::Array>, Error> {
    let (exported, _) = to_ffi(&array.to_data())?;
    // SAFETY: both types are the C struct `ArrowArray` (`repr(C)`, the same fields); `exported` is a valid array made
    // by arrow-rs, whose buffers it keeps alive until Polars calls its release function; `dtype` was imported from the
    // very type that `array` has.
    unsafe {
        let c_array = std::mem::transmute::<FFI_ArrowArray, PolarsCArray>(exported);
        import_array_from_c(c_array, dtype).map_err(engine)
    }
}

fn from_polars_array(array: Box<dyn polars_arrow::array::Array>) -> Result<ArrayRef, Error> {
    let field = polars_arrow::datatypes::Field::new("".into(), array.dtype().clone(), true);
    let (c_schema, c_array) = (export_field_to_c(&field), export_array_to_c(array));
    // SAFETY: as above, the other way round: the same C structs, made by Polars from a valid array and its own type.
    let data = unsafe {
        let schema = std::mem::transmute::<PolarsCSchema, FFI_ArrowSchema>(c_schema);
        let array = std::mem::transmute::<PolarsCArray, FFI_ArrowArray>(c_array);
        from_ffi(array, &schema)?
    };
    Ok(make_array(data))
}

fn engine(error: polars::prelude::PolarsError) -> Error {
    Error::Engine(error.to_string())
}

#[cfg(test)]
mod tests;
