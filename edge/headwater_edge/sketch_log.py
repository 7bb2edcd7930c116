"""The sketches of one coarser level's panes: a log of (slot, bucket, count) rows, summed when a pane goes out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater_shared.parts import Sketches, grouped_sketches

Ints = NDArray[np.int64]

_FIRST = 16384


class SketchLog:
    """Columns `key` (slot << 18 | bucket) and `count`; a slot's sketch is the sum of its rows."""

    def __init__(self) -> None:
        self.key: Ints = np.zeros(0, np.int64)
        self.count: Ints = np.zeros(0, np.int64)
        self._new: list[tuple[Ints, Ints]] = []
        self._size = 0
        self._sum_at = _FIRST

    def add(self, slots: Ints, sketches: Sketches) -> None:
        """Add the sketch of row i to the slot i; slot -1 takes nothing."""
        slot = slots[sketches.rows()]
        key, count = (slot << 18) | sketches.bucket, sketches.count
        if (slot < 0).any():
            key, count = key[slot >= 0], count[slot >= 0]
        self._new.append((key, count))
        self._size += len(key)

    @property
    def is_full(self) -> bool:
        """Tell whether so many rows have gathered that `sum_up` is worth it; when that is depends only on the rows."""
        return self._size > self._sum_at

    def of(self, slots: Ints, slot_count: int) -> Sketches:
        """Return the sketches of slots, row by row."""
        self._gather()
        which = np.full(slot_count, -1, np.int64)
        which[slots] = np.arange(len(slots))
        row = which[self.key >> 18]
        ours = row >= 0
        return grouped_sketches(row[ours], self.key[ours] & 0x3FFFF, self.count[ours], len(slots))

    def forget(self, slots: Ints, slot_count: int) -> None:
        """Drop the rows of slots that another window takes."""
        if not self._size:
            return
        self._gather()
        gone = np.zeros(slot_count, np.bool_)
        gone[slots] = True
        kept = ~gone[self.key >> 18]
        if not kept.all():
            self.key, self.count = self.key[kept], self.count[kept]
            self._size = len(self.key)

    def clear(self) -> None:
        self.key, self.count, self._new, self._size = self.key[:0], self.count[:0], [], 0

    def _gather(self) -> None:
        if self._new:
            self.key = np.concatenate([self.key, *(key for key, _ in self._new)])
            self.count = np.concatenate([self.count, *(count for _, count in self._new)])
            self._new = []

    def sum_up(self) -> None:
        """Make one row of all those of one bucket."""
        self._gather()
        self._sum_at = _FIRST
        if not self._size:
            return
        order = np.argsort(self.key)
        key = self.key[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        self.count = np.add.reduceat(self.count[order], starts)
        self.key = key[starts]
        self._size = len(self.key)
        self._sum_at = max(_FIRST, 2 * self._size)

    def dump(self) -> dict[str, NDArray[np.generic]]:
        self._gather()
        return {"key": self.key.copy(), "count": self.count.copy(), "sum_at": np.array([self._sum_at])}

    def load(self, columns: dict[str, NDArray[np.generic]]) -> None:
        self.key = columns["key"].astype(np.int64)
        self.count = columns["count"].astype(np.int64)
        self._new = []
        self._size = len(self.key)
        self._sum_at = int(columns["sum_at"][0])
