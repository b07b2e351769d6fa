"""Flights from Kafka to Parquet by month: what a good afternoon with confluent-kafka and Polars gives.

    consume a batch -> join its lines -> pl.read_ndjson -> lazy query -> one file a month -> commit offsets

Polars works without the GIL, so a thread consumes the next batch while this one is transformed and written.
"""

import json
import os
import queue
import sys
import threading
import time
import uuid

import polars as pl
from confluent_kafka import Consumer

RECORDS = int(os.environ["BENCH_RECORDS"])
OUT = os.environ["BENCH_OUT"]
# 500,000 were no faster, and took half as much memory again.
BATCH = 200_000
# As many records a call; with ten times fewer the calls cost no more.
TAKE = 10_000

INTEGERS = """year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay flight air_time distance
hour minute""".split()
STRINGS = "carrier tailnum origin dest time_hour".split()
SCHEMA = {name: pl.Int32 for name in INTEGERS} | {name: pl.String for name in STRINGS}


def consume(consumer, batches):
    """Fills the queue with batches of lines, until all records were read."""
    seen = 0
    while seen < RECORDS:
        lines, size = [], 0
        while size < BATCH and seen + size < RECORDS:
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
        batches.put((b"\n".join(lines), consumer.position(consumer.assignment()), seen))
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


def main():
    consumer = Consumer({
        "bootstrap.servers": os.environ["BENCH_BROKERS"],
        "group.id": f"python-{uuid.uuid4()}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        # So that the queue never runs full while a batch is written.
        "queued.min.messages": 1_000_000,
        "fetch.message.max.bytes": 4 << 20,
    })
    consumer.subscribe([os.environ["BENCH_TOPIC"]])
    airlines = pl.scan_parquet(os.environ["BENCH_AIRLINES"]).rename({"name": "airline"})
    batches = queue.Queue(maxsize=1)
    threading.Thread(target=consume, args=(consumer, batches), daemon=True).start()
    while batch := batches.get():
        lines, positions, seen = batch
        write(lines, airlines)
        consumer.commit(offsets=positions, asynchronous=False)
        event("committed", records=seen)
    consumer.close()


main()
