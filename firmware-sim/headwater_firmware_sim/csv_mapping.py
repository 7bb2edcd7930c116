"""Which column of a table is what: guessed from names and cells, shown, and overridden by whoever knows better."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from headwater_firmware_sim.csv_times import ReadTime, reader_of
from headwater_shared.errors import SettingsError

_TIMES = (
    "timestamp",
    "datetime",
    "date time",
    "date_time",
    "time",
    "ts",
    "date",
    "t",
    "utc",
    "created_at",
    "_time",
)
_DEVICES = ("device", "device_id", "deviceid", "sensor", "sensor_id", "machine", "machine_id", "unit_id", "station", "host", "asset", "node", "meter", "id")  # fmt: skip
_SITES = ("site", "site_id", "plant", "location", "building", "region", "city", "line", "area")
_METRICS = ("metric", "parameter", "variable", "measurement", "field", "quantity", "signal", "tag", "_field")
_VALUES = ("value", "val", "reading", "v", "_value")
_LOOKED_AT = 200
"""Rows from which it is guessed."""
_AT_LEAST = 0.5
"""Share of a column's cells that are numbers, of those that are not empty, where it is taken for values."""


class Mapping(NamedTuple):
    """What the columns are, by their names; `how` is how times are written."""

    delimiter: str
    header: list[str]
    time: tuple[str, ...]
    """One column, or a date and a time of day."""
    how: str
    read_time: ReadTime
    values: tuple[str, ...]
    """In the long form one: that of all metrics."""
    metric: str
    """The long form's column of metrics; empty: the wide form, a column a metric."""
    device: str
    site: str
    """Empty: the table has none."""
    ignored: tuple[str, ...]

    def lines(self) -> list[str]:
        """Say it to a person."""
        form = "long (a row a reading)" if self.metric else "wide (a column a metric)"
        return [
            f"  form     {form}, columns divided by {self.delimiter!r}",
            f"  time     {' and '.join(self.time)} ({self.how})",
            f"  values   {', '.join(self.values)}" + (f", named by {self.metric}" if self.metric else ""),
            f"  device   {self.device or '(no column: the name of the file)'}",
            f"  site     {self.site or '(no column)'}",
            *([f"  ignored  {', '.join(self.ignored)}"] if self.ignored else []),
        ]


class Wanted(NamedTuple):
    """What a person said of it; empty: to be guessed."""

    time: str = ""
    values: tuple[str, ...] = ()
    metric: str = ""
    device: str = ""
    site: str = ""


def number_of(cell: str, delimiter: str) -> float:
    """Read a cell as a value; a comma is a decimal one where columns are not divided by commas.

    Raises:
        ValueError: it is none.
    """
    text = cell.strip()
    if delimiter != "," and "," in text and "." not in text:
        text = text.replace(",", ".")
    return float(text)


def guess(path: Path, wanted: Wanted = Wanted()) -> Mapping:  # noqa: B008 - it is a constant
    """Look at the first rows of a table.

    Raises:
        SettingsError: it cannot be read, has no time or no values, or has no column that a person named.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            delimiter = _delimiter(file.readline())
            file.seek(0)
            rows = csv.reader(file, delimiter=delimiter)
            header = [name.strip() for name in next(rows, [])]
            cells = [row for row, _ in zip(rows, range(_LOOKED_AT), strict=False) if any(row)]
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", hint="name a CSV file") from None
    if not cells:
        raise SettingsError(f"{path} has no rows below its header", hint="the first line names the columns")
    columns = {
        name: [row[at].strip() for row in cells if at < len(row)] for at, name in enumerate(header) if name
    }
    for name in (
        *filter(None, wanted.time.split("+")),
        *wanted.values,
        wanted.metric,
        wanted.device,
        wanted.site,
    ):
        if name and name not in columns:
            raise SettingsError(f"{path} has no column {name!r}", hint=f"its columns: {', '.join(columns)}")
    time, how, read = _time(path, columns, wanted.time)
    taken = set(time)
    metric = wanted.metric or _named(columns, _METRICS, taken)
    value = wanted.values[0] if wanted.values else _named(columns, _VALUES, taken)
    if metric and not wanted.metric and (not value or _numbers(columns[metric], delimiter) == 1):
        metric = ""
    device = wanted.device or _named(columns, _DEVICES, taken | {metric})
    site = wanted.site or _named(columns, _SITES, taken | {metric, device})
    taken |= {metric, device, site}
    if metric:
        values: tuple[str, ...] = (value,)
    else:
        values = wanted.values or tuple(
            name for name in columns if name not in taken and _numbers(columns[name], delimiter) >= _AT_LEAST
        )
    if not values:
        raise SettingsError(
            f"{path} has no column of numbers", hint=f"--value names one of {', '.join(columns)}"
        )
    ignored = tuple(name for name in columns if name not in {*taken, *values})
    return Mapping(delimiter, header, time, how, read, values, metric, device, site, ignored)


def _delimiter(line: str) -> str:
    """The one of the usual ones that the header has most of."""
    return max(",;\t|", key=line.count)


def _time(path: Path, columns: dict[str, list[str]], wanted: str) -> tuple[tuple[str, ...], str, ReadTime]:
    """Find the column of times: by a usual name that holds some, by a date beside a time of day, or any that holds some."""
    tries: Iterator[tuple[str, ...]]
    if wanted:
        tries = iter([tuple(wanted.split("+"))])
    else:
        by_name = {_plain(name): name for name in columns}
        both = (by_name["date"], by_name["time"]) if {"date", "time"} <= by_name.keys() else ()
        named = [(by_name[name],) for name in _TIMES if name in by_name]
        tries = iter([*([both] if both else []), *named, *((name,) for name in columns)])
    for names in tries:
        cells = [" ".join(parts) for parts in zip(*(columns[name] for name in names), strict=False)]
        found = reader_of([cell for cell in cells if cell.strip()][:_LOOKED_AT])
        if found is not None:
            return names, *found
    said = f"the column {wanted!r} holds no times" if wanted else "no column holds times"
    raise SettingsError(
        f"{path}: {said} that can be read",
        hint="--time names the column (DATE+TIME two of them); ISO 8601, numbers since 1970, 24/11/2026 08:00 are read",
    )


def _named(columns: Sequence[str] | dict[str, list[str]], usual: Sequence[str], taken: set[str]) -> str:
    by_name = {_plain(name): name for name in columns if name not in taken}
    return next((by_name[name] for name in usual if name in by_name), "")


def _plain(name: str) -> str:
    return (
        re.sub(r"[\s-]+", "_", name.strip().lower())
        if name.strip().lower() not in _TIMES
        else name.strip().lower()
    )


def _numbers(cells: Sequence[str], delimiter: str) -> float:
    """Return the share of cells that are numbers, of those that are not empty."""
    filled = [cell for cell in cells if cell]
    good = 0
    for cell in filled:
        try:
            number_of(cell, delimiter)
        except ValueError:
            continue
        good += 1
    return good / len(filled) if filled else 0.0
