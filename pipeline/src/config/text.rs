//! From the text of `pipeline.toml` to values: places of errors, overrides, secrets.

use std::path::Path;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use crate::Error;

/// Parses `text` after applying `overrides` and replacing `${NAME}` from the environment.
///
/// The text is checked as it stands first, since only then does an error have a line.
pub(super) fn parse<T: DeserializeOwned>(text: &str, file: &Path, overrides: &[String]) -> Result<T, Error> {
    let place = |e: &toml::de::Error| match e.span() {
        Some(span) => format!("{}, line {}", file.display(), line_of(text, span.start)),
        None => file.display().to_string(),
    };
    let config = |e: toml::de::Error| Error::Config { place: place(&e), message: explain(e.message()) };
    let mut table: Table = toml::from_str(text).map_err(config)?;
    if overrides.is_empty() {
        toml::from_str::<T>(text).map_err(config)?;
    }
    for text in overrides {
        apply(&mut table, text)?;
    }
    let told = || match overrides {
        [] => file.display().to_string(),
        _ => overrides
            .iter()
            .fold(file.display().to_string(), |told, text| format!("{told} with {}", shown(text))),
    };
    let mut value = Value::Table(table);
    T::deserialize(value.clone())
        .map_err(|e| Error::Config { place: told(), message: hide(&explain(e.message()), overrides) })?;
    substitute(&mut value, "", &|name| std::env::var(name).ok())
        .map_err(|message| Error::Config { place: told(), message })?;
    // Everything fitted before the substitution; serde's message could show what came out of the environment.
    T::deserialize(value).map_err(|_| Error::Config {
        place: told(),
        message: "a value that ${NAME} brought in does not fit its key".into(),
    })
}

/// Reads a duration such as `5s`, `500ms` or `1m`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|_| {
        D::Error::custom(format!("{text:?} is not a duration: write \"5s\", \"500ms\" or \"1m\""))
    })
}

fn line_of(text: &str, position: usize) -> usize {
    text[..position.min(text.len())].matches('\n').count() + 1
}

/// Adds the nearest known name to serde's "unknown field" and "unknown variant".
fn explain(message: &str) -> String {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    match names.split_first() {
        Some((wrong, known)) if unknown => {
            let what = if message.starts_with("unknown field") { "key" } else { "value" };
            match nearest(wrong, known) {
                Some(near) => format!("unknown {what} `{wrong}`; did you mean `{near}`?"),
                None => format!("unknown {what} `{wrong}`; known are: {}", known.join(", ")),
            }
        }
        _ => message.to_owned(),
    }
}

fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), *name))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Applies one `a.b.c=value`, as TOML has it. A value that is not TOML is taken as a string, so that quotes are not
/// needed.
fn apply(table: &mut Table, text: &str) -> Result<(), Error> {
    let wrong = |message: String| Error::Config { place: shown(text), message };
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| wrong("write --set key=value, as in --set commit.every=1s".into()))?;
    let quoted = Value::String(value.to_owned());
    let parsed = toml::from_str::<Table>(text).or_else(|_| toml::from_str(&format!("{key} = {quoted}")));
    merge(table, parsed.map_err(|e| wrong(e.message().to_owned()))?).map_err(wrong)
}

/// An override as errors may show it: without the value where that may be a secret.
fn shown(text: &str) -> String {
    match secret(text) {
        Some((key, _)) => format!("--set {key}=..."),
        None => format!("--set {text}"),
    }
}

/// Key and value of an override that may set a client setting.
fn secret(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').filter(|(key, _)| {
        ["client", "registry"].iter().any(|table| key.contains(table)) || key.trim() == "ingest"
    })
}

/// Takes the values of such overrides out of a message, which quotes what it cannot use.
fn hide(message: &str, overrides: &[String]) -> String {
    overrides
        .iter()
        .filter_map(|text| secret(text))
        .fold(message.to_owned(), |message, (_, value)| message.replace(&format!("{value:?}"), "..."))
}

