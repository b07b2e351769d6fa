//! The `[ingest]` table of a `pipeline.toml`: which topics, in which format, from where.

use serde::{Deserialize, Serialize};

use crate::client::ClientSettings;
use crate::error::Error;
use crate::format::{AvroConfig, CsvConfig, Format, RegistryConfig};
use crate::schema::SchemaDecl;

/// Where a partition without progress begins unless [`IngestConfig::start`] says otherwise. Not Kafka's own
/// default (`latest`): a table that silently lacks what the topic already held would surprise.
pub const DEFAULT_START: Start = Start::Earliest;

/// What happens to fields that the schema does not know unless [`IngestConfig::unknown_fields`] says otherwise.
/// Producers add fields long before their readers want them.
pub const DEFAULT_UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignore;

/// The `[ingest]` table of a `pipeline.toml`.
///
/// ```
/// # use puddle_ingest::{IngestConfig, Start};
/// let config: IngestConfig = toml::from_str(r#"
///     topics = ["flights"]
///     format = "json"
///     start = "latest"
///     client = { "fetch.wait.max.ms" = "100" }
/// "#).unwrap();
/// assert_eq!(config.start, Start::Latest);
/// config.validate().unwrap();
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestConfig {
    /// The topics to read; at least one.
    pub topics: Vec<String>,
    /// How record values are encoded.
    #[serde(default)]
    pub format: Format,
    /// Where a partition without progress begins; [`DEFAULT_START`].
    #[serde(default)]
    pub start: Start,
    /// Where the schemas of Avro records are.
    pub registry: Option<RegistryConfig>,
    /// The schema of Avro records that come without a registry.
    pub avro: Option<AvroConfig>,
    /// How lines of CSV are written, for that format.
    pub csv: Option<CsvConfig>,
    /// The fields of a record and their types. Without it, the schema is inferred from the first records, or known from
    /// the format.
    pub schema: Option<SchemaDecl>,
    /// What happens to fields that the schema does not know; [`DEFAULT_UNKNOWN_FIELDS`].
    #[serde(default)]
    pub unknown_fields: UnknownFields,
    /// The consumer group; `puddle-<pipeline>` when absent. Where a run resumes is decided by the table, not by
    /// the group's offsets.
    pub group: Option<String>,
    /// Further librdkafka settings, such as `security.protocol`. Those that exactly-once depends on are refused.
    #[serde(default)]
    pub client: ClientSettings,
    /// Whether client settings may send a password unencrypted, or talk to a broker that does not prove who it is. They
    /// are refused without, whatever the address is: a tunnel on this machine may lead anywhere.
    #[serde(default)]
    pub allow_insecure: bool,
}

/// Where a partition without progress begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At the oldest record that the topic still holds.
    Earliest,
    /// After the newest record there is when the partition is first assigned.
    Latest,
}

impl Default for Start {
    fn default() -> Self {
        DEFAULT_START
    }
}

/// What happens to a record with fields that the schema does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownFields {
    /// The record is read without them, and they are counted.
    Ignore,
    /// The record is rejected.
    Reject,
}

impl Default for UnknownFields {
    fn default() -> Self {
        DEFAULT_UNKNOWN_FIELDS
    }
}

impl IngestConfig {
    /// Checks what can be checked without a broker: topics are named once and legally, the group has a name, the format
    /// can be read by the schema if that is declared, and no client setting undermines exactly-once, or security without
    /// [`allow_insecure`](Self::allow_insecure).
    ///
    /// # Errors
    /// A usage error that names what is wrong.
    pub fn validate(&self) -> Result<(), Error> {
        if self.topics.is_empty() {
            return Err(Error::NoTopics);
        }
        for (i, topic) in self.topics.iter().enumerate() {
            check_topic_name(topic)?;
            if self.topics[..i].contains(topic) {
                return Err(Error::TopicName { topic: topic.clone(), reason: "is listed twice" });
            }
        }
        if self.group.as_ref().is_some_and(String::is_empty) {
            return Err(Error::GroupName);
        }
        self.check_format()?;
        if !self.allow_insecure {
            self.client.check_secure()?;
        }
        self.client.validate()
    }
}

