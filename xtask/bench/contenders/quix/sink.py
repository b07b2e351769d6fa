"""A Quix sink that keeps raw records until the checkpoint, and then parses and writes them all at once with Polars."""

import os
from pathlib import Path

import polars as pl
from quixstreams.sinks import BaseSink

COLUMNS = {
    name: pl.String if name in {"carrier", "tailnum", "origin", "dest", "time_hour"} else pl.Int32
    for name in (
        "year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay carrier flight"
        " tailnum origin dest air_time distance hour minute time_hour"
    ).split()
}
# Polars parses faster in pieces that stay in the cache than in one of a whole checkpoint.
PIECE = 10_000


class MonthFiles(BaseSink):
    """Not a `BatchingSink`: that one makes an object of five fields from each record."""

    def __init__(self, worker: str, first_record):
        super().__init__()
        self.worker = worker
        self.first_record = first_record
        self.airlines = pl.read_parquet(os.environ["BENCH_AIRLINES"]).select("carrier", airline="name").lazy()
        self.out = Path(os.environ["BENCH_OUT"])
        self.checkpoint = 0
        self.values = []
        self.told = False

    def add(self, value, key, timestamp, headers, topic, partition, offset):
        self.values.append(value)
        if not self.told:
            self.told = True
            self.first_record.set()

    def flush(self):
        """Called before a checkpoint's offsets are committed."""
        if not self.values:
            return
        pieces = [self.transform(self.values[i : i + PIECE]) for i in range(0, len(self.values), PIECE)]
        for (month,), rows in pl.concat(pieces).partition_by("month", as_dict=True).items():
            folder = self.out / f"month={month}"
            folder.mkdir(exist_ok=True)
            path = folder / f"{self.worker}-{self.checkpoint}.parquet"
            rows.write_parquet(path, compression="zstd", compression_level=1)
        self.values = []
        self.checkpoint += 1

    def on_paused(self):
        self.values = []

    def transform(self, values):
        # The time is read as text and parsed afterwards: the NDJSON reader would guess its format anew for each row.
        flights = pl.read_ndjson(b"\n".join(values), schema=COLUMNS).lazy()
        # SQL's rounding, as all others round; Polars by itself rounds halves to the even digit.
        speed = (pl.col("distance") * 60.0 / pl.col("air_time")).round(1, mode="half_away_from_zero")
        return (
            flights.filter(pl.col("dep_time").is_not_null())
            .with_columns(pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC"))
            .join(self.airlines, on="carrier", how="left")
            .with_columns(
                late=pl.col("arr_delay") >= 15,
                speed_mph=pl.when(pl.col("air_time") != 0).then(speed),
                made_up=pl.col("dep_delay") - pl.col("arr_delay"),
                scheduled_departure=pl.col("time_hour") + pl.duration(minutes="minute"),
            )
            .collect()
        )
