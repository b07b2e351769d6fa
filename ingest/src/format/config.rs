//! What a `pipeline.toml` says of the format of records.

use serde::{Deserialize, Serialize};

use super::{bytes, csv};
use crate::config::IngestConfig;
use crate::error::Error;
use crate::schema::{FieldDecl, Kind, SchemaDecl, ValueDecl};

/// What stands between the fields of a line unless [`CsvConfig::delimiter`] says otherwise, as in RFC 4180.
pub const DEFAULT_DELIMITER: char = ',';

/// What stands around a field that holds a delimiter or a line break unless [`CsvConfig::quote`] says otherwise, as in
/// RFC 4180.
pub const DEFAULT_QUOTE: char = '"';

/// How record values are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a record.
    #[default]
    Json,
    /// One line of CSV a record.
    Csv,
    /// Anything, kept as it is.
    Bytes,
}

/// The `[ingest.csv]` table: how lines are written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CsvConfig {
    /// The names of a line's fields, in order; those of the schema when absent. One that the schema does not declare is
    /// skipped.
    pub columns: Option<Vec<String>>,
    /// What stands between fields; [`DEFAULT_DELIMITER`]. One ASCII character.
    pub delimiter: char,
    /// What stands around a field that needs it; [`DEFAULT_QUOTE`]. One ASCII character.
    pub quote: char,
    /// How null is written, without quotes; an empty field by default.
    pub null: String,
}

impl Default for CsvConfig {
    fn default() -> Self {
        Self { columns: None, delimiter: DEFAULT_DELIMITER, quote: DEFAULT_QUOTE, null: String::new() }
    }
}

impl CsvConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        for (key, character) in [("delimiter", self.delimiter), ("quote", self.quote)] {
            if !character.is_ascii() || matches!(character, '\n' | '\r') {
                return Err(format!(
                    "[ingest.csv] {key} = {character:?}: use one ASCII character, not a line break"
                ));
            }
        }
        if self.delimiter == self.quote {
            return Err(format!("[ingest.csv] delimiter and quote are both {:?}", self.quote));
        }
        Ok(())
    }
}

impl Format {
    /// Its name in a `pipeline.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Bytes => "bytes",
        }
    }
}

impl IngestConfig {
    /// The schema that records are decoded by, if no sample is needed to know it: the declared one, or the one that the
    /// format has anyway.
    pub fn known_schema(&self) -> Option<SchemaDecl> {
        match (&self.schema, self.format) {
            (Some(declared), _) => Some(declared.clone()),
            (None, Format::Bytes) => Some(bytes::default_schema()),
            (None, Format::Json | Format::Csv) => None,
        }
    }

    /// Checks that the format's tables stand beside their format, and that it can be read without more.
    pub(crate) fn check_format(&self) -> Result<(), Error> {
        let wrong =
            |reason: &str| Err(Error::Format { format: self.format.name(), reason: reason.to_owned() });
        if self.csv.is_some() && self.format != Format::Csv {
            return wrong("[ingest.csv] is for format = \"csv\"");
        }
        match (&self.schema, self.format) {
            (Some(schema), _) => check(self, schema),
            (None, Format::Csv) => wrong(
                "a line does not name its fields: declare them in [ingest.schema], in the order of a line",
            ),
            (None, _) => Ok(()),
        }
    }
}

/// Checks that the format can be read by this schema.
pub(super) fn check(config: &IngestConfig, schema: &SchemaDecl) -> Result<(), Error> {
    let checked = match config.format {
        Format::Json => without_binary(schema.fields(), ""),
        Format::Csv => csv::check(&config.csv.clone().unwrap_or_default(), schema),
        Format::Bytes => bytes::check(schema),
    };
    checked.map_err(|reason| Error::Format { format: config.format.name(), reason })
}

/// JSON has no bytes.
fn without_binary(fields: &[FieldDecl], path: &str) -> Result<(), String> {
    fields.iter().try_for_each(|field| value_without_binary(&field.value, &format!("{path}{}", field.name)))
}

fn value_without_binary(value: &ValueDecl, path: &str) -> Result<(), String> {
    match &value.kind {
        Kind::Binary => {
            Err(format!("field `{path}`: JSON has no bytes; declare it as \"string\" or \"json\""))
        }
        Kind::Struct(fields) => without_binary(fields, &format!("{path}.")),
        Kind::List(element) => value_without_binary(element, &format!("{path}[]")),
        _ => Ok(()),
    }
}
