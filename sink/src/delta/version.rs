//! What one version of a table's log says, of what Puddle wrote into it.
//!
//! ```text
//! _delta_log/00000000000000000007.json
//!     commitInfo      ... "puddle": a sealed Stamp: the Commit as lake::history tells it; or
//!                     "puddleJoined": the sealed list of files that an upkeep made of others
//!     txn             app id puddle:<pipeline>:<topic>:<partition>, version: the next offset
//!     domainMetadata  puddle.<topic>.<partition>: a Mark; puddle.rejected: Rejected
//!     add             one for each file
//! ```

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::Path;

use puddle_types::{Fingerprint, Offset, TopicPartition};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::engine::version_path;
use crate::parquet::log::{Commit, DataFile, seal, unseal};
use crate::{Error, Retried, Span};

/// The field of `commitInfo` that holds a sealed [`Stamp`].
pub(super) const STAMP: &str = "puddle";
/// The field of `commitInfo` that holds the sealed list of files that were made of others, with their hashes.
pub(super) const JOINED: &str = "puddleJoined";
/// What the domains of Puddle begin with.
const DOMAIN: &str = "puddle.";
/// The domain of [`Rejected`].
pub(super) const REJECTED_DOMAIN: &str = "puddle.rejected";

/// A commit, and what tells it from every other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stamp {
    /// A UUID: a writer whose commit got no answer finds by it whether it took place.
    pub(super) id: String,
    /// The version before this one that added or took away files of rejected records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rejected_before: Option<u64>,
    pub(super) commit: Commit,
}

/// Where a partition goes on, and what became of its records so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    #[serde(flatten)]
    pub(super) partition: TopicPartition,
    pub(super) next: Offset,
    pub(super) last: Option<Fingerprint>,
    #[serde(flatten)]
    pub(super) totals: Retried,
}

/// The newest version that added or took away files of rejected records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rejected {
    pub(super) version: u64,
}

/// What a version says.
#[derive(Debug, Default)]
pub(super) struct Version {
    /// The commit, if it is one of a Puddle sink.
    pub(super) stamp: Option<Stamp>,
    /// Files that it made of others, without changing a row.
    pub(super) joined: Vec<DataFile>,
    /// Domains that it sets, with their content.
    pub(super) domains: Vec<(String, String)>,
}

impl Stamp {
    pub(super) fn seal(&self) -> String {
        sealed(self)
    }

    /// Whether files of rejected records come or go with it.
    pub(super) fn touches_rejected(&self) -> bool {
        !self.commit.removed.is_empty() || self.commit.files.iter().any(|file| file.rejected)
    }
}

impl Mark {
    pub(super) fn new(partition: TopicPartition) -> Self {
        Self { partition, next: 0, last: None, totals: Retried::default() }
    }

    pub(super) fn domain(&self) -> String {
        format!("{DOMAIN}{}.{}", self.partition.topic, self.partition.partition)
    }

    /// After one more span.
    pub(super) fn advance(&mut self, span: &Span) {
        self.next = span.next;
        self.last = span.last.or(self.last);
        self.totals.records += span.records;
        self.totals.written += span.written;
        self.totals.filtered += span.filtered;
        self.totals.rejected += span.rejected;
    }

    /// After rejected records were run again.
    pub(super) fn retry(&mut self, again: &Retried) {
        self.totals.written += again.written;
        self.totals.filtered += again.filtered;
        self.totals.rejected = (self.totals.rejected + again.rejected).saturating_sub(again.records);
    }
}

/// A value with its checksum, as one line without an end.
pub(super) fn sealed<T: Serialize>(value: &T) -> String {
    let mut line = seal(value);
    line.truncate(line.trim_end().len());
    line
}

/// Whether a domain is a partition's [`Mark`].
pub(super) fn is_mark(domain: &str) -> bool {
    domain.starts_with(DOMAIN) && domain != REJECTED_DOMAIN
}

/// Reads a version; `None` if there is none of that number.
pub(super) fn read(log: &Path, number: u64) -> Result<Option<Version>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Action {
        commit_info: Option<Info>,
        domain_metadata: Option<Domain>,
        add: Option<IgnoredAny>,
        txn: Option<IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Info {
        #[serde(rename = "puddle")]
        stamp: Option<String>,
        #[serde(rename = "puddleJoined")]
        joined: Option<String>,
    }
    #[derive(Deserialize)]
    struct Domain {
        domain: String,
        configuration: String,
    }

    let path = version_path(log, number);
    let file = match std::fs::File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(Error::io("read", &path))?,
    };
    let mut version = Version::default();
    let (mut lines, mut adds, mut txns) = (0, 0, 0);
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|error| match error.kind() {
            ErrorKind::InvalidData => Error::corrupt(&path, "it is torn or not a version of a Delta log"),
            _ => Error::io("read", &path)(error),
        })?;
        if line.trim().is_empty() {
            continue;
        }
        lines += 1;
        let action: Action = serde_json::from_str(&line).map_err(|error| {
            Error::corrupt(&path, format!("it is torn or not a version of a Delta log ({error})"))
        })?;
        if let Some(info) = action.commit_info {
            let corrupt = |reason| Error::corrupt(&path, reason);
            version.stamp = info.stamp.map(|sealed| stamp(&sealed, number)).transpose().map_err(corrupt)?;
            let joined = info.joined.map(|sealed| unseal(sealed.as_bytes())).transpose();
            version.joined = joined.map_err(corrupt)?.unwrap_or_default();
        }
        if let Some(domain) = action.domain_metadata {
            version.domains.push((domain.domain, domain.configuration));
        }
        adds += usize::from(action.add.is_some());
        txns += usize::from(action.txn.is_some());
    }
    if lines == 0 {
        return Err(Error::corrupt(&path, "it is empty"));
    }
    if let Some(Stamp { commit, .. }) = &version.stamp {
        let files = commit.files.iter().filter(|file| !file.rejected).count();
        if (adds, txns) != (files, commit.partitions.len()) {
            return Err(Error::corrupt(&path, "it lost some of its lines"));
        }
    }
    Ok(Some(version))
}

fn stamp(sealed: &str, number: u64) -> Result<Stamp, String> {
    let stamp: Stamp = unseal(sealed.as_bytes())?;
    let commit = &stamp.commit;
    if commit.epoch != number {
        return Err(format!("it holds the commit of version {}", commit.epoch));
    }
    if stamp.rejected_before.is_some_and(|before| before >= number) {
        return Err("it names a version before it that comes after it".to_owned());
    }
    Ok(stamp)
}
