//! Column buffers that can be cut back.
//!
//! Arrow's own builders only grow; these also truncate, to any length and at any depth, which is how a record that
//! does not fit leaves nothing behind. Finishing moves the buffers into Arrow arrays without copying.
//!
//! The smallest functions ask to be inlined: they run for every value, and a development build would call them across
//! modules.
//!
//! An object's columns are one value longer once their field was read: so "was this field there already?" needs no
//! further bookkeeping than the columns' lengths.

use std::collections::HashMap;
use std::mem::take;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, ListArray, PrimitiveArray, StringArray,
    StructArray, types::*,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{FieldRef, Fields};

use crate::schema::{FieldDecl, Kind, ValueDecl, arrow_fields, list_field};

/// The buffers of one declared value.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) values: Values,
    pub(crate) nullable: bool,
    /// How many buffers a null lengthens: one, or those of all fields of an object.
    pub(crate) width: usize,
    nulls: Nulls,
}

#[derive(Debug)]
pub(crate) enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Timestamp(Vec<i64>),
    Date(Vec<i32>),
    String(Text),
    Json(Text),
    Binary(Text),
    Struct(Box<Object>),
    List(List),
}

/// Strings, or other bytes, behind one another.
#[derive(Debug)]
pub(crate) struct Text {
    bytes: Vec<u8>,
    ends: Offsets,
}

/// Lists behind one another: the elements of all of them in one column.
#[derive(Debug)]
pub(crate) struct List {
    field: FieldRef,
    pub(crate) elements: Box<Column>,
    ends: Offsets,
}

/// Arrow's offsets: where each value ends, behind a leading 0.
#[derive(Debug)]
struct Offsets(Vec<i32>);

/// Which values of a column are null: bits, only as far as the last null, so that a value that is there costs nothing.
#[derive(Debug, Default)]
struct Nulls(Vec<u64>);

/// The fields of an object, each with its column.
#[derive(Debug)]
pub(crate) struct Object {
    fields: Fields,
    /// The object's own path with a dot behind it; empty for the record.
    pub(crate) path: String,
    names: Vec<Box<str>>,
    pub(crate) columns: Vec<Column>,
    by_name: HashMap<Box<str>, usize>,
    /// Of each field (and, at the end, of the object's beginning), which field followed it last time.
    followers: Vec<usize>,
}

impl Column {
    fn new(value: &ValueDecl, path: &str) -> Self {
        let values = match &value.kind {
            Kind::Bool => Values::Bool(Vec::new()),
            Kind::Int32 => Values::Int32(Vec::new()),
            Kind::Int64 => Values::Int64(Vec::new()),
            Kind::Float64 => Values::Float64(Vec::new()),
            Kind::Timestamp => Values::Timestamp(Vec::new()),
            Kind::Date => Values::Date(Vec::new()),
            Kind::String => Values::String(Text::new()),
            Kind::Json => Values::Json(Text::new()),
            Kind::Binary => Values::Binary(Text::new()),
            Kind::Struct(fields) => Values::Struct(Box::new(Object::new(fields, &format!("{path}.")))),
            Kind::List(element) => Values::List(List {
                field: Arc::new(list_field(element)),
                elements: Box::new(Column::new(element, &format!("{path}[]"))),
                ends: Offsets::new(),
            }),
        };
        let width = match &values {
            Values::Struct(object) => 1 + object.columns.iter().map(|column| column.width).sum::<usize>(),
            _ => 1,
        };
        Self { values, nullable: value.nullable, width, nulls: Nulls::default() }
    }

    /// What the column takes, for reasons of rejection.
    pub(crate) fn expected(&self) -> &'static str {
        match &self.values {
            Values::Bool(_) => "bool",
            Values::Int32(_) => "int32",
            Values::Int64(_) => "int64",
            Values::Float64(_) => "float64",
            Values::Timestamp(_) => "timestamp (RFC 3339, or integer milliseconds since 1970)",
            Values::Date(_) => "date (YYYY-MM-DD)",
            Values::String(_) => "string",
            Values::Json(_) => "json",
            Values::Binary(_) => "binary",
            Values::Struct(_) => "object",
            Values::List(_) => "array",
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        match &self.values {
            Values::Bool(values) => values.len(),
            Values::Int32(values) | Values::Date(values) => values.len(),
            Values::Int64(values) | Values::Timestamp(values) => values.len(),
            Values::Float64(values) => values.len(),
            Values::String(text) | Values::Json(text) | Values::Binary(text) => text.len(),
            Values::Struct(object) => object.len(),
            Values::List(list) => list.len(),
        }
    }

