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
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use serde_json::Value;

use super::broker::Broker;
use super::ledger::{Findings, compare};
use super::plan::{Fault, Moment, Plan};
use super::process::{Process, Signal, output};
use super::readers::{Scanner, by_query};
use super::records::{Counts, Record, SCHEMA, SELECT, WHERE, record};

const PARTITIONS: &str = "4";
/// How soon the group gives up a member that is silent. As short as a busy machine allows.
const SESSION: Duration = Duration::from_secs(2);
/// How long a commit may be waited for before a fault strikes anyway: all records may be in the table already.
const STRIKE: Duration = Duration::from_secs(4);

pub(super) struct Table<'a> {
    puddle: &'a Path,
    folder: PathBuf,
    broker: Broker<'a>,
    topic: String,
    seed: u64,
    /// What was produced so far; a record's number is its place.
    known: Vec<Record>,
}

impl<'a> Table<'a> {
    /// Makes the topic and the pipeline's folder in `folder`.
    pub(super) fn create(
        puddle: &'a Path,
        folder: &Path,
        broker: Broker<'a>,
        topic: String,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let table = Self { puddle, folder: folder.to_owned(), broker, topic, seed, known: Vec::new() };
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
        self.folder.join("lake")
    }

    /// Deletes the topic: a broker that outlives the table must not keep its records.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        let mut delete = self.command("topics");
        delete.args(["delete", &self.topic]);
        self.output("puddle topics", self.at_broker(&mut delete)).map(drop)
    }

    /// Runs a trial up to its end, without looking at what it left.
    pub(super) fn disturb(&mut self, plan: &Plan) -> anyhow::Result<()> {
        self.write_pipeline(plan)?;
        let replay = self.produce(plan)?;
        let mut run = self.run()?;
        match plan.fault {
            Fault::Kill | Fault::KillInCommit => {
                self.wait_for(plan.moment, &mut run)?;
                run.kill()?;
            }
            Fault::KillInRecovery => {
                self.wait_for(plan.moment, &mut run)?;
                run.kill()?;
                let mut next = self.run()?;
                sleep(plan.then);
                next.must_run()?;
                next.kill()?;
            }
            Fault::Leftovers => {
                self.wait_for(plan.moment, &mut run)?;
                run.kill()?;
                self.leave_files()?;
            }
            Fault::Terminate => {
                self.wait_for(plan.moment, &mut run)?;
                run.signal(Signal::Term)?;
                run.finish()?;
            }
            Fault::Pause => {
                self.wait_for(plan.moment, &mut run)?;
                run.signal(Signal::Stop)?;
                sleep(SESSION + Duration::from_secs(1) + plan.then);
                run.signal(Signal::Cont)?;
                return self.end(replay, run);
            }
            Fault::KillBroker => {
                self.wait_for(plan.moment, &mut run)?;
                let embedded = self.broker.embedded().context("only the embedded broker can be killed")?;
                embedded.kill()?;
                sleep(plan.then);
                embedded.restart()?;
                return self.end(replay, run);
            }
        }
        replay.finish()
    }

    /// Brings the table up to date, undisturbed, and compares it with the known records.
    pub(super) fn check(&self, scanner: Option<&mut Scanner>) -> anyhow::Result<Findings> {
        let mut run = self.command("run");
        run.arg(self.pipeline()).args(["--until-caught-up", "--json"]).arg("--lake").arg(self.lake());
        self.output("puddle run --until-caught-up", self.at_broker(&mut run))?;
        let mut findings = self.verify()?;
        findings.merge(compare("puddle query", &self.known, &by_query(self.puddle, &self.folder)?));
        if let Some(scanner) = scanner {
            findings.merge(compare("scan", &self.known, &scanner.rows(&self.lake())?));
        }
        Ok(findings)
    }

    /// What `puddle verify` says, and whether it counted what there was to count.
    fn verify(&self) -> anyhow::Result<Findings> {
        let mut verify = self.command("verify");
        verify.arg(self.pipeline()).arg("--json").arg("--lake").arg(self.lake());
        // A broken guarantee makes it fail, after it printed the report.
        let result = self.output("puddle verify", self.at_broker(&mut verify));
        let report = match fs::read_to_string(self.folder.join("out.txt")) {
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
        let expected = Counts::of(&self.known);
        if counted != expected {
            findings.add_wrong(format!("puddle verify counted {counted:?}, not {expected:?}"));
        }
        Ok(findings)
    }

    /// `pipeline.toml`, with the commits that the plan wants.
    fn write_pipeline(&self, plan: &Plan) -> anyhow::Result<()> {
        let text = format!(
            "name = \"chaos\"\n\n[ingest]\ntopics = [\"{topic}\"]\ngroup = \"{topic}\"\n\n{SCHEMA}\n[ingest.client]\n\
             \"session.timeout.ms\" = \"{session}\"\n\"heartbeat.interval.ms\" = \"500\"\n\n\
             [transform]\nsql = \"transform.sql\"\n\n[sink]\ntable = \"chaos\"\npartition_by = [\"bucket\"]\ndurable = {durable}\n\n\
             [commit]\nrows = {rows}\nevery = \"{every}ms\"\n",
            topic = self.topic,
            session = SESSION.as_millis(),
            durable = plan.durable,
            rows = plan.commit_rows,
            every = plan.commit_every.as_millis(),
        );
        Ok(fs::write(self.pipeline().join("pipeline.toml"), text)?)
    }

    /// Starts to produce the trial's records.
    fn produce(&mut self, plan: &Plan) -> anyhow::Result<Process> {
        let first = self.known.len();
        let numbers = first as u64..first as u64 + plan.records;
        self.known.extend(numbers.map(|number| record(self.seed, number)));
        let lines: Vec<&[u8]> = self.known[first..].iter().map(|record| &*record.line).collect();
        let file = self.folder.join("records.ndjson");
        fs::write(&file, [lines.join(&b'\n'), vec![b'\n']].concat())?;
        let mut replay = self.command("replay");
        replay.arg(file).args(["--topic", &self.topic, "--key", "k", "--rate", &plan.rate.to_string()]);
        Process::start("puddle replay", self.at_broker(&mut replay), &self.folder.join("replay.log"), None)
    }

    /// Starts the run that is to be disturbed.
    fn run(&self) -> anyhow::Result<Process> {
        let mut run = self.command("run");
        run.arg(self.pipeline()).arg("--lake").arg(self.lake());
        Process::start("puddle run", self.at_broker(&mut run), &self.folder.join("run.log"), None)
    }

    /// Ends a trial whose run survived: it must still be there, and end well when it is asked to.
    fn end(&self, replay: Process, mut run: Process) -> anyhow::Result<()> {
        replay.finish()?;
        run.must_run()?;
        run.signal(Signal::Term)?;
        run.finish()
    }

    /// Waits until the moment has come.
    fn wait_for(&self, moment: Moment, run: &mut Process) -> anyhow::Result<()> {
        let hidden = self.lake().join(".puddle/chaos");
        let (watched, delay) = match moment {
            Moment::Start(delay) => {
                sleep(delay);
                return run.must_run();
            }
            Moment::Staging(delay) => (hidden.join("staging"), delay),
            Moment::Log(delay) => (hidden.join("log"), delay),
        };
        let (before, begin) = (changed(&watched), Instant::now());
        while changed(&watched) == before && begin.elapsed() < STRIKE {
            sleep(Duration::from_micros(200));
        }
        sleep(delay);
        run.must_run()
    }

    /// Puts files into the staging folder as a killed writer may leave them: half written, whole, and unheard of.
    fn leave_files(&self) -> anyhow::Result<()> {
        let staging = self.lake().join(".puddle/chaos/staging");
        fs::create_dir_all(&staging)?;
        if let Some(file) = any_file(&self.lake().join("chaos"))? {
            let bytes = fs::read(file)?;
            fs::write(staging.join("half.parquet"), &bytes[..bytes.len() / 2])?;
            fs::write(staging.join("whole.parquet"), &bytes)?;
        }
        Ok(fs::write(staging.join("stranger"), b"not Parquet")?)
    }

    fn pipeline(&self) -> PathBuf {
        self.folder.join("pipeline")
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
        output(what, command, &self.folder, &self.folder.join("checks.log"))
    }
}

fn changed(folder: &Path) -> Option<SystemTime> {
    fs::metadata(folder).and_then(|metadata| metadata.modified()).ok()
}

/// A file of the table, if there is any yet.
fn any_file(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    if !folder.is_dir() {
        return Ok(None);
    }
    for bucket in fs::read_dir(folder)? {
        if let Some(file) = fs::read_dir(bucket?.path())?.next() {
            return Ok(Some(file?.path()));
        }
    }
    Ok(None)
}
