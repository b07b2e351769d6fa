//! What can go wrong, in words for the person who wrote the SQL.

use std::path::PathBuf;

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

/// Why SQL could not be planned, a table not be read, or a batch not be transformed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The SQL asks for something that is not there or not allowed. Found before any record is read.
    #[error("{at}: {what}{}{help}", if help.is_empty() { "" } else { "\n" })]
    Sql {
        /// Which kind of mistake it is.
        problem: Problem,
        /// Where: the SQL's file name, and line and column (both from 1) if known.
        at: String,
        /// What is wrong, in one line.
        what: String,
        /// What to do about it, in one line; may be empty.
        help: String,
    },
    /// A reference table cannot be used.
    #[error("reference {name:?} ({}): {what}", path.display())]
    Reference {
        /// Its name in the SQL.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// True when the configuration is wrong, false when the file cannot be read.
        usage: bool,
    },
    /// A file of a table cannot be read.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// A column of Arrow data has a type that Polars does not have.
    #[error("column {column:?} has the type {dtype}, which SQL cannot use here")]
    ColumnType {
        /// The column.
        column: String,
        /// Its Arrow type.
        dtype: String,
    },
    /// The SQL is right but failed on the values of a batch, as a strict cast does.
    #[error("the SQL failed on a record: {0}")]
    Data(String),
    /// A batch does not have the schema that the SQL was planned for.
    #[error("a batch does not have the planned columns: {0}")]
    Schema(String),
    /// The engine failed in a way that is neither the SQL's nor the data's fault.
    #[error("the SQL engine failed: {0}")]
    Engine(String),
    /// Arrow data could not cross to or from Polars.
    #[error("handing Arrow data over failed")]
    Arrow(#[from] ArrowError),
    /// A Parquet file could not be decoded.
    #[error("decoding Parquet failed")]
    Parquet(#[from] ParquetError),
}

/// The kinds of [`Error::Sql`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// It is not SQL.
    Syntax,
    /// No such table.
    UnknownTable,
    /// No such column or struct field.
    UnknownColumn,
    /// No such function.
    UnknownFunction,
    /// The types do not fit, or a column of the result has a type that a table cannot hold.
    Types,
    /// Its answer would depend on where an epoch is cut, or a record could become several rows.
    NotRowWise,
    /// SQL that Polars does not support.
    Unsupported,
}

impl Error {
    /// True when what was asked for is wrong (exit code 2), false when it failed (exit code 1).
    pub fn is_usage(&self) -> bool {
        match self {
            Error::Sql { .. } => true,
            Error::Reference { usage, .. } => *usage,
            _ => false,
        }
    }
}
