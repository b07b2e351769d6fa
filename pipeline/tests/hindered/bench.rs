//! A pipeline whose runs are started and stopped one by one, and what its table must hold.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use puddle_pipeline::metrics::Metrics;
use puddle_pipeline::patience::Patience;
use puddle_pipeline::table::{LakeTable, Table};
use puddle_pipeline::{Error, Gaps, Pipeline, RunOptions, Summary, Targets, ask, lag, run_into};
use puddle_testkit::{consume_all, topics, unique};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Longer than anything takes that does not hang.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

const SQL: &str = "SELECT distance, _partition, _offset FROM \"TOPIC\" WHERE dep_delay IS NOT NULL";

/// A pipeline over a topic of its own.
pub(crate) struct Bench {
    pub(crate) brokers: String,
    pub(crate) topic: String,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) patience: Patience,
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

/// A run at work.
pub(crate) struct Member {
    pub(crate) metrics: Arc<Metrics>,
    failure: Arc<OnceLock<String>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Summary, Error>>,
}

impl Bench {
    /// A topic of so many partitions, and a pipeline with these settings besides.
    pub(crate) fn new(brokers: &str, partitions: i32, overrides: &[&str]) -> Self {
        let (folder, topic) = (tempfile::tempdir().unwrap(), unique("flights"));
        topics::create(brokers, &topic, partitions);
        // A member hears of a rebalance with its next heartbeat: by default up to three seconds later.
        let text = format!(
            "name = \"bench\"\n[ingest]\ntopics = [{topic:?}]\ngroup = {:?}\n\
             schema = {{ distance = \"int64\", dep_delay = \"int64\" }}\n\
             client = {{ \"heartbeat.interval.ms\" = \"100\", \"session.timeout.ms\" = \"6000\" }}\n\
             [transform]\nsql = \"t.sql\"\n[sink]\ntable = \"t\"\n[commit]\nevery = \"50ms\"\n",
            unique("group"),
        );
        std::fs::write(folder.path().join("pipeline.toml"), text).unwrap();
        std::fs::write(folder.path().join("t.sql"), SQL.replace("TOPIC", &topic)).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        let pipeline = Pipeline::load(folder.path(), &overrides, &[]).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
        Self {
            brokers: brokers.to_owned(),
            topic,
            patience: Patience {
                full_pause: (Duration::from_millis(5), Duration::from_millis(40)),
                ..Patience::of(&pipeline.commit)
            },
            pipeline: Arc::new(pipeline),
            folder,
            runtime: runtime.unwrap(),
        }
    }

    pub(crate) fn lake(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    /// The table of the pipeline, as a run without further ado has it.
    pub(crate) fn table(&self) -> Arc<dyn Table> {
        let (config, owner) = (self.pipeline.sink.clone(), self.pipeline.name.clone());
        Arc::new(LakeTable { lake: self.lake(), config, owner })
    }

    /// Starts a run that goes on until it is stopped.
    pub(crate) fn follow(&self, table: &Arc<dyn Table>) -> Member {
        self.start(self.pipeline.clone(), table, None)
    }

    /// Starts a run that ends when all is committed that the topic holds now.
    pub(crate) fn catch_up(&self, table: &Arc<dyn Table>) -> Member {
        let ends = self.runtime.block_on(lag::ends(&self.pipeline, &self.brokers)).unwrap();
        self.start(self.pipeline.clone(), table, Some(ends))
    }

    pub(crate) fn start(
        &self,
        pipeline: Arc<Pipeline>,
        table: &Arc<dyn Table>,
        until: Option<Targets>,
    ) -> Member {
        let metrics = Arc::new(Metrics::new("bench"));
        let (stop, stopped) = oneshot::channel::<()>();
        let options = RunOptions {
            brokers: self.brokers.clone(),
            lake: self.lake(),
            metrics: metrics.clone(),
            until: watch::channel(until).1,
            gaps: Gaps::Refuse,
        };
        let (table, patience) = (Arc::clone(table), self.patience.clone());
        let stopped = async { _ = stopped.await };
        let failure = Arc::<OnceLock<String>>::default();
        let failed = failure.clone();
        let task = self.runtime.spawn(async move {
            let ended = run_into(&pipeline, options, table, patience, stopped).await;
            ended.inspect_err(|error| failed.set(error.to_string()).unwrap())
        });
        Member { metrics, failure, stop, task }
    }

    /// Asks a run to end, and waits until it has.
    pub(crate) fn stop(&self, member: Member) -> Result<Summary, Error> {
        let Member { stop, task, .. } = member;
        let _ = stop.send(());
        self.join(task)
    }

    /// Waits until a run ends by itself.
    pub(crate) fn ended(&self, member: Member) -> Result<Summary, Error> {
        let Member { stop: _stop, task, .. } = member;
        self.join(task)
    }

    fn join(&self, task: JoinHandle<Result<Summary, Error>>) -> Result<Summary, Error> {
        let ended = self.runtime.block_on(async { tokio::time::timeout(DEADLINE, task).await });
        ended.expect("the run ends in time").expect("the run does not panic")
    }

    /// Partition, offset and distance of every record that must be a row, sorted.
    pub(crate) fn expected(&self) -> Vec<(i32, i64, i64)> {
        let rows = consume_all(&self.brokers, &self.topic).into_iter().filter_map(|record| {
            let json: serde_json::Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
            let distance = json["distance"].as_i64().unwrap();
            (!json["dep_delay"].is_null())
                .then(|| (record.partition.unwrap(), record.offset.unwrap(), distance))
        });
        rows.collect()
    }

    /// The same of what the table in the lake holds.
    pub(crate) fn rows_in_lake(&self) -> Vec<(i32, i64, i64)> {
        rows(&ask(&self.lake(), "SELECT distance, _partition, _offset FROM t").unwrap())
    }

    /// What the audit finds wrong.
    pub(crate) fn problems(&self) -> Vec<String> {
        let lake = self.lake();
        let audit = puddle_pipeline::verify::verify(&self.pipeline, &self.brokers, &lake);
        self.runtime.block_on(audit).unwrap().problems
    }

    /// A run of another pipeline, named so, into the same table.
    pub(crate) fn other_pipeline(&self, name: &str, overrides: &[&str]) -> Arc<Pipeline> {
        let mut all = vec![format!("name={name}")];
        all.extend(overrides.iter().map(|text| (*text).to_owned()));
        Arc::new(Pipeline::load(self.folder.path(), &all, &[]).unwrap())
    }
}

impl Member {
    /// How many records it has committed; a run that has failed fails the test.
    pub(crate) fn committed(&self) -> u64 {
        assert_eq!(self.failure.get(), None, "the run has failed");
        self.metrics.records_committed()
    }

    /// What hinders it; a run that has failed fails the test.
    pub(crate) fn note(&self) -> Option<String> {
        assert_eq!(self.failure.get(), None, "the run has failed");
        self.metrics.note()
    }
}

/// Partition, offset and distance of rows, sorted.
pub(crate) fn rows(batches: &[RecordBatch]) -> Vec<(i32, i64, i64)> {
    let mut rows = Vec::new();
    for batch in batches {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let distances = column("distance").as_primitive::<Int64Type>();
        let partitions = column("_partition").as_primitive::<Int32Type>();
        let offsets = column("_offset").as_primitive::<Int64Type>();
        rows.extend(
            (0..batch.num_rows()).map(|i| (partitions.value(i), offsets.value(i), distances.value(i))),
        );
    }
    rows.sort_unstable();
    rows
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < DEADLINE, "{what}: not so within {} s", DEADLINE.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
}