/// Kafka's own rule for topic names, checked before a broker or librdkafka sees one (a leading `^` would make
/// a subscription a regular expression).
pub(crate) fn check_topic_name(topic: &str) -> Result<(), Error> {
    let fail = |reason| Err(Error::TopicName { topic: topic.to_owned(), reason });
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match topic {
        "" => fail("is empty"),
        "." | ".." => fail("is a folder, not a name"),
        _ if topic.len() > 249 => fail("is longer than 249 characters"),
        _ if !topic.chars().all(legal) => fail("may only hold letters, digits, '.', '_' and '-'"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<IngestConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = parse("topics = ['flights']").unwrap();
        assert_eq!(config.start, DEFAULT_START);
        assert_eq!(config.unknown_fields, DEFAULT_UNKNOWN_FIELDS);
        assert_eq!(config.format, Format::Json);
        assert!(config.schema.is_none() && config.group.is_none());
        config.validate().unwrap();
    }

    #[test]
    fn unknown_keys_and_values_are_errors_that_name_them() {
        let error = parse("topics = ['a']\nstrat = 'latest'").unwrap_err().to_string();
        assert!(error.contains("strat"), "{error}");
        let error = parse("topics = ['a']\nstart = 'first'").unwrap_err().to_string();
        assert!(error.contains("first") && error.contains("earliest"), "{error}");
    }

    #[test]
    fn topics_must_be_named_legally_and_once() {
        for bad in ["[]", "['']", "['a b']", "['^a.*']", "['..']", "['a', 'b', 'a']", "['../x']"] {
            let error = parse(&format!("topics = {bad}")).unwrap().validate().unwrap_err();
            assert!(error.is_usage(), "{bad}: {error}");
        }
    }

    #[test]
    fn a_group_needs_a_name() {
        let error = parse("topics = ['a']\ngroup = ''").unwrap().validate().unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("group"), "{error}");
        parse("topics = ['a']\ngroup = 'g'").unwrap().validate().unwrap();
    }

    #[test]
    fn settings_that_break_exactly_once_are_refused_by_name() {
        for key in ["enable.auto.commit", "isolation.level", "auto.offset.reset", "group.id"] {
            let config = parse(&format!("topics = ['a']\nclient = {{ '{key}' = 'hunter2' }}")).unwrap();
            let error = config.validate().unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(key), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    /// Fault matrix 48.
    #[test]
    fn insecure_settings_are_refused_unless_forced() {
        let insecure =
            "topics = ['a']\nclient = { 'security.protocol' = 'sasl_plaintext', 'sasl.mechanism' = 'PLAIN' }";
        let error = parse(insecure).unwrap().validate().unwrap_err();
        assert!(matches!(error, Error::Insecure { .. }), "{error}");
        parse(&format!("{insecure}\nallow_insecure = true")).unwrap().validate().unwrap();
    }

    /// Fault matrix 47.
    #[test]
    fn a_value_of_another_kind_is_taken_or_named_but_never_shown() {
        let config =
            parse("topics = ['a']\nclient = { 'fetch.wait.max.ms' = 100, 'check.it' = true }").unwrap();
        assert_eq!(config.client.get("fetch.wait.max.ms"), Some("100"));
        assert_eq!(config.client.get("check.it"), Some("true"));
        for wrong in ["12.5", "['12.5']", "{ a = '12.5' }"] {
            let error =
                parse(&format!("topics = ['a']\nclient = {{ 'sasl.password' = {wrong} }}")).unwrap_err();
            assert!(
                !error.message().contains("12.5") && error.message().contains("a string"),
                "{}",
                error.message()
            );
        }
    }

    /// Fault matrix 47.
    #[test]
    fn values_of_client_settings_are_never_printed() {
        let config = parse("topics = ['a']\nclient = { 'sasl.password' = 'hunter2' }").unwrap();
        let debug = format!("{config:?}");
        assert!(debug.contains("sasl.password") && !debug.contains("hunter2"), "{debug}");
    }
}
