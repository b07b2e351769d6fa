"""Flights from Kafka to Parquet by month: what a good day with confluent-kafka and Polars gives.

    a process a core, each with its part of the partitions:
    consume a batch -> join its lines -> pl.read_ndjson -> lazy query -> one file a month -> commit offsets

Polars works without the GIL, so a thread consumes the next batch while this one is transformed and written.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid

import polars as pl
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

CORES = int(os.environ["BENCH_CORES"])
TOPIC = os.environ["BENCH_TOPIC"]
OUT = os.environ["BENCH_OUT"]
# 50,000 were slower, and 200,000 take more memory.
BATCH = 100_000
# As many records a call; with ten times fewer the calls cost no more.
TAKE = 10_000

INTEGERS = """year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay flight air_time distance
hour minute""".split()
STRINGS = "carrier tailnum origin dest time_hour".split()
SCHEMA = {name: pl.Int32 for name in INTEGERS} | {name: pl.String for name in STRINGS}


def consume(consumer, batches, records):
    """Fills the queue with batches of lines, until all records were read."""
    seen = 0
    while seen < records:
        lines, size = [], 0
        while size < BATCH and seen + size < records:
            messages = consumer.consume(TAKE, timeout=0.5)
            if messages and seen + size == 0:
                event("ready")
            for message in messages:
                if message.error():
                    sys.exit(f"cannot read: {message.error()}")
            lines.append(b"\n".join([message.value() for message in messages]))
            size += len(messages)
        seen += size
        # Where the batch ends; the next one is read before this one is written.
        batches.put((b"\n".join(lines), consumer.position(consumer.assignment()), size))
    batches.put(None)


def write(lines, airlines):
    minutes = pl.col("air_time").replace(0, None)
    flights = (
        pl.read_ndjson(lines, schema=SCHEMA)
        .lazy()
        .filter(pl.col("dep_time").is_not_null())
        .join(airlines, on="carrier", how="left")
        .with_columns(pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC"))
        .with_columns(
            late=pl.col("arr_delay") >= 15,
            speed_mph=(pl.col("distance") * 60.0 / minutes).round(1, mode="half_away_from_zero"),
            made_up=pl.col("dep_delay") - pl.col("arr_delay"),
            scheduled_departure=pl.col("time_hour") + pl.duration(minutes="minute"),
        )
        .collect()
    )
    for (month,), rows in flights.partition_by("month", as_dict=True).items():
        folder = f"{OUT}/month={month}"
        os.makedirs(folder, exist_ok=True)
        rows.drop("month").write_parquet(f"{folder}/{uuid.uuid4()}.parquet", compression="zstd")


def event(name, **more):
    print(json.dumps({"event": name, "at": time.time(), **more}), flush=True)


def work(part):
    consumer = Consumer({
        "bootstrap.servers": os.environ["BENCH_BROKERS"],
        "group.id": f"python-{TOPIC}",
        "enable.auto.commit": False,
        # So that the queue hardly ever runs full while a batch is written.
        "queued.min.messages": 1_000_000,
        "fetch.message.max.bytes": 4 << 20,
        # A second by default: so long a queue that has run full would be left alone.
        "fetch.queue.backoff.ms": 5,
    })
    partitions = range(part, int(os.environ["BENCH_PARTITIONS"]), CORES)
    partitions = [TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in partitions]
    records = sum(consumer.get_watermark_offsets(partition)[1] for partition in partitions)
    # Assigned by hand, so that nobody waits for a group to form.
    consumer.assign(partitions)
    airlines = pl.scan_parquet(os.environ["BENCH_AIRLINES"]).rename({"name": "airline"})
    batches = queue.Queue(maxsize=1)
    threading.Thread(target=consume, args=(consumer, batches, records), daemon=True).start()
    while batch := batches.get():
        lines, positions, size = batch
        write(lines, airlines)
        consumer.commit(offsets=positions, asynchronous=False)
        event("committed", more=size)
    consumer.close()


def main():
    # Polars takes its number of threads when it is loaded.
    environment = os.environ | {"POLARS_MAX_THREADS": "1"}
    parts = [subprocess.Popen([sys.executable, __file__, str(part)], env=environment) for part in range(CORES)]
    sys.exit(max(part.wait() for part in parts))


if len(sys.argv) > 1:
    work(int(sys.argv[1]))
else:
    main()
