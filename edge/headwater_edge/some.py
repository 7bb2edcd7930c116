"""A level that only some series have, by the patterns of the settings: it numbers them by itself, so that others cost nothing."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from headwater_edge.coarse import CoarseLevel
from headwater_edge.fine import Rows
from headwater_edge.ring import Panes, roomy
from headwater_edge.session_level import SessionLevel
from headwater_edge.window_settings import SomeLevel
from headwater_shared.aggregates import Aggregates
from headwater_shared.parts import Sketches

Ints = NDArray[np.int64]


class OfSome:
    """Rows on their way to a level and from it: those of its series, numbered as the level numbers them."""

    def __init__(self, level: CoarseLevel | SessionLevel, some: SomeLevel) -> None:
        self.level = level
        self.patterns = some.series
        self.number: Ints = np.zeros(0, np.int64)
        """By series: which of the level's it is, -1 if it is none."""
        self.series: Ints = np.zeros(0, np.int64)
        """Of the level: which of all series each is."""

    def grow(self, names: Sequence[str]) -> None:
        """Look which of the new series are of this level."""
        known = len(self.number)
        ours = [self._is_ours(name) for name in names[known:]]
        (more,) = np.nonzero(np.array(ours, np.bool_))
        number = np.full(len(ours), -1)
        number[more] = len(self.series) + np.arange(len(more))
        self.number = np.append(self.number, number)
        self.series = np.append(self.series, known + more)
        if isinstance(self.level, CoarseLevel):
            self.level.grow(roomy(len(self.series)))

    def _is_ours(self, name: str) -> bool:
        return bool(name) and any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def let_go(self, series: Ints) -> None:
        """Forget series; the numbers that the level has for them are free."""
        ours = self.number[series]
        ours = ours[ours >= 0]
        self.level.let_go(ours)
        self.number[series] = -1
        self.series[ours] = -1

    def take_up(self, numbers: Sequence[int], names: Sequence[str]) -> None:
        """Look which series are of this level that have numbers of such as were let go."""
        ours = [number for number, name in zip(numbers, names, strict=True) if self._is_ours(name)]
        free = np.flatnonzero(self.series < 0)[: len(ours)]
        at = np.append(free, len(self.series) + np.arange(len(ours) - len(free)))
        self.series = np.append(self.series, np.full(len(ours) - len(free), -1))
        self.series[at], self.number[ours] = ours, at
        if isinstance(self.level, CoarseLevel):
            self.level.grow(roomy(len(self.series)))

    def load(self, series: Ints) -> None:
        """Number series as a snapshot says that they were."""
        self.number[:] = -1
        self.series = series.copy()
        (used,) = np.nonzero(series >= 0)
        self.number[series[used]] = used
        if isinstance(self.level, CoarseLevel):
            self.level.grow(roomy(len(self.series)))

    def unfinished(self) -> Ints:
        """Return the series with a window that is open, or changed since it was put out."""
        if isinstance(self.level, SessionLevel):
            return self.series[self.level.series[self.level.changed]]
        return self.series[self.level.ring.unfinished()[: len(self.series)]]

    def feed(self, fed: list[Rows], tick: int) -> list[Rows]:
        """Give the level what is of its series."""
        some = [rows for rows in map(self._ours, fed) if len(rows.panes)]
        if not some:
            return []
        rows = some[0] if len(some) == 1 else _joined(some)
        return self._named(
            self.level.feed([rows], tick)
            if isinstance(self.level, CoarseLevel)
            else self.level.feed(rows, tick)
        )

    def close(self, watermark: Ints) -> list[Rows]:
        return self._named(self.level.close(watermark[self.series]))

    def is_due(self, watermark: Ints) -> bool:
        return self.level.is_due(watermark[self.series])

    def prune(self, watermark: Ints, held_us: int) -> None:
        self.level.prune(watermark[self.series], held_us)

    def follow(self, before: OfSome) -> None:
        """Take up what this level knew under other settings."""
        if isinstance(self.level, SessionLevel) and isinstance(before.level, SessionLevel):
            self.level.follow(before.level, self.number[before.series])

    def _ours(self, rows: Rows) -> Rows:
        number = self.number[rows.panes.series]
        (at,) = np.nonzero(number >= 0)
        ours = rows.take(at)
        ours.panes.series = number[at]
        return ours

    def _named(self, out: list[Rows]) -> list[Rows]:
        for rows in out:
            rows.panes.series = self.series[rows.panes.series]
        return out


def _joined(some: list[Rows]) -> Rows:
    return Rows(
        Panes.concatenate([rows.panes for rows in some]),
        Aggregates.concatenate([rows.aggregates for rows in some]),
        Sketches.concatenate([rows.sketches for rows in some]),
    )