    /// Appends a null, whether or not the column is nullable: below a null object every column has one.
    pub(crate) fn append_null(&mut self) {
        self.nulls.set(self.len());
        match &mut self.values {
            Values::Bool(values) => values.push(false),
            Values::Int32(values) | Values::Date(values) => values.push(0),
            Values::Int64(values) | Values::Timestamp(values) => values.push(0),
            Values::Float64(values) => values.push(0.0),
            Values::String(text) | Values::Json(text) | Values::Binary(text) => text.push(""),
            Values::Struct(object) => object.columns.iter_mut().for_each(Column::append_null),
            Values::List(list) => list.end(),
        }
    }

    /// Makes room for so many more rows.
    fn reserve(&mut self, rows: usize) {
        match &mut self.values {
            Values::Bool(values) => values.reserve(rows),
            Values::Int32(values) | Values::Date(values) => values.reserve(rows),
            Values::Int64(values) | Values::Timestamp(values) => values.reserve(rows),
            Values::Float64(values) => values.reserve(rows),
            Values::String(text) | Values::Json(text) | Values::Binary(text) => {
                text.ends.0.reserve(rows);
            }
            Values::Struct(object) => object.reserve(rows),
            Values::List(list) => list.ends.0.reserve(rows),
        }
    }

    /// Cuts back to `len` values, from any state that is no shorter: half a list, some fields of an object.
    fn truncate(&mut self, len: usize) {
        match &mut self.values {
            Values::Bool(values) => values.truncate(len),
            Values::Int32(values) | Values::Date(values) => values.truncate(len),
            Values::Int64(values) | Values::Timestamp(values) => values.truncate(len),
            Values::Float64(values) => values.truncate(len),
            Values::String(text) | Values::Json(text) | Values::Binary(text) => {
                text.bytes.truncate(text.ends.truncate(len));
            }
            Values::Struct(object) => object.truncate(len),
            Values::List(list) => list.elements.truncate(list.ends.truncate(len)),
        }
        self.nulls.truncate(len);
    }

    /// The values as an Arrow array; the column is empty again.
    fn finish(&mut self) -> ArrayRef {
        let nulls = self.nulls.finish(self.len());
        // What is null in a column that is not nullable lies below a null object, which masks it.
        let nulls = nulls.filter(|_| self.nullable);
        match &mut self.values {
            Values::Bool(values) => Arc::new(BooleanArray::new(take(values).into(), nulls)),
            Values::Int32(values) => primitive::<Int32Type>(values, nulls),
            Values::Int64(values) => primitive::<Int64Type>(values, nulls),
            Values::Float64(values) => primitive::<Float64Type>(values, nulls),
            Values::Date(values) => primitive::<Date32Type>(values, nulls),
            Values::Timestamp(values) => {
                let array = PrimitiveArray::<TimestampMicrosecondType>::new(take(values).into(), nulls);
                Arc::new(array.with_timezone("UTC"))
            }
            Values::String(text) | Values::Json(text) => Arc::new(text.finish(nulls)),
            Values::Binary(bytes) => Arc::new(bytes.finish_binary(nulls)),
            Values::Struct(object) => {
                Arc::new(StructArray::new(object.fields.clone(), object.finish_columns(), nulls))
            }
            Values::List(list) => {
                let (ends, elements) = (list.ends.finish(), list.elements.finish());
                Arc::new(ListArray::new(list.field.clone(), ends, elements, nulls))
            }
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(take(values).into(), nulls))
}

impl Text {
    fn new() -> Self {
        Self { bytes: Vec::new(), ends: Offsets::new() }
    }

