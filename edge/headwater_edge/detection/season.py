"""Time of day and of week: a value against what is usual at that time, as far as a series has such times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.points import Floats, Ints, Points
from headwater_edge.detection.tame import at_least, tame

_DAY = 86_400_000_000
_WEEK = 7 * _DAY
_NODES = 48
_WEEK_NODES = 56
_DAYS = 6.0
"""Days that the profile of a day remembers, about."""
_WEEKS = 4.0
"""Weeks that the profile of a week remembers, about."""
_HELPS = 0.9
"""The week counts once it leaves less than this share of what the day leaves."""
_LONGEST = _DAY // 4
"""Of longer windows a day has too few."""
_WORST = 1.25
"""There is a score while the season leaves less than this share of the variance about the level: more is none."""
_SEASON = 0.5
"""It is called one below this share."""
_SHORT = 0.2
_WILD = 100.0
"""A residual of more spreads is averaged as if it were of so many."""
_WIDEST = 1e18
_NAMES = ("Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday")
"""Days of the week in the order of the epoch."""


class _At(NamedTuple):
    """Two nodes of a profile and how near the second is; shape (n,)."""

    left: Ints
    right: Ints
    part: Floats

    def of(self, row: Ints, profile: NDArray[np.float32]) -> Floats:
        return (1.0 - self.part) * profile[row, self.left] + self.part * profile[row, self.right]

    def ends(self) -> tuple[tuple[Ints, Floats], ...]:
        return (self.left, 1.0 - self.part), (self.right, self.part)


def _at(start: Ints, period: int, nodes: int) -> _At:
    place = (start % period) / (period / nodes)
    left = np.minimum(place.astype(np.int64), nodes - 1)
    return _At(left, (left + 1) % nodes, place - left)


class _Left(NamedTuple):
    """What each model leaves of values; shape (n,)."""

    plain: Floats
    day: Floats
    week: Floats


class Season(Detector):
    """Residual against a profile of the day (and of the week), in spreads usual at that time.

    Profiles are piecewise linear, learnt by normalised least mean squares (Widrow and Hoff 1960); what they leave is measured from a level
    that follows within a day. A short-run mean of residuals is scored, as in an EWMA chart (Roberts 1959): what lasts counts for more. Where a profile leaves more than there is about the level without it, there is no season, and no score; reasons
    name the time only if it explains half of the variance (the coefficient of determination, Wright 1921). Times are UTC.
    """

    KEPT = {
        "first": 0, "count": 0, "base": 0.0, "plain": 0.0, "level": 0.0, "plain_error": 0.0, "day_error": 0.0, "week_error": 0.0, "run": 0.0,
        "visits": np.zeros(_NODES, np.float32), "usual": np.zeros(_NODES, np.float32),
        "spread": np.zeros(_NODES, np.float32), "week": np.zeros(_WEEK_NODES, np.float32),
    }  # fmt: skip
    first: Ints
    """Start of the first window."""
    count: Ints
    base: Floats
    """The first value; all else is relative to it."""
    plain: Floats
    """Level of the values."""
    level: Floats
    """Level of what the profile leaves."""
    plain_error: Floats
    """Mean square of the values about their level, of what the day leaves, and of what the week leaves of that."""
    day_error: Floats
    week_error: Floats
    run: Floats
    """Short-run mean of residuals in spreads."""
    visits: NDArray[np.float32]
    usual: NDArray[np.float32]
    spread: NDArray[np.float32]
    """Mean size of what is left at that time of day."""
    week: NDArray[np.float32]

    def _left(self, points: Points, day: _At) -> tuple[Floats, _Left]:
        row = points.row
        value = np.clip(tame(points.value) - self.base[row], -_WIDEST, _WIDEST)
        of_day = value - day.of(row, self.usual) - self.level[row]
        of_week = of_day - _at(points.start, _WEEK, _WEEK_NODES).of(row, self.week)
        return value, _Left(value - self.plain[row], of_day, of_week)

    def _season(self, row: Ints) -> tuple[NDArray[np.bool_], Floats]:
        """Return whether the week counts, and the mean square of what the season leaves."""
        helps = self.week_error[row] < _HELPS * self.day_error[row]
        return helps, np.where(helps, self.week_error[row], self.day_error[row])

    def _now(self, points: Points, day: _At, left: _Left) -> Floats:
        """Return the residual in spreads; NaN where there is no season, or is none yet."""
        row = points.row
        helps, error = self._season(row)
        usual = 0.5 * day.of(row, self.spread) + 0.5 * np.sqrt(error)
        now = np.abs(np.where(helps, left.week, left.day)) / at_least(usual, self.base[row])
        seen = (self.visits[row, day.left] > 0) & (self.visits[row, day.right] > 0)
        there = (points.start - self.first[row] > _DAY) & seen & (error <= _WORST * self.plain_error[row])
        return np.where(there, now, np.nan)

    def score(self, points: Points) -> Floats:
        """Return the short-run mean of the residual in spreads; NaN in the first day, for windows of hours, and where there is no season."""
        if points.length_us > _LONGEST:
            return np.full(len(points), np.nan)
        day = _at(points.start, _DAY, _NODES)
        now = self._now(points, day, self._left(points, day)[1])
        run = self.run[points.row]
        return run + _SHORT * (now - run)

    def learn(self, points: Points) -> None:
        """Follow levels, errors and profiles."""
        row = points.row
        if points.length_us > _LONGEST:
            return
        count = self.count[row] + 1
        self.count[row] = count
        new = count == 1
        if new.any():
            self.base[row[new]] = tame(points.value[new])
            self.first[row[new]] = points.start[new]
        a_day = _DAY / points.length_us
        age = points.start - self.first[row]
        old = age > _DAY
        day = _at(points.start, _DAY, _NODES)
        value, left = self._left(points, day)
        now, run = self._now(points, day, left), self.run[row]
        self.run[row] = np.where(np.isnan(now), run, run + _SHORT * (np.fmin(now, _WILD) - run))
        slow = np.maximum(1.0 / count, 1.0 / a_day)
        self.plain[row] += slow * left.plain
        self.level[row] += np.where(old, slow * left.day, 0.0)
        slow = np.maximum(1.0 / count, 1.0 / (3.0 * a_day))
        plain = self.plain_error[row] + slow * (left.plain * left.plain - self.plain_error[row])
        self.plain_error[row] = plain
        for column, off in ((self.day_error, left.day), (self.week_error, left.week)):
            error = column[row]
            column[row] = np.where(
                old, error + slow * (off * off - error), plain
            )  # a profile starts as good as none
        self._learn_day(row, day, value, left.day, old, a_day)
        share = np.maximum(1.0 / np.maximum(1.0, age / _WEEK), 1.0 / _WEEKS) / max(
            1.0, a_day * 7 / _WEEK_NODES
        )
        for at, part in _at(points.start, _WEEK, _WEEK_NODES).ends():
            self.week[row, at] += old * share * part * left.week

    def _learn_day(
        self, row: Ints, day: _At, value: Floats, off: Floats, old: NDArray[np.bool_], a_day: float
    ) -> None:
        most = max(2.0, _DAYS * a_day / _NODES)
        for at, part in day.ends():
            visits = self.visits[row, at]
            now = np.minimum(visits + part, most)
            share = part / np.maximum(now, 1e-9)
            usual, spread = self.usual[row, at], self.spread[row, at]
            self.visits[row, at] = now
            self.usual[row, at] = np.where(
                (visits == 0) & (part > 0), value - self.level[row], usual + share * off
            )
            self.spread[row, at] = spread + old * share * (np.abs(off) - spread)

    def words(self, points: Points, at: int) -> str:
        """Say how many times the usual spread it is away, and for what time."""
        one = points.take(slice(at, at + 1))
        times = min(float(self.score(one)[0]), 1e6)
        helps, error = self._season(one.row)
        if error[0] > _SEASON * self.plain_error[one.row[0]]:
            return f"{times:.1f} times the usual spread about its level"
        start = int(points.start[at])
        minutes = start % _DAY // 60_000_000
        name = f"a {_NAMES[start // _DAY % 7]}" if helps[0] else "a day"
        return f"{times:.1f} times the usual spread for {name} at {minutes // 60:02}:{minutes % 60:02}"
