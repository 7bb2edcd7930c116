"""One level's panes: a ring of slots a series, each the running aggregate of one window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater_shared.aggregates import Aggregates, merged
from headwater_shared.parts import Level

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

EMPTY, OPEN, HELD = 0, 1, 2

_NO_END = 2**62


@dataclass(slots=True)
class Rows:
    """Panes on their way out: p rows that no longer change here. `slot` is -1 where none holds the pane."""

    slot: Ints
    series: Ints
    start: Ints
    tick: Ints
    revision: Ints
    aggregates: Aggregates

    def __len__(self) -> int:
        return len(self.slot)


@dataclass(slots=True)
class Added:
    """What became of deltas: `flat` is the slot that took each, -1 where none did, and it is a part of its own.

    `late`: the pane had been closed before, or there is none. `closed` and `revised` are panes that had to leave
    their slot for a newer window: open ones, closed early, and held ones with a revision not yet put out.
    """

    flat: Ints
    late: Mask
    closed: Rows | None
    revised: Rows | None
    reused: Ints
    """Slots that now hold another window than before."""


class Panes:
    """The panes of one level; flat index = series * slots + (window number % slots).

    A slot that a newer window needs closes its pane early: another part of that window may follow, and the cloud
    merges both (R1). A reading older than what its slot holds gets a part of its own at once.
    """

    def __init__(self, level: Level, slots: int) -> None:
        self.level = level
        self.slots = slots
        self.status = np.zeros(0, np.uint8)
        self.start: Ints = np.zeros(0, np.int64)
        self.tick: Ints = np.zeros(0, np.int64)
        self.revision: Ints = np.zeros(0, np.int64)
        self.dirty = np.zeros(0, np.bool_)
        self.aggregates = Aggregates.empty(0)
        self._earliest_end = -_NO_END
        """No open pane ends before this: a short cut, not part of the state."""

    def grow(self, series: int) -> None:
        """Make room for so many series."""
        more = series * self.slots - len(self.status)
        if more > 0:
            self.status = np.append(self.status, np.zeros(more, np.uint8))
            self.start = np.append(self.start, np.zeros(more, np.int64))
            self.tick = np.append(self.tick, np.zeros(more, np.int64))
            self.revision = np.append(self.revision, np.zeros(more, np.int64))
            self.dirty = np.append(self.dirty, np.zeros(more, np.bool_))
            self.aggregates = Aggregates.concatenate([self.aggregates, Aggregates.empty(more)])

    def flat_of(self, series: Ints, start: Ints) -> Ints:
        """Return the slot of each (series, window)."""
        return series * self.slots + start // self.level.length_us % self.slots

    def add(self, flat: Ints, start: Ints, delta: Aggregates, tick: int) -> Added:
        """Merge one delta a slot into the pane of its window; `flat` holds no slot twice (see `rounds`)."""
        status = self.status[flat]
        same = (self.start[flat] == start) & (status != EMPTY)
        if bool(same.all()):  # most ticks: every reading falls into a pane that there is
            closed, revised, reused = None, None, flat[:0]
            self.aggregates.put(flat, merged(self.aggregates.take(flat), delta))
            late = status == HELD
        else:
            older = (status != EMPTY) & (self.start[flat] > start)
            fresh = ~(same | older)
            reused = flat[fresh]
            closed = self._leaving(reused[self.status[reused] == OPEN])
            revised = self._leaving(reused[self.dirty[reused]], revise=True)
            self._open(reused, start[fresh], delta.take(fresh), tick)
            at = flat[same]
            self.aggregates.put(at, merged(self.aggregates.take(at), delta.take(same)))
            late = older | (same & (status == HELD))
        if late.any():
            self.dirty[flat[late & same]] = True
            flat = np.where(late & ~same, -1, flat)
        return Added(flat, late, closed, revised, reused)

    def _open(self, flat: Ints, start: Ints, first: Aggregates, tick: int) -> None:
        self.status[flat] = OPEN
        self.start[flat] = start
        self.tick[flat] = tick
        self.revision[flat] = 0
        self.dirty[flat] = False
        self.aggregates.put(flat, first)
        if len(start):
            self._earliest_end = min(self._earliest_end, int(start.min()) + self.level.length_us)

    def _leaving(self, flat: Ints, *, revise: bool = False) -> Rows | None:
        if not len(flat):
            return None
        if revise:
            self.revision[flat] += 1
        return self.rows(flat)

    def due(self, watermark: Ints) -> Ints:
        """Return the flat indices of open panes whose window the watermark of their series has passed."""
        if not len(watermark) or int(watermark.max()) < self._earliest_end:
            return np.zeros(0, np.int64)
        opened = self.opened()
        ends = self.start[opened] + self.level.length_us
        due: Ints = opened[ends <= watermark[opened // self.slots]]
        if not len(due):
            self._earliest_end = int(ends.min(initial=_NO_END))
        return due

    def opened(self) -> Ints:
        """Return the flat indices of all open panes."""
        return np.nonzero(self.status == OPEN)[0]

    def close(self, flat: Ints) -> Rows:
        """Close open panes; they are held."""
        self.status[flat] = HELD
        return self.rows(flat)

    def revise(self) -> Rows | None:
        """Put out held panes that late readings changed, each whole and with a higher revision (R7)."""
        if not self.dirty.any():
            return None
        (flat,) = np.nonzero(self.dirty)
        self.dirty[flat] = False
        return self._leaving(flat, revise=True)

    def clear(self) -> None:
        """Empty every slot: what comes from now on opens new parts (R1)."""
        self.status[:] = EMPTY
        self.dirty[:] = False

    def rows(self, flat: Ints) -> Rows:
        """Copy panes out."""
        return Rows(
            flat, flat // self.slots, self.start[flat], self.tick[flat], self.revision[flat],
            self.aggregates.take(flat),
        )  # fmt: skip


def rounds(flat: Ints) -> Iterator[Ints]:
    """Split indices so that no slot comes twice in a round, the order within a slot kept.

    One round, but where one tick brings windows of a series that share a slot. `flat` is ordered by series.
    """
    if len(flat) < 2 or not bool((flat[1:] <= flat[:-1]).any()):
        yield np.arange(len(flat))
        return
    left = np.arange(len(flat))
    while len(left):
        _, first = np.unique(flat[left], return_index=True)
        yield left[np.sort(first)]
        left = np.delete(left, first)
