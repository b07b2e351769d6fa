//! `puddle query`: asks the lake in SQL.

use crate::cli::{self, QueryFormat};
use crate::output;

/// Answers one question from whole epochs of the lake's tables.
pub(crate) fn query(args: cli::Query) -> anyhow::Result<()> {
    let rows = tokio::task::block_in_place(|| puddle_pipeline::ask(&args.lake.lake, &args.sql))?;
    output::print_rows(&rows, if args.json { QueryFormat::Json } else { args.format })
}
