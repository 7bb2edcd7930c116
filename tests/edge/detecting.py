"""Windows for detectors: histories of many series with all that sensors say, in calls like those of a step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.points import Floats, Points

SERIES = 12
A_DEVICE = 3
"""Series of one device."""
START = 1_795_046_400_000_000
LENGTH = 600_000_000

_WILD = (1e308, -1e308, 5e-324, -5e-324, 0.0, -0.0, 1.7976931348623157e308, 1e-300, 1e18)


def values(windows: int, seed: int) -> Floats:
    """Return values of usual and of wild series; shape (windows, SERIES)."""
    chance = np.random.default_rng(seed)
    at = np.arange(windows)
    noise = chance.normal(size=(windows, SERIES))
    made = 20 + noise
    made[:, 1] = 2 * made[:, 0] + 0.1 * noise[:, 1]  # goes with the one before it
    made[:, 2] = 5 * np.sin(at / 144 * 2 * np.pi) + 0.1 * noise[:, 2]
    made[:, 3] = 21.5
    made[:, 4] = np.round(noise[:, 4])
    made[:, 5] = np.where(at % 50 < 20, 0.0, 1.0)
    made[:, 6] = chance.choice(_WILD, windows)
    made[:, 7] = noise[:, 7] * 1e-310
    made[:, 8] = noise[:, 8] * 1e300
    made[:, 9] = np.cumsum(noise[:, 9]) + 1e12
    made[:, 10] = chance.standard_cauchy(windows)
    made[:, 11] = np.where(chance.random(windows) < 0.01, 1e308, 1.0)
    return made


def calls(windows: int, seed: int = 1, length_us: int = LENGTH) -> Iterator[Points]:
    """Yield the windows of all series; now and then of some only."""
    chance = np.random.default_rng(seed + 1000)
    for at, value in enumerate(values(windows, seed)):
        row = np.arange(SERIES) if chance.random() < 0.7 else np.flatnonzero(chance.random(SERIES) < 0.6)
        here = value[row]
        with np.errstate(over="ignore"):
            wide = np.abs(here) * 0.01
            low, high = np.maximum(here - wide, -1.7e308), np.minimum(here + wide, 1.7e308)
        yield Points(
            row, row // A_DEVICE, np.full(len(row), START + at * length_us), here, low, high,
            np.minimum(wide, 1e300), np.full(len(row), 10), length_us,
        )  # fmt: skip


def wholes(windows: int, metrics: int, seed: int = 1) -> Iterator[Points]:
    """Yield the windows of devices of so many metrics, a column each; now and then one is missing."""
    columns = [list(calls(windows, seed + k)) for k in range(metrics)]
    for parts in zip(*columns, strict=True):
        first = parts[0]
        shape = (SERIES, metrics)
        value, low, high, spread = (np.full(shape, np.nan) for _ in range(4))
        count = np.zeros(shape, np.int64)
        for k, part in enumerate(parts):
            for into, said in (
                (value, part.value),
                (low, part.low),
                (high, part.high),
                (spread, part.spread),
            ):
                into[part.row, k] = said
            count[part.row, k] = part.count
        (row,) = np.nonzero((count > 0).any(axis=1))
        start = np.full(len(row), int(first.start[0]) if len(first) else START)
        yield Points(row, row, start, value[row], low[row], high[row], spread[row], count[row], LENGTH)


def of(detector: Detector, windows: int, seed: int = 1) -> list[Points]:
    """Return calls as this detector gets them."""
    if detector.WHOLE_DEVICES:
        return [one for one in wholes(windows, max(len(detector.metrics), 1), seed) if len(one)]
    return [one for one in calls(windows, seed) if len(one)]


def ready(detector: Detector) -> Detector:
    """Make room for all series and say their names."""
    detector.names = [f"s1/d{at // A_DEVICE}/m{at % A_DEVICE}" for at in range(SERIES)]
    detector.grow(SERIES)
    return detector


def run(detector: Detector, said: list[Points]) -> list[bytes]:
    """Return the bits of what it says of each call; it learns."""
    bits = []
    for points in said:
        bits.append(np.ascontiguousarray(detector.score(points)).tobytes())
        if not detector.LEARNS_AS_IT_SCORES:
            detector.learn(points)
    return bits


def state(detector: Detector, rows: Any = slice(None)) -> dict[str, bytes]:
    """Return the bits of what it remembers of rows."""
    return {
        name: np.ascontiguousarray(column[rows]).tobytes()
        for name, column in detector.dump().items()
        if isinstance(column, np.ndarray)
    }
