//! `cargo xtask bench growth`: Puddle alone, with more of one thing after another.

use std::path::Path;
use std::time::Duration;

use super::chart::{Panel, panels};
use super::contender::{self, Contender};
use super::install::Installed;
use super::result::{megabytes, thousands};
use super::run::{Outcome, Run};
use super::stats::Spread;
use super::synthetic::{self, Shape};
use super::topic::Topics;
use super::{Stage, Tested, command_line, machine, page};
use crate::tools::root;

/// The partitions of a topic, where something else grows.
const PARTITIONS: u32 = 8;
/// What a flight takes in a topic, on average; larger records are fewer, so that a topic takes as much as one of flights.
const FLIGHT_BYTES: u64 = 300;
/// The records of a long run.
const LONG: u64 = 50_000_000;

#[derive(clap::Args)]
pub(super) struct Args {
    /// How many records of 300 bytes a topic has; of larger ones it has fewer
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    records: u64,
    /// How often each point is measured; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only these: partitions, size, columns, commit, records
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    only: Vec<String>,
    /// Also read a topic of 50 million records (compressed by lz4, it takes about 5 GB)
    #[arg(long)]
    long: bool,
    #[command(flatten)]
    tested: Tested,
    /// Put tables and charts into docs/benchmarks.md
    #[arg(long)]
    write: bool,
}

/// Points along which one thing grows.
struct Series {
    name: &'static str,
    title: &'static str,
    /// What grows, as a column's title.
    of: &'static str,
    points: Vec<Point>,
}

struct Point {
    label: String,
    records: u64,
    partitions: u32,
    compression: &'static str,
    /// What the records are; flights where there is none.
    shape: Option<Shape>,
    /// Further arguments of `puddle run`.
    arguments: Vec<String>,
}

/// Medians at a point.
struct Figures {
    rate: f64,
    /// Bytes of JSON a second.
    bytes: f64,
    cpu: f64,
    memory: f64,
}

/// Measures every series, and prints its table.
pub(super) fn growth(args: &Args) -> anyhow::Result<()> {
    let series = all(args.records, args.long);
    for name in &args.only {
        let names: Vec<&str> = series.iter().map(|series| series.name).collect();
        anyhow::ensure!(
            names.contains(&&**name),
            "nothing grows by {name:?}; there are: {}",
            names.join(", ")
        );
    }
    let stage = Stage::build(&args.tested)?;
    let mut text = format!("{}\n\n```console\n$ {}\n```\n", machine::Machine::this(), command_line());
    for series in
        series.iter().filter(|s| args.only.is_empty() || args.only.iter().any(|name| name == s.name))
    {
        let mut figures = Vec::new();
        for point in &series.points {
            let measured = measure(&stage, point, args.runs)?;
            eprintln!("{} {:>8}: {}", series.name, point.label, row(&measured).join(", "));
            figures.push(measured);
        }
        let table = markdown(series, &figures);
        println!("## {}\n\n{table}\n", series.title);
        text += &format!("\n### {}\n\n![{0}](benchmarks/{}.svg)\n\n{table}\n", series.title, series.name);
        if args.write {
            let folder = root().join("docs/benchmarks");
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join(format!("{}.svg", series.name)), chart(series, &figures))?;
        }
    }
    if args.write {
        page::write("growth", &text)?;
    }
    Ok(())
}

fn all(records: u64, long: bool) -> Vec<Series> {
    let point = |label: String| Point {
        label,
        records,
        partitions: PARTITIONS,
        compression: "none",
        shape: None,
        arguments: Vec::new(),
    };
    let shaped = |label: String, shape: Shape| {
        let records = records.min(records * FLIGHT_BYTES / shape.bytes());
        Point { records, shape: Some(shape), ..point(label) }
    };
    let long = [1_000_000, 5_000_000].into_iter().chain(long.then_some(LONG));
    vec![
        Series {
            name: "partitions",
            title: "Partitions",
            of: "partitions",
            points: [1, 8, 64, 200]
                .map(|partitions| Point { partitions, ..point(partitions.to_string()) })
                .into(),
        },
        Series {
            name: "size",
            title: "Record size (four fields, one of them a long string)",
            of: "bytes",
            points: [100, 300, 1000, 10_000]
                .map(|bytes| shaped(thousands(bytes as f64), Shape::Size(bytes)))
                .into(),
        },
        Series {
            name: "columns",
            title: "Columns (integers, floats, strings and timestamps in turn)",
            of: "columns",
            points: [5, 20, 100].map(|columns| shaped(columns.to_string(), Shape::Columns(columns))).into(),
        },
        Series {
            name: "commit",
            title: "Records a commit",
            of: "commit.rows",
            points: [20_000, 100_000, 500_000, 2_000_000]
                .map(|rows: u64| Point {
                    arguments: ["--set".into(), format!("commit.rows={rows}")].into(),
                    ..point(thousands(rows as f64))
                })
                .into(),
        },
        Series {
            name: "records",
            title: "Records in all",
            of: "records",
            points: long
                .map(|records| Point { records, compression: "lz4", ..point(short(records as f64)) })
                .collect(),
        },
    ]
}

