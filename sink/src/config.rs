//! The `[sink]` section of `pipeline.toml`.

use std::fmt;

use parquet::basic::ZstdLevel;
use serde::{Deserialize, Serialize};

use crate::{Error, hive};

/// Default [`compression`](SinkConfig::compression): a tenth less work than with zstd's own default, 3, for two percent
/// larger files.
pub const DEFAULT_COMPRESSION: i32 = 1;
/// Default [`row_group_rows`](SinkConfig::row_group_rows): DuckDB's own row group size; readers work in parallel on row groups.
pub const DEFAULT_ROW_GROUP_ROWS: usize = 122_880;
/// Default [`max_open_partitions`](SinkConfig::max_open_partitions): a quarter of the usual limit of 1,024 open files.
pub const DEFAULT_MAX_OPEN_PARTITIONS: usize = 256;
/// Default [`buffer_bytes`](SinkConfig::buffer_bytes): about a hundred thousand rows of 250 bytes.
pub const DEFAULT_BUFFER_BYTES: usize = 32 << 20;
/// The longest table name, in bytes: file names repeat it and must stay below 255.
pub const MAX_TABLE_NAME: usize = 128;
/// Most columns to partition by: each is a folder level, and a path may have 4,096 bytes.
pub const MAX_PARTITION_COLUMNS: usize = 8;
/// The ending that a table of rejected records has, after the name of its table.
pub const REJECTED_SUFFIX: &str = ".rejected";

/// Where rows go, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// The kind of table.
    #[serde(default)]
    pub kind: SinkKind,
    /// The table's name, a folder of the lake: letters, digits, `_`, `-` and `.`.
    pub table: String,
    /// The columns to partition by (string, integer, date or bool), outermost first. They stand in the path, not
    /// in the files.
    #[serde(default)]
    pub partition_by: Vec<String>,
    /// The zstd level, 1 (fast) to 22 (small). Default: [`DEFAULT_COMPRESSION`].
    #[serde(default = "default_compression")]
    pub compression: i32,
    /// Most rows of a row group. Default: [`DEFAULT_ROW_GROUP_ROWS`].
    #[serde(default = "default_row_group_rows")]
    pub row_group_rows: usize,
    /// Most partition values with an open file at a time; beyond it, the one that was not written to for longest is
    /// finished, and gets a second file if it is needed again. Default: [`DEFAULT_MAX_OPEN_PARTITIONS`].
    #[serde(default = "default_max_open_partitions")]
    pub max_open_partitions: usize,
    /// Most bytes of rows waiting in memory, over all partitions; beyond it, the partition with most is written as
    /// a row group. Default: [`DEFAULT_BUFFER_BYTES`].
    #[serde(default = "default_buffer_bytes")]
    pub buffer_bytes: usize,
    /// Whether a commit waits for the disk, so that it outlives a power cut. Without, it outlives only the end of
    /// the process. Default: true.
    #[serde(default = "default_durable")]
    pub durable: bool,
}

/// The kinds of table there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkKind {
    /// A folder of Parquet files with a commit log beside it.
    #[default]
    Parquet,
    /// A Delta Lake table.
    Delta,
}

impl SinkKind {
    /// Whether several runs of a pipeline may write a table of this kind at a time.
    pub fn allows_several_writers(self) -> bool {
        match self {
            Self::Parquet => false,
            Self::Delta => true,
        }
    }
}

impl fmt::Display for SinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parquet => "parquet",
            Self::Delta => "delta",
        })
    }
}

impl SinkConfig {
    /// The configuration of a Parquet table with every default.
    pub fn new(table: impl Into<String>) -> Self {
        Self {
            kind: SinkKind::default(),
            table: table.into(),
            partition_by: Vec::new(),
            compression: DEFAULT_COMPRESSION,
            row_group_rows: DEFAULT_ROW_GROUP_ROWS,
            max_open_partitions: DEFAULT_MAX_OPEN_PARTITIONS,
            buffer_bytes: DEFAULT_BUFFER_BYTES,
            durable: true,
        }
    }

