"""How long detectors take: measured beside the step, so that nothing a detector says depends on it.

What is found slow becomes an event of the next tick (`events.DetectorSlow`), and only that sets a detector aside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from headwater_edge.detection.points import Ints

POINT_NS = 20_000_000
"""One window may take a detector so long,"""
CALL_NS = 500_000_000
"""and all that closed at once so long: the loop stands still meanwhile."""
_IN_A_ROW = 3
"""Once may be the machine's fault."""


class Stopwatch:
    """Of the detectors of one ensemble."""

    def __init__(self, count: int, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self.now = clock_ns
        self._slow = [0] * count
        self._found: list[tuple[int, list[int]]] = []
        self.ns = [0] * count
        """What each detector took in all,"""
        self.points = [0] * count
        """for so many windows."""

    def closely(self, at: int) -> bool:
        """Tell whether detector `at` was slow just now: each of its rows is to be measured by itself."""
        return self._slow[at] > 0

    def took(self, at: int, row: Ints, spans: Sequence[int]) -> None:
        """Take a measurement: detector `at` took so many ns for all rows together, or for each."""
        whole = sum(spans)
        self.ns[at] += whole
        self.points[at] += len(row)
        by_row = len(spans) == len(row)
        worst = max(spans) if by_row else whole / len(row)
        if whole <= CALL_NS and worst <= POINT_NS:
            self._slow[at] = 0
            return
        self._slow[at] += 1
        if self._slow[at] >= _IN_A_ROW:
            self._slow[at] = 0
            guilty = row[np.array(spans) > POINT_NS] if by_row else row
            self._found.append((at, (guilty if len(guilty) else row).tolist()))

    def drain(self) -> list[tuple[int, list[int]]]:
        """Return what is new: which detector was slow for which rows."""
        found, self._found = self._found, []
        return found
