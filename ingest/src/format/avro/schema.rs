//! Avro schemas: from their JSON text to types that name one another by number.
//!
//! Named types may be used many times, and within themselves. So a schema is a list of types and not a tree: it takes no
//! more memory than its text, whatever it describes.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// The longest text of a schema that is read, in bytes. Registries refuse far shorter ones.
pub(crate) const MAX_SCHEMA_BYTES: usize = 4 << 20;

/// The largest power of ten of a decimal, and of digits of what an `i128` holds.
const MAX_SCALE: u64 = 38;

/// A schema. Types name one another by their place in the list.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    types: Vec<Type>,
    root: TypeId,
}

/// A type's place in its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TypeId(usize);

/// What a value may be. The logical types are those that have a meaning for a column; others are the type beneath.
#[derive(Clone, Debug)]
pub(crate) enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    /// An `int` of days since 1970.
    Date,
    /// A `long` of so many of these units a second since 1970.
    Timestamp(Unit),
    /// An integer of so many bytes, or as many as it has, over a power of ten.
    Decimal {
        scale: u32,
        size: Option<usize>,
    },
    Fixed(usize),
    Enum(Vec<Box<str>>),
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record(Vec<Field>),
}

/// The units of timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Millis,
    Micros,
    Nanos,
}

/// A field of a record.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    /// Names that it had before.
    pub(crate) aliases: Vec<Box<str>>,
    pub(crate) value: TypeId,
}

impl Schema {
    /// The schema in this text. `references` are the texts of schemas whose named types it uses, in an order in which
    /// each only uses those before it.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn parse(text: &str, references: &[String]) -> Result<Self, String> {
        let mut parser = Parser::default();
        for reference in references {
            parser.document(reference)?;
        }
        let root = parser.document(text)?;
        let types = parser.types.into_iter().map(|kind| kind.expect("a type is complete when it was read"));
        Ok(Self { types: types.collect(), root })
    }

    /// What a record is.
    pub(crate) fn root(&self) -> TypeId {
        self.root
    }

    pub(crate) fn get(&self, id: TypeId) -> &Type {
        &self.types[id.0]
    }
}

impl Type {
    /// What it is called in reasons.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Type::Null => "null",
            Type::Boolean => "boolean",
            Type::Int => "int",
            Type::Long => "long",
            Type::Float => "float",
            Type::Double => "double",
            Type::Bytes => "bytes",
            Type::String => "string",
            Type::Date => "date",
            Type::Timestamp(_) => "timestamp",
            Type::Decimal { .. } => "decimal",
            Type::Fixed(_) => "fixed",
            Type::Enum(_) => "enum",
            Type::Array(_) => "array",
            Type::Map(_) => "map",
            Type::Union(_) => "union",
            Type::Record(_) => "record",
        }
    }
}

/// Reads texts into one list of types.
#[derive(Default)]
struct Parser {
    /// `None` while a named type is being read, which may use itself.
    types: Vec<Option<Type>>,
    names: HashMap<String, TypeId>,
}

impl Parser {
    fn document(&mut self, text: &str) -> Result<TypeId, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("not a schema: {error}"))?;
        self.read(&value, "")
    }

    fn add(&mut self, kind: Type) -> TypeId {
        self.types.push(Some(kind));
        TypeId(self.types.len() - 1)
    }

    fn read(&mut self, value: &Value, namespace: &str) -> Result<TypeId, String> {
        match value {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.read(branch, namespace));
                let branches = branches.collect::<Result<Vec<_>, _>>()?;
                Ok(self.add(Type::Union(branches)))
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(name)) => self.described(name, object, namespace),
                Some(inner) => self.read(inner, namespace),
                None => Err("not a schema: an object without \"type\"".to_owned()),
            },
            _ => Err("not a schema: a type is a name, an array or an object".to_owned()),
        }
    }

    /// A type that is called by its name only.
    fn named(&mut self, name: &str, namespace: &str) -> Result<TypeId, String> {
        if let Some(kind) = primitive(name) {
            return Ok(self.add(kind));
        }
        let known = self.names.get(&full_name(name, namespace)).or_else(|| self.names.get(name));
        known.copied().ok_or_else(|| format!("not a schema: no type is called {name:?}"))
    }

    /// A type that is described by an object.
    fn described(
        &mut self,
        name: &str,
        object: &Map<String, Value>,
        namespace: &str,
    ) -> Result<TypeId, String> {
        match name {
            "array" => {
                let items = self.read(key(object, "items")?, namespace)?;
                Ok(self.add(Type::Array(items)))
            }
            "map" => {
                let values = self.read(key(object, "values")?, namespace)?;
                Ok(self.add(Type::Map(values)))
            }
            "record" | "error" | "enum" | "fixed" => self.define(name, object, namespace),
            _ => match primitive(name) {
                Some(kind) => {
                    let kind = logical(kind, object)?;
                    Ok(self.add(kind))
                }
                None => self.named(name, namespace),
            },
        }
    }

    /// A type that gets a name.
    fn define(&mut self, kind: &str, object: &Map<String, Value>, namespace: &str) -> Result<TypeId, String> {
        let name = text(object, "name")?;
        let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
        let full = full_name(name, namespace);
        let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        self.types.push(None);
        let id = TypeId(self.types.len() - 1);
        if self.names.insert(full, id).is_some() {
            return Err(format!("not a schema: the type {name:?} is defined twice"));
        }
        let defined = match kind {
            "enum" => Type::Enum(texts(key(object, "symbols")?)?),
            "fixed" => {
                let size = key(object, "size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| format!("not a schema: the size of {name:?} is no number"))?;
                logical(Type::Fixed(size), object)?
            }
            _ => Type::Record(self.fields(key(object, "fields")?, &namespace)?),
        };
        self.types[id.0] = Some(defined);
        Ok(id)
    }

    fn fields(&mut self, fields: &Value, namespace: &str) -> Result<Vec<Field>, String> {
        let fields = fields.as_array().ok_or("not a schema: fields are an array")?;
        let mut read = Vec::with_capacity(fields.len());
        for field in fields {
            let field = field.as_object().ok_or("not a schema: a field is an object")?;
            let aliases = field.get("aliases").map(texts).transpose()?.unwrap_or_default();
            let value = self.read(key(field, "type")?, namespace)?;
            read.push(Field { name: text(field, "name")?.into(), aliases, value });
        }
        Ok(read)
    }
}

