//! Values that no column of their own takes: skipped, or written as JSON text.
//!
//! A schema may say much of few bytes: names, symbols, records of nothing. What a record may cost beyond its own bytes is
//! bounded here, by its length.

use chrono::{DateTime, SecondsFormat};

use super::super::rows::{Misfit, misfit};
use super::super::scalar;
use super::cursor::Cursor;
use super::read::micros;
use super::schema::{Schema, Type, TypeId};
use crate::json::{MAX_FILLED, MAX_JSON_DEPTH};

/// How much text a record may become for each of its bytes, and besides. A batch holds 16,384 records and 2 MiB, so all
/// its text stays within what Arrow's 32-bit offsets address.
const GROWTH: usize = 64;
const FREE_GROWTH: usize = 16 << 10;
/// The same of one record, however large it is.
const MAX_GROWTH: usize = 512 << 20;

/// How many items without a byte a record may have for each of its bytes, and besides.
const FREE_ITEMS: usize = 64;
const MORE_FREE_ITEMS: usize = 1024;

/// What a record may cost beyond its bytes.
pub(super) struct Limits {
    filled: usize,
    free: usize,
    growth: usize,
}

impl Limits {
    pub(super) fn new(length: usize) -> Self {
        Self {
            filled: MAX_FILLED,
            free: MORE_FREE_ITEMS + length.saturating_mul(FREE_ITEMS).min(MAX_FILLED),
            growth: FREE_GROWTH + length.saturating_mul(GROWTH).min(MAX_GROWTH),
        }
    }

    /// Takes so many nulls that fill columns.
    #[inline]
    pub(super) fn fill(&mut self, nulls: usize) -> Result<(), Misfit> {
        let left = self.filled.checked_sub(nulls);
        self.filled = left
            .ok_or_else(|| misfit("the record's lists lack too many values to fill them all with nulls"))?;
        Ok(())
    }

    /// Takes an item if no byte of the record pays for it: `before` and `after` are how many bytes were left.
    #[inline]
    pub(super) fn item(&mut self, before: usize, after: usize) -> Result<(), Misfit> {
        if before == after {
            let left = self.free.checked_sub(1);
            self.free =
                left.ok_or_else(|| misfit("the record has too many items that take no byte of it"))?;
        }
        Ok(())
    }

    /// Takes so many bytes of text that come from the schema.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Misfit> {
        let left = self.growth.checked_sub(bytes);
        self.growth = left.ok_or_else(|| misfit("the record's text grows beyond 64 times its length"))?;
        Ok(())
    }
}

/// Goes over a value.
pub(super) fn skip(
    schema: &Schema,
    id: TypeId,
    cursor: &mut Cursor<'_>,
    limits: &mut Limits,
) -> Result<(), Misfit> {
    skip_within(schema, id, cursor, limits, MAX_JSON_DEPTH)
}

fn skip_within(
    schema: &Schema,
    id: TypeId,
    cursor: &mut Cursor<'_>,
    limits: &mut Limits,
    depth: usize,
) -> Result<(), Misfit> {
    let Some(depth) = depth.checked_sub(1) else { return Err(too_deep()) };
    match schema.get(id) {
        Type::Null => {}
        Type::Boolean => _ = cursor.boolean()?,
        Type::Int | Type::Date => _ = cursor.int()?,
        Type::Long | Type::Timestamp(_) => _ = cursor.long()?,
        Type::Float => _ = cursor.float()?,
        Type::Double => _ = cursor.double()?,
        Type::Bytes | Type::Decimal { size: None, .. } => _ = cursor.bytes()?,
        Type::String => _ = cursor.text()?,
        Type::Fixed(size) | Type::Decimal { size: Some(size), .. } => _ = cursor.take(*size)?,
        Type::Enum(symbols) => _ = cursor.index(symbols.len())?,
        Type::Union(branches) => {
            let branch = branches[cursor.index(branches.len())?];
            return skip_within(schema, branch, cursor, limits, depth);
        }
        Type::Record(fields) => {
            for field in fields {
                let before = cursor.left();
                skip_within(schema, field.value, cursor, limits, depth)?;
                limits.item(before, cursor.left())?;
            }
        }
        Type::Array(items) => {
            skip_items(cursor, limits, |cursor, limits| skip_within(schema, *items, cursor, limits, depth))?;
        }
        Type::Map(values) => skip_items(cursor, limits, |cursor, limits| {
            cursor.text()?;
            skip_within(schema, *values, cursor, limits, depth)
        })?,
    }
    Ok(())
}

/// Goes over the items of an array or a map, block by block where the writer says how long they are.
fn skip_items(
    cursor: &mut Cursor<'_>,
    limits: &mut Limits,
    mut item: impl FnMut(&mut Cursor<'_>, &mut Limits) -> Result<(), Misfit>,
) -> Result<(), Misfit> {
    loop {
        let block = cursor.block()?;
        if block.count == 0 {
            return Ok(());
        }
        if let Some(size) = block.size {
            cursor.take(size)?;
            continue;
        }
        for _ in 0..block.count {
            let before = cursor.left();
            item(cursor, limits)?;
            limits.item(before, cursor.left())?;
        }
    }
}

/// Appends a value as JSON text: records and maps as objects; bytes as a string of characters up to U+00FF, as Avro's own
/// JSON has it; decimals, times, and doubles that JSON does not know as strings.
pub(super) fn write_json(
    schema: &Schema,
    id: TypeId,
    cursor: &mut Cursor<'_>,
    limits: &mut Limits,
    out: &mut Vec<u8>,
) -> Result<(), Misfit> {
    JsonWriter { schema, limits, out }.value(id, cursor, MAX_JSON_DEPTH)
}

struct JsonWriter<'a> {
    schema: &'a Schema,
    limits: &'a mut Limits,
    out: &'a mut Vec<u8>,
}

