//! `puddle table`: what tables there are, and the upkeep of Delta tables.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use puddle_sink::delta::{optimize, vacuum};
use puddle_sink::lake;
use puddle_sink::storage::{LocalStorage, Storage};
use serde_json::{Value, json};

use super::blocking;
use crate::cli::{self, TableAction};
use crate::output::{self, Progress, aligned, bytes, count};

/// Lists tables, shows one, or looks after one.
pub(crate) async fn table(args: cli::Table) -> anyhow::Result<()> {
    match args.action {
        TableAction::List { lake, json } => list(&lake.lake, json),
        TableAction::Show { table, lake, json } => show(&lake.lake, &table, json),
        TableAction::Optimize(args) => optimize_table(args).await,
        TableAction::Vacuum(args) => vacuum_table(args).await,
    }
}

fn list(lake: &Path, json: bool) -> anyhow::Result<()> {
    let tables = lake::tables(lake)?;
    if json {
        return output::print_json(&tables.iter().map(|table| as_json(lake, table)).collect::<Vec<_>>());
    }
    if tables.is_empty() {
        return output::print(&format!("no tables in {}; make some with: puddle demo\n", lake.display()));
    }
    let mut rows = vec![["table", "kind", "files", "rows", "size", "commit"].map(str::to_owned)];
    rows.extend(tables.iter().map(|table| {
        let files = count(table.files.len() as u64);
        let kind = kind(lake, &table.name).to_owned();
        [table.name.clone(), kind, files, count(table.rows), bytes(table.bytes), table.epoch.to_string()]
    }));
    output::print(&aligned(&rows))
}

fn show(lake: &Path, name: &str, json: bool) -> anyhow::Result<()> {
    let table = lake::table(lake, name)?;
    if json {
        return output::print_json(&as_json(lake, &table));
    }
    let mut text = format!(
        "{}: {} table in {}, commit {}, {} rows in {} files ({})\n",
        table.name,
        kind(lake, name),
        table.root.display(),
        table.epoch,
        count(table.rows),
        count(table.files.len() as u64),
        bytes(table.bytes)
    );
    let mut rows = vec![["column", "type", "null", "in the path"].map(str::to_owned)];
    rows.extend(table.schema.fields().iter().map(|field| {
        let mark = |is| if is { "yes" } else { "" }.to_owned();
        let in_path = table.partition_by.iter().any(|column| column.name() == field.name());
        [field.name().clone(), field.data_type().to_string(), mark(field.is_nullable()), mark(in_path)]
    }));
    text.push_str(&aligned(&rows));
    output::print(&text)
}

fn as_json(lake: &Path, table: &lake::Table) -> Value {
    let columns: Vec<Value> = table
        .schema
        .fields()
        .iter()
        .map(|field| {
            json!({"name": field.name(), "type": field.data_type().to_string(), "nullable": field.is_nullable()})
        })
        .collect();
    json!({
        "table": table.name,
        "kind": kind(lake, &table.name),
        "folder": table.root,
        "files": table.files.len(),
        "rows": table.rows,
        "bytes": table.bytes,
        "commit": table.epoch,
        "partition_by": table.partition_by.iter().map(|field| field.name()).collect::<Vec<_>>(),
        "columns": columns,
    })
}

/// Rejected records are plain Parquet, whatever their table is.
fn kind(lake: &Path, table: &str) -> &'static str {
    // A name with their ending is none of a table, and so an error here.
    if lake::is_delta(lake, table).unwrap_or(false) { "delta" } else { "parquet" }
}

async fn optimize_table(args: cli::TableOptimize) -> anyhow::Result<()> {
    let options = optimize::Options { target_bytes: args.target_mib << 20, ..optimize::Options::default() };
    let (lake, table) = (args.lake.lake, args.table.clone());
    let report = with_progress(format!("optimizing {table}"), "bytes", move |progress| {
        optimize::optimize(&lake, &table, &options, storage(), progress)
    });
    let report = report.await?;
    if args.json {
        return output::print_json(&json!({
            "table": args.table,
            "version": report.version,
            "commits": report.commits,
            "partitions": report.partitions,
            "files_removed": report.files_removed,
            "bytes_removed": report.bytes_removed,
            "files_added": report.files_added,
            "bytes_added": report.bytes_added,
            "rows": report.rows,
            "left_alone": report.left_alone,
        }));
    }
    let mut text = if report.files_removed == 0 {
        format!("{}: nothing to join in version {}\n", args.table, report.version)
    } else {
        format!(
            "{}: {} files ({}) joined into {} ({}), {} rows in {} partitions; version {}\n",
            args.table,
            count(report.files_removed),
            bytes(report.bytes_removed),
            count(report.files_added),
            bytes(report.bytes_added),
            count(report.rows),
            count(report.partitions),
            report.version
        )
    };
    if report.left_alone > 0 {
        let _ = writeln!(
            text,
            "  {} files were left alone, since another writer changed them meanwhile; run this again",
            count(report.left_alone)
        );
    }
    output::print(&text)
}

async fn vacuum_table(args: cli::TableVacuum) -> anyhow::Result<()> {
    let options = vacuum::Options {
        older_than: args.older_than.map(Into::into),
        force: args.force,
        dry_run: args.dry_run,
    };
    let (lake, table) = (args.lake.lake, args.table.clone());
    let report = with_progress(format!("vacuuming {table}"), "files", move |progress| {
        vacuum::vacuum(&lake, &table, &options, &*storage(), progress)
    });
    let report = report.await?;
    if args.json {
        let files = report.files.iter().map(|file| {
            json!({"path": file.path, "bytes": file.bytes, "committed": file.removed, "since": file.since})
        });
        return output::print_json(&json!({
            "table": args.table,
            "version": report.version,
            "older_than_seconds": report.older_than.as_secs(),
            "dry_run": args.dry_run,
            "files": files.collect::<Vec<_>>(),
            "bytes": report.bytes,
            "too_young": report.young,
        }));
    }
    let mut text = String::new();
    if args.dry_run {
        for file in &report.files {
            let _ = writeln!(text, "{}", file.path.display());
        }
    }
    let verb = if args.dry_run { "would be deleted" } else { "deleted" };
    let _ = writeln!(
        text,
        "{}: {} files ({}) {verb}, {} more are younger than {}; version {} needs none of them",
        args.table,
        count(report.files.len() as u64),
        bytes(report.bytes),
        count(report.young),
        humantime::format_duration(report.older_than),
        report.version
    );
    output::print(&text)
}

/// Does blocking work that tells how far it is, with progress on standard error.
async fn with_progress<T: Send + 'static>(
    title: String,
    unit: &'static str,
    work: impl FnOnce(&mut dyn FnMut(u64, u64)) -> T + Send + 'static,
) -> T {
    let (done, whole) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let told = (done.clone(), whole.clone());
    let progress = Progress {
        title,
        unit,
        note: || None,
        state: move || (done.load(Ordering::Relaxed), Some(whole.load(Ordering::Relaxed))),
    };
    let work = blocking(move || {
        work(&mut |done, whole| {
            told.0.store(done, Ordering::Relaxed);
            told.1.store(whole, Ordering::Relaxed);
        })
    });
    progress.show(work).await
}

fn storage() -> Arc<dyn Storage> {
    Arc::new(LocalStorage { durable: true })
}
