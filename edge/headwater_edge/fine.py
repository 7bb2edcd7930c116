"""The finest level, the base of the others: readings stay raw columns while their pane is open or held, and are aggregated when it goes out.

So a tick appends, and no more; a window's aggregate does not depend on where ticks ended, not even in its last bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater_edge.meaning import Meaning
from headwater_edge.recent import NEVER, Recent
from headwater_edge.ring import EMPTY, OPEN, Flags, Panes, Ring, group_starts, of_their_own, rounds
from headwater_shared.aggregates import Aggregates, of_readings
from headwater_shared.digest import reading_digests, value_bits
from headwater_shared.parts import Level, Sketches, counted_sketches
from headwater_shared.sketch import buckets_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(slots=True)
class Rows:
    """Panes on their way out: identity, aggregates, sketches; p rows that alias no state."""

    panes: Panes
    aggregates: Aggregates
    sketches: Sketches

    def take(self, at: Ints) -> Rows:
        """Return the rows at indices."""
        return Rows(self.panes.take(at), self.aggregates.take(at), self.sketches.take(at))


@dataclass(slots=True)
class Gone:
    """What leaves the base level: `out` goes to the cloud, `fed` is new to the coarser levels."""

    out: list[Rows]
    fed: list[Rows]


class FineLevel:
    """Panes of the base window, over the raw columns of `Recent`."""

    def __init__(self, level: Level, slots: int) -> None:
        self.level = level
        self.ring = Ring(level, slots)
        self.recent = Recent()
        self.meaning = Meaning(())
        self.late = 0
        """Readings that came after their pane was closed."""

    def add(
        self, series: NDArray[np.int32], sent: Ints, event: Ints, value: Floats, mark: Flags, tick: int
    ) -> Gone:
        """Take accepted readings in, n of them in the order of arrival; `mark` flags their panes.

        Returns:
            panes that had to go before their time, and late readings on their way up.
        """
        window = event // self.level.length_us
        start = window * self.level.length_us
        flat = self.ring.flat_of(series.astype(np.int64), window)
        if bool(((self.ring.start[flat] == start) & (self.ring.status[flat] == OPEN)).all()):
            self.recent.append(series, sent, event, value, flat.astype(np.int32))
            if mark.any():
                self.ring.flag(flat, mark)
            return Gone([], [])
        order = np.lexsort((window, series))
        s, w = series[order].astype(np.int64), window[order]
        starts = group_starts(s, w)
        sizes = np.append(starts[1:], len(s)) - starts
        flags = np.bitwise_or.reduceat(mark[order], starts)
        slots, late, leaving = self._place(s[starts], w[starts], flags, tick)
        slot, is_late = np.empty(len(s), np.int32), np.empty(len(s), np.bool_)
        slot[order], is_late[order] = np.repeat(slots, sizes), np.repeat(late, sizes)
        self.recent.append(series, sent, event, value, slot)
        gone = Gone([], [])
        for closed, revised in leaving:
            self._leave(closed, gone, fed=True)
            self._leave(revised, gone, fed=False)
        if late.any():
            self._late(
                series[is_late], sent[is_late], event[is_late], value[is_late], mark[is_late], slot[is_late],
                tick, gone,
            )  # fmt: skip
        return gone

    def _place(
        self, series: Ints, window: Ints, flags: Flags, tick: int
    ) -> tuple[Ints, Mask, list[tuple[Panes, Panes]]]:
        """Find or open the pane of each (series, window): its slot, whether it was closed before, what had to leave."""
        flat = self.ring.flat_of(series, window)
        slots, late = np.empty(len(flat), np.int64), np.empty(len(flat), np.bool_)
        leaving = []
        for at in rounds(flat):
            placed = self.ring.place(flat[at], window[at] * self.level.length_us, tick)
            slots[at], late[at] = placed.flat, placed.late
            self.ring.flag(placed.flat, flags[at])
            leaving.append((placed.closed, placed.revised))
        return slots, late, leaving

    def _late(
        self, series: NDArray[np.int32], sent: Ints, event: Ints, value: Floats, mark: Flags,
        slot: NDArray[np.int32], tick: int, gone: Gone,
    ) -> None:  # fmt: skip
        """Feed late readings upwards by themselves; those that no slot took go out as parts of their own (R7)."""
        self.late += len(series)
        window = event // self.level.length_us
        meant = self.meaning.of(series, value)
        order = np.lexsort((value_bits(meant), event, window, series))
        starts = group_starts(series[order].astype(np.int64), window[order])
        digests = reading_digests(sent[order], value[order])
        aggregates, sketches = _aggregated(starts, event[order], meant[order], digests)
        first = order[starts]
        flags = np.bitwise_or.reduceat(mark[order], starts)
        panes = of_their_own(
            series[first].astype(np.int64), window[first] * self.level.length_us, tick, flags
        )
        small = Rows(panes, aggregates, sketches)
        gone.fed.append(small)
        (alone,) = np.nonzero(slot[first] < 0)
        if len(alone):
            gone.out.append(small.take(alone))

    def close(self, watermark: Ints) -> Gone:
        """Close what the watermark of each series has passed, and revise what late readings changed."""
        gone = Gone([], [])
        due = self.ring.due(watermark)
        if len(due):
            self._leave(self.ring.close(due), gone, fed=True)
        if self.ring.dirty.any():
            self._leave(self.ring.revise(), gone, fed=False)
        return gone

    def _leave(self, panes: Panes, gone: Gone, *, fed: bool) -> None:
        """Aggregate panes from their raw columns, and send them off."""
        if not len(panes):
            return
        pane, at = self.recent.rows_of(panes.slot, panes.start, self.level.length_us, len(self.ring))
        event, value = self.recent.event[at], self.recent.value[at]
        digests = reading_digests(self.recent.sent[at], value)
        meant = self.meaning.of(self.recent.series[at], value) if self.meaning else value
        order = _by_pane(pane, event, meant)
        starts = np.searchsorted(pane[order], np.arange(len(panes)))
        rows = Rows(panes, *_aggregated(starts, event[order], meant[order], digests[order]))
        gone.out.append(rows)
        if fed:
            gone.fed.append(rows)

    def let_go(self, series: Ints) -> None:
        """Forget the panes of series, all of which are out, and their readings."""
        self.ring.forget(series)
        self.recent.let_go(series)

    def seal(self) -> None:
        """The panes of the epoch before were put out: what comes now opens new parts (R1)."""
        self.ring.clear()
        self.recent.forget_slots()

    def prune(self, watermark: Ints, held_us: int) -> None:
        """Let go of panes that are held no longer, and of raw columns that no pane counts and that are as old."""
        if self.recent.is_full():
            self.ring.let_go(watermark, held_us)
            starts = np.where(self.ring.status == EMPTY, NEVER, self.ring.start)
            self.recent.prune(watermark - held_us - self.level.length_us, starts, self.level.length_us)


def _aggregated(
    starts: Ints, event: Ints, value: Floats, digests: NDArray[np.uint64]
) -> tuple[Aggregates, Sketches]:
    """Aggregate readings, pane by pane and within one by time and value bits; digests are of the values as sent (R10)."""
    n = len(starts)
    aggregates = of_readings(starts, event, value, digests)
    return aggregates, counted_sketches(np.repeat(np.arange(n), aggregates.count), buckets_of(value), n)


def _by_pane(pane: Ints, event: Ints, value: Floats) -> Ints:
    """Order readings by pane, event time, value bits."""
    narrow = pane.astype(np.int16) if len(pane) and int(pane.max()) < 2**15 else pane  # 16 bits: a radix sort
    order = np.argsort(narrow, kind="stable")
    p, t = pane[order], event[order]
    if bool(((p[1:] != p[:-1]) | (t[1:] > t[:-1])).all()):  # each came in the order of its times
        return order
    return np.lexsort((value_bits(value), event, pane))
