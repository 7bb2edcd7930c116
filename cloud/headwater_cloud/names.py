"""Numbers for series, levels and the openers of parts, in the order of first sight, so that rows are columns of integers."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_cloud.places import Places

Ints = NDArray[np.int64]


_REMEMBERED = 256
"""Lists of names whose numbers are known, and the other way round."""


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
        self._lists: dict[int, tuple[list[str], Ints]] = {}
        self._packed: dict[bytes, msgspec.Raw] = {}

    def series_numbers(self, names: list[str]) -> Ints:
        """Return the number of each series; shape of `names`. The same list again (frames share it) is not looked at again."""
        listed = self._lists.get(id(names))
        if listed is not None and listed[0] is names and len(listed[1]) == len(names):
            return listed[1]
        known = self._series
        for name in names:
            if name not in known:
                known[name] = len(self.series)
                self.series.append(name)
        numbers = np.array([known[name] for name in names], np.int64)
        if len(self._lists) >= _REMEMBERED:
            self._lists.clear()
        self._lists[id(names)] = names, numbers
        return numbers

    def packed_series(self, numbers: Ints) -> msgspec.Raw:
        """Return the names of series as msgpack; mostly they are asked for again."""
        key = numbers.tobytes()
        packed = self._packed.get(key)
        if packed is None:
            if len(self._packed) >= _REMEMBERED:
                self._packed.clear()
            packed = msgspec.Raw(msgspec.msgpack.encode([self.series[n] for n in numbers.tolist()]))
            self._packed[key] = packed
        return packed

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
            list(enumerate(self.series[series:], series)),
            list(enumerate(self.levels[levels:], levels)),
            list(enumerate(self.openers[openers:], openers)),
        )

    def written(self) -> None:
        """Say that what there is now is in the file."""
        self._written = (len(self.series), len(self.levels), len(self.openers))
