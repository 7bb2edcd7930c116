"""From scores to probabilities: how rare a score is among the recent ones of its own series and detector.

The recent scores are described by exponentially weighted mean and variance; the tail is that of a normal distribution, as its
decimal logarithm, so that it does not saturate: erfc(x) ~ exp(-x^2) / (x sqrt(pi)) for large x (Abramowitz and Stegun 1964, 7.1.23).
"""

from __future__ import annotations

import numpy as np

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.points import Floats, Ints

_FADING = 0.01
_FEW = 20


class Tails(Detector):
    """What is known of the scores of one detector, by row."""

    KEPT = {"count": 0, "mean": 0.0, "variance": 0.0}
    count: Ints
    mean: Floats
    variance: Floats

    def of(self, row: Ints, score: Floats) -> Floats:
        """Return -log10 of the probability of a score as large as this; NaN where there is none, or too few came before; shape (n,)."""
        spread = np.sqrt(self.variance[row])
        with np.errstate(invalid="ignore", divide="ignore"):
            z = np.maximum((score - self.mean[row]) / np.where(spread > 0, spread, 1.0), 0.0)
            exceeds = (z * z / 2 + np.log(1 + z * 2.5066282746310002)) / np.log(10.0)
        return np.where((self.count[row] >= _FEW) & np.isfinite(score), exceeds, np.nan)

    def take(self, row: Ints, score: Floats) -> None:
        """Take scores into the recent ones; NaN is none."""
        there = np.isfinite(score)
        row, score = row[there], score[there]
        count = self.count[row] + 1
        share = np.maximum(_FADING, 1.0 / count)
        off = score - self.mean[row]
        self.count[row] = count
        self.mean[row] += share * off
        self.variance[row] = (1 - share) * (self.variance[row] + share * off * off)