fn measure(stage: &Stage, point: &Point, runs: u32) -> anyhow::Result<Figures> {
    let mut topics = Topics::new(&stage.puddle, &stage.brokers, point.partitions, point.compression);
    let (topic, contender, bytes) = match &point.shape {
        None => {
            let folder = root().join(contender::FOLDER).join("puddle");
            (topics.flights(point.records)?, pipeline(&folder, &point.arguments)?, FLIGHT_BYTES as f64)
        }
        Some(shape) => {
            let folder = stage.folder.path().join("synthetic");
            std::fs::create_dir_all(&folder)?;
            let (rows, bytes) = synthetic::write(shape, &folder)?;
            let data = folder.join("records.ndjson");
            let topic = topics.filled("synthetic", &data, rows, point.records)?;
            (topic, pipeline(&folder, &point.arguments)?, bytes)
        }
    };
    let setting = stage.setting(point.partitions, Duration::from_secs(600));
    let nothing = Installed { python: None, jars: None };
    let mut all = Vec::new();
    for _ in 0..runs {
        let run = stage.run_unchecked(&setting, &contender, &nothing, &topic, point.records)?;
        if let Outcome::Failed(reason) = &run.outcome {
            anyhow::bail!("at {}: {reason}", point.label);
        }
        all.push(run);
    }
    topics.delete_all()?;
    let median = |value: fn(&Run) -> Option<f64>| {
        Spread::of(all.iter().filter_map(value)).map_or(0.0, |spread| spread.median)
    };
    let rate = median(Run::rate);
    Ok(Figures {
        rate,
        bytes: rate * bytes,
        cpu: median(Run::cpu_per_million),
        memory: median(|run| Some(run.peak_memory as f64)),
    })
}

/// Puddle, on the pipeline of a folder.
fn pipeline(folder: &Path, arguments: &[String]) -> anyhow::Result<Contender> {
    let mut puddle = contender::read(&root().join(contender::FOLDER).join("puddle"))?;
    puddle.command = vec!["sh".into(), "run.sh".into(), folder.display().to_string()];
    puddle.command.extend_from_slice(arguments);
    Ok(puddle)
}

fn markdown(series: &Series, figures: &[Figures]) -> String {
    let mut lines = vec![
        format!("| {} | records | records/s | MB/s | CPU s per M | memory |", series.of),
        "| ---: | ---: | ---: | ---: | ---: | ---: |".to_owned(),
    ];
    for (point, figures) in series.points.iter().zip(figures) {
        let [rate, bytes, cpu, memory] = row(figures);
        let records = thousands(point.records as f64);
        lines.push(format!("| {} | {records} | {rate} | {bytes} | {cpu} | {memory} |", point.label));
    }
    lines.join("\n")
}

fn row(figures: &Figures) -> [String; 4] {
    let Figures { rate, bytes, cpu, memory } = figures;
    [thousands(*rate), thousands(bytes / 1e6), format!("{cpu:.2}"), megabytes(*memory)]
}

fn chart(series: &Series, figures: &[Figures]) -> String {
    let labels: Vec<String> = series.points.iter().map(|point| point.label.clone()).collect();
    let panel = |title: &str, value: fn(&Figures) -> f64, show: fn(f64) -> String| Panel {
        title: title.into(),
        values: figures.iter().map(value).collect(),
        show,
    };
    let all = [
        panel("records/s", |f| f.rate, short),
        panel("CPU s per M records", |f| f.cpu, |cpu| format!("{cpu:.1}")),
        panel("memory, MB", |f| f.memory / 1e6, |megabytes| format!("{megabytes:.0}")),
    ];
    panels(series.title, &labels, &all)
}

/// `740 k`, `1.2 M`.
fn short(number: f64) -> String {
    match number {
        small if small < 1e3 => format!("{small:.0}"),
        thousands if thousands < 999_500.0 => format!("{:.0} k", thousands / 1e3),
        small if small < 10e6 => format!("{:.1} M", small / 1e6),
        millions => format!("{:.0} M", millions / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_records_are_fewer() {
        let size = all(2_000_000, false).into_iter().find(|series| series.name == "size").unwrap();
        let records: Vec<u64> = size.points.iter().map(|point| point.records).collect();
        assert_eq!(records, [2_000_000, 2_000_000, 600_000, 60_000]);
    }

    #[test]
    fn the_long_run_is_only_made_when_asked_for() {
        let points = |long| all(1000, long).iter().map(|series| series.points.len()).sum::<usize>();
        assert_eq!(points(true), points(false) + 1);
    }

    #[test]
    fn short_numbers() {
        assert_eq!(
            [7.0, 740_400.0, 999_900.0, 1_234_567.0, 50e6].map(short),
            ["7", "740 k", "1.0 M", "1.2 M", "50 M"]
        );
    }
}
