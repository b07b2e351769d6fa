//! A declaration from an Avro schema, for pipelines that declare none.

use super::schema::{Schema, Type, TypeId};
use crate::schema::{FieldDecl, Kind, MAX_DEPTH, MAX_FIELDS, RESERVED, SchemaDecl, ValueDecl};

/// What a table of records of these schemas has for columns: the fields of all of them.
///
/// Everything may be null: a later version of a schema may lack what today's has. Reserved names are left out.
///
/// # Errors
/// When a schema is none of records, has too many fields, or two give one field different types.
pub(super) fn infer(schemas: &[Schema]) -> Result<SchemaDecl, String> {
    let mut all: Vec<FieldDecl> = Vec::new();
    for schema in schemas {
        let mut left = MAX_FIELDS;
        let ValueDecl { kind: Kind::Struct(fields), .. } =
            (Inference { schema, within: Vec::new(), left: &mut left }).declare(schema.root(), 0)?
        else {
            return Err(format!("it is one of {}, not of records", schema.get(schema.root()).name()));
        };
        for field in fields.into_iter().filter(|field| !RESERVED.contains(&field.name.as_str())) {
            match all.iter().find(|known| known.name == field.name) {
                None => all.push(field),
                Some(known) if *known == field => {}
                Some(_) => {
                    return Err(format!("the topics give the field `{}` different types", field.name));
                }
            }
        }
    }
    SchemaDecl::new(all).map_err(|error| error.to_string())
}

struct Inference<'a> {
    schema: &'a Schema,
    /// The records around the type in hand.
    within: Vec<TypeId>,
    /// How many more fields there may be.
    left: &'a mut usize,
}

impl Inference<'_> {
    fn declare(&mut self, id: TypeId, depth: usize) -> Result<ValueDecl, String> {
        Ok(ValueDecl::nullable(match self.schema.get(id) {
            Type::Boolean => Kind::Bool,
            Type::Int => Kind::Int32,
            Type::Long => Kind::Int64,
            Type::Float | Type::Double => Kind::Float64,
            Type::Bytes | Type::Fixed(_) => Kind::Binary,
            Type::String | Type::Enum(_) | Type::Decimal { .. } => Kind::String,
            Type::Date => Kind::Date,
            Type::Timestamp(_) => Kind::Timestamp,
            Type::Union(branches) => {
                let is_null = |id: &&TypeId| matches!(self.schema.get(**id), Type::Null);
                let others: Vec<TypeId> = branches.iter().filter(|id| !is_null(id)).copied().collect();
                match others[..] {
                    [one] => return self.declare(one, depth),
                    _ => Kind::Json,
                }
            }
            Type::Array(items) if depth < MAX_DEPTH => Kind::List(Box::new(self.declare(*items, depth + 1)?)),
            Type::Record(fields) if depth < MAX_DEPTH && !fields.is_empty() && !self.within.contains(&id) => {
                self.within.push(id);
                let mut declared = Vec::with_capacity(fields.len());
                for field in fields {
                    let left = self.left.checked_sub(1);
                    *self.left = left.ok_or_else(|| format!("it has more than {MAX_FIELDS} fields"))?;
                    let value = self.declare(field.value, depth + 1)?;
                    declared.push(FieldDecl { name: field.name.to_string(), value });
                }
                self.within.pop();
                Kind::Struct(declared)
            }
            Type::Null | Type::Map(_) | Type::Array(_) | Type::Record(_) => Kind::Json,
        }))
    }
}
