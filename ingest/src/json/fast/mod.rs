//! The way of nearly all records: their bytes walked once, straight into the columns.
//!
//! ```text
//! {"day":1,"origin":"EWR",...}      keys:    compared with those that followed last time
//!  ^^^^^^ ^ ^^^^^^^^^ ^^^^^         values:  by the column's type, eight bytes at a time
//! ```
//!
//! It knows what a record that fits looks like, and nothing else: whatever does not fit, and what is rare, it calls odd
//! and leaves to the general way, which reads the record again as a whole and says what it makes of it. So a record that
//! is taken here must be one that the general way takes, with the same values; what is refused here may be anything. All
//! JSON is checked, that of skipped values too.
//!
//! A record's bytes are checked to be UTF-8 where some of them are beyond ASCII, which the walk through its strings finds
//! out by the way. Outside strings it takes nothing but ASCII.

use crate::format::column::{Column, Object, Values};
use crate::format::scalar;
use crate::schema::{FieldDecl, Kind, ValueDecl};

use super::context::MAX_FILLED;
use super::visit::MAX_JSON_DEPTH;
use keys::{BEGINNING, Keys};

mod keys;
mod number;
mod skip;
mod string;
mod word;

#[cfg(test)]
pub(super) use keys::MAX_LEARNT;

/// Reads records that are as expected.
#[derive(Debug)]
pub(super) struct Fast {
    record: Shape,
    /// How many keys were learnt.
    learnt: usize,
}

/// What there is to know of an object beside its columns.
#[derive(Debug)]
struct Shape {
    keys: Keys,
    /// Of each column.
    inner: Vec<Inner>,
}

/// What there is to know of a value beside its column: the shape of the object that it is, or is a list of.
#[derive(Debug)]
struct Inner(Option<Box<Shape>>);

/// The walk through one record.
struct Walk<'a> {
    text: &'a [u8],
    /// Whether unknown fields may be skipped.
    skip_unknown: bool,
    unknown: u64,
    filled: usize,
    learnt: &'a mut usize,
    /// Not 0 when a string has bytes beyond ASCII.
    beyond: u64,
}

impl Fast {
    pub(super) fn new(fields: &[FieldDecl]) -> Self {
        Self { record: Shape::new(fields), learnt: 0 }
    }

    /// How many keys were learnt so far.
    #[cfg(test)]
    pub(super) fn learnt(&self) -> usize {
        self.learnt
    }

    /// Appends a record's fields to the columns, and says how many others it has, where these may be skipped. None
    /// leaves the columns in any state, as an odd record does.
    #[inline]
    pub(super) fn read(&mut self, text: &[u8], record: &mut Object, skip_unknown: bool) -> Option<u64> {
        let learnt = &mut self.learnt;
        let mut walk = Walk { text, skip_unknown, unknown: 0, filled: 0, learnt, beyond: 0 };
        let at = skip::space(text, 0);
        if *text.get(at)? != b'{' {
            return None;
        }
        let end = walk.object(record, &mut self.record, at + 1)?;
        let whole = skip::space(text, end) == text.len();
        (whole && (walk.beyond == 0 || str::from_utf8(text).is_ok())).then_some(walk.unknown)
    }
}

impl Shape {
    fn new(fields: &[FieldDecl]) -> Self {
        let inner = fields.iter().map(|field| Inner::new(&field.value)).collect();
        Self { keys: Keys::new(fields.iter().map(|field| field.name.as_str())), inner }
    }
}

impl Inner {
    fn new(value: &ValueDecl) -> Self {
        match &value.kind {
            Kind::Struct(fields) => Self(Some(Box::new(Shape::new(fields)))),
            Kind::List(element) => Self::new(element),
            _ => Self(None),
        }
    }
}

