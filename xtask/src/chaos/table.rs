//! One table under faults: its broker's topic, its pipeline folder, its lake, and the trials that it goes through.
//!
//! ```text
//! known records --puddle replay--> topic --puddle run, disturbed--> lake
//!                                                                    |
//!                 puddle run --until-caught-up, undisturbed ---------+
//!                 puddle verify, puddle query, a scan: compared with the known records
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::TableKind;
use super::broker::Broker;
use super::disk::SmallDisk;
use super::ledger::{Findings, compare};
use super::plan::Plan;
use super::process::{Process, output};
use super::readers::{Scanner, by_query};
use super::records::{Counts, Record, SCHEMA, SELECT, WHERE, record};

const PARTITIONS: &str = "4";
/// How soon the group gives up a member that is silent. As short as a busy machine allows.
pub(super) const SESSION: Duration = Duration::from_secs(2);
/// How long a run takes until it has caught up, before one was measured; and between which bounds it is believed.
const PACE: Duration = Duration::from_millis(600);
const PACES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));

pub(super) struct Table<'a> {
    puddle: &'a Path,
    folder: PathBuf,
    pub(super) broker: Broker<'a>,
    topic: String,
    /// What decides about the records.
    seed: u64,
    kind: TableKind,
    /// Where the lake is, if that is not the ordinary disk.
    disk: Option<SmallDisk>,
    /// What was produced so far; a record's number is its place.
    known: Vec<Record>,
    /// How long the last undisturbed run took from its start to its end.
    pace: Duration,
}

impl<'a> Table<'a> {
    /// Makes the topic and the pipeline's folder in `folder`.
    pub(super) fn create(
        puddle: &'a Path,
        folder: &Path,
        broker: Broker<'a>,
        topic: String,
        seed: u64,
        kind: TableKind,
        disk: Option<SmallDisk>,
    ) -> anyhow::Result<Self> {
        let folder = folder.to_owned();
        let known = Vec::new();
        let table = Self { puddle, folder, broker, topic, seed, kind, disk, known, pace: PACE };
        let mut create = table.command("topics");
        create.args(["create", &table.topic, "--partitions", PARTITIONS]);
        table.output("puddle topics", table.at_broker(&mut create))?;
        fs::create_dir(table.pipeline())?;
        let sql = format!("SELECT {SELECT} FROM \"{}\" WHERE {WHERE}\n", table.topic);
        fs::write(table.pipeline().join("transform.sql"), sql)?;
        Ok(table)
    }

