//! One line of CSV (RFC 4180) a record.
//!
//! - **Columns** are told by their place: in the order of the schema, or as [`CsvConfig::columns`] names them. A name
//!   that the schema does not know is a column to skip. A line with more or fewer fields does not fit.
//! - **Null** is a field without quotes that equals [`CsvConfig::null`], by default an empty one; `""` is an empty string.
//! - **Numbers** are decimal. An integer has no fraction and no exponent and is in its type's range; a `float64` is the
//!   nearest double, and neither infinite nor NaN.
//! - **bool** is `true` or `false`. **timestamp** and **date** are written as in JSON. **json** is any JSON text.
//! - White space belongs to its field. A line may end with LF or CRLF; within a quoted field both are text.
//! - A field has no type of its own, so tables and lists cannot be declared: declare `json`.

use std::collections::HashSet;

use puddle_types::Batch;
use serde::de::IgnoredAny;

use self::split::{Dialect, Fields};
use super::column::{Column, Object, Values};
use super::config::CsvConfig;
use super::reason::Found;
use super::rows::{self, Misfit, Rows, misfit, within_field};
use super::scalar;
use crate::error::Error;
use crate::json::{MAX_JSON_DEPTH, without_bom};
use crate::raw::RawBatch;
use crate::schema::{Kind, SchemaDecl};

mod split;

/// Decodes records of the format `csv`.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) rows: Rows,
    line: Line,
    buffer: String,
}

/// What stands where in a line.
#[derive(Debug)]
struct Line {
    dialect: Dialect,
    null: String,
    /// Of each field its column, or `None` where it is skipped.
    columns: Vec<Option<usize>>,
}

/// What keeps lines of CSV from being read by this schema.
pub(super) fn check(config: &CsvConfig, schema: &SchemaDecl) -> Result<(), String> {
    config.check()?;
    for field in schema.fields() {
        if matches!(field.value.kind, Kind::Struct(_) | Kind::List(_) | Kind::Binary) {
            let name = &field.name;
            return Err(format!("field `{name}`: CSV has only text; declare it as \"json\" or \"string\""));
        }
    }
    let Some(columns) = &config.columns else { return Ok(()) };
    let mut named = HashSet::new();
    if let Some(twice) = columns.iter().find(|name| !named.insert(name.as_str())) {
        return Err(format!("[ingest.csv] columns: `{twice}` is named twice"));
    }
    if let Some(missing) = schema.fields().iter().find(|field| !named.contains(field.name.as_str())) {
        return Err(format!(
            "[ingest.csv] columns: `{}` of the schema is not among them; name every field of a line, in order",
            missing.name
        ));
    }
    Ok(())
}

impl Decoder {
    pub(super) fn new(config: &CsvConfig, schema: &SchemaDecl) -> Self {
        Self { rows: Rows::new(schema), line: Line::new(config, schema), buffer: String::new() }
    }

    pub(super) fn decode(&mut self, raw: &RawBatch) -> Result<Batch, Error> {
        let (line, buffer) = (&self.line, &mut self.buffer);
        self.rows.decode(raw, |object, record| {
            Ok(rows::value(record).and_then(|value| line.read(object, value, buffer)))
        })
    }
}

impl Line {
    fn new(config: &CsvConfig, schema: &SchemaDecl) -> Self {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name.as_str()).collect();
        let place = |name: &String| names.iter().position(|known| known == name);
        Self {
            dialect: Dialect { delimiter: config.delimiter as u8, quote: config.quote as u8 },
            null: config.null.clone(),
            columns: match &config.columns {
                Some(columns) => columns.iter().map(place).collect(),
                None => (0..names.len()).map(Some).collect(),
            },
        }
    }

    fn read(&self, object: &mut Object, value: &[u8], buffer: &mut String) -> Result<(), Misfit> {
        let line = rows::utf8(without_bom(value))?;
        let mut fields = Fields::new(line, self.dialect);
        let mut found = 0;
        while let Some(field) =
            fields.next(buffer).map_err(|what| misfit(format!("field {}: {what}", found + 1)))?
        {
            let Some(index) = self.columns.get(found) else {
                return Err(misfit(format!("more than {} fields", self.columns.len())));
            };
            found += 1;
            let Some(index) = *index else { continue };
            let is_null = !field.is_quoted && field.text == self.null;
            let text = (!is_null).then_some(field.text);
            read(&mut object.columns[index], text)
                .map_err(|problem| within_field(problem, object.name(index)))?;
        }
        match self.columns.len() {
            expected if found < expected => Err(misfit(format!("{found} of {expected} fields"))),
            _ => Ok(()),
        }
    }
}

fn read(column: &mut Column, text: Option<&str>) -> Result<(), Misfit> {
    let Some(text) = text else { return rows::null(column, Found::Null) };
    let fits = match &mut column.values {
        Values::Bool(values) => rows::push(values, text.parse().ok()),
        Values::Int32(values) => rows::push(values, text.parse().ok()),
        Values::Int64(values) => rows::push(values, text.parse().ok()),
        Values::Float64(values) => {
            rows::push(values, text.parse().ok().filter(|value: &f64| value.is_finite()))
        }
        Values::Timestamp(values) => {
            let millis = text.parse().ok().and_then(scalar::micros_of_millis);
            rows::push(values, millis.or_else(|| scalar::micros_of_rfc3339(text)))
        }
        Values::Date(values) => rows::push(values, scalar::days_of_date(text)),
        Values::String(values) => {
            values.push(text);
            true
        }
        Values::Json(values) => {
            let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
            let fits = is_json && !scalar::nests_deeper(text, MAX_JSON_DEPTH);
            fits.then(|| values.push(text)).is_some()
        }
        Values::Binary(_) | Values::Struct(_) | Values::List(_) => false,
    };
    if !fits {
        return Err(rows::mismatch(column, Found::String(text)));
    }
    Ok(())
}
