"""Change of spread: how restless a series is now, against how restless it usually is."""

from __future__ import annotations

import numpy as np

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.points import Floats, Ints, Points
from headwater_edge.detection.tame import at_least, tame

_SHORT = 1 / 8
_LONG = 1 / 1024
_FEW = 32


class Spread(Detector):
    """The short-run mean of unrest over the long-run one; unrest is the step from the window before and the spread within the window.

    That the short-run mean tells more than one value is what made HTM's likelihood (Ahmad et al. 2017); the mean absolute step as a measure
    of spread that a slow drift does not enter is von Neumann's (1941, "Distribution of the ratio of the mean square successive difference").
    """

    KEPT = {"count": 0, "before": 0.0, "now": 0.0, "usual": 0.0}
    count: Ints
    before: Floats
    """The window before."""
    now: Floats
    usual: Floats

    def _now(self, points: Points) -> Floats:
        row = points.row
        unrest = np.abs(tame(points.value) - self.before[row]) + tame(points.spread)
        return (1 - _SHORT) * self.now[row] + _SHORT * unrest

    def score(self, points: Points) -> Floats:
        """Return the ratio; NaN for the first windows."""
        row = points.row
        score = self._now(points) / at_least(self.usual[row], self.before[row])
        return np.where(self.count[row] >= _FEW, score, np.nan)

    def learn(self, points: Points) -> None:
        """Follow both means."""
        row = points.row
        count = self.count[row] + 1
        now = np.where(count == 1, 0.0, self._now(points))
        self.now[row] = now
        self.usual[row] += np.maximum(_LONG, 1.0 / count) * (now - self.usual[row])
        self.before[row] = tame(points.value)
        self.count[row] = count

    def words(self, points: Points, at: int) -> str:
        """Say how restless it is."""
        times = min(float(self.score(points.take(slice(at, at + 1)))[0]), 1e6)
        return f"{times:.1f} times as restless as usual"
