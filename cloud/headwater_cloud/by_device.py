"""What each device sent in the latest windows: how much, how late, with what clock, and where windows are missing."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

from headwater_cloud.history import History
from headwater_cloud.merge import OF_ROLLUP
from headwater_cloud.retention import length_us
from headwater_shared.identity import device_of

CLOCKS = ((1, "ahead"), (4, "restamped"), (2, "held"))
"""Bits of `window.flags`, and what they say of the times of its readings: clamped, for the device's clock was ahead of ours; stamped by
us after our clock was set; stamped by us before that."""


class Recent(NamedTuple):
    """One device in a span of time."""

    device: str
    series: int
    readings: int
    first_us: int
    """Start of its first window in the span."""
    last_us: int
    """The latest event time of its readings."""
    missing: int
    """Windows without a reading between the first and the last of each series, added up."""
    clock: str
    """What is wrong with its readings' times, by `CLOCKS`; empty: nothing."""


def base_level(history: History) -> str | None:
    """Return the finest tumbling level that there is; None before the first window."""
    return next((level for level in history.levels() if length_us(level) and "/" not in level), None)


def latest_us(history: History, level: str) -> int | None:
    """Return the start of the latest window of a level."""
    query = "SELECT max(start) FROM window WHERE level = (SELECT id FROM level WHERE name = ?)"
    (found,) = history.connection.execute(query, (level,)).fetchone()
    return None if found is None else int(found)


def recent(history: History, level: str, from_us: int, to_us: int, pattern: str = "*") -> list[Recent]:
    """Return the devices (`site/device`) that match and have windows of a tumbling level in [from_us, to_us), by name.

    One pass over those windows, in SQLite.
    """
    hop = length_us(level) or 1
    rows = history.connection.execute(
        """
        SELECT s.name, count(*), sum(w.count), min(w.start), max(w.start), max(w.last_time),
               max(w.flags & 1) + max(w.flags & 2) + max(w.flags & 4)
        FROM window w CROSS JOIN series s ON s.id = w.series
        WHERE w.level = (SELECT id FROM level WHERE name = ?) AND w.start >= ? AND w.start < ?
        AND w.shard IS NOT ?
        GROUP BY w.series
        """,
        (level, from_us, to_us, OF_ROLLUP),
    )
    devices: dict[str, list[int]] = {}
    for name, windows, readings, first, last, last_time, flags in rows:
        device = device_of(name)
        if not fnmatchcase(device, pattern):
            continue
        missing = max((last - first) // hop + 1 - windows, 0)
        of = devices.setdefault(device, [0, 0, first, last_time, 0, 0])
        of[0] += 1
        of[1] += readings
        of[2] = min(of[2], first)
        of[3] = max(of[3], last_time)
        of[4] += missing
        of[5] |= flags
    return [
        Recent(
            device,
            found[0],
            found[1],
            found[2],
            found[3],
            found[4],
            ", ".join(word for bit, word in CLOCKS if found[5] & bit),
        )
        for device, found in sorted(devices.items())
    ]


def all_devices(history: History, pattern: str = "*") -> dict[str, int]:
    """Return how many series each device that matches ever had."""
    found: dict[str, int] = {}
    for name in history.series():
        device = device_of(name)
        found[device] = found.get(device, 0) + 1
    return {device: series for device, series in found.items() if fnmatchcase(device, pattern)}
