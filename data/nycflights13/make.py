# /// script
# requires-python = ">=3.10"
# dependencies = ["pyarrow==26.0.1"]
# ///
"""Makes this folder's Parquet files from the CSV files of nycflights13.

    python make.py CSV_FOLDER [OUT_FOLDER]

CSV_FOLDER holds airlines.csv, airports.csv, planes.csv, weather.csv and either flights.csv or
flights.csv.zip. The same input and the same pyarrow give the same bytes. The script ends with an
error, and leaves the old files alone, when the input is not the data set that README.md describes.
"""

import hashlib
import io
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

INT, FLOAT, TEXT, TIME = pa.int32(), pa.float64(), pa.string(), pa.timestamp("us", tz="UTC")


@dataclass
class Table:
    rows: int
    columns: dict[str, pa.DataType]
    # Replay wants event time to rise; the CSV files begin with months 1, 10, 11, 12, 2.
    order: tuple[str, ...] = ()
    # Column sums that the source is known to have.
    sums: tuple[tuple[str, int], ...] = ()


TABLES = {
    "airlines": Table(16, dict(carrier=TEXT, name=TEXT)),
    "airports": Table(
        1458,
        dict(faa=TEXT, name=TEXT, lat=FLOAT, lon=FLOAT, alt=INT, tz=INT, dst=TEXT, tzone=TEXT),
    ),
    "planes": Table(
        3322,
        dict(
            tailnum=TEXT, year=INT, type=TEXT, manufacturer=TEXT, model=TEXT, engines=INT, seats=INT,
            speed=INT, engine=TEXT,
        ),
    ),
    "weather": Table(
        26_115,
        dict(
            origin=TEXT, year=INT, month=INT, day=INT, hour=INT, temp=FLOAT, dewp=FLOAT, humid=FLOAT,
            wind_dir=INT, wind_speed=FLOAT, wind_gust=FLOAT, precip=FLOAT, pressure=FLOAT, visib=FLOAT,
            time_hour=TIME,
        ),
        order=("time_hour", "origin"),
    ),
    "flights": Table(
        336_776,
        dict(
            year=INT, month=INT, day=INT, dep_time=INT, sched_dep_time=INT, dep_delay=INT, arr_time=INT,
            sched_arr_time=INT, arr_delay=INT, carrier=TEXT, flight=INT, tailnum=TEXT, origin=TEXT,
            dest=TEXT, air_time=INT, distance=INT, hour=INT, minute=INT, time_hour=TIME,
        ),
        order=("time_hour", "minute", "carrier", "flight"),
        sums=(("distance", 350_217_607),),
    ),
}

# A dictionary makes these columns larger than plain values do: zstd then finds the day before's run
# of the same scheduled times and flight numbers.
PLAIN = {
    "flights": {"dep_time", "sched_dep_time", "arr_time", "sched_arr_time", "flight", "minute", "time_hour"},
}


def main(source: Path, out: Path) -> None:
    tables = {name: read(source, name, table) for name, table in TABLES.items()}
    with tempfile.TemporaryDirectory(dir=out, prefix=".make-") as staging:
        for name, table in tables.items():
            write(table, name, Path(staging) / f"{name}.parquet")
        for name in tables:
            path = (Path(staging) / f"{name}.parquet").replace(out / f"{name}.parquet")
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            print(f"{digest}  {path.name}  {tables[name].num_rows} rows, {path.stat().st_size} bytes")


def read(source: Path, name: str, expected: Table) -> pa.Table:
    table = pyarrow.csv.read_csv(
        open_csv(source, name),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=expected.columns, null_values=["NA"], strings_can_be_null=True
        ),
    )
    check(table.column_names == list(expected.columns), f"{name}: other columns: {table.column_names}")
    check(table.num_rows == expected.rows, f"{name}: {table.num_rows} rows instead of {expected.rows}")
    for column, total in expected.sums:
        found = pc.sum(table[column]).as_py()
        check(found == total, f"{name}: {column} adds up to {found} instead of {total}")
    if expected.order:
        # (time_hour, carrier, flight) and (time_hour, origin) are unique, so the order is total.
        table = table.sort_by([(column, "ascending") for column in expected.order])
    return table.combine_chunks()


def open_csv(source: Path, name: str) -> io.BufferedIOBase:
    path = source / f"{name}.csv"
    if path.exists():
        return path.open("rb")
    with zipfile.ZipFile(f"{path}.zip") as archive:
        return io.BytesIO(archive.read(path.name))


def write(table: pa.Table, name: str, path: Path) -> None:
    plain = PLAIN.get(name, set())
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=[column for column in table.column_names if column not in plain],
        # One row group and one page a column: zstd sees all of a column at once.
        row_group_size=table.num_rows,
        data_page_size=4 << 20,
        dictionary_pagesize_limit=4 << 20,
        # The Arrow schema would repeat the types that Parquet holds already.
        store_schema=False,
    )


def check(holds: bool, complaint: str) -> None:
    if not holds:
        sys.exit(f"make.py: {complaint}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parent)
