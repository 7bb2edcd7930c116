"""Numbers for series, levels and the openers of parts, in the order of first sight, so that rows are columns of integers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_cloud.places import Places

Ints = NDArray[np.int64]


class Opener(NamedTuple):
    """Who opened a part: with the tick, its identity within its window (R1)."""

    agent: str
    epoch: int


class Names:
    """Three dictionaries that only grow. `new_*` hold what has come since `written` was called."""

    def __init__(self) -> None:
        self.series: list[str] = []
        self.levels: list[str] = []
        self.openers: list[Opener] = []
        self._series: dict[str, int] = {}
        self._levels: dict[str, int] = {}
        self._openers: dict[Opener, int] = {}
        self._ranks = np.zeros(0, np.int64)
        self._places = Places()
        self._written = (0, 0, 0)

    def series_numbers(self, names: list[str]) -> Ints:
        """Return the number of each series; shape of `names`."""
        known = self._series
        for name in names:
            if name not in known:
                known[name] = len(self.series)
                self.series.append(name)
        return np.array([known[name] for name in names], np.int64)

    def level_numbers(self, names: list[str]) -> Ints:
        """Return the number of each level; shape of `names`."""
        for name in names:
            if name not in self._levels:
                self._levels[name] = len(self.levels)
                self.levels.append(name)
        return np.array([self._levels[name] for name in names], np.int64)

    def opener_numbers(self, agent: str, epochs: list[int]) -> Ints:
        """Return the number of each opener of one agent; shape of `epochs`."""
        openers = [Opener(agent, epoch) for epoch in epochs]
        for opener in openers:
            if opener not in self._openers:
                self._openers[opener] = len(self.openers)
                self.openers.append(opener)
        return np.array([self._openers[opener] for opener in openers], np.int64)

    def opener_ranks(self) -> Ints:
        """Return the place of each opener in sorted order: the same whatever the order of first sight was."""
        if len(self._ranks) != len(self.openers):
            self._ranks = np.empty(len(self.openers), np.int64)
            self._ranks[sorted(range(len(self.openers)), key=self.openers.__getitem__)] = np.arange(
                len(self.openers)
            )
        return self._ranks

    def places(self) -> Places:
        """Return where each series belongs."""
        self._places.follow(self.series)
        return self._places

    def unwritten(self) -> tuple[list[tuple[int, str]], list[tuple[int, str]], list[tuple[int, Opener]]]:
        """Return the series, levels and openers that have come since `written`, with their numbers."""
        series, levels, openers = self._written
        return (
            list(enumerate(self.series))[series:],
            list(enumerate(self.levels))[levels:],
            list(enumerate(self.openers))[openers:],
        )

    def written(self) -> None:
        """Say that what there is now is in the file."""
        self._written = (len(self.series), len(self.levels), len(self.openers))
