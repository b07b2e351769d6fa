//! Data sets: a table of a folder under `data/`, by name, or a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use crate::output::Usage;
use crate::places;

/// What is to be replayed, and how it likes to be.
#[derive(Clone, Debug)]
pub(crate) struct DatasetChoice {
    pub(crate) path: PathBuf,
    pub(crate) topic: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) event_time: Option<String>,
}

/// `dataset.toml` in a folder under `data/`.
#[derive(Deserialize)]
struct Manifest {
    tables: BTreeMap<String, Table>,
}

#[derive(Deserialize)]
struct Table {
    file: PathBuf,
    topic: String,
    key: Option<String>,
    event_time: Option<String>,
}

/// Finds `flights`, `nycflights13/flights`, or a file.
pub(crate) fn find(given: &str) -> anyhow::Result<DatasetChoice> {
    let path = Path::new(given);
    if path.is_file() {
        let topic = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        return Ok(DatasetChoice { path: path.to_owned(), topic, key: None, event_time: None });
    }
    let (folder, name) = match given.split_once('/') {
        Some((folder, name)) => (Some(folder), name),
        None => (None, given),
    };
    let mut known = Vec::new();
    for (dir, manifest) in manifests()? {
        let dataset = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for (table, entry) in manifest.tables {
            if table == name && folder.is_none_or(|folder| folder == dataset) {
                return Ok(DatasetChoice {
                    path: dir.join(entry.file),
                    topic: Some(entry.topic),
                    key: entry.key,
                    event_time: entry.event_time,
                });
            }
            known.push(format!("{dataset}/{table}"));
        }
    }
    let known = if known.is_empty() {
        "no data sets here".into()
    } else {
        format!("data sets here: {}", known.join(", "))
    };
    Err(Usage(format!(
        "there is no data set or file {given:?}; {known}; a file may be .parquet, .csv or .ndjson"
    ))
    .into())
}

/// The manifests of the nearest `data/` folder that has any.
fn manifests() -> anyhow::Result<Vec<(PathBuf, Manifest)>> {
    for root in places::roots() {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(root.join("data")).into_iter().flatten().flatten() {
            let file = entry.path().join("dataset.toml");
            if let Ok(text) = std::fs::read_to_string(&file) {
                let manifest =
                    toml::from_str(&text).with_context(|| format!("cannot read {}", file.display()))?;
                found.push((entry.path(), manifest));
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}
