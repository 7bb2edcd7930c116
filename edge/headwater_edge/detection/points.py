"""Closed windows as detectors see them: columns over many series, each at most once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater_edge.ring import group_starts

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(slots=True)
class Points:
    """n closed windows of one level, all of different series, in the order of their rows.

    For a detector of whole devices they are n devices: then `value`, `low`, `high`, `spread` and `count` have a column for each of
    its m metrics, NaN (and a count of 0) where a device has no such window.
    """

    row: Ints
    """Of the detector's columns: what it knows of this series (device); shape (n,), ascending."""
    device: Ints
    """Number of the device; metrics of one device that closed the same window are here together; shape (n,)."""
    start: Ints
    """Of the window, event time in microseconds; shape (n,). Later than all that the row has seen."""
    value: Floats
    """The window's mean, finite; shape (n,) or (n, m)."""
    low: Floats
    """Its minimum."""
    high: Floats
    """Its maximum."""
    spread: Floats
    """Standard deviation of the readings in it, 0 for one reading."""
    count: Ints
    """Readings in it."""
    length_us: int

    def __len__(self) -> int:
        return len(self.row)

    def take(self, at: Any) -> Points:
        """Return the points at indices or a mask."""
        return Points(
            self.row[at], self.device[at], self.start[at], self.value[at], self.low[at], self.high[at],
            self.spread[at], self.count[at], self.length_us,
        )  # fmt: skip

    def rounds(self) -> Iterator[Ints]:
        """Of points in the order of row and start, yield the indices of each row's first, then of each row's second, ..."""
        if not len(self.row):
            return
        first = group_starts(self.row, self.row)
        sizes = np.append(first[1:], len(self.row)) - first
        for rank in range(int(sizes.max())):
            yield first[sizes > rank] + rank