impl Walk<'_> {
    /// Reads the object whose brace stands at `at - 1`, and says where it ends, behind its brace.
    fn object(&mut self, object: &mut Object, shape: &mut Shape, at: usize) -> Option<usize> {
        let row = object.len();
        let mut read = 0;
        let mut at = skip::space(self.text, at);
        if *self.text.get(at)? == b'}' {
            at += 1;
        } else {
            let mut before = BEGINNING;
            loop {
                let key = match shape.keys.guess(self.text, at, before, &mut self.beyond) {
                    Some(key) => key,
                    None => {
                        let (learnt, beyond) = (&mut *self.learnt, &mut self.beyond);
                        shape.keys.look_up(self.text, at, before, object, learnt, beyond)?
                    }
                };
                before = key.place;
                at = skip::space(self.text, key.end);
                at = match key.column {
                    Some(index) => {
                        let index = index as usize;
                        read += 1;
                        self.value(&mut object.columns[index], &mut shape.inner[index], row, at)?
                    }
                    None if self.skip_unknown => {
                        self.unknown += 1;
                        skip::value(self.text, at, &mut self.beyond)?
                    }
                    None => return None,
                };
                at = skip::space(self.text, at);
                match self.text.get(at)? {
                    b',' => at = skip::space(self.text, at + 1),
                    b'}' => break,
                    _ => return None,
                }
            }
            at += 1;
        }
        if read < object.columns.len() {
            self.fill_missing(object, row)?;
        }
        Some(at)
    }

    fn fill_missing(&mut self, object: &mut Object, row: usize) -> Option<()> {
        for column in &mut object.columns {
            if column.len() == row {
                self.fill(column)?;
            }
        }
        Some(())
    }

    /// Appends a null, if the column may have one and the record may have more.
    #[inline]
    fn fill(&mut self, column: &mut Column) -> Option<()> {
        self.filled += column.width;
        (column.nullable && self.filled <= MAX_FILLED).then(|| column.append_null())
    }

    /// Reads a value into its column, which holds `row` values unless this one is there already, and says where it ends.
    #[inline(always)]
    fn value(&mut self, column: &mut Column, inner: &mut Inner, row: usize, at: usize) -> Option<usize> {
        let text = self.text;
        match &mut column.values {
            Values::Int64(values) if values.len() == row => {
                if let Some((value, end)) = number::integer(text, at) {
                    values.push(value);
                    return Some(end);
                }
            }
            Values::Int32(values) if values.len() == row => {
                if let Some((value, end)) = number::integer(text, at) {
                    values.push(i32::try_from(value).ok()?);
                    return Some(end);
                }
            }
            Values::Float64(values) if values.len() == row => {
                if let Some((value, end)) = number::float(text, at) {
                    values.push(value);
                    return Some(end);
                }
            }
            Values::String(values) if values.len() == row => {
                if *text.get(at)? == b'"' {
                    let end = string::append(text, at + 1, values.open(), &mut self.beyond)?;
                    values.end();
                    return Some(end);
                }
            }
            Values::Timestamp(values) if values.len() == row => {
                if let Some((value, end)) = self.timestamp(at) {
                    values.push(value);
                    return Some(end);
                }
            }
            Values::Bool(values) if values.len() == row => match text.get(at)? {
                b't' => {
                    values.push(true);
                    return skip::literal(text, at, b"true");
                }
                b'f' => {
                    values.push(false);
                    return skip::literal(text, at, b"false");
                }
                _ => {}
            },
            _ => return self.rare(column, inner, row, at),
        }
        self.null(column, at)
    }

    fn null(&mut self, column: &mut Column, at: usize) -> Option<usize> {
        let end = skip::literal(self.text, at, b"null")?;
        self.fill(column)?;
        Some(end)
    }

    #[inline]
    fn timestamp(&mut self, at: usize) -> Option<(i64, usize)> {
        if *self.text.get(at)? == b'"' {
            let (time, end) = string::unescaped(self.text, at + 1, &mut self.beyond)?;
            return Some((scalar::micros_of_rfc3339(str::from_utf8(time).ok()?)?, end));
        }
        let (millis, end) = number::integer(self.text, at)?;
        Some((scalar::micros_of_millis(millis)?, end))
    }

    /// As [`value`](Self::value), for the types that are not as frequent, or take longer anyway; odd where the value is
    /// there already.
    #[inline(never)]
    fn rare(&mut self, column: &mut Column, inner: &mut Inner, row: usize, at: usize) -> Option<usize> {
        let text = self.text;
        let byte = *text.get(at)?;
        if column.len() != row {
            return None;
        }
        if byte == b'n' {
            return self.null(column, at);
        }
        match &mut column.values {
            Values::Date(values) if byte == b'"' => {
                let (date, end) = string::unescaped(text, at + 1, &mut self.beyond)?;
                values.push(scalar::days_of_date(str::from_utf8(date).ok()?)?);
                Some(end)
            }
            Values::Json(values) => {
                let end = skip::value(text, at, &mut self.beyond)?;
                values.push_bytes(&text[at..end]);
                Some(end)
            }
            Values::Struct(object) if byte == b'{' => self.object(object, inner.0.as_mut()?, at + 1),
            Values::List(list) if byte == b'[' => {
                let end = self.elements(&mut list.elements, inner, at + 1)?;
                list.end();
                Some(end)
            }
            _ => None,
        }
    }

    /// Reads the elements of the list whose bracket stands at `at - 1`, and says where it ends, behind its bracket.
    fn elements(&mut self, elements: &mut Column, inner: &mut Inner, at: usize) -> Option<usize> {
        let mut at = skip::space(self.text, at);
        if *self.text.get(at)? == b']' {
            return Some(at + 1);
        }
        let mut row = elements.len();
        loop {
            at = skip::space(self.text, self.value(elements, inner, row, at)?);
            row += 1;
            match self.text.get(at)? {
                b',' => at = skip::space(self.text, at + 1),
                b']' => return Some(at + 1),
                _ => return None,
            }
        }
    }
}

/// What is skipped, and kept as text, nests less deep than a `json` value may.
const _: () = assert!(skip::MAX_DEPTH as usize <= MAX_JSON_DEPTH);
