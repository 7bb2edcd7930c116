"""A value outside of all that a series has had."""

from __future__ import annotations

import numpy as np

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.points import Floats, Ints, Points
from headwater_edge.detection.tame import at_least, tame

_FEW = 32
_MEMORY = 32768
"""Windows in which a range that is not reached any more shrinks to a third."""


class Extreme(Detector):
    """By how much of the range seen so far a window goes beyond it; within the range it is negative.

    "Outside of everything so far, by how much of the range" is the rule of one line of ../shared/design/DETECTION.md (records: Rényi 1962).
    """

    KEPT = {"count": 0, "low": 0.0, "high": 0.0}
    count: Ints
    low: Floats
    high: Floats

    def score(self, points: Points) -> Floats:
        """Return the share of the range; NaN for the first windows."""
        row = points.row
        low, high = self.low[row], self.high[row]
        over = np.maximum(tame(points.high) - high, low - tame(points.low))
        span = at_least(high - low, np.maximum(np.abs(low), np.abs(high)))
        return np.where(self.count[row] >= _FEW, np.maximum(over / span, -0.5), np.nan)

    def learn(self, points: Points) -> None:
        """Widen the range to hold the window; it shrinks slowly, so that it follows drift."""
        row = points.row
        first = self.count[row] == 0
        lowest, highest = tame(points.low), tame(points.high)
        low, high = self.low[row], self.high[row]
        shrink = (high - low) * (0.5 / _MEMORY)
        self.low[row] = np.where(first, lowest, np.minimum(low + shrink, lowest))
        self.high[row] = np.where(first, highest, np.maximum(high - shrink, highest))
        self.count[row] += 1

    def words(self, points: Points, at: int) -> str:
        """Say which end it is beyond, and how far."""
        row = points.row[at]
        low, high = float(self.low[row]), float(self.high[row])
        if points.high[at] > high:
            return f"new maximum {points.high[at]:.4g} (was {high:.4g})"
        if points.low[at] < low:
            return f"new minimum {points.low[at]:.4g} (was {low:.4g})"
        return f"near an end of its range {low:.4g} to {high:.4g}"
