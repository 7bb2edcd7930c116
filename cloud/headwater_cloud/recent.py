"""Windows that this process wrote lately, in memory: rollups need all of a level and start soon after the first was written."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from headwater_cloud.merge import OF_ROLLUP, Windows

Ints = NDArray[np.int64]

ROWS = 100_000
"""Windows at most; some 300 bytes each."""

Key = tuple[int, int, int]
"""Shard, level and start."""


class Recent:
    """By shard, level and start, where all that there is was written by this process."""

    def __init__(self, rows: int = ROWS) -> None:
        self._most = rows
        self._rows = 0
        self._first = 0
        """The number of the oldest batch."""
        self._batches: deque[tuple[Windows, list[Key]]] = deque()
        self._where: dict[Key, list[tuple[int, Ints]]] = {}
        """Number of the batch, and rows of it."""
        self._newest: dict[tuple[int, int], int] = {}
        """The latest start by shard and level: what is later begins with what is written now."""

    def wrote(self, windows: Windows, floors: Mapping[int, int]) -> None:
        """Remember windows; `floors` is by level the latest start that was stored before this process began."""
        if len(windows) and windows.shard[0] == OF_ROLLUP:
            return  # of a second stage, as are all others
        order = windows.by_shard()
        number = self._first + len(self._batches)
        keys = []
        for shard, level, start, begin, end in windows.runs(order):
            key = (shard, level, start)
            if start > self._newest.get((shard, level), floors[level]):
                self._newest[shard, level] = start
                self._where[key] = []
            if key in self._where:
                self._where[key].append((number, order[begin:end]))
                keys.append(key)
        if not keys:
            return
        self._batches.append((windows, keys))
        self._rows += len(windows)
        while (
            self._rows > self._most and len(self._batches) > 1
        ):  # the latest is asked for next, however large it is
            oldest, keys = self._batches.popleft()
            self._rows -= len(oldest)
            self._first += 1
            for key in keys:
                self._where.pop(key, None)

    def find(self, keys: Iterable[Key]) -> tuple[list[Windows], list[Key]]:
        """Find all windows by shard, level and start: of one window perhaps several rows, the latest last.

        Returns:
            The windows, and those keys that the file must be asked for.
        """
        chosen: dict[int, list[Ints]] = {}
        others = []
        for key in keys:
            found = self._where.get(key)
            if found is None:
                others.append(key)
            else:
                for number, rows in found:
                    chosen.setdefault(number, []).append(rows)
        out = []
        for number in sorted(chosen):
            windows, _ = self._batches[number - self._first]
            at = np.concatenate(chosen[number])
            out.append(windows if len(at) == len(windows) else windows.take(np.sort(at)))
        return out, others
