//! What `pipeline.toml` says of the transform.

use std::path::PathBuf;

use serde::Deserialize;

/// The section `[transform]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformConfig {
    /// File with the SQL, relative to the pipeline's folder. Without one, records are written as they come.
    pub sql: Option<PathBuf>,
}

/// One section `[reference.NAME]`: a table that the SQL may join under that name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceConfig {
    /// A Parquet file, or a CSV file with a header line (its types are inferred).
    pub path: PathBuf,
}
