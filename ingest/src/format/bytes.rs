//! Values as they are: one column, whatever the bytes mean.
//!
//! The schema has one field, `value = "binary"` unless it is declared, of type `binary` or `string`. A string must be
//! UTF-8. A tombstone is a null, or a rejection where the field is `not null`; an empty value is an empty value. For
//! topics whose records another program, or the SQL, takes apart.

use puddle_types::Batch;

use super::column::{Object, Values};
use super::reason::Found;
use super::rows::{self, Misfit, Rows};
use crate::error::Error;
use crate::raw::RawBatch;
use crate::schema::{FieldDecl, Kind, SchemaDecl, ValueDecl};

/// Decodes records of the format `bytes`.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) rows: Rows,
}

/// The schema where none is declared.
pub(super) fn default_schema() -> SchemaDecl {
    let value = ValueDecl::nullable(Kind::Binary);
    SchemaDecl::new(vec![FieldDecl { name: "value".to_owned(), value }]).expect("one field with a free name")
}

/// What keeps a schema from being one of values as they are.
pub(super) fn check(schema: &SchemaDecl) -> Result<(), String> {
    match schema.fields() {
        [FieldDecl { value: ValueDecl { kind: Kind::Binary | Kind::String, .. }, .. }] => Ok(()),
        _ => {
            Err("its schema is one field, of type `binary` or `string`, as in value = \"string\"".to_owned())
        }
    }
}

impl Decoder {
    pub(super) fn new(schema: &SchemaDecl) -> Self {
        Self { rows: Rows::new(schema) }
    }

    pub(super) fn decode(&mut self, raw: &RawBatch) -> Result<Batch, Error> {
        self.rows.decode(raw, |object, record| {
            let read = read(object, record.value);
            Ok(read.map_err(|problem| rows::within_field(problem, object.name(0))))
        })
    }
}

fn read(object: &mut Object, value: Option<&[u8]>) -> Result<(), Misfit> {
    let column = &mut object.columns[0];
    match (&mut column.values, value) {
        (_, None) => return rows::null(column, Found::Nothing),
        (Values::Binary(values), Some(value)) => values.push_bytes(value),
        (Values::String(text), Some(value)) => text.push(rows::utf8(value)?),
        _ => return Err(rows::mismatch(column, Found::Binary)),
    }
    Ok(())
}
