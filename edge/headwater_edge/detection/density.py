"""How seldom a series has values like this one: a histogram that fades and adapts its range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.points import Floats, Ints, Points
from headwater_edge.detection.tame import at_least, tame

_BINS = 64
_FEW = 32
"""Windows from which the first range is chosen."""
_MEMORY = 8192
"""Windows that the histogram remembers, about."""
_JUMP = 4.0
"""What a value as far outside as the range is wide adds to the score."""
_FULL = 2.0**60
_OUTSIDE = 0.002
"""Share of the values at either end that the range need not hold."""


class Density(Detector):
    """Surprise of a value: -ln of the share of earlier values that lay where they lie as thinly or more so; more for a new extreme.

    The surprise is Shannon's (1948), the share that of the region outside the densest one (Hyndman 1996, "Computing and graphing highest
    density regions"), of a histogram smoothed over neighbours (Scott 1985, "Averaged shifted histograms"). A weight that grows stands
    for counts that fade (Cormode et al. 2009, "Forward decay"). The range is looked at anew whenever the windows have doubled in number.
    """

    KEPT = {
        "count": 0, "level": 0.0, "deviation": 0.0, "low": 0.0, "width": 1.0,
        "weight": 1.0, "bins": np.zeros(_BINS, np.float32),
    }  # fmt: skip
    count: Ints
    level: Floats
    """Mean of the first windows, and their mean distance from it."""
    deviation: Floats
    low: Floats
    """Lower end of the first bin."""
    width: Floats
    """Of a bin."""
    weight: Floats
    """Of a window that is learnt now."""
    bins: NDArray[np.float32]

    def score(self, points: Points) -> Floats:
        """Return the surprise; NaN for the first windows."""
        row = points.row
        value = tame(points.value)
        place = (value - self.low[row]) / self.width[row]
        bins, weight = self.bins[row], self.weight[row]
        smooth = bins + bins
        smooth[:, 1:] += bins[:, :-1]
        smooth[:, :-1] += bins[:, 1:]
        at = np.clip(place, 0, _BINS - 1).astype(np.int64)
        here = np.where((place >= 0) & (place < _BINS), smooth[np.arange(len(row)), at], np.float32(0))
        thinner = np.where(smooth <= here[:, None], bins, np.float32(0)).sum(axis=1).astype(np.float64)
        total = bins.sum(axis=1).astype(np.float64)  # in the same rounding: a constant scores 0
        there = bins >= (0.5 * weight)[:, None]
        first, last = there.argmax(axis=1), _BINS - there[:, ::-1].argmax(axis=1)
        beyond = np.maximum(np.maximum(place - last, first - place), 0.0) / np.maximum(last - first, 4)
        score = -np.log((thinner + weight) / (total + weight)) + _JUMP * beyond
        return np.where(self.count[row] >= 2 * _FEW, score, np.nan)

    def learn(self, points: Points) -> None:
        """Count the values."""
        row, value = points.row, tame(points.value)
        count = self.count[row] + 1
        self.count[row] = count
        early = count <= _FEW
        if early.any():
            self._start(row[early], value[early], count[early])
            row, value, count = row[~early], value[~early], count[~early]
        if not len(row):
            return
        weight = self.weight[row] * (1.0 + 1.0 / _MEMORY)
        (full,) = np.nonzero(weight > _FULL)
        if len(full):
            self.bins[row[full]] *= np.float32(1 / _FULL)
            weight[full] *= 1 / _FULL
        self.weight[row] = weight
        place = (value - self.low[row]) / self.width[row]
        far = np.abs(place - _BINS / 2) > _BINS
        for one in np.flatnonzero(far).tolist():
            self._leave(int(row[one]), value[one])
        if far.any():
            place = (value - self.low[row]) / self.width[row]
        at = np.clip(place, 0, _BINS - 1).astype(np.int64)
        self.bins[row, at] += weight.astype(np.float32)
        for one in row[((count & (count - 1)) == 0) | (count % _MEMORY == 0)].tolist():
            self._look_at_range(one)

    def _start(self, row: Ints, value: Floats, count: Ints) -> None:
        off = value - self.level[row]
        self.level[row] += off / count
        self.deviation[row] += (np.abs(off) - self.deviation[row]) / count
        row = row[count == _FEW]
        self.width[row] = at_least(self.deviation[row] / 4, self.level[row])
        self.low[row] = self.level[row] - self.width[row] * (_BINS / 2)

    def _leave(self, row: int, value: float) -> None:
        """A series that was constant, but for rounding, has another value: the range is that between both."""
        (there,) = np.nonzero(self.bins[row] > 0)
        if not len(there) or there[-1] - there[0] > 2:
            return
        before = self.low[row] + self.width[row] * (there[0] + there[-1] + 1) / 2
        total = self.bins[row].sum()
        self.bins[row] = 0.0
        self.width[row] = np.abs(value - before) / (_BINS / 4)
        self.low[row] = (value + before) / 2 - self.width[row] * (_BINS / 2)
        self.bins[row, int((before - self.low[row]) / self.width[row])] = total

    def _look_at_range(self, row: int) -> None:
        """Double the range if values crowd at an end of it, halve it if they fill less than a quarter."""
        below = np.concatenate([[0.0], np.cumsum(self.bins[row], dtype=np.float64)])
        edges = self.low[row] + self.width[row] * np.arange(_BINS + 1)
        share = below / max(below[-1], _FULL**-2)
        first = int(np.searchsorted(share, _OUTSIDE, side="right")) - 1
        last = int(np.searchsorted(share, 1 - _OUTSIDE))
        if first <= 0 or last >= _BINS:
            width = self.width[row] * 2
        elif 2 < last - first < _BINS // 4:
            width = self.width[row] / 2
        else:
            return
        low = (edges[max(first, 0)] + edges[min(last, _BINS)]) / 2 - width * (_BINS / 2)
        again = np.interp(low + width * np.arange(_BINS + 1), edges, below)
        again[0], again[-1] = 0.0, below[-1]
        self.bins[row] = np.diff(again)
        self.low[row], self.width[row] = low, width

    def words(self, points: Points, at: int) -> str:
        """Say how seldom it has such values."""
        share = float(np.exp(-self.score(points.take(slice(at, at + 1)))[0]))
        seldom = "under 0.1%" if share < 0.001 else f"{100 * share:.1f}%"
        return f"{points.value[at]:.4g} is a value where it seldom is ({seldom} of the windows)"
