//! Rows that wait in memory for their row group.
//!
//! ```text
//! batch --runs of one partition value--> Rows: a growing array a column, and full ones --take--> to be encoded
//! ```
//!
//! Each value is copied once, out of its batch: a slice would keep the whole batch in memory for as long as one
//! partition waits, and the encoder does a third more work on rows that come in small pieces. An array ends when it has
//! [`PIECE_ROWS`], since one that grew on would be copied as often as it doubles.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder, GenericByteArray,
    ListArray, NullBufferBuilder, PrimitiveArray, StructArray, downcast_primitive,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{BinaryType, ByteArrayType, DataType, FieldRef, Fields, SchemaRef, Utf8Type};
use arrow::error::ArrowError;

/// What a growing array costs beside its values, about, in bytes: counted, since with thousands of partition values it
/// is most.
const OVERHEAD: usize = 256;

/// Rows from which an array is full. Of this length the encoder works as fast as on any longer one.
const PIECE_ROWS: usize = 8192;

/// Rows of a stored schema.
pub(crate) struct Rows {
    columns: Vec<Column>,
    len: usize,
    /// Those in growing arrays.
    growing: usize,
    bytes: usize,
}

/// A column: full arrays, and the one that grows.
struct Column {
    full: Vec<ArrayRef>,
    full_bytes: usize,
    growing: Growing,
}

impl Rows {
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let columns = schema.fields().iter().map(|field| {
            let growing = Growing::new(field.data_type())?;
            Ok(Column { full: Vec::new(), full_bytes: 0, growing })
        });
        let columns = columns.collect::<Result<_, ArrowError>>()?;
        Ok(Self { columns, len: 0, growing: 0, bytes: 0 })
    }

    /// Adds some rows of a batch's columns, in their order. A column of strings may be of views. After an error, what
    /// there is must be thrown away.
    pub(crate) fn extend<'a>(
        &mut self,
        columns: impl IntoIterator<Item = &'a ArrayRef>,
        runs: &[Range<usize>],
    ) -> Result<(), ArrowError> {
        let rows = length(runs);
        self.len += rows;
        self.growing += rows;
        let is_full = self.growing >= PIECE_ROWS;
        self.bytes = 0;
        for (column, values) in self.columns.iter_mut().zip(columns) {
            column.growing.extend(values, runs)?;
            if is_full {
                column.end_piece()?;
            }
            self.bytes += OVERHEAD + column.full_bytes + column.growing.bytes();
        }
        if is_full {
            self.growing = 0;
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Memory in use, with what is set aside for rows to come; 0 without rows.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All rows, a column at a time, so that none need be in memory any more when the next is asked for. Each is one
    /// array or several, of which those of all columns are as long.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Result<Vec<ArrayRef>, ArrowError>> + '_ {
        let some_grow = std::mem::take(&mut self.growing) > 0;
        (self.len, self.bytes) = (0, 0);
        self.columns.iter_mut().map(move |column| {
            column.full_bytes = 0;
            let mut pieces = std::mem::take(&mut column.full);
            let last = column.growing.finish(false)?;
            if some_grow {
                pieces.push(last);
            }
            Ok(pieces)
        })
    }
}

impl Column {
    fn end_piece(&mut self) -> Result<(), ArrowError> {
        let piece = self.growing.finish(true)?;
        self.full_bytes += piece.get_buffer_memory_size();
        self.full.push(piece);
        Ok(())
    }
}

fn length(runs: &[Range<usize>]) -> usize {
    runs.iter().map(ExactSizeIterator::len).sum()
}

/// A column that grows.
struct Growing {
    validity: NullBufferBuilder,
    values: Box<dyn Values>,
}

/// The values of a column, those of nulls among them.
trait Values: Send {
    fn extend(&mut self, from: &dyn Array, runs: &[Range<usize>]) -> Result<(), ArrowError>;
    fn bytes(&self) -> usize;
    /// The values as an array; what is left is empty, with room for as many `again` if more are to come.
    fn finish(&mut self, validity: Option<NullBuffer>, again: bool) -> Result<ArrayRef, ArrowError>;
}

impl Growing {
    fn new(kind: &DataType) -> Result<Self, ArrowError> {
        Ok(Self { validity: NullBufferBuilder::new(0), values: values(kind)? })
    }

