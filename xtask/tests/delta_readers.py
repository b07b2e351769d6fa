"""Makes a Delta table with `puddle`, and reads it with Polars, DuckDB and deltalake after each thing that happens to it:
two runs with a column added between them and a checkpoint on the way, an optimize, a vacuum. The second run goes on
while the table is optimized for the first time.

PUDDLE names the binary. Works in a folder of its own; ends with exit code 1 at the first difference.
"""

import datetime as dt
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import deltalake
import duckdb
import polars as pl

# As in a path, as in a URL, and as in neither: each is a partition's value. (Polars takes them from the path, and so the
# text that stands for null there for null.)
COUNTRIES = ["France", "a b/c", "50%", "%2e%2e", "x=1&y?z#", "Zürich 東京", None]
FIRST, SECOND = 8_000, 2_400
# Records per second: slow enough for a hundred commits, after which there is a checkpoint.
RATE = 800
# No step takes longer than this many seconds, unless it hangs.
LONGEST = 120
BEGIN = dt.datetime(2013, 1, 1, tzinfo=dt.timezone.utc)

SCHEMA = {
    "id": '"int64 not null"',
    "country": '"string"',
    "at": '"timestamp"',
    "day": '"date"',
    "price": '"float64"',
    "paid": '"bool"',
    "who": '{ name = "string", tags = ["string"] }',
}


def record(n: int, with_note: bool) -> dict:
    at = BEGIN + dt.timedelta(seconds=n * 61, microseconds=n)
    return {
        "id": n,
        "country": COUNTRIES[n % len(COUNTRIES)],
        "at": at,
        "day": at.date(),
        "price": None if n % 11 == 0 else n / 7,
        "paid": n % 3 == 0,
        "who": {"name": f"person {n} ü", "tags": [str(n), "b"][: n % 3]},
    } | ({"note": f"note {n}" if n % 2 else None} if with_note else {})


def pipeline(folder: Path, with_note: bool) -> None:
    fields = SCHEMA | ({"note": '"string"'} if with_note else {})
    schema = "\n".join(f"{name} = {kind}" for name, kind in fields.items())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.toml").write_text(
        f'name = "sales"\n[ingest]\ntopics = ["sales"]\n[ingest.schema]\n{schema}\n'
        '[transform]\nsql = "transform.sql"\n'
        '[sink]\nkind = "delta"\ntable = "sales"\npartition_by = ["country"]\ndurable = false\n'
        '[commit]\nevery = "5ms"\n'
    )
    (folder / "transform.sql").write_text(f"SELECT {', '.join(fields)}, _partition, _offset FROM sales\n")


def start(work: Path, *arguments: str, **more) -> subprocess.Popen:
    return subprocess.Popen([os.environ["PUDDLE"], *arguments], cwd=work, **more)


def puddle(work: Path, *arguments: str) -> str:
    done = start(work, *arguments, stdout=subprocess.PIPE, text=True)
    out, _ = done.communicate(timeout=LONGEST)
    if done.returncode != 0:
        sys.exit(f"puddle {' '.join(arguments)}: exit code {done.returncode}\n{out}")
    return out


