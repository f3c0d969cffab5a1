"""Reads an archive with DuckDB, Polars and pyarrow, as their users do, and prints what each finds as JSON lines.

Usage: archive.py DIRECTORY README. The lines of Python in the README are run as they stand there. Values are printed in hexadecimal, so that every bit counts.
"""

import datetime
import json
import sys

import duckdb
import polars
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet

ROOT = sys.argv[1]
README = sys.argv[2]
FILES = ROOT + "/**/*.parquet"
COLUMNS = ["cluster", "hostname", "metric", "scope", "scope_id", "timestamp", "frequency", "value", "path", "start"]
VALUE = COLUMNS.index("value")


def show(reader, question, rows):
    for row in rows:
        row = list(row)
        row[VALUE] = float.hex(row[VALUE])
        print(json.dumps({"reader": reader, "question": question, "row": row}))


names = ", ".join(COLUMNS)
order = " ORDER BY cluster, hostname, metric, path, timestamp"
source = f"FROM read_parquet('{FILES}', hive_partitioning = true, hive_types = {{'cluster': VARCHAR}})"
show("duckdb", "all", duckdb.sql(f"SELECT {names} {source}{order}").fetchall())
picked = "WHERE cluster = 'alpha' AND date = DATE '2023-11-15' AND hostname = 'n1' AND metric = 'cpu_load' AND value > 1"
show("duckdb", "some", duckdb.sql(f"SELECT {names} {source} {picked}{order}").fetchall())

frame = polars.scan_parquet(FILES, hive_partitioning=True, hive_schema={"cluster": polars.String, "date": polars.Date})
ordered = ["cluster", "hostname", "metric", "path", "timestamp"]
show("polars", "all", frame.select(COLUMNS).sort(ordered).collect().rows())
some = frame.filter(
    polars.col("cluster") == "alpha",
    polars.col("date") == datetime.date(2023, 11, 15),
    polars.col("hostname") == "n1",
    polars.col("metric") == "cpu_load",
    polars.col("value") > 1,
)
show("polars", "some", some.select(COLUMNS).sort(ordered).collect().rows())

hive = pyarrow.dataset.partitioning(
    pyarrow.schema([("cluster", pyarrow.string()), ("date", pyarrow.date32())]), flavor="hive"
)
dataset = pyarrow.dataset.dataset(
    ROOT,
    partitioning=hive,
    format=pyarrow.dataset.ParquetFileFormat(
        default_fragment_scan_options=pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
    ),
)


def rows_of(table):
    return zip(*(table.column(name).to_pylist() for name in COLUMNS))


order = [(name, "ascending") for name in ordered]
show("pyarrow", "all", rows_of(dataset.to_table(columns=COLUMNS).sort_by(order)))
field = pyarrow.compute.field
picked = (
    (field("cluster") == "alpha")
    & (field("date") == datetime.date(2023, 11, 15))
    & (field("hostname") == "n1")
    & (field("metric") == "cpu_load")
    & (field("value") > 1)
)
show("pyarrow", "some", rows_of(dataset.to_table(columns=COLUMNS, filter=picked).sort_by(order)))

# What the footer says of the order of the rows must be so.
for file in sorted(dataset.files):
    parquet = pyarrow.parquet.ParquetFile(file)
    meta = parquet.metadata
    for at in range(meta.num_row_groups):
        group = meta.row_group(at)
        sorting = [(parquet.schema.column(column.column_index).name, column.descending) for column in group.sorting_columns]
        assert sorting == [(name, False) for name in ordered], sorting
        columns = [parquet.read_row_group(at, columns=[name]).column(name).to_pylist() for name in ordered]
        keys = list(zip(*columns))
        as_bytes = [tuple(part.encode() if isinstance(part, str) else part for part in key) for key in keys]
        assert as_bytes == sorted(as_bytes), file
        for column in range(group.num_columns):
            chunk = group.column(column)
            assert chunk.compression == "ZSTD" and chunk.is_stats_set and chunk.has_column_index, chunk
            assert chunk.has_offset_index, chunk

# The lines of the README.
with open(README, encoding="utf-8") as readme:
    lines = readme.read().split("```python\n")[1].split("```")[0].splitlines()
counts = [len(result) if isinstance(result, polars.DataFrame) else result.shape[0] if hasattr(result, "shape") else 0
          for result in (eval(line.replace("/archive", ROOT)) for line in lines)]
assert counts == [300 + 4, 303 + 4, 25 + 303 + 4], counts
