//! Topics full of what nobody wants, read by `puddle run` as a process of its own, whose memory and log are measured.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use puddle_testkit::records::produce_with;
use puddle_testkit::{Embedded, Record, memory, produce, topics};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;

/// A folder with a pipeline that reads the topic `odd` into the table `odd`, and a broker.
struct Bench {
    folder: tempfile::TempDir,
    broker: Embedded,
}

/// How a run ended.
struct Run {
    summary: Value,
    log: String,
    /// The most memory it had, in bytes.
    peak: u64,
}

impl Bench {
    fn new(schema: &str, sql: &str, sink: &str, broker: Embedded) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = folder.path().join("pipelines/odd");
        fs::create_dir_all(&pipeline).unwrap();
        let text = format!(
            "name = \"odd\"\n[ingest]\ntopics = [\"odd\"]\nschema = {{ {schema} }}\n[transform]\nsql = \"odd.sql\"\n\
             [sink]\ntable = \"odd\"\n{sink}\n"
        );
        fs::write(pipeline.join("pipeline.toml"), text).unwrap();
        fs::write(pipeline.join("odd.sql"), sql).unwrap();
        topics::create(&broker.brokers(), "odd", 1);
        Bench { folder, broker }
    }

    fn produce<R: Into<Record>>(&self, records: impl IntoIterator<Item = R>) {
        produce(&self.broker.brokers(), "odd", records);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_puddle"));
        command.current_dir(self.folder.path()).env("PUDDLE_BROKERS", self.broker.brokers()).args(args);
        command.env_remove("RUST_LOG").env_remove("PUDDLE_LAKE").env_remove("PUDDLE_HOME");
        command
    }

    /// Runs until caught up, and audits what came of it.
    fn run(&self) -> Run {
        let [out, err] = ["out", "err"].map(|name| self.folder.path().join(name));
        let mut child = self
            .command(&["run", "odd", "--until-caught-up", "--json"])
            .stdout(Stdio::from(File::create(&out).unwrap()))
            .stderr(Stdio::from(File::create(&err).unwrap()))
            .spawn()
            .unwrap();
        let (begun, mut peak) = (Instant::now(), 0);
        let status = loop {
            peak = peak.max(memory::peak_of(child.id()).unwrap_or(0));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > DEADLINE {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let log = fs::read_to_string(err).unwrap();
        assert!(status.success(), "{status} {log}");
        let summary = serde_json::from_str(&fs::read_to_string(out).unwrap()).unwrap();
        let report: Value = serde_json::from_str(&self.output(&["verify", "odd", "--json"])).unwrap();
        assert_eq!(report["problems"], Value::Array(Vec::new()), "{report}");
        Run { summary, log, peak }
    }

    fn output(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn query(&self, sql: &str) -> String {
        self.output(&["query", sql, "--format", "csv"])
    }
}

impl Run {
    /// Records, and how many of them were written, left out and rejected.
    fn counts(&self) -> [u64; 4] {
        ["records", "written", "filtered", "rejected"].map(|name| self.summary[name].as_u64().unwrap())
    }
}

/// Fault matrix 37, 38, 41, 43.
#[test]
fn what_is_no_record_is_rejected_with_a_reason_and_the_rest_kept() {
    let sql = "SELECT id, name FROM odd";
    let bench = Bench::new("id = \"int64\", name = \"string\"", sql, "", Embedded::start());
    let nested = |levels: usize| format!("{{\"id\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
    let rejected: Vec<Record> = vec![
        Record::new("not JSON"),
        Record::new(b"{\"name\":\"\xff\"}".to_vec()),
        Record::new(nested(1_000)),
        Record::new(nested(400_000)),
        Record::new("{\"id\":1,\"id\":2}"),
        Record::new("{\"id\":9223372036854775808}"),
        Record::new("{\"id\":NaN}"),
        Record::new(""),
        Record::tombstone("a key"),
        // A field that has changed its type.
        Record::new("{\"id\":\"1\"}"),
    ];
    // A new field; the same record twice, which is two records; and a skipped field that nests deep.
    let kept = ["{\"id\":1,\"new\":{}}", "{\"id\":2}", "{\"id\":2}"].map(str::to_owned);
    let deep = format!("{{\"id\":3,\"new\":{}{}}}", "[".repeat(400_000), "]".repeat(400_000));
    let count = rejected.len() as u64;
    bench.produce(rejected.into_iter().chain(kept.into_iter().map(Record::new)).chain([Record::new(deep)]));
    let run = bench.run();
    assert_eq!(run.counts(), [count + 4, 4, 0, count]);
    assert_eq!(bench.query("SELECT id FROM odd ORDER BY id"), "id\n1\n2\n2\n3\n");
    let reasons = bench.query("SELECT _reason FROM \"odd.rejected\" ORDER BY _offset");
    let expected = [
        "not JSON: expected",
        "not UTF-8",
        "found array",
        "found array",
        "appears twice",
        "found integer 9223372036854775808",
        "not JSON: expected",
        "empty value",
        "tombstone",
        "found string",
    ];
    for (reason, expected) in reasons.lines().skip(1).zip(expected) {
        assert!(reason.contains(expected), "{expected:?} is not in {reason:?}");
    }
}

/// Fault matrix 42.
#[test]
fn partitions_follow_the_record_whatever_its_clock_says() {
    let sql = "SELECT id, STRFTIME(at, '%Y-%m') AS month, _timestamp FROM odd";
    let schema = "id = \"int64\", at = \"timestamp\"";
    let bench = Bench::new(schema, sql, "partition_by = [\"month\"]", Embedded::start());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let day = 86_400_000;
    let months = BTreeMap::from([
        ("\"1970-01-01T00:00:00Z\"", "1970-01"),
        ("\"9999-12-31T23:59:59.999999999Z\"", "9999-12"),
        ("-1", "1969-12"),
        ("-62167219200001", "-0001-12"),
        ("8210266876799999", "+262142-12"),
        ("null", "__HIVE_DEFAULT_PARTITION__"),
    ]);
    let records = months.keys().enumerate().map(|(id, at)| {
        // The producers' own clocks are off, too.
        let timestamp = [0, now - day, now + day, 253_402_300_799_999][id % 4];
        Record::new(format!("{{\"id\":{id},\"at\":{at}}}")).at(timestamp)
    });
    bench.produce(records);
    // No calendar has these.
    bench.produce([i64::MAX / 2, i64::MIN / 2].map(|at| Record::new("{\"id\":9}").at(at)));
    assert_eq!(bench.run().counts(), [8, 6, 0, 2]);
    let mut folders: Vec<String> = fs::read_dir(bench.folder.path().join("lake/odd"))
        .unwrap()
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let mut expected: Vec<String> = months.values().map(|month| format!("month={month}")).collect();
    expected.sort();
    assert_eq!(folders, expected);
    assert_eq!(bench.query("SELECT count(*) AS n FROM odd"), "n\n6\n");
}

/// Fault matrix 39.
#[test]
fn records_of_20_mb_are_read_or_rejected_in_bounded_memory() {
    const LARGE: usize = 20_000_000;
    let broker = Embedded::start_with(|config| config.max_batch_bytes = 32 << 20);
    let sql = "SELECT id, LENGTH(name) AS length FROM odd";
    let bench = Bench::new("id = \"int64\", name = \"string\"", sql, "", broker);
    let large = |id: &str| format!("{{\"id\":{id},\"name\":\"{}\"}}", "x".repeat(LARGE));
    // Eight of them would be 160 MB at once.
    for id in ["1", "\"two\"", "3", "4", "\"five\"", "6", "7", "8"] {
        let settings = [("message.max.bytes", "33554432")];
        produce_with(
            &bench.broker.brokers(),
            "odd",
            [large(id), format!("{{\"id\":10{}}}", id.len())],
            &settings,
        );
    }
    let run = bench.run();
    assert_eq!(run.counts(), [16, 14, 0, 2]);
    let lengths = bench.query("SELECT count(*) AS n, sum(length) AS length FROM odd");
    assert_eq!(lengths, format!("n,length\n14,{}\n", 6 * LARGE));
    eprintln!("20 MB records: {} MiB", run.peak / MIB);
    assert!(run.peak < 700 * MIB, "{} MiB", run.peak / MIB);
}

/// To how many MiB a batch of gzip unpacks; almost a gigabyte by hand, with PUDDLE_BOMB=900.
fn bomb() -> usize {
    std::env::var("PUDDLE_BOMB").map_or(60, |mib| mib.parse().unwrap())
}

/// Fault matrix 40.
#[test]
fn a_batch_that_unpacks_to_a_thousand_times_its_size_is_read_in_bounded_memory() {
    let bench = Bench::new("id = \"int64\"", "SELECT id FROM odd", "", Embedded::start());
    // What fits into a megabyte; librdkafka refuses to unpack zstd to more than a third of 100 MB or, at best, all of it.
    let batches = [("gzip", bomb()), ("zstd", 30), ("lz4", 60), ("snappy", 15)];
    for (codec, mib) in batches {
        let settings = [
            ("compression.type", codec),
            ("message.max.bytes", "1000000000"),
            ("batch.size", "1000000000"),
            ("linger.ms", "2000"),
        ];
        produce_with(&bench.broker.brokers(), "odd", vec![vec![0; 1 << 20]; mib], &settings);
    }
    let run = bench.run();
    let records = batches.iter().map(|(_, mib)| *mib as u64).sum();
    assert_eq!(run.counts(), [records, 0, 0, records]);
    eprintln!("bombs: {} MiB", run.peak / MIB);
    // librdkafka unpacks a batch as a whole; what is read of it is bounded.
    assert!(run.peak < 500 * MIB + 5 * (bomb() as u64) * MIB, "{} MiB", run.peak / MIB);
}

/// How many records are rejected in a row; a million by hand, with PUDDLE_MISFITS=1000000.
fn misfits() -> u64 {
    std::env::var("PUDDLE_MISFITS").map_or(60_000, |count| count.parse().unwrap())
}

/// Fault matrix 44.
#[test]
fn rejecting_all_records_in_a_row_is_exact_and_quiet() {
    let bench = Bench::new("id = \"int64\"", "SELECT id FROM odd", "", Embedded::start());
    let count = misfits();
    bench.produce((0..count).map(|id| format!("{{\"id\":\"number {id}\"}}")));
    let begun = Instant::now();
    let run = bench.run();
    eprintln!("misfits: {:?}, {} MiB, {} lines", begun.elapsed(), run.peak / MIB, run.log.lines().count());
    assert_eq!(run.counts(), [count, 0, 0, count]);
    assert!(run.log.lines().count() < 30, "{}", run.log);
    assert!(run.peak < 700 * MIB, "{} MiB", run.peak / MIB);
}

/// Fault matrix 44.
#[test]
fn sql_that_fails_on_all_records_in_a_row_is_exact_and_quiet() {
    let sql = "SELECT CAST(name AS BIGINT) AS number FROM odd WHERE id > 0";
    let bench = Bench::new("id = \"int64\", name = \"string\"", sql, "", Embedded::start());
    let count = misfits();
    bench.produce((1..=count).map(|id| format!("{{\"id\":{id},\"name\":\"number {id}\"}}")));
    let begun = Instant::now();
    let run = bench.run();
    eprintln!(
        "SQL misfits: {:?}, {} MiB, {} lines",
        begun.elapsed(),
        run.peak / MIB,
        run.log.lines().count()
    );
    assert_eq!(run.counts(), [count, 0, 0, count]);
    assert!(run.log.lines().count() < 30, "{}", run.log);
    assert!(run.peak < 700 * MIB, "{} MiB", run.peak / MIB);
}