impl JsonWriter<'_> {
    fn value(&mut self, id: TypeId, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Misfit> {
        let schema = self.schema;
        match schema.get(id) {
            Type::Null => self.raw("null"),
            Type::Boolean => {
                let value = cursor.boolean()?;
                self.raw(if value { "true" } else { "false" })
            }
            Type::Int => {
                let value = cursor.int()?;
                self.raw(&value.to_string())
            }
            Type::Long => {
                let value = cursor.long()?;
                self.raw(&value.to_string())
            }
            Type::Float => {
                let value = cursor.float()?;
                if value.is_finite() { self.json(&value) } else { self.string(&value.to_string()) }
            }
            Type::Double => {
                let value = cursor.double()?;
                if value.is_finite() { self.json(&value) } else { self.string(&value.to_string()) }
            }
            Type::String => {
                let text = cursor.text()?;
                self.string(text)
            }
            Type::Bytes => {
                let bytes = cursor.bytes()?;
                self.string(&characters(bytes))
            }
            Type::Fixed(size) => {
                let bytes = cursor.take(*size)?;
                self.string(&characters(bytes))
            }
            Type::Decimal { scale, size } => {
                let digits = decimal(cursor, *scale, *size)?;
                self.string(&digits)
            }
            Type::Date => {
                let date = scalar::day(cursor.int()?).ok_or_else(|| misfit("a date beyond the calendar"))?;
                self.string(&date.to_string())
            }
            Type::Timestamp(unit) => {
                let time = micros(cursor.long()?, *unit).and_then(DateTime::from_timestamp_micros);
                let time = time.ok_or_else(|| misfit("a timestamp beyond the calendar"))?;
                self.string(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
            }
            Type::Enum(symbols) => self.string(&symbols[cursor.index(symbols.len())?]),
            Type::Union(branches) => {
                let branch = branches[cursor.index(branches.len())?];
                let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
                self.value(branch, cursor, depth)
            }
            Type::Record(_) | Type::Array(_) | Type::Map(_) => {
                let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
                self.nested(id, cursor, depth)
            }
        }
    }

    fn nested(&mut self, id: TypeId, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Misfit> {
        let schema = self.schema;
        match schema.get(id) {
            Type::Record(fields) => {
                self.raw("{")?;
                for (place, field) in fields.iter().enumerate() {
                    self.comma(place > 0)?;
                    self.string(&field.name)?;
                    self.raw(":")?;
                    self.value(field.value, cursor, depth)?;
                }
                self.raw("}")
            }
            Type::Array(items) => {
                self.raw("[")?;
                self.items(cursor, |writer, cursor| writer.value(*items, cursor, depth))?;
                self.raw("]")
            }
            Type::Map(values) => {
                self.raw("{")?;
                self.items(cursor, |writer, cursor| {
                    let key = cursor.text()?;
                    writer.string(key)?;
                    writer.raw(":")?;
                    writer.value(*values, cursor, depth)
                })?;
                self.raw("}")
            }
            _ => Ok(()),
        }
    }

    fn items(
        &mut self,
        cursor: &mut Cursor<'_>,
        mut item: impl FnMut(&mut Self, &mut Cursor<'_>) -> Result<(), Misfit>,
    ) -> Result<(), Misfit> {
        let mut is_first = true;
        loop {
            let block = cursor.block()?;
            if block.count == 0 {
                return Ok(());
            }
            for _ in 0..block.count {
                self.comma(!is_first)?;
                is_first = false;
                item(self, cursor)?;
            }
        }
    }

    fn comma(&mut self, is_due: bool) -> Result<(), Misfit> {
        if is_due { self.raw(",") } else { Ok(()) }
    }

    fn raw(&mut self, text: &str) -> Result<(), Misfit> {
        self.limits.grow(text.len())?;
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), Misfit> {
        self.json(&text)
    }

    fn json(&mut self, value: &impl serde::Serialize) -> Result<(), Misfit> {
        let before = self.out.len();
        serde_json::to_writer(&mut *self.out, value).expect("numbers and strings always serialise");
        self.limits.grow(self.out.len() - before)
    }
}

/// A decimal's digits, with as many behind the point as its scale says.
pub(super) fn decimal(cursor: &mut Cursor<'_>, scale: u32, size: Option<usize>) -> Result<String, Misfit> {
    let bytes = match size {
        Some(size) => cursor.take(size)?,
        None => cursor.bytes()?,
    };
    let sign = if bytes.first().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
    let mut wide = [sign; 16];
    let start = 16_usize.checked_sub(bytes.len()).ok_or_else(|| misfit("a decimal of more than 16 bytes"))?;
    wide[start..].copy_from_slice(bytes);
    let value = i128::from_be_bytes(wide);
    let sign = if value < 0 { "-" } else { "" };
    let scale = scale as usize;
    // At least one digit before the point.
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    Ok(if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

fn characters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

#[cold]
fn too_deep() -> Misfit {
    misfit(format!("more than {MAX_JSON_DEPTH} levels of nesting"))
}
