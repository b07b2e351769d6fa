"""Runs the flights through LaminarDB: everything between Kafka and the Delta table is its Rust engine.

    CREATE SOURCE (Kafka) -> CREATE STREAM (SQL) -> CREATE SINK (Delta Lake, partitioned by month)
                                   |
                 a checkpoint holds the offsets of what the sink has committed

What is final is read from the checkpoints' manifests, the same that LaminarDB would restart from.
"""

import json
import os
import time
from pathlib import Path

import deltalake
import laminardb
import pyarrow as pa
import pyarrow.parquet as pq

BROKERS = os.environ["BENCH_BROKERS"]
TOPIC = os.environ["BENCH_TOPIC"]
# Each run begins at the first record: a group that has committed offsets would go on from them.
GROUP = f"laminardb-{time.time_ns()}"
RECORDS = int(os.environ["BENCH_RECORDS"])
OUT = os.environ["BENCH_OUT"]
LOOK_EVERY = 0.1
STATE = Path(os.environ["BENCH_WORK"]) / "state"

NUMBERS_FIRST = "year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay".split()
COLUMNS = [(name, pa.int32()) for name in NUMBERS_FIRST]
COLUMNS += [("carrier", pa.string()), ("flight", pa.int32())]
COLUMNS += [(name, pa.string()) for name in ("tailnum", "origin", "dest")]
COLUMNS += [(name, pa.int32()) for name in ("air_time", "distance", "hour", "minute")]
TIME = pa.timestamp("us")
DERIVED = [("time_hour", TIME), ("airline", pa.string()), ("late", pa.bool_()), ("speed_mph", pa.float64())]
DERIVED += [("made_up", pa.int32()), ("scheduled_departure", TIME)]


def main() -> None:
    # The sink does not make a table whose schema it has not seen a batch of, and opens before the first one.
    deltalake.DeltaTable.create(OUT, schema=pa.schema(COLUMNS + DERIVED), partition_by=["month"])
    config = laminardb.LaminarConfig(storage_dir=str(STATE), checkpoint_interval_ms=5000)
    connection = laminardb.open(":memory:", config=config)
    for statement in (source(), stream(), sink()):
        connection.execute(statement)
    connection.start()
    while connection.metrics().total_events_ingested == 0:
        time.sleep(0.005)
    say("ready", time.time())
    watch(connection)
    connection.shutdown()
    # A write that lost a race for a table version has been made again: its first file belongs to no version.
    table = deltalake.DeltaTable(OUT)
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def watch(connection) -> None:
    """Tells each advance of the committed checkpoints until they cover the wanted records."""
    committed = 0
    quiet = Quiet()
    while committed < RECORDS:
        time.sleep(LOOK_EVERY)
        now = final_records()
        if now > committed:
            committed = now
            say("committed", time.time(), records=committed)
        # The manifest of the last checkpoint, made when nothing more arrives, may leave the source's offsets out.
        metrics = connection.metrics()
        still = quiet.holds(metrics.total_events_emitted) and metrics.total_events_ingested >= RECORDS
        if still and deltalake.DeltaTable(OUT).count() == metrics.total_events_emitted:
            newest = max(path.stat().st_mtime for path in Path(OUT, "_delta_log").glob("*.json"))
            committed = metrics.total_events_ingested
            say("committed", newest, records=committed)


class Quiet:
    """Whether a number has stayed the same for a second."""

    def __init__(self):
        self.number, self.since = None, time.monotonic()

    def holds(self, number: int) -> bool:
        if number != self.number:
            self.number, self.since = number, time.monotonic()
        return time.monotonic() - self.since >= 1.0


def source() -> str:
    types = {pa.int32(): "INT", pa.string(): "VARCHAR"}
    columns = ", ".join(f"{name} {types[kind]}" for name, kind in COLUMNS)
    return f"""CREATE SOURCE flights ({columns}, time_hour VARCHAR) FROM KAFKA (
        'bootstrap.servers' = '{BROKERS}', 'topic' = '{TOPIC}', 'group.id' = '{GROUP}', 'format' = 'json',
        'startup.mode' = 'earliest', 'max.poll.records' = '10000')"""


def stream() -> str:
    quoted = [
        tuple("'" + row[key].replace("'", "''") + "'" for key in ("carrier", "name"))
        for row in pq.read_table(os.environ["BENCH_AIRLINES"]).to_pylist()
    ]
    airlines = ", ".join(f"({carrier}, {name})" for carrier, name in quoted)
    names = ", ".join(f"f.{name}" for name, _ in COLUMNS)
    # Minutes are added to the microseconds as a number, because a streaming query with an INTERVAL gives no rows.
    return f"""CREATE STREAM flights_out AS
        SELECT {names}, f.at AS time_hour, a.name AS airline,
            f.arr_delay >= 15 AS late,
            ROUND(f.distance * 60.0 / NULLIF(f.air_time, 0), 1) AS speed_mph,
            f.dep_delay - f.arr_delay AS made_up,
            to_timestamp_micros(CAST(f.at AS BIGINT) + f.minute * 60000000) AS scheduled_departure
        FROM (SELECT *, arrow_cast(time_hour, 'Timestamp(Microsecond, None)') AS at
              FROM flights WHERE dep_time IS NOT NULL) AS f
        LEFT JOIN (VALUES {airlines}) AS a(carrier, name) ON f.carrier = a.carrier"""


def sink() -> str:
    return f"""CREATE SINK lake FROM flights_out WITH (
        'connector' = 'delta-lake', 'table.path' = '{OUT}', 'partition.columns' = 'month', 'write.mode' = 'append',
        'delivery.guarantee' = 'exactly_once', 'max.buffer.records' = '500000')"""


def final_records() -> int:
    """How many records of the topic the newest checkpoint that the sink has committed covers."""
    for path in sorted(STATE.glob("checkpoints/checkpoint_*/manifest.json"), reverse=True):
        try:
            manifest = json.loads(path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            continue  # It is being written, or has just been replaced by a newer one.
        source = manifest["table_offsets"].get("flights")
        if source and manifest["sink_commit_statuses"].get("lake") == "Committed":
            return sum(int(offset) for offset in source["offsets"].values())
    return 0


def say(event: str, at: float, **more) -> None:
    print(json.dumps({"event": event, "at": at, **more}), flush=True)


if __name__ == "__main__":
    main()
