//! What the records of a topic look like: declared by the user, or inferred once and then pinned.
//!
//! ```text
//! [ingest.schema] of pipeline.toml --+
//! sample records --infer--> ---------+--> SchemaDecl --to_arrow--> columns of the payload
//! schema.json (the pin) --load--> ---+        |
//!          ^----------------store-------------+
//! ```
//!
//! A declaration is written the same way in TOML and in JSON. A field is `name = type`:
//!
//! | type | JSON value | Arrow column |
//! | --- | --- | --- |
//! | `"bool"` | `true`, `false` | Boolean |
//! | `"int32"`, `"int64"` | a number without fraction or exponent, in range | Int32, Int64 |
//! | `"float64"` | any number | Float64 |
//! | `"string"` | a string | Utf8 |
//! | `"timestamp"` | an RFC 3339 string, or integer milliseconds since 1970 (UTC) | Timestamp in microseconds, UTC |
//! | `"date"` | a string `YYYY-MM-DD` | Date32 |
//! | `"json"` | anything; kept as its JSON text | Utf8 |
//! | `"binary"` | none: for the formats `avro` and `bytes` | Binary |
//! | a table | an object with these fields | Struct |
//! | an array with one type in it | an array of that type | List |
//!
//! `" not null"` after a type's name (`"int64 not null"`) rejects records in which the value is null or missing;
//! without it such a value becomes a null. Order is kept: it is the order of the columns.
//!
//! ```toml
//! [ingest.schema]
//! id     = "int64 not null"
//! tags   = ["string"]
//! place  = { lat = "float64", lon = "float64" }
//! legs   = [{ from = "string", to = "string" }]
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use puddle_types::metadata;

mod error;
mod grammar;
mod infer;
mod pin;

pub use error::SchemaError;
pub use infer::{MAX_KEYS, infer};

/// How deep types may nest: a field of the record itself is at depth 1, an element of its list at depth 2. Far below
/// the depth at which a JSON reader or a Parquet reader gives up.
pub const MAX_DEPTH: usize = 32;

/// How many fields a declaration may have, those of nested tables included. Each costs a column buffer.
pub const MAX_FIELDS: usize = 4096;

/// The names that the columns of [`puddle_types::metadata`] take; no field of a record may have one.
pub const RESERVED: [&str; 7] = [
    metadata::TOPIC,
    metadata::PARTITION,
    metadata::OFFSET,
    metadata::TIMESTAMP,
    metadata::KEY,
    metadata::REASON,
    metadata::VALUE,
];

/// The declared fields of a record, in order. It always holds at least one field, and keeps the limits above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaDecl {
    fields: Vec<FieldDecl>,
}

/// A field of a record or of a nested table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDecl {
    /// Its name, as in the JSON object.
    pub name: String,
    /// What its value may be.
    pub value: ValueDecl,
}

/// What a field's value, or an element of a list, may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueDecl {
    /// Its type.
    pub kind: Kind,
    /// Whether it may be null or missing. Tables and lists always may.
    pub nullable: bool,
}

/// The types of the grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A 64-bit floating point number.
    Float64,
    /// A string.
    String,
    /// A point in time, in microseconds, UTC.
    Timestamp,
    /// A day.
    Date,
    /// Any JSON value, kept as its text.
    Json,
    /// Bytes.
    Binary,
    /// An object with these fields.
    Struct(Vec<FieldDecl>),
    /// An array of such values.
    List(Box<ValueDecl>),
}

impl SchemaDecl {
    /// A declaration of these fields.
    ///
    /// # Errors
    /// When there is no field, a name is empty, reserved or there twice, or a limit is passed; the error names the
    /// field's path.
    pub fn new(fields: Vec<FieldDecl>) -> Result<Self, SchemaError> {
        Check::default().fields(&fields, "", 1)?;
        Ok(Self { fields })
    }

    /// The fields, in order.
    pub fn fields(&self) -> &[FieldDecl] {
        &self.fields
    }

    /// The columns of the payload: what the decoder makes of a record, without the metadata columns.
    pub fn to_arrow(&self) -> SchemaRef {
        Arc::new(Schema::new(arrow_fields(&self.fields)))
    }
}

impl ValueDecl {
    /// A value that may be null.
    pub fn nullable(kind: Kind) -> Self {
        Self { kind, nullable: true }
    }
}

impl Kind {
    /// The Arrow type of a column of this kind.
    pub fn data_type(&self) -> DataType {
        match self {
            Kind::Bool => DataType::Boolean,
            Kind::Int32 => DataType::Int32,
            Kind::Int64 => DataType::Int64,
            Kind::Float64 => DataType::Float64,
            Kind::String | Kind::Json => DataType::Utf8,
            Kind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Date => DataType::Date32,
            Kind::Binary => DataType::Binary,
            Kind::Struct(fields) => DataType::Struct(arrow_fields(fields)),
            Kind::List(element) => DataType::List(Arc::new(list_field(element))),
        }
    }
}

/// The Arrow fields of declared fields.
pub(crate) fn arrow_fields(fields: &[FieldDecl]) -> Fields {
    let field = |f: &FieldDecl| Field::new(&f.name, f.value.kind.data_type(), f.value.nullable);
    fields.iter().map(field).collect()
}

/// The Arrow field of a list's elements.
pub(crate) fn list_field(element: &ValueDecl) -> Field {
    Field::new_list_field(element.kind.data_type(), element.nullable)
}

/// `name` below `path`, as error messages write it.
fn child_path(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Walks a declaration and counts its fields.
#[derive(Default)]
struct Check {
    seen: usize,
}

impl Check {
    fn fields(&mut self, fields: &[FieldDecl], path: &str, depth: usize) -> Result<(), SchemaError> {
        if fields.is_empty() {
            return Err(SchemaError::NoFields { path: path.to_owned() });
        }
        let mut names = HashSet::with_capacity(fields.len());
        for field in fields {
            let path = child_path(path, &field.name);
            self.seen += 1;
            if self.seen > MAX_FIELDS {
                return Err(SchemaError::TooManyFields);
            }
            if field.name.is_empty() {
                return Err(SchemaError::NoName { path });
            }
            if depth == 1 && RESERVED.contains(&field.name.as_str()) {
                return Err(SchemaError::Reserved { name: field.name.clone() });
            }
            if !names.insert(field.name.as_str()) {
                return Err(SchemaError::Twice { path });
            }
            self.value(&field.value, path, depth)?;
        }
        Ok(())
    }

    fn value(&mut self, value: &ValueDecl, path: String, depth: usize) -> Result<(), SchemaError> {
        if depth > MAX_DEPTH {
            return Err(SchemaError::TooDeep { path });
        }
        match &value.kind {
            Kind::Struct(_) | Kind::List(_) if !value.nullable => Err(SchemaError::NestedNotNull { path }),
            Kind::Struct(fields) => self.fields(fields, &path, depth + 1),
            Kind::List(element) => self.value(element, format!("{path}[]"), depth + 1),
            _ => Ok(()),
        }
    }
}
