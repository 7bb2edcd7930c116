"""A window's mean against an exponentially weighted mean and variance of those before (Finch 2009, "Incremental calculation of weighted mean and variance")."""

from __future__ import annotations

import numpy as np

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.points import Floats, Ints, Points

_FADING = 0.02
_FEW = 10


class Sudden(Detector):
    """How many of its usual spreads a value is away from its usual level."""

    KEPT = {"count": 0, "level": 0.0, "variance": 0.0}
    count: Ints
    level: Floats
    variance: Floats

    def score(self, points: Points) -> Floats:
        """Return the distance in spreads; NaN for the first windows."""
        spread = np.sqrt(self.variance[points.row])
        away = np.abs(points.value - self.level[points.row])
        with np.errstate(invalid="ignore", divide="ignore"):
            score = away / np.where(spread > 0, spread, np.where(away > 0, away, 1.0))
        return np.where(self.count[points.row] >= _FEW, score, np.nan)

    def learn(self, points: Points) -> None:
        """Follow level and spread."""
        row = points.row
        count = self.count[row] + 1
        share = np.maximum(_FADING, 1.0 / count)
        off = points.value - self.level[row]
        self.count[row] = count
        self.level[row] += share * off
        self.variance[row] = (1 - share) * (self.variance[row] + share * off * off)

    def words(self, points: Points, at: int) -> str:
        """Say how far it is away."""
        row = points.row[at]
        spread = float(np.sqrt(self.variance[row]))
        times = abs(float(points.value[at]) - float(self.level[row])) / spread if spread > 0 else float("inf")
        return f"{times:.1f} times the usual spread away from {self.level[row]:.4g}"
