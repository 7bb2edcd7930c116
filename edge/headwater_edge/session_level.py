"""A level of session windows: a series' readings from one on, until none came for the gap; late ones extend and bridge (R7).

It is fed the rows of base panes, each with the times of its first and last reading. A base window is no longer than the gap,
so no silence that ends a session hides inside a row: where one row's first is more than the gap after all before it, and
only there, a session ends. That is exact, as if the readings themselves were looked at.

**Identity.** A part bears the start of its session and the tick that gave it this start. Sessions in memory lie more than
a gap apart and each holds its start, so no two of a series have one start; and none is forgotten before its tick ends.
So no identity is given twice. Where a late reading moves the start of a session that is out already, its part goes out
once more with count 0, which stores delete, and a new one with all of it under the new start; so do those that
it absorbs. Both stand in one frame.

**After a start** (R1) the parts of before are not ours: `seal` keeps of each session where it starts and ends, and nothing
that it counts. What comes within its gap is a new part of the window that starts there, which the cloud merges. Such a
session is never absorbed and keeps its start. A reading between two of them joins the earlier one: every reading is in
exactly one session, though two that a late reading connects may stay two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater_edge.fine import Rows
from headwater_edge.membership import is_in
from headwater_edge.recent import NEVER
from headwater_edge.ring import Flags, Panes
from headwater_edge.sketch_log import SketchLog
from headwater_shared.aggregates import Aggregates, merged_groups
from headwater_shared.parts import Level, Sketches

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

MOST = 64
"""Sessions of one series that are held for late readings."""


class SessionLevel:
    """A table of sessions by slot, in no order; series are numbered by the level itself.

    Columns: `used`; `sealed`: a part of an older epoch began it; `changed`: our part holds what was not put out yet;
    `series`, `start`, `first` and `last` (the times of its outermost readings); `tick` and `revision` of our part, -1 if it was
    never put out; `touched`: the watermark when it last changed or went out, `NEVER` until that tick ends. `aggregates` and
    `flags` hold our part.
    """

    COLUMNS = (
        "used", "sealed", "changed", "series", "start", "first", "last", "tick", "revision", "touched", "flags",
    )  # fmt: skip

    def __init__(self, level: Level, base_us: int) -> None:
        self.level = level
        self._base_us = base_us
        self.used = np.zeros(0, np.bool_)
        self.sealed = np.zeros(0, np.bool_)
        self.changed = np.zeros(0, np.bool_)
        self.series: Ints = np.zeros(0, np.int64)
        self.start: Ints = np.zeros(0, np.int64)
        self.first: Ints = np.zeros(0, np.int64)
        self.last: Ints = np.zeros(0, np.int64)
        self.tick: Ints = np.zeros(0, np.int64)
        self.revision: Ints = np.zeros(0, np.int64)
        self.touched: Ints = np.zeros(0, np.int64)
        self.flags: Flags = np.zeros(0, np.uint8)
        self.aggregates = Aggregates.empty(0)
        self.log = SketchLog()

    def __len__(self) -> int:
        return len(self.used)

    def feed(self, rows: Rows, tick: int) -> list[Rows]:
        """Take base rows in; return tombstones, and with them the sessions that hold now what they held."""
        joined = self._join(rows)
        absorbed, into = joined.absorbed, joined.into
        known = joined.survivor >= 0
        at = joined.survivor
        at[~known] = self._free_slots(int((~known).sum()))
        moved = known & ~self.sealed[at] & (joined.first < self.start[at])
        out = self._tombstones(np.append(absorbed, at[moved]))
        together = moved & (self.revision[at] >= 0)
        together[into[self.revision[absorbed] >= 0]] = True
        if len(absorbed):
            sketches = self.log.of(absorbed, len(self))
            self._forget(absorbed)
            self.log.add(at[into], sketches)
        self.log.add(at[joined.of_row], rows.sketches)
        opened = at[~known | moved | (self.aggregates.count[at] == 0)]
        self.tick[opened] = tick
        self.revision[opened] = -1
        begun = ~known | moved
        self.start[at[begun]] = joined.first[begun]
        self.used[at] = self.changed[at] = True
        self.series[at], self.first[at], self.last[at] = joined.series, joined.first, joined.last
        self.touched[at] = NEVER
        self.aggregates.put(at, joined.aggregates)
        self.flags[at] = joined.flags
        return out + self._put_out(at[together])

    def _join(self, rows: Rows) -> _Joined:
        """Find what rows and the sessions in memory become together."""
        given, n = rows.aggregates, len(rows.panes)
        (used,) = np.nonzero(self.used)
        slots = used[is_in(self.series[used], rows.panes.series)]
        k = len(slots)
        series = np.append(self.series[slots], rows.panes.series)
        first = np.append(self.first[slots], given.first_time)
        last = np.append(self.last[slots], given.last_time)
        sealed = np.append(self.sealed[slots], np.zeros(n, np.bool_))
        flags = np.append(self.flags[slots], rows.panes.flags)
        order = np.lexsort((last, first, series))
        s, f, t = series[order], first[order], last[order]
        begins = _begins(s, f, t, sealed[order], self.level.gap_us)
        starts, group = np.nonzero(begins)[0], np.cumsum(begins) - 1
        (at_session,) = np.nonzero(order < k)
        at_session = at_session[::-1]  # of the sessions of a group the first is written last
        survivor = np.full(len(starts), -1)
        survivor[group[at_session]] = slots[order[at_session]]
        (at_sealed,) = np.nonzero(sealed[order])
        survivor[group[at_sealed]] = slots[order[at_sealed]]
        changed = np.logical_or.reduceat(order >= k, starts)
        number = np.cumsum(changed) - 1  # of the groups that rows came to
        of_session = group[at_session]
        lost = changed[of_session] & (survivor[of_session] != slots[order[at_session]])
        of_row = np.empty(n, np.int64)
        of_row[order[order >= k] - k] = number[group[order >= k]]
        whole = merged_groups(
            Aggregates.concatenate([self.aggregates.take(slots), given]).take(order), starts
        )
        return _Joined(
            survivor[changed], s[starts][changed], f[starts][changed], np.maximum.reduceat(t, starts)[changed],
            whole.take(changed), np.bitwise_or.reduceat(flags[order], starts)[changed],
            slots[order[at_session[lost]]], number[of_session[lost]], of_row,
        )  # fmt: skip

    def close(self, watermark: Ints) -> list[Rows]:
        """Put out what changed of the sessions that the watermark of their series has passed."""
        return self._put_out(self._due(watermark))

    def is_due(self, watermark: Ints) -> bool:
        return len(self._due(watermark)) > 0

    def _due(self, watermark: Ints) -> Ints:
        """A session is over once no base pane is open any more that may hold a reading within the gap."""
        (slots,) = np.nonzero(self.changed)
        closed_to = watermark[self.series[slots]] // self._base_us * self._base_us
        due: Ints = slots[closed_to > self.last[slots] + self.level.gap_us]
        return due

    def _put_out(self, slots: Ints) -> list[Rows]:
        if not len(slots):
            return []
        self.revision[slots] += 1
        self.changed[slots] = False
        self.touched[slots] = NEVER
        panes = Panes(
            slots, self.series[slots], self.start[slots], self.tick[slots], self.revision[slots],
            self.flags[slots],
        )  # fmt: skip
        return [Rows(panes, self.aggregates.take(slots), self.log.of(slots, len(self)))]

    def _tombstones(self, slots: Ints) -> list[Rows]:
        """Take back what was put out of sessions: the same parts, with a higher revision and no reading (R7)."""
        slots = slots[self.revision[slots] >= 0]
        n = len(slots)
        if not n:
            return []
        none = np.full(n, -1)
        panes = Panes(
            none, self.series[slots], self.start[slots], self.tick[slots], self.revision[slots] + 1,
            np.zeros(n, np.uint8),
        )  # fmt: skip
        return [Rows(panes, Aggregates.empty(n), Sketches.empty(n))]

    def seal(self) -> None:
        """The parts of the epoch before were put out: of their sessions stays where they are (R1)."""
        self.sealed |= self.used
        self.aggregates.words[:] = 0
        self.flags[:] = 0
        self.log.clear()

    def prune(self, watermark: Ints, held_us: int) -> None:
        """Forget what is over and was not touched for so long, and of too many sessions of a series those touched first."""
        (used,) = np.nonzero(self.used)
        series = self.series[used]
        mark = watermark[series]
        fresh = self.touched[used] == NEVER
        self.touched[used[fresh]] = mark[fresh]
        touched = self.touched[used]
        gone = np.maximum(self.last[used] + self.level.gap_us, touched) + held_us <= mark
        if len(used) > MOST and int(np.bincount(series).max()) > MOST:
            order = np.lexsort((-self.last[used], -touched, series))
            (starts,) = np.nonzero(np.diff(series[order], prepend=-1))
            rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
            gone[order[rank >= MOST]] = True
        gone &= ~self.changed[used]
        if gone.any():
            self._forget(used[gone])
        if self.log.is_full:
            self.log.sum_up()

    def let_go(self, series: Ints) -> None:
        """Forget the sessions of series, all of which are out."""
        (used,) = np.nonzero(self.used)
        self._forget(used[is_in(self.series[used], series)])

    def follow(self, before: SessionLevel, number: Ints) -> None:
        """Take up the sealed sessions of this level under other settings.

        Args:
            number: what each series is here that has a number there, -1 if it is not of this level any more.
        """
        (slots,) = np.nonzero(before.used)
        slots = slots[number[before.series[slots]] >= 0]
        for name in self.COLUMNS:
            setattr(self, name, getattr(before, name)[slots])
        self.series = number[self.series]
        self.aggregates = Aggregates.empty(len(slots))

    def _free_slots(self, n: int) -> Ints:
        """Return slots that are free, of a larger table if need be."""
        free = np.flatnonzero(~self.used)
        if len(free) < n:
            more = max(n - len(free), len(self) // 4, 64)
            for name in self.COLUMNS:
                column = getattr(self, name)
                setattr(self, name, np.append(column, np.zeros(more, column.dtype)))
            self.aggregates = Aggregates.concatenate([self.aggregates, Aggregates.empty(more)])
            free = np.flatnonzero(~self.used)
        return free[:n]

    def _forget(self, slots: Ints) -> None:
        for name in self.COLUMNS:
            getattr(self, name)[slots] = 0
        self.aggregates.words[slots] = 0
        self.log.forget(slots, len(self))

    def dump(self) -> dict[str, NDArray[np.generic]]:
        columns = {name: getattr(self, name).copy() for name in self.COLUMNS}
        return {**columns, "aggregates": self.aggregates.words.copy(), **self.log.dump()}

    def load(self, columns: dict[str, NDArray[np.generic]]) -> None:
        columns = {
            "flags": np.zeros(len(columns["used"]), np.uint8),
            **columns,
        }  # which were not always there
        for name in self.COLUMNS:
            setattr(self, name, columns[name].copy())
        self.aggregates = Aggregates.of_words(columns["aggregates"].astype(np.int64))
        self.log.load(columns)


@dataclass(slots=True)
class _Joined:
    """What rows and sessions in memory become together: g sessions."""

    survivor: Ints
    """The slot of the one that each goes on in, -1 if it is new."""
    series: Ints
    first: Ints
    last: Ints
    aggregates: Aggregates
    flags: Flags
    absorbed: Ints
    """Slots of sessions that go into others."""
    into: Ints
    """Into which of the g, each of them."""
    of_row: Ints
    """Into which of the g each row goes."""


def _begins(series: Ints, first: Ints, last: Ints, sealed: Mask, gap_us: int) -> Mask:
    """Tell which items begin a session: n that are ordered by series and first.

    More than the gap after all before it, or the second sealed one of those that hang together, or one after that.
    """
    new = np.ones(len(series), np.bool_)
    np.not_equal(series[1:], series[:-1], out=new[1:])
    far = new.copy()
    far[1:] |= first[1:] - _last_so_far(last, new)[:-1] > gap_us
    if sealed.any():
        before: Ints = np.cumsum(sealed) - sealed
        chain = np.cumsum(far) - 1
        far |= sealed & (before > before[far][chain])
    return far


def _last_so_far(last: Ints, new: Mask) -> Ints:
    """Return the largest of the items so far, from each one that is new."""
    if bool(((last[1:] >= last[:-1]) | new[1:]).all()):
        return last
    rising = np.sort(last)
    rank = np.searchsorted(rising, last) + (np.cumsum(new) - 1) * len(last)
    out: Ints = rising[np.maximum.accumulate(rank) % len(last)]
    return out
