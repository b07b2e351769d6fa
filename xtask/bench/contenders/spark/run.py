"""Spark Structured Streaming: one Kafka topic of JSON flights into Parquet by month, with Spark's own file sink.

    Kafka source -> from_json -> filter -> columns -> broadcast join -> file sink (month=1 ... month=12)

Everything stays in the JVM: Python builds the plan and hears about each finished batch, no record passes through it.
"""

import json
import math
import os
import sys
import threading
import time
from datetime import datetime

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import StreamingQueryListener

CORES = int(os.environ["BENCH_CORES"])
RECORDS = int(os.environ["BENCH_RECORDS"])
WORK = os.environ["BENCH_WORK"]

SCHEMA = """
    year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT, sched_arr_time INT,
    arr_delay INT, carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING, air_time INT, distance INT,
    hour INT, minute INT, time_hour TIMESTAMP
"""

# The most records of a batch. Large enough that planning a batch and committing its files is small beside reading it,
# small enough that rows become visible every few seconds; an equal part of all, lest a small batch be left over.
BATCH_RECORDS = math.ceil(RECORDS / max(1, round(RECORDS / 1_000_000))) + int(os.environ["BENCH_PARTITIONS"])

# Pushed below the parsing, the filter on dep_time would parse every record a second time for itself.
NO_PUSH_DOWN = ",".join(
    f"org.apache.spark.sql.catalyst.optimizer.{rule}" for rule in ("PushDownPredicates", "PushPredicateThroughNonJoin")
)


def main():
    spark = session()
    events = Events()
    spark.streams.addListener(events)
    query = write(flights(spark))
    events.enough.wait()
    if failure := query.exception():
        sys.exit(str(failure))
    query.stop()
    spark.stop()


def session():
    options = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.extraClassPath": os.path.join(os.environ["BENCH_JARS"], "*"),
        "spark.driver.memory": "1g",  # twice as much is not faster
        # Two cores have no core to spare for a concurrent collector.
        "spark.driver.extraJavaOptions": "-XX:+UseParallelGC",
        "spark.local.dir": WORK,
        "spark.sql.warehouse.dir": os.path.join(WORK, "warehouse"),
        "spark.ui.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(CORES),
        "spark.sql.parquet.compression.codec": "zstd",
        # A batch brings a file less than 1 MB; for the default of 128 MiB, 24 open files are more than the heap.
        "spark.hadoop.parquet.block.size": str(16 << 20),
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.optimizer.excludedRules": NO_PUSH_DOWN,
        # An open file for each of the twelve months (the limit itself is never reached), instead of sorting by month.
        "spark.sql.maxConcurrentOutputFileWriters": "13",
    }
    builder = SparkSession.builder.master(f"local[{CORES}]").appName("bench")
    for key, value in options.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def flights(spark):
    kafka = {
        "kafka.bootstrap.servers": os.environ["BENCH_BROKERS"],
        "subscribe": os.environ["BENCH_TOPIC"],
        "startingOffsets": "earliest",
        "maxOffsetsPerTrigger": str(BATCH_RECORDS),
        # The consumer's defaults are for low latency: 1 MiB of a partition and 500 records a poll.
        "kafka.max.partition.fetch.bytes": str(8 << 20),
        "kafka.max.poll.records": "10000",
    }
    airlines = spark.read.parquet(os.environ["BENCH_AIRLINES"]).withColumnRenamed("name", "airline")
    return (
        spark.readStream.format("kafka").options(**kafka).load()
        .coalesce(CORES)  # a task a core, so each writes one file a month and not four
        .select(F.from_json(F.col("value").cast("string"), SCHEMA).alias("flight"))
        .select("flight.*")
        .where("dep_time IS NOT NULL")
        .join(F.broadcast(airlines), "carrier", "left")
        .selectExpr(
            "year", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay",
            "carrier", "airline", "flight", "tailnum", "origin", "dest", "air_time", "distance", "hour", "minute",
            "time_hour",
            "arr_delay >= 15 AS late",
            # D: a plain 60.0 is a decimal, whose arithmetic is slow.
            "round(distance * 60.0D / nullif(air_time, 0), 1) AS speed_mph",
            "dep_delay - arr_delay AS made_up",
            "timestampadd(MINUTE, minute, time_hour) AS scheduled_departure",
            "month",
        )
    )


def write(rows):
    return (
        rows.writeStream.format("parquet")
        .option("path", os.environ["BENCH_OUT"])
        .option("checkpointLocation", os.path.join(WORK, "checkpoint"))
        .partitionBy("month")
        .trigger(availableNow=True)
        .start()
    )


class Events(StreamingQueryListener):
    """Says when the first batch begins to read and when each batch is committed."""

    def __init__(self):
        self.enough = threading.Event()
        self.started = False

    def onQueryStarted(self, event):
        pass

    def onQueryProgress(self, event):
        progress = event.progress
        records = sum(sum(topic.values()) for topic in json.loads(progress.sources[0].endOffset).values())
        if not self.started:
            self.started = True
            say("ready", at=reads_from(progress))
        say("committed", records=records)
        if records >= RECORDS:
            self.enough.set()

    def onQueryTerminated(self, event):
        self.enough.set()

    def onQueryIdle(self, event):
        pass


def reads_from(progress):
    """When this batch began to read records: its trigger's start, and the planning before its tasks."""
    trigger = datetime.fromisoformat(progress.timestamp.replace("Z", "+00:00")).timestamp()
    spent = progress.durationMs
    return trigger + (spent["triggerExecution"] - spent["addBatch"] - spent.get("commitOffsets", 0)) / 1000


def say(event, at=None, **more):
    print(json.dumps({"event": event, "at": at or time.time(), **more}), flush=True)


main()
