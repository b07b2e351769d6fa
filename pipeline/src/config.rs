//! A pipeline folder: `pipeline.toml`, the SQL beside it, overrides and secrets.
//!
//! ```text
//! pipeline.toml --text--> checked keys (errors with lines) --overrides, ${NAME}--> PipelineFile --paths--> Pipeline
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use puddle_ingest::IngestConfig;
use puddle_sink::SinkConfig;
use puddle_transform::{ReferenceConfig, TransformConfig};
use serde::Deserialize;

use crate::Error;

mod text;

/// The file that makes a folder a pipeline.
pub const PIPELINE_FILE: &str = "pipeline.toml";
/// The file in which an inferred schema is pinned.
pub const SCHEMA_FILE: &str = "schema.json";
/// Default of `commit.every`: short enough to watch, long enough for files of a useful size.
pub const DEFAULT_COMMIT_EVERY: Duration = Duration::from_secs(5);
/// Default of `commit.rows`: some 150 MB of JSON, 20 MB of Parquet.
pub const DEFAULT_COMMIT_ROWS: u64 = 500_000;

/// A pipeline that is ready to be prepared: everything read, every path resolved, nothing contacted yet.
#[derive(Debug)]
pub struct Pipeline {
    /// The pipeline's name; owns the table and names the consumer group.
    pub name: String,
    /// The folder it was read from.
    pub folder: PathBuf,
    /// What to read, and how to decode it.
    pub ingest: IngestConfig,
    /// The tables that the SQL may join: name and Parquet file.
    pub references: Vec<(String, PathBuf)>,
    /// The SQL; without any, every column is kept as it is.
    pub sql: Option<Sql>,
    /// Where the rows go.
    pub sink: SinkConfig,
    /// When an epoch ends.
    pub commit: CommitConfig,
}

/// SQL text and where it came from.
#[derive(Debug)]
pub struct Sql {
    /// The file, for error messages.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
}

/// `[commit]`: when an epoch ends, whichever comes first.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitConfig {
    /// Time since the first record of the epoch, as `5s`, `500ms` or `1m` ([`DEFAULT_COMMIT_EVERY`]).
    #[serde(default = "default_every", deserialize_with = "text::duration")]
    pub every: Duration,
    /// Records read in the epoch ([`DEFAULT_COMMIT_ROWS`]).
    #[serde(default = "default_rows")]
    pub rows: u64,
}

impl Default for CommitConfig {
    fn default() -> Self {
        Self { every: DEFAULT_COMMIT_EVERY, rows: DEFAULT_COMMIT_ROWS }
    }
}

fn default_every() -> Duration {
    DEFAULT_COMMIT_EVERY
}

fn default_rows() -> u64 {
    DEFAULT_COMMIT_ROWS
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PipelineFile {
    name: String,
    ingest: IngestConfig,
    #[serde(default)]
    reference: BTreeMap<String, ReferenceConfig>,
    #[serde(default)]
    transform: TransformConfig,
    sink: SinkConfig,
    #[serde(default)]
    commit: CommitConfig,
}

impl Pipeline {
    /// Reads the pipeline in `folder`.
    ///
    /// `overrides` are `key=value` with a dotted key and a TOML value, applied in order. A relative path in the
    /// file is looked for in the folder first, then in each of `roots`.
    pub fn load(folder: &Path, overrides: &[String], roots: &[PathBuf]) -> Result<Self, Error> {
        let file = folder.join(PIPELINE_FILE);
        if !file.is_file() {
            return Err(Error::NoPipeline { path: folder.to_owned(), nearest: siblings(folder) });
        }
        let text = read(&file)?;
        let mut parsed: PipelineFile = text::parse(&text, &file, overrides)?;
        let config = |message: String| Error::Config { place: file.display().to_string(), message };
        if !is_name(&parsed.name) {
            return Err(config(format!(
                "name = {:?}: use 1 to 100 letters, digits, `-` and `_`; it names the consumer group and owns the table",
                parsed.name
            )));
        }
        parsed.ingest.validate().map_err(|e| config(e.to_string()))?;
        if let Some(avro) = &mut parsed.ingest.avro {
            avro.schema = folder.join(&avro.schema);
        }
        parsed.sink.validate().map_err(|e| config(e.to_string()))?;
        if parsed.commit.rows == 0 || parsed.commit.every.is_zero() {
            return Err(config("commit.rows and commit.every must be above zero".into()));
        }
        let references = parsed
            .reference
            .into_iter()
            .map(|(name, reference)| {
                Ok((name.clone(), resolve(&name, &reference.path, folder, roots, &file)?))
            })
            .collect::<Result<_, Error>>()?;
        let sql = match parsed.transform.sql {
            Some(path) => {
                let file = folder.join(&path);
                if !file.is_file() {
                    return Err(config(format!("transform.sql = {path:?}: there is no {}", file.display())));
                }
                Some(Sql { text: read(&file)?, file })
            }
            None => None,
        };
        Ok(Self {
            name: parsed.name,
            folder: folder.to_owned(),
            ingest: parsed.ingest,
            references,
            sql,
            sink: parsed.sink,
            commit: parsed.commit,
        })
    }

    /// The table that the SQL reads FROM: the topic, or the pipeline's name when it reads several topics.
    pub fn stream_name(&self) -> &str {
        match self.ingest.topics.as_slice() {
            [topic] => topic,
            _ => &self.name,
        }
    }

    /// The consumer group: `ingest.group`, or `puddle-<name>`.
    pub fn group(&self) -> String {
        self.ingest.group.clone().unwrap_or_else(|| format!("puddle-{}", self.name))
    }

    /// The file that declares the pipeline.
    pub fn file(&self) -> PathBuf {
        self.folder.join(PIPELINE_FILE)
    }

    /// The file in which an inferred schema is pinned.
    pub fn schema_file(&self) -> PathBuf {
        self.folder.join(SCHEMA_FILE)
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn is_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The pipelines beside a folder that is none, as a hint.
fn siblings(folder: &Path) -> Vec<String> {
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("pipelines"),
    };
    let mut names: Vec<String> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join(PIPELINE_FILE).is_file())
        .map(|entry| entry.path().display().to_string())
        .collect();
    names.sort();
    names
}

fn resolve(name: &str, path: &Path, folder: &Path, roots: &[PathBuf], file: &Path) -> Result<PathBuf, Error> {
    std::iter::once(folder)
        .chain(roots.iter().map(PathBuf::as_path))
        .map(|root| root.join(path))
        .find(|p| p.is_file())
        .ok_or_else(|| Error::Config {
            place: file.display().to_string(),
            message: format!(
                "[reference.{name}] path = {:?}: no such file in {}",
                path.display().to_string(),
                std::iter::once(folder)
                    .chain(roots.iter().map(PathBuf::as_path))
                    .map(|root| root.display().to_string())
                    .collect::<Vec<_>>()
                    .join(" or ")
            ),
        })
}

#[cfg(test)]
mod tests;
