"""How anomalous the moment is, through the whole length of an anomaly: from 0, as usual, towards 1."""

from __future__ import annotations

import numpy as np

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.points import Floats, Ints, Points
from headwater_edge.detection.tame import at_least, tame

_SHORT = 0.02
_LONG = 0.0005
_RARITY = 0.03
_HALF = 3.0


class Degree(Detector):
    """Volatility now over what it is in the long run, times the short-run mean of the rarity; half of the way at three.

    Volatility is the exponentially weighted standard deviation about an exponentially weighted mean (RiskMetrics 1996; Finch 2009).
    """

    KEPT = {"count": 0, "level": 0.0, "variance": 0.0, "usual": 0.0, "rarity": 0.0, "latest": 0.0}
    count: Ints
    level: Floats
    variance: Floats
    usual: Floats
    """Volatility in the long run."""
    rarity: Floats
    """Its short-run mean."""
    latest: Floats
    """The degree itself."""

    def take(self, points: Points, rarity: Floats) -> Floats:
        """Take in windows and their rarity, NaN for none; return the degree, shape (n,)."""
        row = points.row
        count = self.count[row] + 1
        self.count[row] = count
        mean = self.rarity[row]
        mean = mean + np.maximum(_RARITY, 1.0 / count) * (np.where(np.isnan(rarity), 0.0, rarity) - mean)
        self.rarity[row] = mean
        size = mean
        if points.value.ndim == 1:
            share = np.maximum(_SHORT, 1.0 / count)
            off = tame(points.value) - self.level[row]
            level = self.level[row] + share * off
            variance = (1 - share) * (self.variance[row] + share * off * off)
            now = np.sqrt(variance)
            usual = self.usual[row] + np.maximum(_LONG, 1.0 / count) * (now - self.usual[row])
            self.level[row], self.variance[row], self.usual[row] = level, variance, usual
            size = mean * now / at_least(usual, level)
        degree = size / (size + _HALF)
        self.latest[row] = degree
        return degree
