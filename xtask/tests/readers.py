"""Reads the demo's lake with DuckDB, pyarrow and Polars, as other people would, and compares what they see.

PUDDLE_LAKE names the lake. Ends with exit code 1 at the first difference.
"""

import os
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.compute as pc
import pyarrow.dataset as ds

ROWS = 336_776
DISTANCE = 350_217_607
# Departures a month of 2013, as the source counts them.
MONTHS = [27004, 24951, 28834, 28330, 28796, 28243, 29425, 29327, 27574, 28889, 27268, 28135]
WEATHER_ROWS = 26_115


def check(reader: str, what: str, found, expected) -> None:
    if found != expected:
        sys.exit(f"{reader}: {what} is {found}, not {expected}")


def main() -> None:
    lake = Path(os.environ["PUDDLE_LAKE"])
    months = {f"2013-{month:02}": rows for month, rows in enumerate(MONTHS, start=1)}

    files = str(lake / "flights" / "**" / "*.parquet")
    db = duckdb.connect()
    db.execute("CREATE VIEW flights AS SELECT * FROM read_parquet($1, hive_partitioning = true, "
               "hive_types = {'month': VARCHAR})".replace("$1", f"'{files}'"))
    check("DuckDB", "rows, distances", db.execute("SELECT count(*), sum(distance) FROM flights").fetchone(), (ROWS, DISTANCE))
    check("DuckDB", "months", dict(db.execute("SELECT month, count(*) FROM flights GROUP BY 1").fetchall()), months)
    check("DuckDB", "offsets", db.execute("SELECT count(DISTINCT (_partition, _offset)) FROM flights").fetchone(), (ROWS,))
    types = dict(db.execute("SELECT column_name, column_type FROM (DESCRIBE flights)").fetchall())
    check("DuckDB", "the type of scheduled_departure", types["scheduled_departure"], "TIMESTAMP WITH TIME ZONE")

    table = ds.dataset(lake / "flights", partitioning="hive").to_table(columns=["distance", "month"])
    check("pyarrow", "rows", table.num_rows, ROWS)
    check("pyarrow", "distances", pc.sum(table["distance"]).as_py(), DISTANCE)
    counts = {row["values"]: row["counts"] for row in pc.value_counts(table["month"]).to_pylist()}
    check("pyarrow", "months", counts, months)

    frame = pl.scan_parquet(lake / "flights", hive_schema={"month": pl.String})
    check("Polars", "rows, distances", frame.select(pl.len(), pl.col("distance").sum()).collect().row(0), (ROWS, DISTANCE))
    check("Polars", "months", dict(frame.group_by("month").len().collect().iter_rows()), months)
    check("Polars", "weather", pl.scan_parquet(lake / "weather").select(pl.len()).collect().item(), WEATHER_ROWS)

    # One row, every column: the three readers must see the same value.
    key = "_partition = 0 AND _offset = 0"
    by_duckdb = db.sql(f"SELECT * FROM flights WHERE {key}").to_arrow_table().to_pylist()[0]
    by_polars = frame.filter((pl.col("_partition") == 0) & (pl.col("_offset") == 0)).collect().to_dicts()[0]
    by_pyarrow = ds.dataset(lake / "flights", partitioning="hive").to_table(
        filter=(pc.field("_partition") == 0) & (pc.field("_offset") == 0)).to_pylist()[0]
    check("Polars", "the first row", by_polars, by_pyarrow)
    for name, value in by_pyarrow.items():
        check("DuckDB", name, by_duckdb[name], value)
    print("readers: DuckDB, pyarrow and Polars agree")


if __name__ == "__main__":
    main()
