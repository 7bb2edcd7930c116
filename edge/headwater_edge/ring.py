"""A ring of slots a series for the windows of one level: which windows have a pane, and whether it is open or held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater_shared.parts import Level

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Flags = NDArray[np.uint8]

EMPTY, OPEN, HELD = 0, 1, 2

NO_END = 2**62
"""After every window."""


@dataclass(slots=True)
class Panes:
    """Panes by identity, p of them: `slot` is the flat index, -1 where none holds the pane."""

    slot: Ints
    series: Ints
    start: Ints
    tick: Ints
    """That opened them."""
    revision: Ints
    flags: Flags
    """What was done to the times of readings that they count: `event_time.CLAMPED` and so on."""

    def __len__(self) -> int:
        return len(self.slot)

    def take(self, at: Ints | Mask) -> Panes:
        """Return the panes at indices or a mask."""
        return Panes(
            self.slot[at], self.series[at], self.start[at], self.tick[at], self.revision[at], self.flags[at]
        )

    @staticmethod
    def concatenate(panes: list[Panes]) -> Panes:
        """Return the panes of all, in order."""
        return Panes(*(np.concatenate([getattr(some, name) for some in panes]) for name in Panes.__slots__))


@dataclass(slots=True)
class Placed:
    """What became of windows that readings came for: `flat` is the slot of each, -1 where the pane is gone for good.

    `late`: the pane had been closed before, or is gone. `same`: the slot held this window already. `closed` and
    `revised` are panes that had to leave their slot for a newer window: open ones, closed early, and held ones whose
    revision was not yet put out.
    """

    flat: Ints
    late: Mask
    same: Mask
    closed: Panes
    revised: Panes


class Ring:
    """Flat index = series * slots + (window number % slots).

    A slot that a newer window needs closes its pane early: another part of that window may follow, and the cloud
    merges both (R1). A window older than what its slot holds gets none: its readings are a part of their own.
    """

    COLUMNS = ("status", "start", "tick", "revision", "dirty", "flags")

    def __init__(self, level: Level, slots: int) -> None:
        self.level = level
        self.slots = slots
        self.status = np.zeros(0, np.uint8)
        self.start: Ints = np.zeros(0, np.int64)
        self.tick: Ints = np.zeros(0, np.int64)
        self.revision: Ints = np.zeros(0, np.int64)
        self.dirty = np.zeros(0, np.bool_)
        """Held, and changed since it was put out."""
        self.flags: Flags = np.zeros(0, np.uint8)
        self._earliest_end = -NO_END
        """No open pane ends before this: a short cut, not part of the state."""

    def __len__(self) -> int:
        return len(self.status)

    def grow(self, series: int) -> None:
        """Make room for so many series."""
        more = series * self.slots - len(self)
        if more > 0:
            for name in self.COLUMNS:
                column = getattr(self, name)
                setattr(self, name, np.append(column, np.zeros(more, column.dtype)))

    def flat_of(self, series: Ints, window: Ints) -> Ints:
        """Return the slot of each (series, window number)."""
        return series * self.slots + window % self.slots

    def place(self, flat: Ints, start: Ints, tick: int | Ints) -> Placed:
        """Find or open the pane of each window, under a tick or under one each; `flat` holds no slot twice (see `rounds`)."""
        status, held_start = self.status[flat], self.start[flat]
        same = (held_start == start) & (status != EMPTY)
        older = (status != EMPTY) & (held_start > start)
        fresh = flat[~(same | older)]
        closed = self.panes(fresh[self.status[fresh] == OPEN])
        changed = fresh[self.dirty[fresh]]
        self.revision[changed] += 1
        revised = self.panes(changed)
        if len(fresh):
            starts = start[~(same | older)]
            self.status[fresh] = OPEN
            self.start[fresh] = starts
            self.tick[fresh] = np.broadcast_to(tick, flat.shape)[~(same | older)]
            self.revision[fresh] = 0
            self.dirty[fresh] = False
            self.flags[fresh] = 0
            self._earliest_end = min(self._earliest_end, int(starts.min()) + self.level.length_us)
        late = older | (same & (status == HELD))
        self.dirty[flat[late & same]] = True
        return Placed(np.where(older, -1, flat), late, same, closed, revised)

    def flag(self, flat: Ints, flags: Flags) -> None:
        """Add flags to the panes in slots, of which -1 is none and one may come twice."""
        (at,) = np.nonzero((flags > 0) & (flat >= 0))
        np.bitwise_or.at(self.flags, flat[at], flags[at])

    def due(self, watermark: Ints) -> Ints:
        """Return the slots of open panes whose window the watermark of their series has passed."""
        if not len(watermark) or int(watermark.max()) < self._earliest_end:
            return np.zeros(0, np.int64)
        (opened,) = np.nonzero(self.status == OPEN)
        ends = self.start[opened] + self.level.length_us
        due: Ints = opened[ends <= watermark[opened // self.slots]]
        if not len(due):
            self._earliest_end = int(ends.min(initial=NO_END))
        return due

    def close(self, flat: Ints) -> Panes:
        """Close open panes; they are held."""
        self.status[flat] = HELD
        return self.panes(flat)

    def revise(self) -> Panes:
        """Return held panes that late readings changed, with a higher revision (R7)."""
        (flat,) = np.nonzero(self.dirty)
        self.dirty[flat] = False
        self.revision[flat] += 1
        return self.panes(flat)

    def let_go(self, watermark: Ints, held_us: int) -> Ints:
        """Empty the slots of panes that were over so long ago that they are held no longer; return them.

        What still comes for such a window opens another part of it (R1, R7).
        """
        (flat,) = np.nonzero((self.status == HELD) & ~self.dirty)
        over = self.start[flat] + self.level.length_us + held_us <= watermark[flat // self.slots]
        gone: Ints = flat[over]
        self.status[gone] = EMPTY
        return gone

    def forget(self, series: Ints) -> Ints:
        """Empty the slots of series; return them."""
        flat: Ints = (series[:, None] * self.slots + np.arange(self.slots)).reshape(-1)
        self.status[flat] = EMPTY
        self.dirty[flat] = False
        return flat

    def unfinished(self) -> Mask:
        """Tell of each series whether a pane of it is open, or changed since it was put out."""
        every: Mask = ((self.status == OPEN) | self.dirty).reshape(-1, self.slots).any(axis=1)
        return every

    def clear(self) -> None:
        """Empty every slot: what comes from now on opens new parts (R1)."""
        self.status[:] = EMPTY
        self.dirty[:] = False

    def panes(self, flat: Ints) -> Panes:
        """Copy panes out."""
        return Panes(
            flat, flat // self.slots, self.start[flat], self.tick[flat], self.revision[flat], self.flags[flat]
        )


def rounds(flat: Ints) -> Iterator[Ints]:
    """Split indices so that no slot comes twice in a round, the order within a slot kept.

    One round, but where one tick brings windows of a series that share a slot. `flat` is ordered by series.
    """
    if len(flat) < 2 or bool((flat[1:] > flat[:-1]).all()):
        yield np.arange(len(flat))
        return
    left = np.arange(len(flat))
    while len(left):
        _, first = np.unique(flat[left], return_index=True)
        yield left[np.sort(first)]
        left = np.delete(left, first)


def of_their_own(series: Ints, start: Ints, tick: int, flags: Flags) -> Panes:
    """Make panes that no slot holds, opened and closed by this tick."""
    n = len(series)
    return Panes(np.full(n, -1), series, start, np.full(n, tick), np.zeros(n, np.int64), flags)


def group_starts(series: Ints, window: Ints) -> Ints:
    """Return where each (series, window) begins in columns that are ordered by both; not empty."""
    begins = np.empty(len(series), np.bool_)
    begins[0] = True
    np.not_equal(series[1:], series[:-1], out=begins[1:])
    begins[1:] |= window[1:] != window[:-1]
    return np.nonzero(begins)[0]


def roomy(n: int) -> int:
    """Round a number of series up, so that growing one by one copies little."""
    return 0 if n == 0 else max(64, 1 << (n - 1).bit_length())
