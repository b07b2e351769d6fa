"""Runs the flights through one mq-bridge route: its Rust core does everything but tell what is final.

    kafka -> filter -> transform (Zen expression) -> switch by month -> object_store: month=N/*.parquet
      ^                                                                        |
      +------------------ offsets, committed after the objects are synced -----+

What is final is read from the broker: the offsets that the route has committed.
"""

import json
import os
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
from confluent_kafka import OFFSET_INVALID, Consumer, TopicPartition
from mq_bridge import Route

BROKERS = os.environ["BENCH_BROKERS"]
TOPIC = os.environ["BENCH_TOPIC"]
RECORDS = int(os.environ["BENCH_RECORDS"])
OUT = Path(os.environ["BENCH_OUT"])
# Each run begins at the first record: a group that has committed offsets would go on from them.
GROUP = f"mq-bridge-{time.time_ns()}"
LOOK_EVERY = 0.1


def main() -> None:
    route = Route.from_config(
        {
            "input": {
                # The month goes along as metadata: a switch on metadata costs far less than twelve conditions.
                "middlewares": [{"id": "${payload:month}"}],
                "kafka": {
                    "url": BROKERS,
                    "topic": TOPIC,
                    "group_id": GROUP,
                    "consumer_options": [["auto.offset.reset", "earliest"]],
                }
            },
            # Of an output's middlewares the last is outermost, so the filter comes before the transform.
            "output": {"middlewares": [{"transform": {"expression": expression()}}, {"filter": "dep_time != null"}]}
            | {"switch": {"metadata_key": "mqb.id", "cases": {str(n): month(n) for n in range(1, 13)}}},
            # An object is a batch's rows of one month. Larger batches make fewer files, but took longer a row.
            "batch_size": 5000,
            "concurrency": int(os.environ["BENCH_CORES"]),
        }
    )
    route.start()
    wait_for_first_file()
    say("ready")
    watch()
    route.stop()
    route.join()


def month(number: int) -> dict:
    store = {"url": (OUT / f"month={number}").as_uri(), "format": "parquet", "date_partition": False}
    return {"object_store": store}


def expression() -> str:
    airlines = pq.read_table(os.environ["BENCH_AIRLINES"]).to_pylist()
    # A chain of comparisons: a map would be built anew for each record, which took a sixth longer.
    name = "".join(f"carrier == {json.dumps(row['carrier'])} ? {json.dumps(row['name'])} : " for row in airlines)
    return f"""merge([$root, {{
        airline: {name} null,
        late: arr_delay == null ? null : arr_delay >= 15,
        speed_mph: air_time == null or air_time == 0 ? null : round(distance * 60 / air_time, 1),
        made_up: arr_delay == null ? null : dep_delay - arr_delay,
        scheduled_departure: dateString(date(time_hour) + minute * 60)
    }}])"""


def wait_for_first_file() -> None:
    while not any(path.is_file() for path in OUT.rglob("*")):
        time.sleep(0.01)


def watch() -> None:
    """Tells each advance of the group's offsets until they cover the wanted records."""
    consumer = Consumer({"bootstrap.servers": BROKERS, "group.id": GROUP})
    partitions = [TopicPartition(TOPIC, p) for p in range(int(os.environ["BENCH_PARTITIONS"]))]
    first = {p.partition: consumer.get_watermark_offsets(p, timeout=30)[0] for p in partitions}
    committed = 0
    while committed < RECORDS:
        time.sleep(LOOK_EVERY)
        stored = [p for p in consumer.committed(partitions, timeout=30) if p.offset != OFFSET_INVALID]
        now = sum(p.offset - first[p.partition] for p in stored)
        if now > committed:
            committed = now
            say("committed", records=committed)
    consumer.close()


def say(event: str, **more) -> None:
    print(json.dumps({"event": event, "at": time.time(), **more}), flush=True)


if __name__ == "__main__":
    main()
