"""Reads the tables of a chaos run by scanning their folders, without Puddle and without its log.

Each line on stdin is a question: `scan` or `plant`, the lake, and the file for the answer, separated by tabs.

scan   every row of both tables, as JSON lines; bytes as hexadecimal digits
plant  damages the table, to show that the checks see it: one row is doubled into a file of its own, another removed
"""

import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

BUCKETS = ds.partitioning(pa.schema([("bucket", pa.int64())]), flavor="hive")


def scan(lake: Path) -> list[dict]:
    rows = ds.dataset(lake / "chaos", format="parquet", partitioning=BUCKETS).to_table().to_pylist()
    columns = ["_partition", "_offset", "_value", "_reason"]
    rows += ds.dataset(lake / "chaos.rejected", format="parquet").to_table(columns=columns).to_pylist()
    return rows


def plant(lake: Path) -> list[dict]:
    one, other = sorted((lake / "chaos").glob("*/*.parquet"))[:2]
    doubled = pq.ParquetFile(one).read().slice(0, 1)
    pq.write_table(doubled, one.with_name("planted.parquet"))
    pq.write_table(pq.ParquetFile(other).read().slice(1), other)
    return []


def main() -> None:
    for line in sys.stdin:
        question, lake, answer = line.rstrip("\n").split("\t")
        rows = {"scan": scan, "plant": plant}[question](Path(lake))
        part = answer + ".part"
        with open(part, "w", encoding="utf-8") as file:
            for row in rows:
                json.dump(row, file, default=bytes.hex)
                file.write("\n")
        os.rename(part, answer)


if __name__ == "__main__":
    main()
