"""Compares a contender's table with the data set that its topic was filled from: rows, and sums that a wrong filter,
a wrong column, a missed join or a row read twice would change.

    python check.py DATA_FOLDER RECORDS TABLE_FOLDER      prints {"wrong": ["what is wrong", ...]}
"""

import json
import sys
from pathlib import Path

import polars as pl

# Of some columns the types differ between contenders (a month is a string in a folder's name, `late` may be 0 or 1), so
# each is brought to a number.
SUMS = {
    "rows": pl.len(),
    "distance": pl.col("distance").cast(pl.Int64).sum(),
    "late": pl.col("late").cast(pl.Int64).sum(),
    "made_up": pl.col("made_up").cast(pl.Int64).sum(),
    "speed_mph": pl.col("speed_mph").cast(pl.Float64).sum(),
    "airline": pl.col("airline").is_not_null().sum(),
    "airline, length": pl.col("airline").cast(pl.String).str.len_bytes().cast(pl.Int64).sum(),
    "scheduled_departure": pl.col("scheduled_departure").dt.epoch("s").sum(),
}
COLUMNS = ["distance", "late", "made_up", "speed_mph", "airline", "scheduled_departure"]
# All columns: 19 fields, the airline and four derived ones. The month may be in the folders' names only.
ALL = 24


def expected(data, records):
    """The sums for a topic of so many records: the data set over and over, the last time its first rows only."""
    flights = pl.scan_parquet(data / "flights.parquet")
    airlines = pl.scan_parquet(data / "airlines.parquet").rename({"name": "airline"})
    rows = flights.select(pl.len()).collect().item()
    total = None
    for times, part in [(records // rows, flights), (1, flights.head(records % rows))]:
        kept = part.filter(pl.col("dep_time").is_not_null()).join(airlines, on="carrier", how="left")
        minutes = pl.col("air_time").replace(0, None)
        derived = kept.with_columns(
            late=pl.col("arr_delay") >= 15,
            made_up=pl.col("dep_delay") - pl.col("arr_delay"),
            speed_mph=(pl.col("distance") * 60.0 / minutes).round(1),
            scheduled_departure=pl.col("time_hour") + pl.duration(minutes=pl.col("minute")),
        )
        sums = derived.select(**SUMS).collect().row(0, named=True)
        total = {name: (total or {}).get(name, 0) + times * value for name, value in sums.items()}
    return total


def found(table):
    """The sums of a table, and the columns that it lacks."""
    files = live_files(table)
    if not files:
        return {name: 0 for name in SUMS}, ["there is no data file"]
    schema = pl.read_parquet_schema(files[0])
    names = set(schema) | {"month"}
    wrong = [] if len(names) == ALL else [f"it has {len(names)} columns, not {ALL}"]
    sums = pl.scan_parquet(files, hive_partitioning=False).select(COLUMNS).select(**SUMS)
    return sums.collect().row(0, named=True), wrong


def live_files(table):
    """The data files: of a Delta table those that its log names, else all but hidden ones."""
    for log in table.rglob("_delta_log"):
        from deltalake import DeltaTable

        return [uri.removeprefix("file://") for uri in DeltaTable(str(log.parent)).file_uris()]
    visible = lambda path: not any(part[0] in "._" for part in path.relative_to(table).parts)
    return [str(path) for path in sorted(table.rglob("*.parquet")) if visible(path)]


def main():
    data, records, table = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    want = expected(data, records)
    try:
        have, wrong = found(table)
    except Exception as error:
        have, wrong = want, [f"it cannot be read: {error}".splitlines()[0]]
    for name, value in want.items():
        # Rounding to one digit may go either way at .05.
        close = abs(have[name] - value) <= (1e-4 * abs(value) if name == "speed_mph" else 0)
        if not close:
            wrong.append(f"{name}: {have[name]} instead of {value}")
    print(json.dumps({"wrong": wrong}))


main()
