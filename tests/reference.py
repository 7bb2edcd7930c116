"""What the windows must be, in plain Python: no numpy, no import of Headwater, one reading after the other.

It takes the readings that were sent, as a set of (series, time as sent in us, value): the same reading twice counts once
(R2). It says what every window of every level must hold. Tests compare the agent, the cloud and the audit to it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

LEVELS = {"10s": 10_000_000, "1m": 60_000_000, "10m": 600_000_000, "1h": 3_600_000_000}
"""Name and length in us of the levels that are kept by default."""

_64 = (1 << 64) - 1


def bits(value: float) -> int:
    """The bits of a float64, -0 as 0."""
    number: int = struct.unpack("<Q", struct.pack("<d", value or 0.0))[0]
    return number


def splitmix64(x: int) -> int:
    z = (x + 0x9E3779B97F4A7C15) & _64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _64
    return z ^ (z >> 31)


def digest(time_us: int | None, value: float) -> int:
    """The digest of one reading; one without a time counts as of time 0 (R10)."""
    return splitmix64((splitmix64((time_us or 0) & _64) + bits(value)) & _64)


@dataclass
class Window:
    """What one window must hold: `first` and `last` by (time, value bits), `sketch` bucket to count."""

    count: int = 0
    digest: int = 0
    mean: float = 0.0
    m2: float = 0.0
    min: float = math.inf
    max: float = -math.inf
    first: float = 0.0
    first_time: int = 0
    last: float = 0.0
    last_time: int = 0
    sketch: dict[int, int] = field(default_factory=dict)

    def add(self, time_us: int, value: float) -> None:
        """Take one reading in; mean and m2 by Welford (1962)."""
        value = value or 0.0
        here = (time_us, bits(value))
        if not self.count or here < (self.first_time, bits(self.first)):
            self.first, self.first_time = value, time_us
        if not self.count or here >= (self.last_time, bits(self.last)):
            self.last, self.last_time = value, time_us
        self.count += 1
        self.digest = (self.digest + digest(time_us, value)) & _64
        delta = value - self.mean
        self.mean += delta / self.count
        self.m2 += delta * (value - self.mean)
        self.min, self.max = min(self.min, value), max(self.max, value)
        bucket = bits(value) >> 46
        self.sketch[bucket] = self.sketch.get(bucket, 0) + 1


def windows(
    readings: Iterable[tuple[str, int, float]],
    length_us: int,
    hop_us: int = 0,
    *,
    duplicates: bool = False,
) -> dict[tuple[str, int], Window]:
    """What the windows of one level must be: (series, start in us) to window. They begin every `hop_us`, or every length.

    `duplicates`: count the same reading as often as it comes, as with `duplicates = "transport"`.
    """
    found: dict[tuple[str, int], Window] = {}
    hop = hop_us or length_us
    for series, time_us, value in _counted(readings, duplicates):
        start = time_us // hop * hop
        while start > time_us - length_us:
            found.setdefault((series, start), Window()).add(time_us, value)
            start -= hop
    return found


def sessions(
    readings: Iterable[tuple[str, int, float]], gap_us: int, *, duplicates: bool = False
) -> dict[tuple[str, int], Window]:
    """What session windows must be: (series, time of the first reading) to window; a silence longer than the gap ends one."""
    found: dict[tuple[str, int], Window] = {}
    open_: dict[str, Window] = {}
    for series, time_us, value in sorted(_counted(readings, duplicates), key=lambda reading: reading[:2]):
        if series not in open_ or time_us - open_[series].last_time > gap_us:
            open_[series] = found[series, time_us] = Window()
        open_[series].add(time_us, value)
    return found


def _counted(
    readings: Iterable[tuple[str, int, float]], duplicates: bool
) -> Iterator[tuple[str, int, float]]:
    seen: set[tuple[str, int, int]] = set()
    for series, time_us, value in readings:
        identity = (series, time_us, bits(value))
        if identity not in seen or duplicates:
            seen.add(identity)
            yield series, time_us, value


def all_windows(
    readings: Iterable[tuple[str, int, float]], levels: dict[str, int] = LEVELS
) -> dict[tuple[str, str, int], Window]:
    """What the windows of every level must be: (series, level, start in us) to window."""
    kept = list(readings)
    return {
        (series, level, start): window
        for level, length_us in levels.items()
        for (series, start), window in windows(kept, length_us).items()
    }
