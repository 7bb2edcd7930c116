"""A window's mean against an exponentially weighted mean and variance of those before."""

from __future__ import annotations

import numpy as np

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.points import Floats, Ints, Points
from headwater_edge.detection.tame import at_least, tame

_FADING = 1 / 64
_FEW = 8
_CLIPPED = 4.0
"""Spreads beyond which a value is learnt as if it were there."""


class Sudden(Detector):
    """How many of its usual spreads a value is away from its level (Finch 2009, "Incremental calculation of weighted mean and variance").

    What is learnt is clipped, so that one wild value does not hide the next (Huber 1964, "Robust estimation of a location parameter").
    """

    KEPT = {"count": 0, "level": 0.0, "variance": 0.0}
    count: Ints
    level: Floats
    variance: Floats

    def score(self, points: Points) -> Floats:
        """Return the distance in spreads; NaN for the first windows."""
        row = points.row
        level = self.level[row]
        score = np.abs(tame(points.value) - level) / at_least(np.sqrt(self.variance[row]), level)
        return np.where(self.count[row] >= _FEW, score, np.nan)

    def learn(self, points: Points) -> None:
        """Follow level and spread."""
        row = points.row
        count = self.count[row] + 1
        share = np.maximum(_FADING, 1.0 / count)
        off, variance = tame(points.value) - self.level[row], self.variance[row]
        most = np.where((count > _FEW) & (variance > 0), _CLIPPED * np.sqrt(variance), np.inf)
        off = np.clip(off, -most, most)
        self.count[row] = count
        self.level[row] += share * off
        self.variance[row] = (1 - share) * (variance + share * off * off)

    def words(self, points: Points, at: int) -> str:
        """Say how far it is away."""
        score = self.score(points.take(slice(at, at + 1)))[0]
        return f"{min(score, 1e6):.1f} times the usual spread away from {self.level[points.row[at]]:.4g}"
