"""Reads the tables of a chaos run as other people's tools do, without Puddle.

Each line on stdin is a question, the lake, and the file for the answer, separated by tabs.

scan         every row of a Parquet table and its rejected table, by scanning their folders without the log, as JSON
             lines; bytes as hexadecimal digits
scan-delta   the same of a Delta table, by its Delta log
plant        damages a Parquet table, to show that the checks see it: one row is doubled into a file of its own,
             another removed
plant-delta  the same of a Delta table, with a version of its log that makes the damage part of the table
"""

import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable

BUCKETS = ds.partitioning(pa.schema([("bucket", pa.int64())]), flavor="hive")


def rejected(lake: Path) -> list[dict]:
    folder = lake / "chaos.rejected"
    if not folder.is_dir():
        return []
    columns = ["_partition", "_offset", "_value", "_reason"]
    return ds.dataset(folder, format="parquet").to_table(columns=columns).to_pylist()


def scan(lake: Path) -> list[dict]:
    rows = ds.dataset(lake / "chaos", format="parquet", partitioning=BUCKETS).to_table().to_pylist()
    return rows + rejected(lake)


def scan_delta(lake: Path) -> list[dict]:
    return DeltaTable(lake / "chaos").to_pyarrow_table().to_pylist() + rejected(lake)


def plant(lake: Path) -> list[dict]:
    one, other = sorted((lake / "chaos").glob("*/*.parquet"))[:2]
    doubled = pq.ParquetFile(one).read().slice(0, 1)
    pq.write_table(doubled, one.with_name("planted.parquet"))
    pq.write_table(pq.ParquetFile(other).read().slice(1), other)
    return []


def plant_delta(lake: Path) -> list[dict]:
    # By hand: deltalake does not write to tables with domain metadata.
    table = DeltaTable(lake / "chaos")
    one, other = sorted(pa.table(table.get_add_actions(flatten=True)).to_pylist(), key=lambda add: add["path"])[:2]

    def add(name: str, rows: pa.Table, like: dict) -> dict:
        path = Path(like["path"]).with_name(name)
        pq.write_table(rows, lake / "chaos" / path)
        size = (lake / "chaos" / path).stat().st_size
        values = {"bucket": str(like["partition.bucket"])}
        return {"path": str(path), "partitionValues": values, "size": size, "modificationTime": 0, "dataChange": True}

    def rows(file: dict) -> pa.Table:
        return pq.ParquetFile(lake / "chaos" / file["path"]).read()

    actions = [
        {"commitInfo": {"operation": "planted"}},
        {"add": add("planted.parquet", rows(one).slice(0, 1), one)},
        {"remove": {"path": other["path"], "deletionTimestamp": 0, "dataChange": True}},
        {"add": add("planted-too.parquet", rows(other).slice(1), other)},
    ]
    version = lake / "chaos" / "_delta_log" / f"{table.version() + 1:020}.json"
    version.write_text("".join(json.dumps(action) + "\n" for action in actions))
    return []


QUESTIONS = {"scan": scan, "scan-delta": scan_delta, "plant": plant, "plant-delta": plant_delta}


def main() -> None:
    for line in sys.stdin:
        question, lake, answer = line.rstrip("\n").split("\t")
        rows = QUESTIONS[question](Path(lake))
        part = answer + ".part"
        with open(part, "w", encoding="utf-8") as file:
            for row in rows:
                json.dump(row, file, default=bytes.hex)
                file.write("\n")
        os.rename(part, answer)


if __name__ == "__main__":
    main()
