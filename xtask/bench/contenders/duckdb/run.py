"""A hand-written loader: records are consumed in bulk, and one SQL statement of DuckDB does all the rest.

    Kafka --+--> worker 0 (half of the partitions) --> Arrow --> COPY (SELECT ...) --+--> month=N/*.parquet
            +--> worker 1 (the other half)         --> Arrow --> COPY (SELECT ...) --+
                       |
               committed offsets, read back from the broker: what is final

Processes and not threads, because a Python consumer holds the interpreter lock while it hands over records.
"""

import json
import multiprocessing
import os
import sys
import time

import duckdb
import pyarrow as pa
from confluent_kafka import OFFSET_INVALID, Consumer, TopicPartition

BROKERS = os.environ["BENCH_BROKERS"]
TOPIC = os.environ["BENCH_TOPIC"]
RECORDS = int(os.environ["BENCH_RECORDS"])
PARTITIONS = range(int(os.environ["BENCH_PARTITIONS"]))
CORES = int(os.environ["BENCH_CORES"])
LOOK_EVERY = 0.1
# Records of one COPY, which makes a file for each month in them.
BATCH = 250_000
# How many records one call of the consumer asks for.
CALL = 25_000

TEXT = {"carrier", "tailnum", "origin", "dest"}
COLUMNS = (
    "year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay carrier flight"
    " tailnum origin dest air_time distance hour minute"
).split()
STRUCTURE = json.dumps(
    {name: "VARCHAR" if name in TEXT else "INTEGER" for name in COLUMNS} | {"time_hour": "TIMESTAMP"}
)
QUERY = f"""
    COPY (
        SELECT f.*, a.name AS airline,
            f.arr_delay >= 15 AS late,
            round(f.distance * 60.0 / nullif(f.air_time, 0), 1) AS speed_mph,
            f.dep_delay - f.arr_delay AS made_up,
            f.time_hour + to_minutes(f.minute) AS scheduled_departure
        FROM (SELECT unnest(from_json(value, '{STRUCTURE}')) FROM records) AS f
        LEFT JOIN airlines AS a ON f.carrier = a.carrier
        WHERE f.dep_time IS NOT NULL
    ) TO '{os.environ["BENCH_OUT"]}' (
        FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARTITION_BY (month), APPEND
    )"""


def main() -> int:
    context = multiprocessing.get_context("spawn")
    first_record = context.Event()
    group = f"duckdb-{time.time_ns()}"
    workers = [context.Process(target=work, args=(worker, group, first_record)) for worker in range(CORES)]
    for process in workers:
        process.start()
    while not first_record.wait(LOOK_EVERY):
        if not all(process.is_alive() for process in workers):
            return 1
    say("ready")
    reached = watch(group, workers)
    for process in workers:
        process.terminate()
        process.join()
    return 0 if reached else 1


def watch(group: str, workers: list) -> bool:
    """Tells each advance of the group's offsets; true once they cover the wanted records."""
    consumer = Consumer({"bootstrap.servers": BROKERS, "group.id": group})
    partitions = [TopicPartition(TOPIC, p) for p in PARTITIONS]
    first = {p.partition: consumer.get_watermark_offsets(p, timeout=30)[0] for p in partitions}
    committed = 0
    while committed < RECORDS:
        if not all(process.is_alive() for process in workers):
            return False
        time.sleep(LOOK_EVERY)
        stored = [p for p in consumer.committed(partitions, timeout=30) if p.offset != OFFSET_INVALID]
        now = sum(p.offset - first[p.partition] for p in stored)
        if now > committed:
            committed = now
            say("committed", records=committed)
    return True


def work(worker: int, group: str, first_record) -> None:
    database = duckdb.connect(config={"threads": 1})
    database.execute(f"CREATE TABLE airlines AS SELECT carrier, name FROM '{os.environ['BENCH_AIRLINES']}'")
    consumer = Consumer(
        {
            "bootstrap.servers": BROKERS,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": 4 << 20,
            "queued.max.messages.kbytes": 32 << 10,
            # A second by default: so long a queue that has run full would be left alone.
            "fetch.queue.backoff.ms": 5,
        }
    )
    # Assigned by hand, so that nobody waits for a group to form.
    consumer.assign([TopicPartition(TOPIC, p) for p in PARTITIONS if p % CORES == worker])
    while True:
        values = []
        while len(values) < BATCH:
            messages = consumer.consume(CALL, 0.5)
            for message in messages:
                if message.error():
                    raise RuntimeError(str(message.error()))
                values.append(message.value())
            if not messages:
                break  # The end of the topic for now: what there is should not wait for more.
            first_record.set()
        if values:
            database.register("records", pa.table({"value": pa.array(values, pa.string())}))
            database.execute(QUERY)
            consumer.commit(asynchronous=False)


def say(event: str, **more) -> None:
    print(json.dumps({"event": event, "at": time.time(), **more}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