    fn extend(&mut self, from: &dyn Array, runs: &[Range<usize>]) -> Result<(), ArrowError> {
        match from.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => self.validity.append_n_non_nulls(length(runs)),
            Some(nulls) => {
                for run in runs {
                    match run.len() {
                        1 => self.validity.append(nulls.is_valid(run.start)),
                        rows => self.validity.append_buffer(&nulls.slice(run.start, rows)),
                    }
                }
            }
        }
        self.values.extend(from, runs)
    }

    fn bytes(&self) -> usize {
        self.validity.allocated_size() + self.values.bytes()
    }

    fn finish(&mut self, again: bool) -> Result<ArrayRef, ArrowError> {
        self.values.finish(self.validity.finish(), again)
    }
}

/// What there is; in its place nothing, or, `again`, room for a little more than as much.
fn replace<T>(values: &mut Vec<T>, again: bool) -> Vec<T> {
    if !again {
        return std::mem::take(values);
    }
    // It is to wait: what was set aside while it grew would wait with it.
    values.shrink_to_fit();
    let room = values.len() + values.len() / 4;
    std::mem::replace(values, Vec::with_capacity(room))
}

/// Room for values of a stored type.
fn values(kind: &DataType) -> Result<Box<dyn Values>, ArrowError> {
    macro_rules! primitive {
        ($type:ty) => {
            Box::new(Primitive::<$type> { kind: kind.clone(), values: Vec::new() })
        };
    }
    Ok(downcast_primitive! {
        kind => (primitive),
        DataType::Boolean => Box::new(Booleans(BooleanBufferBuilder::new(0))),
        DataType::Utf8 => Box::<Bytes<Utf8Type>>::default(),
        DataType::Binary => Box::<Bytes<BinaryType>>::default(),
        DataType::List(element) => Box::new(Lists {
            element: element.clone(),
            offsets: vec![0],
            elements: Growing::new(element.data_type())?,
        }),
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|field| Growing::new(field.data_type()));
            Box::new(Structs {
                fields: fields.clone(),
                columns: columns.collect::<Result<_, _>>()?,
                len: 0,
            })
        },
        other => return Err(ArrowError::NotYetImplemented(format!("a stored column of {other}"))),
    })
}

struct Primitive<T: ArrowPrimitiveType> {
    kind: DataType,
    values: Vec<T::Native>,
}

