//! From the reader's tokens into the columns.
//!
//! One visitor serves all types: the reader says what it found, the column what it wants, and where the two do not
//! meet the visitor leaves a [`Problem`] in the [`Context`]. The error that then unwinds through the reader carries
//! nothing; on its way out each level adds its part of the path to the problem. A record that fits pays for none of it.

use std::fmt;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::context::Context;
use crate::format::column::{Column, Object, Values};
use crate::format::reason::{Found, Problem};
use crate::format::scalar;

/// How deep a `json` value may nest: what serde_json, and with it most of what may read the text later, follows.
pub const MAX_JSON_DEPTH: usize = 127;

/// Reads one record.
pub(super) struct RecordSeed<'a> {
    pub(super) record: &'a mut Object,
    pub(super) context: &'a mut Context,
}

/// Reads one value into its column.
struct ValueSeed<'a> {
    column: &'a mut Column,
    context: &'a mut Context,
}

/// Finds the column of a field by its name.
struct NameSeed<'a> {
    object: &'a mut Object,
    before: Option<usize>,
    context: &'a mut Context,
}

impl Object {
    /// Reads an object's fields into its columns, each of which becomes one value longer.
    fn read<'de, A: MapAccess<'de>>(&mut self, mut map: A, context: &mut Context) -> Result<(), A::Error> {
        // All columns have one length between objects; after a record that failed they are cut back to it.
        let row = self.columns.first().map_or(0, Column::len);
        let (mut before, mut read) = (None, 0);
        while let Some(index) = map.next_key_seed(NameSeed { object: self, before, context })? {
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let column = &mut self.columns[index];
            let result = if column.len() > row {
                Err(context.fail(Problem::new("appears twice in one object")))
            } else {
                map.next_value_seed(ValueSeed { column, context })
            };
            if let Err(error) = result {
                context.within_field(self.name(index));
                return Err(error);
            }
            (before, read) = (Some(index), read + 1);
        }
        if read < self.columns.len() {
            self.fill_missing(row, context)?;
        }
        Ok(())
    }

    fn fill_missing<E: de::Error>(&mut self, row: usize, context: &mut Context) -> Result<(), E> {
        for index in 0..self.columns.len() {
            let column = &mut self.columns[index];
            if column.len() > row {
                continue;
            }
            if let Err(error) = context.fill(column, Found::Nothing) {
                context.within_field(self.name(index));
                return Err(error);
            }
        }
        Ok(())
    }
}

impl RecordSeed<'_> {
    pub(super) fn read<'de, D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }

    fn mismatch<E: de::Error>(self, found: Found<'_>) -> Result<(), E> {
        Err(self.context.fail(Problem::mismatch("a JSON object", true, found)))
    }
}

impl<'de> Visitor<'de> for RecordSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.record.read(map, self.context)
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.mismatch(Found::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.mismatch(Found::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.mismatch(Found::Integer(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.mismatch(Found::Integer(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.mismatch(Found::Number(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.mismatch(Found::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.mismatch(Found::Array)
    }
}

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Option<usize>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NameSeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Option<usize>, E> {
        let found = self.object.find(name, self.before);
        if found.is_none() {
            self.context.unknown(self.object, name)?;
        }
        Ok(found)
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        match self.column.values {
            // A float is parsed from its text by the standard library, which finds the nearest double; the reader's own
            // parser may miss it by one bit.
            Values::Float64(_) => self.read_float(<&RawValue>::deserialize(reader)?.get()),
            Values::Json(_) => self.read_json(<&RawValue>::deserialize(reader)?.get()),
            Values::Int32(_) | Values::Int64(_) | Values::Timestamp(_) if self.context.exact => {
                self.read_exact(<&RawValue>::deserialize(reader)?.get())
            }
            _ => reader.deserialize_any(self),
        }
    }
}

impl ValueSeed<'_> {
    fn read_float<E: de::Error>(self, text: &str) -> Result<(), E> {
        if text == "null" {
            return self.null();
        }
        match (&mut self.column.values, text.as_bytes()[0], text.parse::<f64>()) {
            (Values::Float64(values), b'-' | b'0'..=b'9', Ok(value)) if value.is_finite() => {
                values.push(value)
            }
            _ => return Err(self.context.mismatch(self.column, Found::Text(text))),
        }
        Ok(())
    }

    fn read_json<E: de::Error>(self, text: &str) -> Result<(), E> {
        if text == "null" {
            return self.null();
        }
        match &mut self.column.values {
            Values::Json(values) if !scalar::nests_deeper(text, MAX_JSON_DEPTH) => values.push(text),
            _ => return Err(self.context.mismatch(self.column, Found::TooDeep(MAX_JSON_DEPTH))),
        }
        Ok(())
    }

    /// Reads an integer, or a timestamp in any form, so that `-0` is told from `-0.0`.
    fn read_exact<E: de::Error>(self, text: &str) -> Result<(), E> {
        match text.parse::<f64>() {
            Ok(value) if value == 0.0 && text.starts_with('-') && text != "-0" => {
                Err(self.context.mismatch(self.column, Found::Text(text)))
            }
            _ => serde_json::Deserializer::from_str(text).deserialize_any(self).map_err(E::custom),
        }
    }

    fn null<E: de::Error>(self) -> Result<(), E> {
        self.context.fill(self.column, Found::Null)
    }

    fn integer<E: de::Error>(self, value: i64) -> Result<(), E> {
        let column = self.column;
        let fits = match &mut column.values {
            Values::Int64(values) => push(values, Some(value)),
            Values::Int32(values) => push(values, i32::try_from(value).ok()),
            Values::Timestamp(values) => push(values, scalar::micros_of_millis(value)),
            _ => false,
        };
        if !fits {
            return Err(self.context.mismatch(column, Found::Integer(value.into())));
        }
        Ok(())
    }
}

/// Appends the value if there is one, and says whether there was.
fn push<T>(values: &mut Vec<T>, value: Option<T>) -> bool {
    value.map(|value| values.push(value)).is_some()
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.column.expected())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.null()
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        let Values::Bool(values) = &mut self.column.values else {
            return Err(self.context.mismatch(self.column, Found::Bool(value)));
        };
        values.push(value);
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.integer(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.integer(value),
            Err(_) => Err(self.context.mismatch(self.column, Found::Integer(value.into()))),
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        // So the reader hands over `-0`, and whatever is no different from it as a double.
        if value == 0.0 && value.is_sign_negative() {
            self.context.minus_zero = true;
            return self.integer(0);
        }
        Err(self.context.mismatch(self.column, Found::Number(value)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        let column = self.column;
        let fits = match &mut column.values {
            Values::String(text) => {
                text.push(value);
                true
            }
            Values::Timestamp(values) => push(values, scalar::micros_of_rfc3339(value)),
            Values::Date(values) => push(values, scalar::days_of_date(value)),
            _ => false,
        };
        if !fits {
            return Err(self.context.mismatch(column, Found::String(value)));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Values::List(list) = &mut self.column.values else {
            return Err(self.context.mismatch(self.column, Found::Array));
        };
        let mut index = 0;
        loop {
            match seq.next_element_seed(ValueSeed { column: &mut list.elements, context: self.context }) {
                Ok(Some(())) => index += 1,
                Ok(None) => break,
                Err(error) => {
                    self.context.within_list(index);
                    return Err(error);
                }
            }
        }
        list.end();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Values::Struct(object) = &mut self.column.values else {
            return Err(self.context.mismatch(self.column, Found::Object));
        };
        object.read(map, self.context)?;
        Ok(())
    }
}
