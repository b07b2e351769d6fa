"""Starts one Quix Streams application for each core and watches the offsets that they commit.

    Kafka --+--> application (half of the partitions) --> MonthFiles sink --+--> month=N/*.parquet
            +--> application (the other half)         --> MonthFiles sink --+
                       |
               committed offsets, read back from the broker: what is final

Processes of one consumer group are how Quix scales; the interpreter lock would keep threads to one core.
"""

import json
import multiprocessing
import os
import sys
import time

from confluent_kafka import OFFSET_INVALID, Consumer, TopicPartition

BROKERS = os.environ["BENCH_BROKERS"]
TOPIC = os.environ["BENCH_TOPIC"]
RECORDS = int(os.environ["BENCH_RECORDS"])
LOOK_EVERY = 0.1


def main() -> int:
    context = multiprocessing.get_context("spawn")
    first_record = context.Event()
    group = f"quix-{time.time_ns()}"
    cores = range(int(os.environ["BENCH_CORES"]))
    workers = [context.Process(target=work, args=(worker, group, first_record)) for worker in cores]
    # One Polars thread each: the processes already fill the cores.
    os.environ["POLARS_MAX_THREADS"] = "1"
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
    partitions = [TopicPartition(TOPIC, p) for p in range(int(os.environ["BENCH_PARTITIONS"]))]
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
    from quixstreams import Application

    from sink import MonthFiles

    application = Application(
        broker_address=BROKERS,
        consumer_group=group,
        auto_offset_reset="earliest",
        # A checkpoint is a set of files: large enough for good ones, small enough to hold in memory.
        commit_every=200_000,
        commit_interval=5.0,
        state_dir=os.path.join(os.environ["BENCH_WORK"], "state"),
        consumer_extra_config={
            "fetch.message.max.bytes": 4 << 20,
            "queued.max.messages.kbytes": 32 << 10,
            # A second by default: so long a queue that has run full would be left alone.
            "fetch.queue.backoff.ms": 5,
        },
        broker_availability_timeout=0,
        auto_create_topics=False,
        loglevel="WARNING",
    )
    # Bytes through and through: parsing is the sink's work, a whole batch at a time.
    topic = application.topic(TOPIC, key_deserializer="bytes", value_deserializer="bytes")
    application.dataframe(topic).sink(MonthFiles(str(worker), first_record))
    application.run()


def say(event: str, **more) -> None:
    print(json.dumps({"event": event, "at": time.time(), **more}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
