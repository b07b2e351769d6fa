//! What a `pipeline.toml` says of the format of records.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::{avro, bytes, csv};
use crate::client::Text;
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
    /// Avro records, in a schema registry's wire format or bare.
    Avro,
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

/// The `[ingest.avro]` table: for records without a registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvroConfig {
    /// The file with the schema that all records were written with.
    pub schema: PathBuf,
}

/// The `[ingest.registry]` table: where the schemas of Avro records are. `Debug` does not show the password.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Its address, `http://...` or `https://...`, without user and password.
    pub url: String,
    /// Who asks, where the registry wants to know.
    pub user: Option<String>,
    password: Option<Text>,
}

impl RegistryConfig {
    /// The address, if it is one.
    pub(super) fn url(&self) -> Result<Url, Error> {
        let wrong = |reason: &str| {
            Err(Error::Format {
                format: Format::Avro.name(),
                reason: format!("[ingest.registry] url {reason}"),
            })
        };
        let Ok(url) = Url::parse(&self.url) else {
            return wrong("is no URL: write it as in \"http://127.0.0.1:8081\"");
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return wrong("must begin with http:// or https:// and name a host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("holds a user or a password: write them as `user` and `password`");
        }
        Ok(url)
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_ref().map(|Text(password)| password.as_str())
    }

    fn check(&self, allow_insecure: bool) -> Result<(), Error> {
        let url = self.url()?;
        if self.password.is_some() && url.scheme() == "http" && !allow_insecure {
            let reason = "[ingest.registry] would send its password unencrypted: use https://, or, where nobody else can \
                          listen, set allow_insecure = true in [ingest]";
            return Err(Error::Format { format: Format::Avro.name(), reason: reason.to_owned() });
        }
        Ok(())
    }
}

impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "...");
        f.debug_struct("RegistryConfig")
            .field("url", &self.url)
            .field("user", &self.user)
            .field("password", &password)
            .finish()
    }
}

impl Format {
    /// Its name in a `pipeline.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Avro => "avro",
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
            (None, Format::Json | Format::Avro | Format::Csv) => None,
        }
    }

    /// The schema that producers have told of, for a pipeline without one: with the format `avro`. `None` while they have
    /// not. Blocks while it asks a registry, for some ten seconds at most.
    ///
    /// # Errors
    /// [`Error::Registry`] when no registry answers; [`Error::Format`] when a table cannot be made of such records.
    pub fn producers_schema(&self) -> Result<Option<SchemaDecl>, Error> {
        match self.format {
            Format::Avro => avro::producers_schema(self),
            Format::Json | Format::Csv | Format::Bytes => Ok(None),
        }
    }

    /// Checks that the format's tables stand beside their format, and that it can be read without more.
    pub(crate) fn check_format(&self) -> Result<(), Error> {
        let wrong =
            |reason: &str| Err(Error::Format { format: self.format.name(), reason: reason.to_owned() });
        if self.csv.is_some() && self.format != Format::Csv {
            return wrong("[ingest.csv] is for format = \"csv\"");
        }
        match (self.format, &self.registry, &self.avro) {
            (Format::Avro, Some(registry), None) => registry.check(self.allow_insecure)?,
            (Format::Avro, None, Some(_)) => {}
            (Format::Avro, ..) => {
                return wrong(
                    "say where schemas are, either as [ingest.registry] url = \"http://127.0.0.1:8081\" or as \
                     [ingest.avro] schema = \"FILE.avsc\"",
                );
            }
            (_, None, None) => {}
            _ => return wrong("[ingest.registry] and [ingest.avro] are for format = \"avro\""),
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
        Format::Avro => Ok(()),
        Format::Csv => csv::check(&config.csv.clone().unwrap_or_default(), schema),
        Format::Bytes => bytes::check(schema),
    };
    checked.map_err(|reason| Error::format(config, reason))
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