/// Puts the values of `from` into `into`, table by table.
fn merge(into: &mut Table, from: Table) -> Result<(), String> {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from)?,
            (Some(Value::Table(_)), _) => return Err(format!("`{key}` is a table, not a value")),
            (Some(_), Value::Table(_)) => return Err(format!("`{key}` is a value, not a table")),
            (_, value) => _ = into.insert(key, value),
        }
    }
    Ok(())
}

/// Replaces `${NAME}` in every string. An unset name is an error that names the key, never the value.
fn substitute(value: &mut Value, key: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            let mut out = String::with_capacity(text.len());
            let mut rest = text.as_str();
            while let Some(start) = rest.find("${") {
                let end =
                    rest[start..].find('}').ok_or_else(|| format!("{key}: `${{` without `}}`"))? + start;
                let name = &rest[start + 2..end];
                out.push_str(&rest[..start]);
                out.push_str(&lookup(name).ok_or_else(|| {
                    format!(
                        "{key} needs the environment variable {name}, which is not set: export {name}=..."
                    )
                })?);
                rest = &rest[end + 1..];
            }
            out.push_str(rest);
            *text = out;
            Ok(())
        }
        Value::Array(values) => values.iter_mut().try_for_each(|value| substitute(value, key, lookup)),
        Value::Table(table) => table.iter_mut().try_for_each(|(name, value)| {
            let key = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
            substitute(value, &key, lookup)
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_the_environment_and_a_missing_one_is_named() {
        let mut value: Value = toml::from_str::<Table>("[a]\nb = ['x-${TOKEN}-y']").unwrap().into();
        substitute(&mut value, "", &|name| (name == "TOKEN").then(|| "s3cret".into())).unwrap();
        assert_eq!(value["a"]["b"][0].as_str(), Some("x-s3cret-y"));

        let mut value: Value = toml::from_str::<Table>("[a]\nb = '${TOKEN}'").unwrap().into();
        let error = substitute(&mut value, "", &|_| None).unwrap_err();
        assert!(error.contains("a.b needs the environment variable TOKEN"), "{error}");
    }

    #[test]
    fn an_override_reaches_a_nested_key_and_needs_no_quotes() {
        let mut table: Table = toml::from_str("[commit]\nrows = 5").unwrap();
        apply(&mut table, "commit.rows=7").unwrap();
        apply(&mut table, "commit.every=1s").unwrap();
        apply(&mut table, "ingest.topics=[\"a\"]").unwrap();
        assert_eq!(table["commit"]["rows"].as_integer(), Some(7));
        assert_eq!(table["commit"]["every"].as_str(), Some("1s"));
        assert_eq!(table["ingest"]["topics"][0].as_str(), Some("a"));
        apply(&mut table, "ingest.client.\"fetch.min.bytes\"=5").unwrap();
        assert_eq!(table["ingest"]["client"]["fetch.min.bytes"].as_integer(), Some(5));
        assert!(apply(&mut table, "commit.rows.x=1").is_err());
        assert!(apply(&mut table, "commit=1").is_err());
        assert!(apply(&mut table, "commit").is_err());
    }

    /// Fault matrix 47.
    #[test]
    fn an_override_that_may_hold_a_secret_is_shown_without_its_value() {
        assert_eq!(shown("commit.rowz=7"), "--set commit.rowz=7");
        for key in ["ingest.client.\"sasl.password\"", "ingest.client", "ingest"] {
            assert_eq!(shown(&format!("{key}=hunter2=")), format!("--set {key}=..."));
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        assert_eq!(
            explain("unknown field `evry`, expected `every` or `rows`"),
            "unknown key `evry`; did you mean `every`?"
        );
        assert_eq!(
            explain("unknown field `zzz`, expected `every` or `rows`"),
            "unknown key `zzz`; known are: every, rows"
        );
    }
}
