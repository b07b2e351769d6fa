"""The Bytewax dataflow of one worker: batches of records in, Polars in the middle, Parquet at every snapshot.

    Kafka -> [values] -> Polars: parse, filter, join, derive -> frames of an epoch -> month=N/W-S.parquet
"""

import json
import os
import time
from pathlib import Path

import bytewax.operators as op
import polars as pl
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

WORKER = os.environ["WORKER"]
WORKERS = int(os.environ["WORKERS"])
# Large enough that a call's fixed price does not show, small enough that parsed batches stay in the cache.
BATCH = 10_000


class Flights(FixedPartitionedSource):
    """One consumer for all of a worker's partitions, so that one call fills a batch."""

    def list_parts(self):
        return [WORKER]

    def build_part(self, step_id, for_part, resume_state):
        return FlightsPart(resume_state)


class FlightsPart(StatefulSourcePartition):
    def __init__(self, resume_state):
        assigned = json.loads(os.environ["WORKER_PARTITIONS"])
        state = resume_state or {"read": 0, "offsets": {p: OFFSET_BEGINNING for p in assigned}}
        self.read = state["read"]
        self.share = int(os.environ["WORKER_RECORDS"])
        self.ready = False
        self.consumer = Consumer(
            {
                "bootstrap.servers": os.environ["BENCH_BROKERS"],
                "group.id": "bytewax-bench",
                "enable.auto.commit": False,
                "fetch.message.max.bytes": 4 << 20,
                "queued.max.messages.kbytes": 32 << 10,
                # A second by default: so long a queue that has run full would be left alone.
                "fetch.queue.backoff.ms": 5,
            }
        )
        topic = os.environ["BENCH_TOPIC"]
        self.assigned = [TopicPartition(topic, p, offset) for p, offset in state["offsets"].items()]
        self.consumer.assign(self.assigned)

    def next_batch(self):
        if self.read >= self.share:
            raise StopIteration
        values = []
        for message in self.consumer.consume(min(BATCH, self.share - self.read), 0.2):
            if message.error():
                raise RuntimeError(str(message.error()))
            values.append(message.value())
        if not values:
            return []
        if not self.ready:
            self.ready = True
            say("ready")
        self.read += len(values)
        return [values]

    def snapshot(self):
        # A partition that nothing was read from has no position yet: it keeps the offset it began at.
        positions = self.consumer.position(self.assigned)
        before = {tp.partition: tp.offset for tp in self.assigned}
        offsets = {tp.partition: tp.offset if tp.offset >= 0 else before[tp.partition] for tp in positions}
        return {"read": self.read, "offsets": offsets}

    def close(self):
        self.consumer.close()


COLUMNS = {
    name: pl.String if name in {"carrier", "tailnum", "origin", "dest", "time_hour"} else pl.Int32
    for name in (
        "year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay carrier flight"
        " tailnum origin dest air_time distance hour minute time_hour"
    ).split()
}
AIRLINES = pl.read_parquet(os.environ["BENCH_AIRLINES"]).select("carrier", airline="name").lazy()


def transform(values):
    # The time is read as text and parsed afterwards: the NDJSON reader would guess its format anew for each row.
    flights = pl.read_ndjson(b"\n".join(values), schema=COLUMNS).lazy()
    minutes = pl.duration(minutes="minute")
    # SQL's rounding, as all others round; Polars by itself rounds halves to the even digit.
    speed = (pl.col("distance") * 60.0 / pl.col("air_time")).round(1, mode="half_away_from_zero")
    frame = (
        flights.filter(pl.col("dep_time").is_not_null())
        .with_columns(pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC"))
        .join(AIRLINES, on="carrier", how="left")
        .with_columns(
            late=pl.col("arr_delay") >= 15,
            speed_mph=pl.when(pl.col("air_time") != 0).then(speed),
            made_up=pl.col("dep_delay") - pl.col("arr_delay"),
            scheduled_departure=pl.col("time_hour") + minutes,
        )
        .collect()
    )
    return WORKER, (len(values), frame)


class MonthFiles(FixedPartitionedSink):
    def list_parts(self):
        return [WORKER]

    def part_fn(self, item_key):
        return int(item_key)

    def build_part(self, step_id, for_part, resume_state):
        return MonthFilesPart(resume_state)


class MonthFilesPart(StatefulSinkPartition):
    """Holds an epoch's rows and writes a file for each month when Bytewax asks for the state to keep.

    The state is the number of epochs written: files of a later one are leftovers of a crash, and go.
    """

    def __init__(self, resume_state):
        self.records, self.epoch = resume_state or (0, 0)
        self.out = Path(os.environ["BENCH_OUT"])
        self.frames = []
        for path in self.out.glob(f"month=*/{WORKER}-*.parquet"):
            if int(path.stem.split("-")[1]) >= self.epoch:
                path.unlink()

    def write_batch(self, values):
        for records, frame in values:
            self.records += records
            self.frames.append(frame)

    def snapshot(self):
        if self.frames:
            for (month,), rows in pl.concat(self.frames).partition_by("month", as_dict=True).items():
                folder = self.out / f"month={month}"
                folder.mkdir(exist_ok=True)
                rows.write_parquet(folder / f"{WORKER}-{self.epoch}.parquet", compression="zstd", compression_level=1)
            self.frames = []
            self.epoch += 1
            say("snapshot", records=self.records)
        return self.records, self.epoch


def say(event, **more):
    print(json.dumps({"event": event, "at": time.time(), **more}), flush=True)


flow = Dataflow("flights")
batches = op.input("kafka", flow, Flights())
op.output("parquet", op.map("transform", batches, transform), MonthFiles())
