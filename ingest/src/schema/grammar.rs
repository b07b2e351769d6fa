//! The written form of a schema, alike in TOML and JSON.
//!
//! Reading goes in two steps. First any document becomes a [`Written`] tree, in order and without judgement; then the
//! tree is judged, with the path of each field at hand. So errors name the whole path, which a format's own errors
//! cannot.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{FieldDecl, Kind, SchemaDecl, SchemaError, ValueDecl, child_path};
use crate::nearest::nearest;

const NOT_NULL: &str = " not null";

/// The scalar types by their names.
const SCALARS: [(&str, Kind); 9] = [
    ("bool", Kind::Bool),
    ("int32", Kind::Int32),
    ("int64", Kind::Int64),
    ("float64", Kind::Float64),
    ("string", Kind::String),
    ("timestamp", Kind::Timestamp),
    ("date", Kind::Date),
    ("json", Kind::Json),
    ("binary", Kind::Binary),
];

/// Names that other systems give to these types, and that spelling alone would not lead to the right one.
const ALIASES: [(&str, &str); 18] = [
    ("bigint", "int64"),
    ("blob", "binary"),
    ("bytea", "binary"),
    ("bytes", "binary"),
    ("datetime", "timestamp"),
    ("decimal", "float64"),
    ("double", "float64"),
    ("int", "int64"),
    ("integer", "int64"),
    ("instant", "timestamp"),
    ("long", "int64"),
    ("number", "float64"),
    ("object", "json"),
    ("real", "float64"),
    ("short", "int32"),
    ("text", "string"),
    ("time", "timestamp"),
    ("varchar", "string"),
];

impl<'de> Deserialize<'de> for SchemaDecl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written::Table(entries) = Written::deserialize(deserializer)? else {
            return Err(de::Error::custom("a schema is a table of fields, as in id = \"int64\""));
        };
        judge_fields(entries, "").and_then(SchemaDecl::new).map_err(de::Error::custom)
    }
}

impl Serialize for SchemaDecl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_fields(self.fields(), serializer)
    }
}

impl Serialize for ValueDecl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.kind {
            Kind::Struct(fields) => serialize_fields(fields, serializer),
            Kind::List(element) => serializer.collect_seq([element]),
            scalar => {
                let name = SCALARS.iter().find(|(_, kind)| kind == scalar).map_or("", |(name, _)| name);
                let not_null = if self.nullable { "" } else { NOT_NULL };
                serializer.collect_str(&format_args!("{name}{not_null}"))
            }
        }
    }
}

fn serialize_fields<S: Serializer>(fields: &[FieldDecl], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(fields.len()))?;
    for field in fields {
        map.serialize_entry(&field.name, &field.value)?;
    }
    map.end()
}

fn judge_fields(entries: Vec<(String, Written)>, path: &str) -> Result<Vec<FieldDecl>, SchemaError> {
    let judge = |(name, written): (String, Written)| {
        let value = judge_value(written, child_path(path, &name))?;
        Ok(FieldDecl { name, value })
    };
    entries.into_iter().map(judge).collect()
}

fn judge_value(written: Written, path: String) -> Result<ValueDecl, SchemaError> {
    match written {
        Written::Text(text) => judge_scalar(&text, path),
        Written::Table(entries) => Ok(ValueDecl::nullable(Kind::Struct(judge_fields(entries, &path)?))),
        Written::Array(mut elements) => match (elements.pop(), elements.len()) {
            (Some(element), 0) => {
                let element = judge_value(element, format!("{path}[]"))?;
                Ok(ValueDecl::nullable(Kind::List(Box::new(element))))
            }
            (last, before) => {
                Err(SchemaError::ListLength { path, found: before + usize::from(last.is_some()) })
            }
        },
        Written::Other(found) => Err(SchemaError::NotAType { path, found }),
    }
}

fn judge_scalar(text: &str, path: String) -> Result<ValueDecl, SchemaError> {
    let (name, nullable) = match text.strip_suffix(NOT_NULL) {
        Some(name) => (name, false),
        None => (text, true),
    };
    match SCALARS.iter().find(|(known, _)| *known == name) {
        Some((_, kind)) => Ok(ValueDecl { kind: kind.clone(), nullable }),
        None => Err(SchemaError::UnknownType { path, found: text.to_owned(), nearest: likely_meant(name) }),
    }
}

/// The type that `name` most likely means: another system's name for it, else one alike in spelling.
fn likely_meant(name: &str) -> Option<String> {
    let name = name.trim().to_lowercase();
    let name = name.split([' ', '(']).next().unwrap_or_default();
    match ALIASES.iter().find(|(alias, _)| *alias == name) {
        Some((_, meant)) => Some((*meant).to_owned()),
        None => nearest(name, SCALARS.iter().map(|(known, _)| *known)),
    }
}

/// A document as it is written.
enum Written {
    Text(String),
    Table(Vec<(String, Written)>),
    Array(Vec<Written>),
    /// Something that is no declaration, by a name for error messages.
    Other(&'static str),
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WrittenVisitor)
    }
}

struct WrittenVisitor;

