"""Relation between a device's metrics: a value against what another metric of the device lets expect."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.points import Floats, Ints, Points
from headwater_edge.detection.tame import at_least, tame
from headwater_edge.ring import group_starts

_PARTNERS = 2
"""Of each metric: the next and the one after it in the device, so that up to five metrics are paired with each other."""
_MEMORY = 1024
_FEW = 64
_RELATED = 0.5
"""Share of the variance that the partner has to explain."""
_CLIPPED = 6.0
_MISSED = 1024
"""Windows without the partner after which another is looked for."""
_WIDEST = 1e60
_TINY = 1e-200


class Relation(Detector):
    """Residual of the regression on another metric, in spreads; of several partners the largest.

    Moments are exponentially weighted (Finch 2009); the regression is ordinary least squares on them. Unrelated metrics give no score.
    """

    KEPT = {
        "partner": np.full(_PARTNERS, -1), "missed": np.zeros(_PARTNERS, np.int64), "count": np.zeros(_PARTNERS, np.int64),
        "x": np.zeros(_PARTNERS), "y": np.zeros(_PARTNERS),
        "xx": np.zeros(_PARTNERS), "xy": np.zeros(_PARTNERS), "yy": np.zeros(_PARTNERS),
    }  # fmt: skip
    partner: Ints
    """Row of it, -1 for none yet."""
    missed: Ints
    count: Ints
    x: Floats
    """Mean of the partner while both were there, and of the metric; then their moments about these."""
    y: Floats
    xx: Floats
    xy: Floats
    yy: Floats

    def _pairs(self, points: Points) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield place, indices of points whose partner in it is there, and those of the partners."""
        for place in range(_PARTNERS):
            partner = self.partner[points.row, place]
            at = np.minimum(np.searchsorted(points.row, partner), len(points) - 1)
            (there,) = np.nonzero((partner >= 0) & (points.row[at] == partner))
            yield place, there, at[there]

    def _off(self, points: Points, place: int, there: Ints, of: Ints) -> tuple[Floats, Floats]:
        row = points.row[there]
        value = np.clip(tame(points.value), -_WIDEST, _WIDEST)
        return value[of] - self.x[row, place], value[there] - self.y[row, place]

    def _scores(self, points: Points) -> Floats:
        """Return the residuals in spreads, NaN where metrics are not related; shape (n, partners)."""
        scores = np.full((len(points), _PARTNERS), np.nan)
        for place, there, of in self._pairs(points):
            row = points.row[there]
            off_x, off_y = self._off(points, place, there, of)
            xx, xy, yy = self.xx[row, place], self.xy[row, place], self.yy[row, place]
            slope = xy / np.maximum(xx, _TINY)
            left = np.maximum(yy - slope * xy, 0.0)
            related = (slope * xy > _RELATED * yy) & (self.count[row, place] >= _FEW) & (yy > _TINY)
            score = np.abs(off_y - slope * off_x) / at_least(np.sqrt(left), self.y[row, place])
            scores[there, place] = np.where(related, score, np.nan)
        return scores

    def score(self, points: Points) -> Floats:
        """Return the largest residual in spreads; NaN if no other metric is related to this one."""
        scores = self._scores(points)
        best = scores[:, 0]
        for place in range(1, _PARTNERS):
            best = np.fmax(best, scores[:, place])
        return best

    def learn(self, points: Points) -> None:
        """Take pairs in; look for partners."""
        self._look(points)
        for place, there, of in self._pairs(points):
            row = points.row[there]
            missed = self.missed[points.row, place] + 1
            missed[there] = 0
            self.missed[points.row, place] = missed
            off_x, off_y = self._off(points, place, there, of)
            xx, yy = self.xx[row, place], self.yy[row, place]
            count = self.count[row, place] + 1
            share = np.maximum(1.0 / count, 1.0 / _MEMORY)
            for off, square in ((off_x, xx), (off_y, yy)):
                most = np.where((count > _FEW) & (square > 0), _CLIPPED * np.sqrt(square), np.inf)
                np.clip(off, -most, most, out=off)
            self.count[row, place] = count
            self.x[row, place] += share * off_x
            self.y[row, place] += share * off_y
            self.xx[row, place] = (1 - share) * (xx + share * off_x * off_x)
            self.xy[row, place] = (1 - share) * (self.xy[row, place] + share * off_x * off_y)
            self.yy[row, place] = (1 - share) * (yy + share * off_y * off_y)

    def _look(self, points: Points) -> None:
        """Give those without a partner the next metrics of their device."""
        for place in range(_PARTNERS):
            lost = points.row[self.missed[points.row, place] > _MISSED]
            if len(lost):
                self._blank(lost, place)
        if (self.partner[points.row] >= 0).all():
            return
        order = np.lexsort((points.row, points.device))
        first = group_starts(points.device[order], points.device[order])
        sizes = np.diff(np.append(first, len(order)))
        begin, size = np.repeat(first, sizes), np.repeat(sizes, sizes)
        rank = np.arange(len(order)) - begin
        for place in range(_PARTNERS):
            row = points.row[order]
            next_one = row[begin + (rank + place + 1) % size]
            free = (self.partner[row, place] < 0) & (size >= 2 * place + 2)
            self.partner[row[free], place] = next_one[free]

    def _blank(self, rows: Ints, place: int) -> None:
        for name, blank in self.KEPT.items():
            getattr(self, name)[rows, place] = blank[place]

    def forget(self, rows: Ints) -> None:
        """Make rows blank, also as partners of others."""
        super().forget(rows)
        for place in range(_PARTNERS):
            self._blank(np.flatnonzero(np.isin(self.partner[:, place], rows)), place)

    def words(self, points: Points, at: int) -> str:
        """Say with which metric it does not go."""
        scores = self._scores(points)[at]
        if np.isnan(scores).all():
            return "no other metric goes with it"
        place = int(np.nanargmax(scores))
        partner = int(self.partner[points.row[at], place])
        name = self.names[partner] if partner < len(self.names) else f"metric {partner}"
        return f"{min(scores[place], 1e6):.1f} times the usual spread from what goes with {name}"
