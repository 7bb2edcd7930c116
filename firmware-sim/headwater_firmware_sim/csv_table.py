"""A table of readings: the rows of a CSV file as columns a device, in the order of their times."""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_firmware_sim.csv_mapping import Mapping, number_of
from headwater_shared.errors import SettingsError


class Table(NamedTuple):
    """All readings of a file; devices are (site, device)."""

    metrics: list[str]
    devices: dict[tuple[str, str], tuple[NDArray[np.int64], NDArray[np.float64]]]
    """Times in microseconds, ascending, shape (n,), and values, NaN where there is none, shape (n, metrics)."""
    skipped: int
    """Rows without a time, or without any value that is a number."""

    @property
    def span_us(self) -> tuple[int, int]:
        """The first and the last time."""
        ends = [(int(times[0]), int(times[-1])) for times, _ in self.devices.values()]
        return min(first for first, _ in ends), max(last for _, last in ends)

    @property
    def readings(self) -> int:
        return sum(int((~np.isnan(values)).sum()) for _, values in self.devices.values())


def read_table(path: Path, mapping: Mapping, *, site: str, device: str) -> Table:
    """Read a file; `site` and `device` are for rows that name none.

    Raises:
        SettingsError: it cannot be read, or holds no reading.
    """
    rows: dict[tuple[str, str], list[tuple[int, int, float]]] = defaultdict(list)
    numbers: dict[str, int] = (
        {} if mapping.metric else {name_of(name): at for at, name in enumerate(mapping.values)}
    )
    at = {name: number for number, name in enumerate(mapping.header)}
    times = [at[name] for name in mapping.time]
    values = [at[name] for name in mapping.values]
    where = [at.get(name, -1) if name else -1 for name in (mapping.site, mapping.device, mapping.metric)]
    skipped = 0
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        lines = csv.reader(file, delimiter=mapping.delimiter)
        next(lines, None)
        for row in lines:
            try:
                time_us = mapping.read_time(" ".join(row[column].strip() for column in times))
                named = [row[column].strip() if column >= 0 else "" for column in where]
            except (ValueError, IndexError, OverflowError):
                skipped += any(row)
                continue
            mine = rows[name_of(named[0]) or site, name_of(named[1]) or device]
            before = len(mine)
            for number, column in enumerate(values):
                value = _value(row, column, mapping.delimiter)
                if value is not None:
                    metric = (
                        numbers.setdefault(name_of(named[2]) or "value", len(numbers))
                        if mapping.metric
                        else number
                    )
                    mine.append((time_us, metric, value))
            skipped += len(mine) == before
    found = {place: _columns(mine, len(numbers)) for place, mine in rows.items() if mine}
    if not found:
        raise SettingsError(
            f"{path} holds no reading", hint="look at the mapping above; --time and --value override it"
        )
    return Table(list(numbers), found, skipped)


def name_of(text: str) -> str:
    """Make a name that can be part of a topic."""
    return re.sub(r"[/+#\s\x00-\x1f]+", "-", text.strip())[:64].strip("-")


def _value(row: list[str], column: int, delimiter: str) -> float | None:
    if column >= len(row) or not row[column].strip():
        return None
    try:
        value = number_of(row[column], delimiter)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _columns(
    rows: list[tuple[int, int, float]], metrics: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Put the readings of one device in the order of time; what another row says of the same moment and metric is a moment too."""
    rows.sort(key=lambda row: row[0])
    times: list[int] = []
    values: list[list[float]] = []
    for time_us, metric, value in rows:
        if not times or times[-1] != time_us or not math.isnan(values[-1][metric]):
            times.append(time_us)
            values.append([math.nan] * metrics)
        values[-1][metric] = value
    return np.array(times, np.int64), np.array(values, np.float64).reshape(-1, metrics)