    /// Where everything of the table is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn lake(&self) -> PathBuf {
        self.disk.as_ref().map_or_else(|| self.folder.join("lake"), SmallDisk::lake)
    }

    pub(super) fn kind(&self) -> TableKind {
        self.kind
    }

    pub(super) fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// Leaves everything to be looked at.
    pub(super) fn keep(self) -> anyhow::Result<()> {
        self.disk.as_ref().map_or(Ok(()), |disk| disk.keep(&self.folder))
    }

    pub(super) fn pace(&self) -> Duration {
        self.pace
    }

    /// Deletes the topic, for a broker that outlives the table must not keep its records, and the folder.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        let mut delete = self.command("topics");
        delete.args(["delete", &self.topic]);
        self.output("puddle topics", self.at_broker(&mut delete))?;
        let folder = self.folder.clone();
        // Ends the broker and unmounts the disk.
        drop(self);
        Ok(fs::remove_dir_all(&folder)?)
    }

    /// Brings the table up to date, undisturbed, and compares it with the known records.
    pub(super) fn check(&mut self, scanner: Option<&mut Scanner>) -> anyhow::Result<Findings> {
        let begin = Instant::now();
        let mut run = self.command("run");
        run.arg(self.pipeline()).args(["--until-caught-up", "--json"]).arg("--lake").arg(self.lake());
        self.output("puddle run --until-caught-up", self.at_broker(&mut run))?;
        self.pace = begin.elapsed().clamp(PACES.0, PACES.1);
        let (mut findings, counted) = self.verify("verified.txt")?;
        let expected = Counts::of(&self.known);
        if counted != expected {
            findings.add_wrong(format!("puddle verify counted {counted:?}, not {expected:?}"));
        }
        findings.merge(compare("puddle query", &self.known, &self.query("queried.txt")?));
        if let Some(scanner) = scanner {
            findings.merge(compare("scan", &self.known, &scanner.rows(self.kind, &self.lake())?));
        }
        Ok(findings)
    }

    /// Asks audit and query about a table that may be at work: they must find nothing wrong. What is not in the table
    /// yet is not lost.
    pub(super) fn look(&self) -> anyhow::Result<Findings> {
        let (mut findings, _) = self.verify("verified-meanwhile.txt")?;
        let rows = self.query("queried-meanwhile.txt")?;
        findings.merge(compare("puddle query, meanwhile", &self.known, &rows).without_lost());
        Ok(findings)
    }

    /// What `puddle verify` says, and what it counted.
    fn verify(&self, out: &str) -> anyhow::Result<(Findings, Counts)> {
        let out = self.folder.join(out);
        let mut verify = self.command("verify");
        verify.arg(self.pipeline()).arg("--json").arg("--lake").arg(self.lake());
        // A broken guarantee makes it fail, after it printed the report.
        let result = output("puddle verify", self.at_broker(&mut verify), &out, &self.log("checks.log"));
        let report = match fs::read_to_string(&out) {
            Ok(text) if text.starts_with('{') => text,
            _ => result?,
        };
        let report: Value = serde_json::from_str(&report).context("puddle verify printed no report")?;
        let mut findings = Findings::default();
        for problem in report["problems"].as_array().context("a report has problems")? {
            findings.add_wrong(format!("puddle verify: {problem}"));
        }
        let count = |name: &str| report[name].as_u64().unwrap_or(u64::MAX);
        let counted =
            Counts { written: count("written"), filtered: count("filtered"), rejected: count("rejected") };
        Ok((findings, counted))
    }

    fn query(&self, out: &str) -> anyhow::Result<Vec<Value>> {
        by_query(self.puddle, &self.lake(), &self.folder.join(out), &self.log("checks.log"))
    }

    /// `pipeline.toml`, with the commits that the plan wants.
    pub(super) fn write_pipeline(&self, plan: &Plan) -> anyhow::Result<()> {
        let text = format!(
            "name = \"chaos\"\n\n[ingest]\ntopics = [\"{topic}\"]\ngroup = \"{topic}\"\n\n{SCHEMA}\n[ingest.client]\n\
             \"session.timeout.ms\" = \"{session}\"\n\"heartbeat.interval.ms\" = \"500\"\n\n\
             [transform]\nsql = \"transform.sql\"\n\n\
             [sink]\nkind = \"{kind}\"\ntable = \"chaos\"\npartition_by = [\"bucket\"]\ndurable = {durable}\n\n\
             [commit]\nrows = {rows}\nevery = \"{every}ms\"\n",
            topic = self.topic,
            session = SESSION.as_millis(),
            kind = self.kind.name(),
            durable = plan.durable,
            rows = plan.commit_rows,
            every = plan.commit_every.as_millis(),
        );
        Ok(fs::write(self.pipeline().join("pipeline.toml"), text)?)
    }

    /// Starts to produce the trial's records.
    pub(super) fn produce(&mut self, plan: &Plan) -> anyhow::Result<Process> {
        let first = self.known.len();
        let numbers = first as u64..first as u64 + plan.records;
        self.known.extend(numbers.map(|number| record(self.seed, number)));
        let lines: Vec<&[u8]> = self.known[first..].iter().map(|record| &*record.line).collect();
        let file = self.folder.join("records.ndjson");
        fs::write(&file, [lines.join(&b'\n'), vec![b'\n']].concat())?;
        let mut replay = self.command("replay");
        replay.arg(file).args(["--topic", &self.topic, "--key", "k", "--rate", &plan.rate.to_string()]);
        Process::start("puddle replay", self.at_broker(&mut replay), &self.log("replay.log"), None)
    }

    /// Starts a run that goes on until it is stopped, with a log of its own.
    pub(super) fn run(&self, log: &str) -> anyhow::Result<Process> {
        let mut run = self.command("run");
        run.arg(self.pipeline()).arg("--lake").arg(self.lake());
        Process::start("puddle run", self.at_broker(&mut run), &self.log(log), None)
    }

    /// Starts `puddle table` with these arguments.
    pub(super) fn upkeep(&self, arguments: &[&str]) -> anyhow::Result<Process> {
        let mut upkeep = self.command("table");
        upkeep.args(arguments).arg("--lake").arg(self.lake());
        Process::start("puddle table", &mut upkeep, &self.log("upkeep.log"), None)
    }

    fn pipeline(&self) -> PathBuf {
        self.folder.join("pipeline")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.puddle);
        command.arg(name).current_dir(&self.folder);
        command
    }

    fn at_broker<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.args(["--brokers", &self.broker.address()])
    }

    fn output(&self, what: &'static str, command: &mut Command) -> anyhow::Result<String> {
        output(what, command, &self.folder.join("out.txt"), &self.log("checks.log"))
    }
}
