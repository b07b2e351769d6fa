//! What must hold of a run, whichever broker it talks to.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use puddle_pipeline::metrics::Metrics;
use puddle_pipeline::verify::{Depth, Report, verify};
use puddle_pipeline::{Error, Gaps, Pipeline, RunOptions, Summary, Targets, ask, lag, run};
use puddle_testkit::{Record, consume_all, flights, produce, topics, unique};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, TopicPartitionList};
use tokio::sync::watch;

/// A pipeline with a lake of its own.
pub(crate) struct Bench {
    brokers: String,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) pipeline: Pipeline,
    runtime: tokio::runtime::Runtime,
}

const SQL: &str =
    "SELECT carrier, distance, _topic, _partition, _offset FROM \"STREAM\" WHERE dep_delay IS NOT NULL";
const SCHEMA: &str = "schema = { carrier = \"string\", distance = \"int64\", dep_delay = \"int64\" }";

impl Bench {
    pub(crate) fn new(brokers: &str, names: &[String], commit: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listed: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        let text = format!(
            "name = \"bench\"\n[ingest]\ntopics = [{}]\ngroup = \"{}\"\n{SCHEMA}\n[transform]\nsql = \"t.sql\"\n[sink]\ntable = \"t\"\n[commit]\n{commit}\n",
            listed.join(", "),
            unique("group"),
        );
        std::fs::write(folder.path().join("pipeline.toml"), text).unwrap();
        let stream = if let [topic] = names { topic } else { "bench" };
        std::fs::write(folder.path().join("t.sql"), SQL.replace("STREAM", stream)).unwrap();
        let pipeline = Pipeline::load(folder.path(), &[], &[]).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { brokers: brokers.to_owned(), folder, pipeline, runtime }
    }

    /// The same, with keys of its `pipeline.toml` set to something else.
    pub(crate) fn set(mut self, overrides: &[&str]) -> Self {
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        self.pipeline = Pipeline::load(self.folder.path(), &overrides, &[]).unwrap();
        self
    }

