//! Records of other shapes than the flights, and the pipeline that lands them: every field a column, nothing else.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Context;

/// A file has about so many bytes; the topic repeats it.
const FILE_BYTES: u64 = 8 << 20;

/// What the records look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Four fields, of which a string fills so many bytes in all.
    Size(u64),
    /// So many fields of some bytes each.
    Columns(u64),
}

impl Shape {
    /// About how many bytes a record has.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Size(bytes) => bytes,
            Self::Columns(columns) => 2 + 19 * columns,
        }
    }

    fn fields(self) -> Vec<(String, Kind)> {
        match self {
            Self::Size(_) => {
                let kinds = [Kind::Integer, Kind::Float, Kind::Time];
                let fields = ["id", "amount", "at"].map(str::to_owned).into_iter().zip(kinds);
                fields.chain([("payload".to_owned(), Kind::Text)]).collect()
            }
            Self::Columns(columns) => {
                let kinds = [Kind::Integer, Kind::Float, Kind::Text, Kind::Integer, Kind::Time];
                (0..columns).map(|i| (format!("c{i}"), kinds[i as usize % kinds.len()])).collect()
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Integer,
    Float,
    Text,
    Time,
}

/// Writes `records.ndjson`, `pipeline.toml` and `transform.sql` into a folder. Returns the number of records, and their
/// bytes on average.
pub(super) fn write(shape: &Shape, folder: &Path) -> anyhow::Result<(u64, f64)> {
    let path = folder.join("records.ndjson");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut file = BufWriter::new(file);
    let fields = shape.fields();
    let (mut random, mut rows, mut bytes) = (Random(1), 0, 0);
    while bytes < FILE_BYTES {
        let line = record(shape, &fields, &mut random);
        writeln!(file, "{line}")?;
        rows += 1;
        bytes += line.len() as u64;
    }
    file.flush()?;
    std::fs::write(folder.join("pipeline.toml"), pipeline(&fields))?;
    // The table's name is replaced by the topic's.
    std::fs::write(
        folder.join("transform.sql"),
        format!("SELECT {} FROM flights\n", names(&fields).join(", ")),
    )?;
    Ok((rows, bytes as f64 / rows as f64))
}

fn record(shape: &Shape, fields: &[(String, Kind)], random: &mut Random) -> String {
    let mut line = String::new();
    for (name, kind) in fields {
        let before = if line.is_empty() { '{' } else { ',' };
        let _ = write!(line, "{before}\"{name}\":");
        let number = random.next();
        let _ = match kind {
            Kind::Integer => write!(line, "{}", number % 10_000_000),
            Kind::Float => write!(line, "{}.{}", number % 10_000, number / 16 % 100),
            Kind::Time => {
                let (day, hour, second) = (number % 28 + 1, number / 32 % 24, number / 1024 % 60);
                write!(line, "\"2024-05-{day:02}T{hour:02}:00:{second:02}Z\"")
            }
            Kind::Text => {
                // The last field of its record, and all of the size that is left; else a word.
                let length = match shape {
                    Shape::Size(bytes) => bytes.saturating_sub(line.len() as u64 + 3),
                    Shape::Columns(_) => 6 + number % 6,
                };
                line.push('"');
                line.extend((0..length).map(|_| random.letter()));
                line.push('"');
                Ok(())
            }
        };
    }
    line.push('}');
    line
}

fn pipeline(fields: &[(String, Kind)]) -> String {
    let mut text = "name = \"synthetic\"\n\n[ingest]\ntopics = [\"synthetic\"]\nformat = \"json\"\nstart = \"earliest\"\n\n\
                    [ingest.schema]\n"
        .to_owned();
    for (name, kind) in fields {
        let kind = match kind {
            Kind::Integer => "int64",
            Kind::Float => "float64",
            Kind::Text => "string",
            Kind::Time => "timestamp",
        };
        let _ = writeln!(text, "{name} = \"{kind}\"");
    }
    text + "\n[transform]\nsql = \"transform.sql\"\n\n[sink]\nkind = \"parquet\"\ntable = \"synthetic\"\n\n\
            [commit]\nevery = \"5s\"\nrows = 500_000\n"
}

fn names(fields: &[(String, Kind)]) -> Vec<&str> {
    fields.iter().map(|(name, _)| name.as_str()).collect()
}

/// Xorshift (Marsaglia, "Xorshift RNGs", 2003): the same records each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn letter(&mut self) -> char {
        char::from(b'a' + (self.next() % 26) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_size_and_the_fields_that_were_asked_for() {
        for bytes in [100, 300, 1000, 10_000] {
            let shape = Shape::Size(bytes);
            let line = record(&shape, &shape.fields(), &mut Random(1));
            assert_eq!(line.len() as u64, bytes, "{line}");
        }
        for columns in [5, 20, 100] {
            let shape = Shape::Columns(columns);
            let line = record(&shape, &shape.fields(), &mut Random(1));
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value.as_object().unwrap().len() as u64, columns);
            let off = line.len() as f64 / shape.bytes() as f64;
            assert!((0.8..1.2).contains(&off), "{} for {}", line.len(), shape.bytes());
        }
    }

    #[test]
    fn a_pipeline_names_each_field_once() {
        let fields = Shape::Columns(20).fields();
        let text = pipeline(&fields);
        let toml: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(toml["ingest"]["schema"].as_table().unwrap().len(), 20);
    }
}
