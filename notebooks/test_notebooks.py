"""Runs the notebooks headless and fails if a cell fails or a plot is missing or empty.

    python notebooks/test_notebooks.py

PUDDLE_LAKE names a lake made by `puddle`; without it, a small one with the same columns is made on the spot.
"""

import os
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import altair as alt
import polars as pl

NOTEBOOKS = Path(__file__).resolve().parent
PLOTS = ["plot_by_hour", "plot_by_airline"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if not os.environ.get("PUDDLE_LAKE"):
            make_lake(Path(folder) / "lake")
            os.environ["PUDDLE_LAKE"] = str(Path(folder) / "lake")
        outputs, definitions = run_in_process()
        for name in PLOTS:
            check_plot(name, definitions.get(name), outputs)
        check_export(Path(folder) / "late_flights.html")
        check_missing_lake(folder)
    print(f"notebooks: late_flights ran, {len(PLOTS)} plots")


def run_in_process() -> tuple:
    """Runs every cell; the first that fails raises its error here."""
    sys.path.insert(0, str(NOTEBOOKS))
    import late_flights

    return late_flights.app.run()


def check_plot(name: str, plot: object, outputs: tuple) -> None:
    check(isinstance(plot, alt.Chart), f"there is no {name}")
    check(any(output is plot for output in outputs), f"{name} is made but not shown")
    spec = plot.to_dict()
    rows = next(iter(spec["datasets"].values()))
    check(len(rows) > 1, f"{name} shows {len(rows)} rows")
    shown = [encoding["field"] for encoding in spec["encoding"].values() if "field" in encoding]
    check(set(shown) <= set(rows[0]), f"{name} shows {shown}, its data has {list(rows[0])}")
    check(all(0 <= row["late_share"] <= 1 for row in rows), f"{name} has shares outside 0 and 1")
    check(len({row["late_share"] for row in rows}) > 1, f"{name} shows the same share everywhere")


def check_export(page: Path) -> None:
    """The way a page is made for others to read."""
    run = marimo("export", "html", NOTEBOOKS / "late_flights.py", "--output", page)
    check(run.returncode == 0, f"marimo export: {run.stdout}{run.stderr}")
    text = page.read_text()
    for title in ["Late arrivals by hour", "Late arrivals by airline"]:
        check(title in text, f"the exported page lacks the plot {title!r}")


def check_missing_lake(folder: str) -> None:
    empty = subprocess.run(
        [sys.executable, NOTEBOOKS / "late_flights.py"],
        env={**os.environ, "PUDDLE_LAKE": folder + "/none"}, capture_output=True, text=True,
    )
    check(empty.returncode != 0 and "no flights table in" in empty.stderr, f"without a lake: {empty.stderr}")


def marimo(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "marimo", *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def make_lake(lake: Path) -> None:
    """4,000 flights in three months with the columns of pipelines/flights that the notebooks read."""
    start = datetime(2013, 1, 31, 10, tzinfo=timezone.utc)
    number = pl.int_range(4000)
    cancelled = number % 40 == 7
    frame = pl.select(
        (pl.lit(start) + number * timedelta(minutes=20)).alias("scheduled_departure"),
        pl.Series("origin", ["EWR", "JFK", "LGA", "JFK"] * 1000),
        pl.Series("airline", ["United Air Lines Inc.", "JetBlue Airways"] * 2000),
        cancelled.alias("cancelled"),
        pl.when(~cancelled).then(number * 37 % 90 > 50).alias("late"),
    )
    for (month,), rows in frame.group_by(pl.col("scheduled_departure").dt.strftime("%Y-%m")):
        folder = lake / "flights" / f"month={month}"
        folder.mkdir(parents=True)
        rows.write_parquet(folder / "flights-0-0.parquet")


def check(holds: bool, complaint: str) -> None:
    if not holds:
        sys.exit(f"notebooks: {complaint}")


if __name__ == "__main__":
    main()