impl<'de> Visitor<'de> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a type: a string such as \"int64\", a table, or an array with one type")
    }

    fn visit_str<E>(self, text: &str) -> Result<Written, E> {
        Ok(Written::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Written, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Written::Table(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Written, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element()? {
            elements.push(element);
        }
        Ok(Written::Array(elements))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Written, E> {
        Ok(Written::Other("a boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Written, E> {
        Ok(Written::Other("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Written, E> {
        Ok(Written::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Written, E> {
        Ok(Written::Other("a number"))
    }

    fn visit_unit<E>(self) -> Result<Written, E> {
        Ok(Written::Other("null"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{MAX_DEPTH, MAX_FIELDS};
    use super::*;

    fn read(text: &str) -> Result<SchemaDecl, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// What is wrong with a schema; the position that the format adds is cut off.
    fn wrong(text: &str) -> String {
        let error = read(text).unwrap_err();
        error.split(" at line ").next().unwrap().to_owned()
    }

    const ALL: &str = r#"{"z":"bool","a":"int32 not null","m":["json"],"b":{"t":"timestamp","d":["date not null"],
        "o":[{"f":"float64","s":"string"}]},"n":[["int64"]]}"#;

    #[test]
    fn reads_and_writes_in_order() {
        let schema = read(ALL).unwrap();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["z", "a", "m", "b", "n"]);
        let written = serde_json::to_string(&schema).unwrap();
        assert_eq!(
            written,
            ALL.split_whitespace().collect::<Vec<_>>().join("").replace("notnull", " not null")
        );
        assert_eq!(read(&written).unwrap(), schema);
    }

    #[test]
    fn toml_says_the_same() {
        let text = "
            z = 'bool'
            a = 'int32 not null'
            m = ['json']
            b = { t = 'timestamp', d = ['date not null'], o = [{ f = 'float64', s = 'string' }] }
            n = [['int64']]";
        assert_eq!(toml::from_str::<SchemaDecl>(text).unwrap(), read(ALL).unwrap());
    }

    #[test]
    fn makes_arrow_types() {
        let arrow = read(ALL).unwrap().to_arrow();
        let types: Vec<String> = arrow.fields().iter().map(|f| f.data_type().to_string()).collect();
        assert_eq!(types[..3], ["Boolean", "Int32", "List(Utf8)"]);
        assert!(
            types[3].contains("Timestamp(µs, \"UTC\")") && types[3].contains("non-null Date32"),
            "{}",
            types[3]
        );
        assert_eq!(types[4], "List(List(Int64))");
        assert_eq!(
            arrow.fields().iter().map(|f| f.is_nullable()).collect::<Vec<_>>(),
            [true, false, true, true, true]
        );
    }

    #[test]
    fn errors_name_the_path_the_wrong_type_and_the_right_one() {
        for (found, nearest) in [
            ("int46", "int64"),
            ("Integer", "int64"),
            ("varchar(20)", "string"),
            ("double not null", "float64"),
            ("datetime", "timestamp"),
            ("STRING", "string"),
            ("bool  not null", "bool"),
        ] {
            let error = wrong(&json!({ "a": { "b": [{ "c": found }] } }).to_string());
            let expected =
                format!("field `a.b[].c`: unknown type `{found}` (did you mean `{nearest}`?); the types are");
            assert!(error.starts_with(&expected), "{error}");
        }
        let error = wrong(r#"{"a":"xyz"}"#);
        assert!(error.starts_with("field `a`: unknown type `xyz`; the types are bool,"), "{error}");
    }

    #[test]
    fn what_is_no_declaration_is_refused() {
        for (text, expected) in [
            (r#"{"a":{"b":5}}"#, "field `a.b`: a type is a string"),
            (r#"{"a":true}"#, "field `a`: a type is a string"),
            (r#"{"a":null}"#, "field `a`: a type is a string"),
            (r#"{"a":[]}"#, "field `a`: a list is declared by an array with one type in it"),
            (r#"{"a":["int64","string"]}"#, "field `a`: a list is declared by an array with one type in it"),
            (r#"{"a":{}}"#, "field `a`: declares no field"),
            ("{}", "the schema: declares no field"),
            (r#"["int64"]"#, "a schema is a table of fields"),
            (r#""int64""#, "a schema is a table of fields"),
            (r#"{"a":{"":"int64"}}"#, "field `a.`: a field needs a name"),
            (r#"{"a":"int64","a":"int64"}"#, "field `a`: declared twice"),
            (r#"{"_offset":"int64"}"#, "field `_offset`: this name is reserved"),
            (r#"{"_reason":"int64"}"#, "field `_reason`: this name is reserved"),
        ] {
            let error = wrong(text);
            assert!(error.starts_with(expected), "{error}");
        }
        read(r#"{"_id":"int64","a":{"_offset":"int64"}}"#).unwrap();
    }

    #[test]
    fn depth_and_count_are_limited() {
        let nested = |levels: usize| {
            format!("{{\"a\":{}\"int64\"{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
        };
        read(&nested(MAX_DEPTH)).unwrap();
        let error = wrong(&nested(MAX_DEPTH + 1));
        assert!(error.contains("types nest deeper than 32 levels"), "{error}");
        let wide = |fields: usize| {
            let fields: serde_json::Map<_, _> =
                (0..fields).map(|n| (format!("f{n}"), json!("int64"))).collect();
            json!({ "a": fields }).to_string()
        };
        read(&wide(MAX_FIELDS - 1)).unwrap();
        let error = wrong(&wide(MAX_FIELDS));
        assert!(error.starts_with("more than 4096 fields"), "{error}");
    }
}
