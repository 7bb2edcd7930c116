"""Rows of an export as CSV, as JSON lines, or as a Parquet file: exact, and a page at a time."""

from __future__ import annotations

import base64
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from headwater_cloud.export import Column, Rows
from headwater_cloud.query import iso
from headwater_shared import extras


def as_csv(columns: Sequence[Column], pages: Iterator[Rows], out: IO[str]) -> int:
    """Write a header and a line a row; floats as short as they are exact, times in ISO 8601, a digest as 0x and 16 hex digits."""
    write = csv.writer(out, lineterminator="\n")
    write.writerow([column.name for column in columns])
    count = 0
    for page in pages:
        write.writerows(
            [_plain(column.kind, value, "") for column, value in zip(columns, row, strict=True)]
            for row in page
        )
        count += len(page)
    return count


def as_json(columns: Sequence[Column], pages: Iterator[Rows], out: IO[str]) -> int:
    """Write a JSON object a row; values as in CSV, numbers as numbers."""
    count = 0
    for page in pages:
        for row in page:
            fields = {
                column.name: _plain(column.kind, value, None)
                for column, value in zip(columns, row, strict=True)
            }
            out.write(msgspec.json.encode(fields).decode() + "\n")
        count += len(page)
    return count


def as_parquet(columns: Sequence[Column], pages: Iterator[Rows], path: Path, page: int) -> int:
    """Write a Parquet file (zstd), a row group for about `page` rows; times as timestamps in UTC, a digest as uint64.

    Raises:
        PartMissing: pyarrow is not installed.
    """
    arrow, parquet = extras.load("pyarrow", "parquet"), extras.load("pyarrow.parquet", "parquet")
    kinds = {
        "text": arrow.string(), "int": arrow.int64(), "real": arrow.float64(), "digest": arrow.uint64(), "bytes": arrow.binary(),
        "time": arrow.timestamp("us", tz="UTC"),
    }  # fmt: skip
    schema = arrow.schema([(column.name, kinds[column.kind]) for column in columns])
    count, waiting = 0, list[tuple[Any, ...]]()
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:

        def write() -> None:
            if waiting:
                arrays = [arrow.array(values, kinds[column.kind]) for column, values in zip(columns, zip(*waiting, strict=True), strict=True)]  # fmt: skip
                writer.write_batch(arrow.record_batch(arrays, schema=schema))
                waiting.clear()

        for rows in pages:
            waiting.extend(rows)
            count += len(rows)
            if len(waiting) >= page:
                write()
        write()
    return count


def _plain(kind: str, value: Any, missing: Any) -> Any:
    if value is None:
        return missing
    if kind == "time":
        return iso(value)
    if kind == "digest":
        return f"0x{value:016x}"
    if kind == "bytes":
        return base64.b64encode(value).decode()
    return value
