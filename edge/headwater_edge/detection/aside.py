"""What of a detector is set aside: rows for which it raised, gave no number, or grew slow, until when and why (R12)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.points import Ints, Mask

WINDOWS = 360
"""For so many windows of its own a row is left alone; then the detector learns it anew. At 10 s that is an hour."""
FAILED, SLOW = 1, 2
WHY = {FAILED: "it failed", SLOW: "it was slow"}


class Stopped(NamedTuple):
    """A row for which a detector is set aside."""

    row: int
    detector: str
    why: str
    since_us: int
    """Event time of the window at which it was; of a slow one the time at which that was journaled."""
    left: int
    """Windows until it is tried again."""


class Aside(Detector):
    """Which rows one detector is not asked about."""

    KEPT = {"left": np.int32(0), "why": np.int8(0), "since": 0}
    left: NDArray[np.int32]
    why: NDArray[np.int8]
    since: Ints

    def passes(self, row: Ints) -> Mask | None:
        """Tell which rows the detector is asked about, None for all; the others are one window nearer to that."""
        left = self.left[row]
        waits = left > 0
        if not waits.any():
            return None
        self.left[row] = np.maximum(left - 1, 0)
        return ~waits

    def put(self, row: Ints, why: int, since_us: Ints | int) -> None:
        """Set rows aside."""
        self.left[row], self.why[row], self.since[row] = WINDOWS, why, since_us

    def told(self, name: str) -> list[Stopped]:
        """Return the rows that are set aside now."""
        return [
            Stopped(row, name, WHY[int(self.why[row])], int(self.since[row]), int(self.left[row]))
            for row in np.flatnonzero(self.left > 0).tolist()
        ]