def run(work: Path, brokers: list[str], rows: list[dict], meanwhile=lambda: None) -> None:
    """Replays rows slowly while a run commits them in many small commits."""
    lines = (json.dumps(row | {"at": row["at"].isoformat(), "day": row["day"].isoformat()}) for row in rows)
    (work / "sales.ndjson").write_text("\n".join(lines) + "\n")
    with start(work, "run", "sales", *brokers, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as running:
        try:
            rate = ["--rate", str(RATE)]
            with start(work, "replay", "sales.ndjson", "--topic", "sales", *rate, *brokers, stdout=subprocess.DEVNULL) as replay:
                meanwhile()
                if replay.wait(LONGEST) != 0:
                    sys.exit("the replay failed")
        finally:
            running.terminate()
        if running.wait(LONGEST) != 0:
            sys.exit(f"the run ended with exit code {running.returncode}")
    puddle(work, "run", "sales", "--until-caught-up", *brokers)


def serve(work: Path) -> tuple[subprocess.Popen, list[str]]:
    """A broker of its own, on a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    broker = start(work, "broker", "--listen", address, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + LONGEST
    while subprocess.run([os.environ["PUDDLE"], "topics", "create", "sales", "--partitions", "2", "--brokers", address],
                         capture_output=True).returncode != 0:
        if broker.poll() is not None or time.monotonic() > deadline:
            sys.exit("the broker did not start")
    return broker, ["--brokers", address]


def by_polars(table: Path) -> list[dict]:
    return pl.scan_delta(str(table)).collect().to_dicts()


def by_deltalake(table: Path) -> list[dict]:
    return deltalake.DeltaTable(str(table)).to_pyarrow_table().to_pylist()


def by_duckdb(table: Path) -> list[dict]:
    """With DuckDB's own reader where it can be had; it is fetched from the network."""
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    global duckdb_way
    try:
        db.execute("INSTALL delta; LOAD delta")
        rows = db.sql(f"SELECT * FROM delta_scan('{table}')")
        duckdb_way = "its delta extension"
    except (duckdb.IOException, duckdb.HTTPException):
        sales = deltalake.DeltaTable(str(table)).to_pyarrow_dataset()
        rows = db.from_arrow(sales)
        duckdb_way = "deltalake's list of files, its delta extension not being here"
    return rows.to_arrow_table().to_pylist()


def compare(table: Path, expected: list[dict], when: str) -> None:
    for reader, read in [("Polars", by_polars), ("deltalake", by_deltalake), ("DuckDB", by_duckdb)]:
        found = sorted(read(table), key=lambda row: row["id"])
        if len(found) != len(expected):
            sys.exit(f"{reader}, {when}: {len(found)} rows, not {len(expected)}")
        columns = expected[-1].keys()
        if missing := columns - found[0].keys():
            sys.exit(f"{reader}, {when}: there is no column {missing}")
        for row, wanted in zip(found, expected):
            for name in columns:
                # Rows from before a column was added have null there.
                if row[name] != wanted.get(name):
                    sys.exit(f"{reader}, {when}: {name} of {wanted['id']} is {row[name]!r}, not {wanted.get(name)!r}")
        if len({(row["_partition"], row["_offset"]) for row in found}) != len(expected):
            sys.exit(f"{reader}, {when}: an offset is there twice")
    print(f"{when}: {len(expected)} rows, equal to all")


def main() -> None:
    # No space in the path: Polars 2.1 finds no Delta table below one, its own neither.
    with tempfile.TemporaryDirectory(prefix="puddle-delta-") as folder:
        work = Path(folder)
        broker, brokers = serve(work)
        try:
            check(work, brokers)
        finally:
            broker.kill()
            broker.wait()
    print(f"readers of Delta: Polars, deltalake and DuckDB (by {duckdb_way}) agree")


def check(work: Path, brokers: list[str]) -> None:
    table = work / "lake" / "sales"
    rows = [record(n, with_note=False) for n in range(FIRST)]
    pipeline(work / "pipelines" / "sales", with_note=False)
    run(work, brokers, rows)
    if not list((table / "_delta_log").glob("*.checkpoint.parquet")):
        sys.exit("no checkpoint was written; commit more often")
    compare(table, rows, "after a run and a checkpoint")

    more = [record(n, with_note=True) for n in range(FIRST, FIRST + SECOND)]
    pipeline(work / "pipelines" / "sales", with_note=True)
    run(work, brokers, more, meanwhile=lambda: puddle(work, "table", "optimize", "sales"))
    rows += more
    compare(table, rows, "after a run with a column added, optimized meanwhile")

    report = json.loads(puddle(work, "table", "optimize", "sales", "--json"))
    if report["files_added"] != len(COUNTRIES) or report["rows"] != len(rows):
        sys.exit(f"the optimize did not join all files of a partition: {report}")
    compare(table, rows, "after an optimize")

    report = json.loads(puddle(work, "table", "vacuum", "sales", "--older-than", "0s", "--force", "--json"))
    left = sum(1 for file in table.rglob("*.parquet") if file.parent.name != "_delta_log")
    if left != len(COUNTRIES):
        sys.exit(f"the vacuum left {left} files: {report}")
    compare(table, rows, "after a vacuum")
    puddle(work, "verify", "sales", *brokers)


if __name__ == "__main__":
    main()
