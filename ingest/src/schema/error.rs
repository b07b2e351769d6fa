//! What can be wrong with a schema.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::{MAX_DEPTH, MAX_FIELDS, RESERVED};

/// A schema that cannot be used, read, written or inferred.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The name of a type is unknown.
    #[error(
        "field `{path}`: unknown type `{found}`{}; the types are bool, int32, int64, \
         float64, string, timestamp, date, json and binary, each with ` not null` after it if a value must be there; \
         a table for an object; [type] for a list",
        did_you_mean(nearest)
    )]
    UnknownType {
        /// The field's path.
        path: String,
        /// What was written.
        found: String,
        /// The type that it most likely means.
        nearest: Option<String>,
    },
    /// Something else stands where a type belongs.
    #[error(
        "field `{path}`: a type is a string such as \"int64\", a table for an object, or [type] for a list; \
         found {found}"
    )]
    NotAType {
        /// The field's path.
        path: String,
        /// What stands there.
        found: &'static str,
    },
    /// A list's declaration is an array of another length than one.
    #[error(
        "field `{path}`: a list is declared by an array with one type in it, as in [\"string\"]; found {found}"
    )]
    ListLength {
        /// The field's path.
        path: String,
        /// The array's length.
        found: usize,
    },
    /// A table or the schema itself declares no field.
    #[error("{}: declares no field; a field is name = type, as in id = \"int64\"", subject(path))]
    NoFields {
        /// The path of the table; empty for the schema itself.
        path: String,
    },
    /// A field's name is empty.
    #[error("field `{path}`: a field needs a name")]
    NoName {
        /// The field's path.
        path: String,
    },
    /// A field takes the name of a metadata column.
    #[error(
        "field `{name}`: this name is reserved for the record's metadata (reserved are {}); \
         leave the field out, and the record's own `{name}` is an unknown field",
        RESERVED.join(", ")
    )]
    Reserved {
        /// The field's name.
        name: String,
    },
    /// A field is declared twice.
    #[error("field `{path}`: declared twice")]
    Twice {
        /// The field's path.
        path: String,
    },
    /// A table or a list is declared not null.
    #[error("field `{path}`: a table or a list cannot be declared not null; declare the fields within it so")]
    NestedNotNull {
        /// The field's path.
        path: String,
    },
    /// Types nest too deep.
    #[error(
        "field `{path}`: types nest deeper than {MAX_DEPTH} levels; declare what lies deeper as \"json\""
    )]
    TooDeep {
        /// The field's path.
        path: String,
    },
    /// There are too many fields.
    #[error("more than {MAX_FIELDS} fields are declared; declare objects with many keys as \"json\"")]
    TooManyFields,
    /// No sample showed a field.
    #[error(
        "cannot infer a schema: none of {samples} sample records is a JSON object with a field; \
         declare the schema in [ingest.schema], or start when the topic holds JSON records"
    )]
    NothingToInfer {
        /// How many samples there were.
        samples: usize,
    },
    /// A schema file is not a schema.
    #[error("{}: not a schema file; repair it, or delete it to have the schema inferred anew", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and at which line.
        source: serde_json::Error,
    },
    /// A schema file cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// "read" or "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl SchemaError {
    /// Whether the user asked for something wrong, rather than something having failed.
    pub fn is_usage(&self) -> bool {
        !matches!(self, SchemaError::NothingToInfer { .. } | SchemaError::Io { .. })
    }
}

fn subject(path: &str) -> String {
    if path.is_empty() { "the schema".to_owned() } else { format!("field `{path}`") }
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}
