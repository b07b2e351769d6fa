"""Flink SQL on PyFlink's local cluster: one Kafka topic of JSON flights into Parquet by month.

    Kafka source -> filter, columns -> file sink (month=1 ... month=12), one chain of operators a core

Everything stays in one JVM: Python hands over the SQL and watches, no record passes through it. The file sink makes
its files final at each checkpoint, and the source then stores its offsets in the consumer group, where we read how
far the table has come.
"""

import json
import os
import socket
import time
import urllib.request
from pathlib import Path

WORK = Path(os.environ["BENCH_WORK"])
# PyFlink reads these when it starts its JVM. Two cores have no core to spare for a concurrent collector.
os.environ["JVM_ARGS"] = "-Xms1g -Xmx1g -XX:+UseParallelGC"
os.environ["HADOOP_CLASSPATH"] = os.path.join(os.environ["BENCH_JARS"], "*")
os.environ["FLINK_LOG_DIR"] = str(WORK)
os.environ["LOG4J_PROPERTIES"] = str(Path(__file__).with_name("log4j.properties").resolve())

import pyarrow.parquet  # noqa: E402
from confluent_kafka import Consumer, TopicPartition  # noqa: E402
from pyflink.common import Configuration  # noqa: E402
from pyflink.table import EnvironmentSettings, TableEnvironment  # noqa: E402

BROKERS = os.environ["BENCH_BROKERS"]
TOPIC = os.environ["BENCH_TOPIC"]
RECORDS = int(os.environ["BENCH_RECORDS"])
GROUP = f"bench-flink-{os.getpid()}"

SOURCE = """
CREATE TABLE flights (
  `year` INT, `month` INT, `day` INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT,
  sched_arr_time INT, arr_delay INT, carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING,
  air_time INT, distance INT, `hour` INT, `minute` INT, time_hour TIMESTAMP_LTZ(0)
) WITH (
  'connector' = 'kafka',
  'topic' = '{topic}',
  'properties.bootstrap.servers' = '{brokers}',
  'properties.group.id' = '{group}',
  -- The consumer's defaults are for low latency: 1 MiB of a partition and 500 records a poll.
  'properties.max.partition.fetch.bytes' = '8388608',
  'properties.max.poll.records' = '10000',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'specific-offsets',
  'scan.bounded.specific-offsets' = '{ends}',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
)
"""

SINK = """
CREATE TABLE lake (
  `year` INT, `day` INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT, sched_arr_time INT,
  arr_delay INT, carrier STRING, airline STRING, flight INT, tailnum STRING, origin STRING, dest STRING, air_time INT,
  distance INT, `hour` INT, `minute` INT, time_hour TIMESTAMP_LTZ(6), late BOOLEAN, speed_mph DOUBLE, made_up INT,
  scheduled_departure TIMESTAMP_LTZ(6), `month` INT
) PARTITIONED BY (`month`) WITH (
  'connector' = 'filesystem',
  'path' = '{path}',
  'format' = 'parquet',
  'parquet.compression' = 'ZSTD',
  'parquet.utc-timezone' = 'true',
  -- Otherwise timestamps are INT96, which Parquet has deprecated.
  'parquet.write.int64.timestamp' = 'true',
  'parquet.timestamp.time.unit' = 'micros'
)
"""

INSERT = """
INSERT INTO lake
SELECT
  `year`, `day`, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, carrier,
  {airlines}[carrier], flight, tailnum, origin, dest, air_time, distance, `hour`, `minute`, time_hour,
  arr_delay >= 15,
  -- E0: a plain 60.0 is a decimal, whose arithmetic is slow.
  ROUND(distance * 60E0 / NULLIF(air_time, 0), 1),
  dep_delay - arr_delay,
  TIMESTAMPADD(MINUTE, `minute`, time_hour),
  `month`
FROM flights
WHERE dep_time IS NOT NULL
"""


def main():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = Consumer({"bootstrap.servers": BROKERS, "group.id": GROUP, "enable.auto.commit": False})
    ends = last_offsets(group)
    table = TableEnvironment.create(settings(port))
    source = ";".join(f"partition:{p},offset:{end}" for p, end in ends.items())
    table.execute_sql(SOURCE.format(topic=TOPIC, brokers=BROKERS, group=GROUP, ends=source))
    table.execute_sql(SINK.format(path=os.environ["BENCH_OUT"]))
    insert = INSERT.format(airlines=airlines())
    job = table.execute_sql(insert).get_job_client()
    watch(job, port, group, ends)
    group.close()


def settings(port):
    options = {
        "parallelism.default": os.environ["BENCH_CORES"],
        "pipeline.object-reuse": "true",
        "execution.checkpointing.interval": "5 s",
        "execution.checkpointing.dir": (WORK / "checkpoints").as_uri(),
        "restart-strategy.type": "none",
        "table.local-time-zone": "UTC",
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": str(port),
        "rest.bind-port": str(port),
        "metrics.fetcher.update-interval": "100 ms",
        "io.tmp.dirs": str(WORK),
    }
    configuration = Configuration()
    for key, value in options.items():
        configuration.set_string(key, value)
    return EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration).build()


def last_offsets(group):
    """For each partition the offset to stop at: RECORDS in all, an equal part of each partition."""
    partitions = group.list_topics(TOPIC, timeout=30).topics[TOPIC].partitions
    ends = {p: group.get_watermark_offsets(TopicPartition(TOPIC, p), timeout=30)[1] for p in partitions}
    share = min(1, RECORDS / sum(ends.values()))
    return {p: -int(-end * share // 1) for p, end in ends.items()}


def airlines():
    """The airlines as a constant map, read once.

    A streaming left join of two tables keeps every flight in its state and takes rows back, which a file sink cannot;
    a lookup join wants a source that can look keys up, which files are not.
    """
    quoted = lambda text: "'" + text.replace("'", "''") + "'"  # noqa: E731
    rows = pyarrow.parquet.read_table(os.environ["BENCH_AIRLINES"]).to_pylist()
    return "MAP[" + ", ".join(f"{quoted(row['carrier'])}, {quoted(row['name'])}" for row in rows) + "]"


def watch(job, port, group, ends):
    """Says when the source runs and how far each checkpoint came, until the job has ended."""
    url = f"http://127.0.0.1:{port}/jobs/{job.get_job_id()}"
    result = job.get_job_execution_result()
    partitions = [TopicPartition(TOPIC, p) for p in ends]
    ready = False
    records = 0
    while not result.done():
        time.sleep(0.1)
        if not ready and source_reads(url):
            ready = True
            say("ready")
        stored = sum(max(0, p.offset) for p in group.committed(partitions, timeout=30))
        if stored > records and stored < sum(ends.values()):
            records = stored
            say("committed", records=records)
    result.result()  # raises what the job failed with
    say("committed", records=sum(ends.values()))
    for file in Path(os.environ["BENCH_OUT"]).glob("month=*/part-*"):
        file.rename(f"{file}.parquet")  # Flink gives its files no extension


def source_reads(url):
    """Whether the source has handed on its first record: the job's vertex that nothing flows into."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            vertices = json.load(answer)["vertices"]
    except OSError:
        return False
    return any(vertex["metrics"]["read-records"] > 0 for vertex in vertices if vertex["name"].startswith("Source"))


def say(event, **more):
    print(json.dumps({"event": event, "at": time.time(), **more}), flush=True)


if __name__ == "__main__":
    main()
