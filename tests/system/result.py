"""What a run came to: every window, anomaly and alert that is stored; and whether two runs came to the same (R31)."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np

from headwater_shared import ledger as ledgers
from headwater_shared.digest import NO_TIME
from tests.reference import Window, all_windows

Place = tuple[str, str, int]
"""Series, level, start."""

EXACT = ("count", "digest", "min", "max", "first", "first_time", "last", "last_time", "sketch")
_COLUMNS = ("count", "digest", "mean", "m2", "min", "max", "first", "first_time", "last", "last_time", "sketch")  # fmt: skip


@dataclass
class Result:
    """The rows of the cloud side's file, rollups left out, without what names an epoch, a tick or a seq."""

    windows: dict[Place, Window]
    anomalies: set[tuple[Any, ...]]
    alerts: set[tuple[Any, ...]]


def read(file: Path) -> Result:
    """Read the file of the cloud side."""
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            f"SELECT s.name, l.name, w.start, {', '.join(f'w.{name}' for name in _COLUMNS)} FROM window w"
            " JOIN series s ON s.id = w.series JOIN level l ON l.id = w.level WHERE w.shard IS NOT -1"
        ).fetchall()
        anomalies = connection.execute(
            'SELECT id, phase, rule, series, begin_us, time_us, value, "limit", severity FROM anomaly'
        )
        alerts = connection.execute(
            "SELECT id, rule, subject, state, severity, episode_us, time_us, value FROM alert"
        )
        return Result(dict(map(_window, rows)), set(anomalies), set(alerts))
    finally:
        connection.close()


def _window(row: tuple[Any, ...]) -> tuple[Place, Window]:
    fields = dict(zip(_COLUMNS, row[3:], strict=True))
    fields["digest"] %= 1 << 64
    words = struct.unpack(f"<{len(fields['sketch']) // 8}Q", fields["sketch"])
    fields["sketch"] = {word >> 46: word & (1 << 46) - 1 for word in words}  # see headwater_cloud.columns
    return row[:3], Window(**fields)


def timed_series(ledger: Path) -> set[str]:
    """Return the series of which the device sent the time of every reading: all else depends on when it arrived."""
    truth = ledgers.read(ledger)
    untimed = {truth.series[n] for n in np.unique(truth.series_of[truth.time == NO_TIME]).tolist()}
    return set(truth.series) - untimed


def reference(ledger: Path, wanted: AbstractSet[str]) -> dict[Place, Window]:
    """Return what the windows of some series must be, in plain Python; all their readings count, as all were resent."""
    truth = ledgers.read(ledger)
    names = [truth.series[n] for n in truth.series_of.tolist()]
    readings = zip(names, truth.time.tolist(), truth.value.tolist(), strict=True)
    return all_windows(reading for reading in readings if reading[0] in wanted)


def assert_same_windows(
    found: dict[Place, Window], wanted: dict[Place, Window], series: AbstractSet[str]
) -> None:
    """Compare the windows of some series: all exact, mean and M2 to 1e-9."""
    found = {place: window for place, window in found.items() if place[0] in series}
    wanted = {place: window for place, window in wanted.items() if place[0] in series}
    assert wanted
    assert found.keys() == wanted.keys(), (
        f"missing {sorted(wanted.keys() - found.keys())[:5]}, too many {sorted(found.keys() - wanted.keys())[:5]}"
    )
    for place, window in wanted.items():
        other = found[place]
        for name in EXACT:
            assert getattr(other, name) == getattr(window, name), f"{place}: {name}"
        for name in ("mean", "m2"):
            # Where all values are alike M2 is 0 up to the rounding of the values themselves.
            least = 1e-15 * max(abs(window.min), abs(window.max)) ** 2 * window.count
            assert isclose(getattr(other, name), getattr(window, name), rel_tol=1e-9, abs_tol=least), (
                f"{place}: {name} is {getattr(other, name)!r}, must be {getattr(window, name)!r}"
            )


def assert_same(found: Result, wanted: Result, series: AbstractSet[str]) -> None:
    """Compare two live runs of the same input, as far as series have times of their own (R31)."""
    assert_same_windows(found.windows, wanted.windows, series)
    of_both = [
        {row for row in rows if row[at] in series}
        for rows, at in ((found.anomalies, 3), (wanted.anomalies, 3), (found.alerts, 2), (wanted.alerts, 2))
    ]
    assert of_both[1]
    assert of_both[0] == of_both[1], sorted(of_both[0] ^ of_both[1])[:5]
    assert of_both[2] == of_both[3], sorted(of_both[2] ^ of_both[3])[:5]
