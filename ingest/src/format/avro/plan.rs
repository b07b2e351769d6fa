//! How the records of one schema go into the columns: decided once for a schema, and followed for each record.
//!
//! ```text
//! writer's schema   id: long, note: string, at: timestamp-millis, tags: array<string>
//! declared          tags: [string], id: float64, seen: bool
//! plan              id -> column 1 as a double; skip note; skip at; tags -> column 0, each a string; column 2 null
//! ```

use std::collections::HashSet;

use super::schema::{Field, Schema, Type, TypeId, Unit};
use crate::schema::{FieldDecl, Kind, ValueDecl};

/// The steps through a record, in the writer's order.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) schema: Schema,
    pub(super) record: RecordPlan,
    /// The paths of fields that are not declared.
    pub(super) unknown: Vec<String>,
}

/// The steps through the fields of a record, at any depth.
#[derive(Debug)]
pub(super) struct RecordPlan {
    pub(super) steps: Vec<Step>,
    /// The columns that the writer has no field for.
    pub(super) missing: Vec<usize>,
}

#[derive(Debug)]
pub(super) enum Step {
    Skip(TypeId),
    /// Into the column of this index.
    Read(usize, Action),
}

/// How a value becomes one of its column's.
#[derive(Debug)]
pub(super) enum Action {
    Null,
    /// A union of null, at this branch, and one other type.
    Optional(usize, Box<Action>),
    /// By the branch that a value names.
    Union(Vec<Action>),
    Bool,
    /// An `int` or a `long`, into any column of numbers.
    Integer,
    /// An `int` that is to be one, into any column of numbers.
    Int,
    /// An `int` or a `long` of milliseconds.
    Millis,
    Float,
    Double,
    Timestamp(Unit),
    Date,
    /// A string, into a column of strings, timestamps or dates.
    Text,
    Symbol(TypeId),
    Bytes,
    Fixed(usize),
    Decimal {
        scale: u32,
        size: Option<usize>,
    },
    /// Anything, as JSON text.
    Json(TypeId),
    Struct(RecordPlan),
    List(Box<Action>),
    /// The column takes no value of this type.
    Misfit(&'static str),
}

impl Plan {
    /// The way of this schema's records into columns with these fields.
    ///
    /// # Errors
    /// When the schema is none of records.
    pub(super) fn new(schema: Schema, fields: &[FieldDecl]) -> Result<Self, String> {
        let Type::Record(written) = schema.get(schema.root()) else {
            return Err(format!("its schema is one of {}, not of records", schema.get(schema.root()).name()));
        };
        let mut compiler = Compiler { schema: &schema, unknown: Vec::new() };
        let record = compiler.record(written, fields, "");
        let unknown = compiler.unknown;
        Ok(Self { schema, record, unknown })
    }
}

struct Compiler<'a> {
    schema: &'a Schema,
    unknown: Vec<String>,
}

impl Compiler<'_> {
    fn record(&mut self, written: &[Field], declared: &[FieldDecl], path: &str) -> RecordPlan {
        let columns = columns(written, declared);
        let mut steps = Vec::with_capacity(written.len());
        for (field, column) in written.iter().zip(&columns) {
            steps.push(match column {
                Some(index) => {
                    let declared = &declared[*index];
                    let path = format!("{path}{}", declared.name);
                    Step::Read(*index, self.value(field.value, &declared.value, &path))
                }
                None => {
                    self.unknown.push(format!("{path}{}", field.name));
                    Step::Skip(field.value)
                }
            });
        }
        let missing = (0..declared.len()).filter(|index| !columns.contains(&Some(*index))).collect();
        RecordPlan { steps, missing }
    }

    fn value(&mut self, id: TypeId, declared: &ValueDecl, path: &str) -> Action {
        let written = self.schema.get(id);
        match (written, &declared.kind) {
            (_, Kind::Json) => Action::Json(id),
            (Type::Union(branches), _) => self.union(branches, declared, path),
            (Type::Null, _) => Action::Null,
            (Type::Boolean, Kind::Bool) => Action::Bool,
            (Type::Int, Kind::Int32 | Kind::Int64 | Kind::Float64) => Action::Int,
            (Type::Long, Kind::Int32 | Kind::Int64 | Kind::Float64) => Action::Integer,
            (Type::Int | Type::Long, Kind::Timestamp) => Action::Millis,
            (Type::Float, Kind::Float64) => Action::Float,
            (Type::Double, Kind::Float64) => Action::Double,
            (Type::Timestamp(unit), Kind::Timestamp) => Action::Timestamp(*unit),
            (Type::Date, Kind::Date) => Action::Date,
            (Type::String, Kind::String | Kind::Timestamp | Kind::Date) => Action::Text,
            (Type::Enum(_), Kind::String) => Action::Symbol(id),
            (Type::Bytes, Kind::Binary) => Action::Bytes,
            (Type::Fixed(size), Kind::Binary) => Action::Fixed(*size),
            (Type::Decimal { scale, size }, Kind::String | Kind::Float64) => {
                Action::Decimal { scale: *scale, size: *size }
            }
            (Type::Record(fields), Kind::Struct(declared)) => {
                Action::Struct(self.record(fields, declared, &format!("{path}.")))
            }
            (Type::Array(items), Kind::List(element)) => {
                Action::List(Box::new(self.value(*items, element, &format!("{path}[]"))))
            }
            (other, _) => Action::Misfit(other.name()),
        }
    }

    fn union(&mut self, branches: &[TypeId], declared: &ValueDecl, path: &str) -> Action {
        let mut actions: Vec<Action> =
            branches.iter().map(|branch| self.value(*branch, declared, path)).collect();
        match actions.iter().position(|action| matches!(action, Action::Null)) {
            Some(null) if actions.len() == 2 => {
                Action::Optional(null, Box::new(actions.swap_remove(1 - null)))
            }
            _ => Action::Union(actions),
        }
    }
}

/// Of each written field, the declared one that it fills: that of its name, else that of a name that it had before.
fn columns(written: &[Field], declared: &[FieldDecl]) -> Vec<Option<usize>> {
    let place = |name: &str| declared.iter().position(|field| field.name == name);
    let mut columns: Vec<Option<usize>> = written.iter().map(|field| place(&field.name)).collect();
    let mut taken: HashSet<usize> = columns.iter().flatten().copied().collect();
    for (field, column) in written.iter().zip(&mut columns) {
        if column.is_none() {
            *column = field.aliases.iter().filter_map(|name| place(name)).find(|index| taken.insert(*index));
        }
    }
    columns
}