    pub(crate) fn lake(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    fn options(&self, metrics: &Arc<Metrics>, until: watch::Receiver<Option<Targets>>) -> RunOptions {
        RunOptions {
            brokers: self.brokers.clone(),
            lake: self.lake(),
            metrics: metrics.clone(),
            until,
            gaps: Gaps::Refuse,
        }
    }

    pub(crate) fn catch_up(&self) -> Result<Summary, Error> {
        self.catch_up_with(Gaps::Refuse)
    }

    pub(crate) fn catch_up_with(&self, gaps: Gaps) -> Result<Summary, Error> {
        self.runtime.block_on(async {
            let ends = lag::ends(&self.pipeline, &self.brokers).await?;
            let metrics = Arc::new(Metrics::new("bench"));
            let options = RunOptions { gaps, ..self.options(&metrics, watch::channel(Some(ends)).1) };
            run(&self.pipeline, options, std::future::pending()).await
        })
    }

    /// Runs until `stop` completes, which sees the metrics.
    pub(crate) fn run_until<F: Future<Output = ()>>(
        &self,
        stop: impl FnOnce(Arc<Metrics>) -> F,
    ) -> Result<Summary, Error> {
        self.runtime.block_on(async {
            let metrics = Arc::new(Metrics::new("bench"));
            let (_keep, until) = watch::channel(None);
            run(&self.pipeline, self.options(&metrics, until), stop(metrics.clone())).await
        })
    }

    /// Drops a run, as a crash of its thread would, once `read` records were read.
    fn cut_off(&self, read: u64) {
        self.runtime.block_on(async {
            let metrics = Arc::new(Metrics::new("bench"));
            let (_keep, until) = watch::channel(None);
            tokio::select! {
                ended = run(&self.pipeline, self.options(&metrics, until), std::future::pending()) => panic!("{ended:?}"),
                () = at_least(read, || metrics.records_read()) => {}
            }
        });
    }

    pub(crate) fn audit(&self) -> Report {
        self.runtime.block_on(verify(&self.pipeline, &self.brokers, &self.lake())).unwrap()
    }

    /// Checks that the table has the rows that a plain reading of its topic gives, value by value.
    #[track_caller]
    pub(crate) fn assert_equals_topic(&self, topic: &str) {
        let value = |record: &Record| -> serde_json::Value {
            serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
        };
        let expected = consume_all(&self.brokers, topic).into_iter().filter_map(|record| {
            let json = value(&record);
            let at = (record.partition.unwrap(), record.offset.unwrap());
            (!json["dep_delay"].is_null()).then(|| {
                (at, json["carrier"].as_str().unwrap().to_owned(), json["distance"].as_i64().unwrap())
            })
        });
        let sql = "SELECT _partition, _offset, carrier, distance FROM t ORDER BY _partition, _offset";
        let mut rows = Vec::new();
        for batch in ask(&self.lake(), sql).unwrap() {
            use arrow::array::AsArray;
            use arrow::datatypes::{DataType, Int32Type, Int64Type};
            let carriers = arrow::compute::cast(batch.column(2), &DataType::Utf8).unwrap();
            for row in 0..batch.num_rows() {
                let at = (
                    batch.column(0).as_primitive::<Int32Type>().value(row),
                    batch.column(1).as_primitive::<Int64Type>().value(row),
                );
                let carrier = carriers.as_string::<i32>().value(row).to_owned();
                rows.push((at, carrier, batch.column(3).as_primitive::<Int64Type>().value(row)));
            }
        }
        let expected: Vec<_> = expected.collect();
        assert_eq!(rows.len(), expected.len());
        assert!(rows == expected, "other values, or another order");
    }

    #[track_caller]
    pub(crate) fn assert_exact(&self, records: u64) {
        let report = self.audit();
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!((report.records, report.behind, report.depth), (records, 0, Depth::Offsets));
    }
}

/// Waits until a count is reached.
pub(crate) async fn at_least(wanted: u64, count: impl Fn() -> u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while count() < wanted {
        assert!(Instant::now() < deadline, "{} of {wanted} after a minute", count());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn topic(brokers: &str, partitions: i32) -> String {
    let topic = unique("flights");
    topics::create(brokers, &topic, partitions);
    topic
}

pub(crate) fn sum(lake: &Path) -> i64 {
    use arrow::array::AsArray;
    let rows = ask(lake, "SELECT CAST(SUM(distance) AS BIGINT) AS d FROM t").unwrap();
    rows[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0)
}

/// The distances of the flights that left, by a plain reading of the JSON.
pub(crate) fn plain_sum(records: &[Vec<u8>]) -> i64 {
    let values = records.iter().map(|record| serde_json::from_slice::<serde_json::Value>(record).unwrap());
    values
        .filter(|value| !value["dep_delay"].is_null())
        .map(|value| value["distance"].as_i64().unwrap())
        .sum()
}

pub(crate) fn catches_up_and_resumes(brokers: &str) {
    let topic = topic(brokers, 3);
    let bench = Bench::new(brokers, std::slice::from_ref(&topic), "rows = 700");
    let records = flights(5_000, 1);
    // A thousand in each partition: a batch is of one, so no commit of 700 records or more can cover all of them.
    let spread =
        records[..3_000].iter().enumerate().map(|(i, record)| Record::new(record.clone()).to(i as i32 % 3));
    produce(brokers, &topic, spread);
    let first = bench.catch_up().unwrap();
    assert_eq!((first.records, first.rejected), (3_000, 0));
    assert!(first.commits > 1 && first.filtered > 0 && first.written + first.filtered == 3_000, "{first:?}");
    assert_eq!(sum(&bench.lake()), plain_sum(&records[..3_000]));

    let nothing = bench.catch_up().unwrap();
    assert_eq!((nothing.records, nothing.commits), (0, 0));

    produce(brokers, &topic, records[3_000..].iter().cloned());
    assert_eq!(bench.catch_up().unwrap().records, 2_000);
    assert_eq!(sum(&bench.lake()), plain_sum(&records));
    bench.assert_exact(5_000);
}

pub(crate) fn follows_what_arrives_while_it_runs(brokers: &str) {
    let topic = topic(brokers, 2);
    let bench = Bench::new(brokers, std::slice::from_ref(&topic), "every = \"20ms\"");
    let records = flights(4_000, 2);
    let summary = bench.run_until(|metrics| {
        let (brokers, topic, records) = (brokers.to_owned(), topic.clone(), records.clone());
        async move {
            for (i, part) in records.chunks(1_000).enumerate() {
                let (brokers, topic, part) = (brokers.clone(), topic.clone(), part.to_vec());
                tokio::task::spawn_blocking(move || produce(&brokers, &topic, part)).await.unwrap();
                at_least((i as u64 + 1) * 1_000, || metrics.records_committed()).await;
            }
        }
    });
    let summary = summary.unwrap();
    assert_eq!(summary.records, 4_000);
    assert!(summary.commits >= 4 && summary.latency.is_some(), "{summary:?}");
    assert_eq!(sum(&bench.lake()), plain_sum(&records));
    bench.assert_exact(4_000);
}

pub(crate) fn goes_on_after_being_cut_off_at_any_point(brokers: &str) {
    let topic = topic(brokers, 3);
    let bench = Bench::new(brokers, std::slice::from_ref(&topic), "rows = 500");
    let records = flights(6_000, 3);
    for (part, read) in records.chunks(2_000).zip([1, 600, 1_500]) {
        produce(brokers, &topic, part.iter().cloned());
        bench.cut_off(read);
    }
    bench.catch_up().unwrap();
    assert_eq!(sum(&bench.lake()), plain_sum(&records));
    bench.assert_exact(6_000);
}

/// Fault matrix 8.
pub(crate) fn goes_by_the_table_whatever_the_group_says(brokers: &str) {
    let topic = topic(brokers, 2);
    let mut bench = Bench::new(brokers, std::slice::from_ref(&topic), "rows = 500");
    let records = flights(4_000, 8);
    // Its own offsets; none, as a kill before they were ever committed leaves it; those of long ago; ones too far on.
    for (part, hint) in records.chunks(1_000).zip([None, None, Some(0), Some(1_000_000)]) {
        if part != &records[..1_000] {
            let group = unique("group");
            if let Some(offset) = hint {
                commit_offsets(brokers, &group, &topic, offset);
            }
            bench = bench.set(&[&format!("ingest.group={group}")]);
        }
        produce(brokers, &topic, part.iter().cloned());
        assert_eq!(bench.catch_up().unwrap().records, 1_000, "with the hint {hint:?}");
    }
    assert_eq!(sum(&bench.lake()), plain_sum(&records));
    bench.assert_exact(4_000);
}

/// Commits this offset for two partitions of a topic, in the name of a group without members.
fn commit_offsets(brokers: &str, group: &str, topic: &str, offset: i64) {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", group).create().unwrap();
    let mut offsets = TopicPartitionList::new();
    for partition in 0..2 {
        offsets.add_partition_offset(topic, partition, rdkafka::Offset::Offset(offset)).unwrap();
    }
    consumer.commit(&offsets, CommitMode::Sync).unwrap();
}

/// Fault matrix 15.
pub(crate) fn stops_when_the_topic_was_made_again(brokers: &str) {
    let topic = topic(brokers, 1);
    let bench = Bench::new(brokers, std::slice::from_ref(&topic), "rows = 500");
    produce(brokers, &topic, flights(300, 4));
    bench.catch_up().unwrap();
    topics::delete(brokers, &topic);
    topics::create(brokers, &topic, 1);
    produce(brokers, &topic, flights(400, 5));
    let error = bench.catch_up().unwrap_err().to_string();
    assert!(error.contains(&topic), "{error}");
    assert_eq!(sum(&bench.lake()), plain_sum(&flights(300, 4)), "the table must stay as it was");
}

/// Fault matrix 17.
pub(crate) fn passes_over_aborted_transactions(brokers: &str) {
    let topic = topic(brokers, 1);
    let bench = Bench::new(brokers, std::slice::from_ref(&topic), "rows = 500");
    let records = flights(300, 6);
    let producer: BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", unique("transaction"))
        .create()
        .unwrap();
    let patience = Duration::from_secs(30);
    producer.init_transactions(patience).unwrap();
    for (i, part) in records.chunks(100).enumerate() {
        producer.begin_transaction().unwrap();
        for record in part {
            producer.send(BaseRecord::<(), _>::to(&topic).payload(record)).map_err(|(e, _)| e).unwrap();
        }
        producer.flush(patience).unwrap();
        // The last one is aborted, so that the topic ends with records and a marker that nobody may see.
        let end = if i == 2 { BaseProducer::abort_transaction } else { BaseProducer::commit_transaction };
        end(&producer, patience).unwrap();
    }
    assert_eq!(bench.catch_up().unwrap().records, 200);
    assert_eq!(sum(&bench.lake()), plain_sum(&records[..200]));
    bench.assert_exact(200);
    assert_eq!(bench.catch_up().unwrap().records, 0, "the markers at the end must not be waited for again");
}

/// Fault matrix 15.
pub(crate) fn stops_when_the_topic_is_made_again_while_it_runs(brokers: &str) {
    let topic = topic(brokers, 1);
    let bench = Bench::new(brokers, std::slice::from_ref(&topic), "every = \"20ms\"");
    let records = flights(100, 10);
    produce(brokers, &topic, records.iter().cloned());
    let ended = bench.run_until(|metrics| {
        let (brokers, topic) = (brokers.to_owned(), topic.clone());
        async move {
            at_least(100, || metrics.records_committed()).await;
            tokio::task::spawn_blocking(move || {
                topics::delete(&brokers, &topic);
                topics::create(&brokers, &topic, 1);
                // Past the offset that the run is at, so that the new topic looks like the old one, grown.
                produce(&brokers, &topic, flights(400, 11));
            })
            .await
            .unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    });
    let error = ended.expect_err("the run must not go on in the new topic").to_string();
    assert!(error.contains(&topic), "{error}");
    assert_eq!(sum(&bench.lake()), plain_sum(&records), "nothing of the new topic may be in the table");
}

/// Fault matrix 16.
pub(crate) fn stops_at_a_gap_and_goes_on_only_when_told(brokers: &str) {
    let topic = topic(brokers, 1);
    let bench = Bench::new(brokers, std::slice::from_ref(&topic), "rows = 100");
    let records = flights(300, 9);
    produce(brokers, &topic, records[..100].iter().cloned());
    bench.catch_up().unwrap();
    produce(brokers, &topic, records[100..].iter().cloned());
    topics::delete_records(brokers, &topic, 0, 150);

    let error = bench.catch_up().unwrap_err().to_string();
    assert!(error.contains("150") && error.contains("100") && error.contains("--accept-gap"), "{error}");
    assert_eq!(sum(&bench.lake()), plain_sum(&records[..100]), "the table must stay as it was");

    assert_eq!(bench.catch_up_with(Gaps::Accept).unwrap().records, 150);
    let kept: Vec<Vec<u8>> = records[..100].iter().chain(&records[150..]).cloned().collect();
    assert_eq!(sum(&bench.lake()), plain_sum(&kept));
    let report = bench.audit();
    assert_eq!(report.problems, Vec::<String>::new());
    let [gap] = report.gaps.as_slice() else { panic!("{:?}", report.gaps) };
    assert_eq!((gap.from, gap.next), (100, 150));
    assert_eq!(bench.catch_up().unwrap().records, 0, "the gap is accepted once and for all");
}

pub(crate) fn reads_several_topics_into_one_table(brokers: &str) {
    let topics = [topic(brokers, 1), topic(brokers, 2)];
    let bench = Bench::new(brokers, &topics, "rows = 300");
    let records = flights(1_000, 8);
    produce(brokers, &topics[0], records[..400].iter().cloned());
    produce(brokers, &topics[1], records[400..].iter().cloned());
    assert_eq!(bench.catch_up().unwrap().records, 1_000);
    assert_eq!(sum(&bench.lake()), plain_sum(&records));
    bench.assert_exact(1_000);
}