    /// Checks every setting that can be checked without a schema or a disk.
    pub fn validate(&self) -> Result<(), Error> {
        let error = |key, reason: String| Err(Error::Config { key, reason });
        validate_table(&self.table)?;
        if self.compression < 1 || ZstdLevel::try_new(self.compression).is_err() {
            return error("compression", format!("{} is not a zstd level of 1 to 22", self.compression));
        }
        for (key, value) in [
            ("row_group_rows", self.row_group_rows),
            ("max_open_partitions", self.max_open_partitions),
            ("buffer_bytes", self.buffer_bytes),
        ] {
            if value == 0 {
                return error(key, "must be at least 1".to_owned());
            }
        }
        if self.partition_by.len() > MAX_PARTITION_COLUMNS {
            return error("partition_by", format!("at most {MAX_PARTITION_COLUMNS} columns are possible"));
        }
        for (position, column) in self.partition_by.iter().enumerate() {
            if self.partition_by[..position].contains(column) {
                return error("partition_by", format!("column {column:?} stands there twice"));
            }
            hive::check_column(column).map_err(|reason| Error::Config { key: "partition_by", reason })?;
        }
        Ok(())
    }
}

/// Checks a table's name: it becomes a folder's, so nothing in it may lead out of the lake or hide it.
pub fn validate_table(name: &str) -> Result<(), Error> {
    let reason = if name.is_empty() || name.len() > MAX_TABLE_NAME {
        format!("{name:?} must have 1 to {MAX_TABLE_NAME} characters")
    } else if let Some(odd) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "_-.".contains(*c))) {
        format!("{name:?} has a {odd:?}; only letters, digits, '_', '-' and '.' are allowed")
    } else if name.starts_with(['.', '-']) || name.ends_with('.') || name.contains("..") {
        format!("{name:?} may not begin with '.' or '-', end with '.', or contain '..'")
    } else if name.ends_with(REJECTED_SUFFIX) {
        format!("{name:?} ends with {REJECTED_SUFFIX:?}, which is kept for tables of rejected records")
    } else {
        return Ok(());
    };
    Err(Error::Config { key: "table", reason })
}

fn default_compression() -> i32 {
    DEFAULT_COMPRESSION
}

fn default_row_group_rows() -> usize {
    DEFAULT_ROW_GROUP_ROWS
}

fn default_max_open_partitions() -> usize {
    DEFAULT_MAX_OPEN_PARTITIONS
}

fn default_buffer_bytes() -> usize {
    DEFAULT_BUFFER_BYTES
}

fn default_durable() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<SinkConfig, String> {
        let config: SinkConfig = serde_json::from_str(json).map_err(|e| e.to_string())?;
        config.validate().map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn the_short_form_has_every_default() {
        assert_eq!(parse(r#"{"kind": "parquet", "table": "flights"}"#).unwrap(), SinkConfig::new("flights"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(
            parse(r#"{"table": "flights", "partitionby": ["month"]}"#).unwrap_err().contains("partitionby")
        );
    }

    #[test]
    fn names_that_leave_or_hide_the_folder_are_refused() {
        let long = "x".repeat(MAX_TABLE_NAME + 1);
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            ".hidden",
            "-r",
            "a..b",
            "a.",
            "tücke",
            "a b",
            "a\0",
            "x.rejected",
            &long,
        ] {
            let error = validate_table(name).expect_err(name);
            assert!(error.is_usage());
        }
        for name in ["flights", "a", "a.b-c_D9", "_x", &long[1..]] {
            validate_table(name).expect(name);
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (setting, key) in [
            (r#""compression": 0"#, "compression"),
            (r#""compression": 23"#, "compression"),
            (r#""row_group_rows": 0"#, "row_group_rows"),
            (r#""max_open_partitions": 0"#, "max_open_partitions"),
            (r#""buffer_bytes": 0"#, "buffer_bytes"),
            (r#""partition_by": ["a", "a"]"#, "partition_by"),
            (r#""partition_by": [""]"#, "partition_by"),
            (r#""partition_by": ["_topic"]"#, "partition_by"),
            (r#""partition_by": ["a","b","c","d","e","f","g","h","i"]"#, "partition_by"),
        ] {
            let error = parse(&format!(r#"{{"table": "t", {setting}}}"#)).expect_err(setting);
            assert!(error.starts_with(&format!("[sink] {key}: ")), "{error}");
        }
    }
}
