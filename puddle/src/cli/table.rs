//! The arguments of `puddle table`.

use clap::{Args, Subcommand};

use super::LakeArgs;

#[derive(Args, Debug)]
pub(crate) struct Table {
    #[command(subcommand)]
    pub(crate) action: TableAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TableAction {
    /// The lake's tables: kind, files, rows, size, newest commit
    #[command(after_help = "Example:  puddle table list --json")]
    List {
        #[command(flatten)]
        lake: LakeArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One table and its columns
    #[command(after_help = "Example:  puddle table show flights")]
    Show {
        /// Its name
        table: String,
        #[command(flatten)]
        lake: LakeArgs,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Join small files of a Delta table, while pipelines may write to it
    #[command(
        after_help = "Example:  puddle table optimize flights\nThe rows stay as they are. The old files stay too, for readers of older versions, until a vacuum."
    )]
    Optimize(TableOptimize),
    /// Delete files that a Delta table has no more use for
    #[command(
        after_help = "Examples:\n  puddle table vacuum flights --dry-run\n  puddle table vacuum flights --older-than 30d\nVersions of the table that need a deleted file can no longer be read."
    )]
    Vacuum(TableVacuum),
}

#[derive(Args, Debug)]
pub(crate) struct TableOptimize {
    /// The table's name
    pub(crate) table: String,
    #[command(flatten)]
    pub(crate) lake: LakeArgs,
    /// How big the joined files may be, in MiB
    #[arg(long = "target", default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..1 << 20), value_name = "MIB")]
    pub(crate) target_mib: u64,
    /// Print the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct TableVacuum {
    /// The table's name
    pub(crate) table: String,
    #[command(flatten)]
    pub(crate) lake: LakeArgs,
    /// Keep files that were removed or written more recently, as in 30d or 12h; the table's own retention (7d) by default
    #[arg(long, value_name = "AGE")]
    pub(crate) older_than: Option<humantime::Duration>,
    /// Allow less than the table's retention, though readers of older versions may fail
    #[arg(long)]
    pub(crate) force: bool,
    /// Only list what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
