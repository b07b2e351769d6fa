//! Contenders: a folder each, `xtask/bench/contenders/NAME/`, with a `contender.toml` that says what it needs.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::tools::root;

/// Where the contenders are, relative to the workspace.
pub(super) const FOLDER: &str = "xtask/bench/contenders";

/// What `contender.toml` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contender {
    /// The folder's name.
    #[serde(skip)]
    pub(super) name: String,
    /// The folder.
    #[serde(skip)]
    pub(super) folder: PathBuf,
    /// As shown.
    pub(super) title: String,
    pub(super) kind: Kind,
    /// Its place in the table; lower is higher.
    #[serde(default)]
    pub(super) order: i32,
    /// What pip installs into its environment.
    #[serde(default)]
    pub(super) python: Vec<String>,
    /// A Maven project in the folder, whose runtime dependencies it gets.
    pub(super) pom: Option<PathBuf>,
    /// The program and its arguments.
    #[serde(default)]
    pub(super) command: Vec<String>,
    /// What is measured, with versions.
    #[serde(default)]
    pub(super) versions: Versions,
    /// Where its work differs.
    #[serde(default)]
    pub(super) notes: Vec<String>,
    /// It reads a topic of at most so many records: it is slow.
    pub(super) records: Option<u64>,
    /// Why it cannot be had; then it is only named.
    pub(super) missing: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// What nobody who reads through librdkafka can be faster than. It writes nothing.
    Limit,
    Puddle,
    /// Written by hand for this job.
    Script,
    /// A product.
    Packaged,
}

/// One text, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Versions {
    One(String),
    Several(Vec<String>),
}

impl Default for Versions {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(text) => f.write_str(text),
            Self::Several(texts) => f.write_str(&texts.join(", ")),
        }
    }
}

/// All contenders in the table's order, or only those of these names.
///
/// # Errors
/// When a `contender.toml` cannot be read, or there is no contender of a name.
pub(super) fn all(only: &[String]) -> anyhow::Result<Vec<Contender>> {
    let folder = root().join(FOLDER);
    let mut contenders = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let folder = entry?.path();
        // A folder that has only what Python left there is no contender.
        if folder.join("contender.toml").is_file() {
            contenders.push(read(&folder)?);
        }
    }
    for name in only {
        let known = || contenders.iter().map(|c| &*c.name).collect::<Vec<_>>().join(", ");
        ensure!(
            contenders.iter().any(|c| c.name == *name),
            "there is no contender {name:?}; there are: {}",
            known()
        );
    }
    contenders.retain(|contender| only.is_empty() || only.contains(&contender.name));
    contenders.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
    Ok(contenders)
}

/// The contender of a folder.
pub(super) fn read(folder: &Path) -> anyhow::Result<Contender> {
    let path = folder.join("contender.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut contender = parse(&text).with_context(|| format!("cannot use {}", path.display()))?;
    contender.name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    contender.folder = folder.to_owned();
    Ok(contender)
}

fn parse(text: &str) -> anyhow::Result<Contender> {
    let contender: Contender = toml::from_str(text)?;
    ensure!(
        contender.missing.is_some() == contender.command.is_empty(),
        "it has either a `command`, or a reason why it is `missing`"
    );
    Ok(contender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contenders_of_this_checkout_can_be_read() {
        let names: Vec<String> = all(&[]).unwrap().into_iter().map(|contender| contender.name).collect();
        for name in ["limit", "puddle", "puddle-delta", "python"] {
            assert!(names.iter().any(|known| known == name), "{name}: {names:?}");
        }
        assert_eq!(all(&["python".into(), "limit".into()]).unwrap()[0].name, "limit", "the table's order");
        assert!(all(&["nobody".into()]).unwrap_err().to_string().contains("python"));
    }

    #[test]
    fn a_contender_has_a_command_or_a_reason() {
        let read = |more: &str| parse(&format!("title = \"X\"\nkind = \"packaged\"\n{more}"));
        let some = read("command = [\"python\", \"run.py\"]\nversions = [\"a 1\", \"b 2\"]").unwrap();
        assert_eq!((some.versions.to_string(), some.order), ("a 1, b 2".to_owned(), 0));
        assert_eq!(read("missing = \"no wheel\"\nversions = \"a 1\"").unwrap().versions.to_string(), "a 1");
        for wrong in ["", "missing = \"no\"\ncommand = [\"x\"]", "command = [\"x\"]\ncomand = 1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