    #[inline]
    pub(crate) fn push(&mut self, text: &str) {
        self.push_bytes(text.as_bytes());
    }

    #[inline]
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    /// The bytes of the next value, to append to; [`end`](Self::end) makes them one.
    #[inline]
    pub(crate) fn open(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    #[inline]
    pub(crate) fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> StringArray {
        StringArray::new(self.ends.finish(), Buffer::from_vec(take(&mut self.bytes)), nulls)
    }

    fn finish_binary(&mut self, nulls: Option<NullBuffer>) -> BinaryArray {
        BinaryArray::new(self.ends.finish(), Buffer::from_vec(take(&mut self.bytes)), nulls)
    }
}

impl List {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Ends a list behind the elements that were appended since the last one.
    pub(crate) fn end(&mut self) {
        self.ends.push(self.elements.len());
    }
}

impl Nulls {
    fn set(&mut self, at: usize) {
        let word = at / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (at % 64);
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len.div_ceil(64));
        if let (Some(word), 1..) = (self.0.get_mut(len / 64), len % 64) {
            *word &= (1 << (len % 64)) - 1;
        }
    }

    /// Arrow's bits, in which a null is 0, for so many values.
    fn finish(&mut self, len: usize) -> Option<NullBuffer> {
        let mut words = take(&mut self.0);
        if words.iter().all(|word| *word == 0) {
            return None;
        }
        words.resize(len.div_ceil(64), 0);
        words.iter_mut().for_each(|word| *word = (!*word).to_le());
        Some(NullBuffer::new(BooleanBuffer::new(words.into(), 0, len)))
    }
}

impl Offsets {
    fn new() -> Self {
        Self(vec![0])
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.len() - 1
    }

    #[inline]
    fn push(&mut self, end: usize) {
        // A column holds no more bytes or elements than its raw batch has bytes, and those are within i32.
        debug_assert!(i32::try_from(end).is_ok());
        self.0.push(end as i32);
    }

    /// Keeps `len` values, and returns where the last of them ends.
    fn truncate(&mut self, len: usize) -> usize {
        self.0.truncate(len + 1);
        self.0.last().map_or(0, |end| *end as usize)
    }

    fn finish(&mut self) -> OffsetBuffer<i32> {
        OffsetBuffer::new(std::mem::replace(&mut self.0, vec![0]).into())
    }
}

impl Object {
    /// An object with these fields; `path` is what stands before their names.
    pub(crate) fn new(fields: &[FieldDecl], path: &str) -> Self {
        let names: Vec<Box<str>> = fields.iter().map(|field| field.name.as_str().into()).collect();
        let column = |field: &FieldDecl| Column::new(&field.value, &format!("{path}{}", field.name));
        Self {
            fields: arrow_fields(fields),
            path: path.to_owned(),
            columns: fields.iter().map(column).collect(),
            by_name: names.iter().cloned().zip(0..).collect(),
            // At first, the fields are expected as they are declared.
            followers: (1..=names.len()).chain([0]).collect(),
            names,
        }
    }

    /// How many objects the columns hold. Between objects, all columns have one length.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.columns[0].len()
    }

    pub(crate) fn name(&self, index: usize) -> &str {
        &self.names[index]
    }

    /// The index of the field called `name`. `before` is the index of the field read before it, and `None` at the
    /// object's beginning: records of one producer have their fields in one order, so it is most likely the field that
    /// followed last time, and one comparison finds it.
    pub(crate) fn find(&mut self, name: &str, before: Option<usize>) -> Option<usize> {
        let before = before.unwrap_or(self.names.len());
        let guess = self.followers[before];
        if self.names.get(guess).is_some_and(|guessed| **guessed == *name) {
            return Some(guess);
        }
        let index = self.index(name)?;
        self.followers[before] = index;
        Some(index)
    }

    /// The index of the field called `name`.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn reserve(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.reserve(rows));
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(len));
    }

    pub(crate) fn finish_columns(&mut self) -> Vec<ArrayRef> {
        self.columns.iter_mut().map(Column::finish).collect()
    }
}