fn primitive(name: &str) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int,
        "long" => Type::Long,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "string" => Type::String,
        _ => return None,
    })
}

/// A logical type where there is one for this type, else the type itself, as Avro demands.
fn logical(kind: Type, object: &Map<String, Value>) -> Result<Type, String> {
    let size = match &kind {
        Type::Fixed(size) => Some(*size),
        _ => None,
    };
    Ok(match (object.get("logicalType").and_then(Value::as_str), &kind) {
        (Some("date"), Type::Int) => Type::Date,
        (Some("timestamp-millis"), Type::Long) => Type::Timestamp(Unit::Millis),
        (Some("timestamp-micros"), Type::Long) => Type::Timestamp(Unit::Micros),
        (Some("timestamp-nanos"), Type::Long) => Type::Timestamp(Unit::Nanos),
        (Some("decimal"), Type::Bytes | Type::Fixed(_)) => {
            let scale = object.get("scale").map_or(Some(0), Value::as_u64);
            match scale.filter(|scale| *scale <= MAX_SCALE).and_then(|scale| u32::try_from(scale).ok()) {
                Some(scale) => Type::Decimal { scale, size },
                None => return Err(format!("a decimal's scale is beyond {MAX_SCALE}")),
            }
        }
        _ => kind,
    })
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn key<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a Value, String> {
    object.get(key).ok_or_else(|| format!("not a schema: {key:?} is missing"))
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    key(object, name)?.as_str().ok_or_else(|| format!("not a schema: {name:?} is not a string"))
}

fn texts(value: &Value) -> Result<Vec<Box<str>>, String> {
    let wrong = || "not a schema: symbols and aliases are arrays of strings".to_owned();
    let texts = value.as_array().ok_or_else(wrong)?.iter();
    texts.map(|text| text.as_str().map(Box::from).ok_or_else(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_types_are_found_in_their_namespace_and_within_themselves() {
        let text = r#"{"type":"record","name":"a.b.Node","fields":[
            {"name":"next","type":["null","Node"]},
            {"name":"color","type":{"type":"enum","name":"Color","symbols":["RED"]}},
            {"name":"other","type":"a.b.Color","aliases":["colour"]}]}"#;
        let schema = Schema::parse(text, &[]).unwrap();
        let Type::Record(fields) = schema.get(schema.root()) else { panic!() };
        let Type::Union(branches) = schema.get(fields[0].value) else { panic!() };
        assert_eq!(branches[1], schema.root());
        assert_eq!(fields[1].value, fields[2].value);
        assert_eq!(&*fields[2].aliases[0], "colour");
    }

    #[test]
    fn references_define_types() {
        let point = r#"{"type":"record","name":"geo.Point","fields":[{"name":"x","type":"double"}]}"#;
        let text = r#"{"type":"record","name":"R","fields":[{"name":"p","type":"geo.Point"}]}"#;
        assert!(Schema::parse(text, &[]).unwrap_err().contains("no type is called \"geo.Point\""));
        Schema::parse(text, &[point.to_owned()]).unwrap();
    }

    #[test]
    fn logical_types_stand_on_the_right_type_or_are_ignored() {
        for (text, expected) in [
            (r#"{"type":"int","logicalType":"date"}"#, "date"),
            (r#"{"type":"long","logicalType":"date"}"#, "long"),
            (r#"{"type":"long","logicalType":"timestamp-millis"}"#, "timestamp"),
            (r#"{"type":"long","logicalType":"local-timestamp-millis"}"#, "long"),
            (r#"{"type":"string","logicalType":"uuid"}"#, "string"),
            (r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#, "decimal"),
            (r#"{"type":{"type":"int","logicalType":"date"}}"#, "date"),
        ] {
            let schema = Schema::parse(text, &[]).unwrap();
            assert_eq!(schema.get(schema.root()).name(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_schema_is_told() {
        for text in [
            "{",
            "5",
            "{}",
            "\"nope\"",
            r#"{"type":"record","name":"R"}"#,
            r#"{"type":"enum","name":"E","symbols":[1]}"#,
            r#"{"type":"fixed","name":"F","size":-1}"#,
            r#"{"type":"bytes","logicalType":"decimal","scale":99}"#,
            r#"[{"type":"fixed","name":"F","size":1},{"type":"fixed","name":"F","size":1}]"#,
        ] {
            Schema::parse(text, &[]).unwrap_err();
        }
    }
}