impl<T: ArrowPrimitiveType> Values for Primitive<T> {
    fn extend(&mut self, from: &dyn Array, runs: &[Range<usize>]) -> Result<(), ArrowError> {
        let from = from.as_primitive::<T>().values();
        self.values.reserve(length(runs));
        for run in runs {
            match run.len() {
                1 => self.values.push(from[run.start]),
                _ => self.values.extend_from_slice(&from[run.clone()]),
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>()
    }

    fn finish(&mut self, validity: Option<NullBuffer>, again: bool) -> Result<ArrayRef, ArrowError> {
        let values = ScalarBuffer::from(replace(&mut self.values, again));
        let array = PrimitiveArray::<T>::try_new(values, validity)?;
        Ok(Arc::new(array.with_data_type(self.kind.clone())))
    }
}

struct Booleans(BooleanBufferBuilder);

impl Values for Booleans {
    fn extend(&mut self, from: &dyn Array, runs: &[Range<usize>]) -> Result<(), ArrowError> {
        let from = from.as_boolean().values();
        for run in runs {
            match run.len() {
                1 => self.0.append(from.value(run.start)),
                rows => self.0.append_buffer(&from.slice(run.start, rows)),
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.0.capacity() / 8
    }

    fn finish(&mut self, validity: Option<NullBuffer>, _again: bool) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(BooleanArray::new(self.0.finish(), validity)))
    }
}

/// Strings or bytes.
struct Bytes<T> {
    offsets: Vec<i32>,
    data: Vec<u8>,
    kind: PhantomData<T>,
}

impl<T> Default for Bytes<T> {
    fn default() -> Self {
        Self { offsets: vec![0], data: Vec::new(), kind: PhantomData }
    }
}

impl<T> Bytes<T> {
    fn push(&mut self, value: &[u8]) -> Result<(), ArrowError> {
        self.data.extend_from_slice(value);
        self.offsets.push(offset(self.data.len())?);
        Ok(())
    }
}

impl<T: ByteArrayType<Offset = i32>> Values for Bytes<T> {
    fn extend(&mut self, from: &dyn Array, runs: &[Range<usize>]) -> Result<(), ArrowError> {
        self.offsets.reserve(length(runs));
        let rows = runs.iter().flat_map(Clone::clone);
        if let Some(views) = from.as_string_view_opt() {
            return rows.into_iter().try_for_each(|row| self.push(views.value(row).as_bytes()));
        }
        if let Some(views) = from.as_binary_view_opt() {
            return rows.into_iter().try_for_each(|row| self.push(views.value(row)));
        }
        let from = from.as_bytes::<T>();
        for run in runs {
            let ends = &from.value_offsets()[run.start..=run.end];
            let begin = self.data.len();
            self.data.extend_from_slice(&from.value_data()[ends[0] as usize..ends[run.len()] as usize]);
            offset(self.data.len())?;
            // Neither this sum nor a difference can be out of range, since the last of them is not.
            self.offsets.extend(ends[1..].iter().map(|end| begin as i32 + (end - ends[0])));
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.offsets.capacity() * size_of::<i32>() + self.data.capacity()
    }

    fn finish(&mut self, validity: Option<NullBuffer>, again: bool) -> Result<ArrayRef, ArrowError> {
        let offsets = OffsetBuffer::new(replace(&mut self.offsets, again).into());
        self.offsets.push(0);
        let data = replace(&mut self.data, again);
        Ok(Arc::new(GenericByteArray::<T>::try_new(offsets, data.into(), validity)?))
    }
}

struct Lists {
    element: FieldRef,
    offsets: Vec<i32>,
    elements: Growing,
}

impl Values for Lists {
    fn extend(&mut self, from: &dyn Array, runs: &[Range<usize>]) -> Result<(), ArrowError> {
        let from = from.as_list::<i32>();
        let mut last = self.offsets.last().copied().unwrap_or(0) as usize;
        let mut elements = Vec::with_capacity(runs.len());
        for run in runs {
            let ends = &from.value_offsets()[run.start..=run.end];
            for end in &ends[1..] {
                self.offsets.push(offset(last + (end - ends[0]) as usize)?);
            }
            last += (ends[run.len()] - ends[0]) as usize;
            elements.push(ends[0] as usize..ends[run.len()] as usize);
        }
        self.elements.extend(from.values(), &elements)
    }

    fn bytes(&self) -> usize {
        self.offsets.capacity() * size_of::<i32>() + self.elements.bytes()
    }

    fn finish(&mut self, validity: Option<NullBuffer>, again: bool) -> Result<ArrayRef, ArrowError> {
        let offsets = OffsetBuffer::new(replace(&mut self.offsets, again).into());
        self.offsets.push(0);
        let elements = self.elements.finish(again)?;
        Ok(Arc::new(ListArray::try_new(self.element.clone(), offsets, elements, validity)?))
    }
}

struct Structs {
    fields: Fields,
    columns: Vec<Growing>,
    len: usize,
}

impl Values for Structs {
    fn extend(&mut self, from: &dyn Array, runs: &[Range<usize>]) -> Result<(), ArrowError> {
        for (growing, column) in self.columns.iter_mut().zip(from.as_struct().columns()) {
            growing.extend(column, runs)?;
        }
        self.len += length(runs);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.columns.iter().map(Growing::bytes).sum()
    }

    fn finish(&mut self, validity: Option<NullBuffer>, again: bool) -> Result<ArrayRef, ArrowError> {
        let columns = self.columns.iter_mut().map(|column| column.finish(again));
        let columns = columns.collect::<Result<_, _>>()?;
        let len = std::mem::take(&mut self.len);
        Ok(Arc::new(StructArray::try_new_with_length(self.fields.clone(), columns, validity, len)?))
    }
}

fn offset(length: usize) -> Result<i32, ArrowError> {
    i32::try_from(length).map_err(|_| ArrowError::OffsetOverflowError(length))
}

#[cfg(test)]
mod tests;
