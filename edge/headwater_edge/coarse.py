"""A coarser level of tumbling or hopping windows: panes that are made by merging base panes, and late readings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater_edge.fine import Rows
from headwater_edge.membership import is_in
from headwater_edge.ring import Flags, Panes, Ring, group_starts, of_their_own, rounds
from headwater_edge.sketch_log import SketchLog
from headwater_shared.aggregates import Aggregates, merged, merged_groups
from headwater_shared.parts import Level, Sketches, grouped_sketches

Ints = NDArray[np.int64]


class CoarseLevel:
    """One coarser level: running aggregates and sketches, fed by base panes.

    A hopping level takes each base pane into every window that it lies in, and is a tumbling one in all else.
    """

    def __init__(self, level: Level, slots: int) -> None:
        self.level = level
        self.ring = Ring(level, slots)
        self.log = SketchLog()
        self.aggregates = Aggregates.empty(0)

    def grow(self, series: int) -> None:
        """Make room for so many series."""
        self.ring.grow(series)
        more = len(self.ring) - len(self.aggregates)
        if more > 0:
            self.aggregates = Aggregates.concatenate([self.aggregates, Aggregates.empty(more)])

    def feed(self, fed: list[Rows], tick: int) -> list[Rows]:
        """Merge base rows into the panes; return what had to go before its time, or is a part of its own.

        A pane is opened under the tick that opened the base pane, not under that which feeds it: an agent whose file went back,
        and one that did not, close that base pane at different ticks, and what both put out must be one part (R1).
        """
        if self.level.at_once > 1:
            fed = [self._in_each(rows) for rows in fed]
        series, window, opened, flags, delta, sketches = self._grouped(fed)
        start = window * self.level.hop_us
        flat = self.ring.flat_of(series, window)
        out: list[Rows] = []
        for at in rounds(flat):
            whole = len(at) == len(flat)
            slot, small = (flat, delta) if whole else (flat[at], delta.take(at))
            buckets = sketches if whole else sketches.take(at)
            before = self.aggregates.take(slot)  # of panes that may have to leave
            placed = self.ring.place(slot, start[at], opened[at])
            for panes in (placed.closed, placed.revised):
                if len(panes):
                    rows = before.take(is_in(slot, panes.slot))  # both in the order of `slot`
                    out.append(Rows(panes, rows, self.log.of(panes.slot, len(self.ring))))
            fresh = slot[(placed.flat >= 0) & ~placed.same]
            self.log.forget(fresh, len(self.ring))
            self.log.add(placed.flat, buckets)
            self.ring.flag(placed.flat, flags[at])
            kept = placed.flat >= 0
            known = placed.same
            self.aggregates.put(slot[kept & ~known], small.take(kept & ~known))
            self.aggregates.put(slot[known], merged(before.take(known), small.take(known)))
            (alone,) = np.nonzero(~kept)
            if len(alone):
                panes = of_their_own(series[at[alone]], start[at[alone]], tick, flags[at[alone]])
                out.append(Rows(panes, small.take(alone), buckets.take(alone)))
        return out

    def _in_each(self, rows: Rows) -> Rows:
        """Repeat base rows for every window that they lie in, each under that window's start."""
        n, last = self.level.at_once, rows.panes.start // self.level.hop_us
        copies = rows.take(np.repeat(np.arange(len(rows.panes)), n))
        copies.panes.start = ((last[:, None] - np.arange(n)[::-1]) * self.level.hop_us).reshape(-1)
        return copies

    def _grouped(self, fed: list[Rows]) -> tuple[Ints, Ints, Ints, Flags, Aggregates, Sketches]:
        """Merge base rows of one (series, window) to one delta: series, window number, the tick that opened the earliest,
        flags, aggregates, sketches.
        """
        if len(fed) == 1 and self._is_grouped(fed[0].panes):
            one = fed[0]  # one base window a series: the common case
            p = one.panes
            return p.series, p.start // self.level.hop_us, p.tick, p.flags, one.aggregates, one.sketches
        series = np.concatenate([rows.panes.series for rows in fed])
        start = np.concatenate([rows.panes.start for rows in fed])
        flags = np.concatenate([rows.panes.flags for rows in fed])
        window = start // self.level.hop_us
        tick = np.concatenate([rows.panes.tick for rows in fed])
        order = np.lexsort((start, window, series))  # stable: equal base windows merge in the order fed
        s, w = series[order], window[order]
        starts = group_starts(s, w)
        aggregates = Aggregates.concatenate([rows.aggregates for rows in fed])
        group = np.empty(len(s), np.int64)
        group[order] = np.repeat(np.arange(len(starts)), np.append(starts[1:], len(s)) - starts)
        before = np.cumsum([0, *(len(rows.panes) for rows in fed[:-1])])
        sketches = grouped_sketches(
            np.concatenate([group[n + rows.sketches.rows()] for n, rows in zip(before, fed, strict=True)]),
            np.concatenate([rows.sketches.bucket for rows in fed]),
            np.concatenate([rows.sketches.count for rows in fed]),
            len(starts),
        )
        flags = np.bitwise_or.reduceat(flags[order], starts)
        deltas = merged_groups(aggregates.take(order), starts)
        return s[starts], w[starts], tick[order][starts], flags, deltas, sketches

    def _is_grouped(self, panes: Panes) -> bool:
        """Tell whether no two rows are of one window, and they are ordered."""
        further = panes.series[1:] > panes.series[:-1]
        if self.level.at_once > 1:
            further |= (panes.series[1:] == panes.series[:-1]) & (panes.start[1:] > panes.start[:-1])
        return bool(further.all())

    def close(self, watermark: Ints) -> list[Rows]:
        """Close what the watermark of each series has passed, and revise what late readings changed."""
        out = []
        due = self.ring.due(watermark)
        if len(due):
            out.append(self._rows(self.ring.close(due)))
        if self.ring.dirty.any():
            out.append(self._rows(self.ring.revise()))
        return out

    def _rows(self, panes: Panes) -> Rows:
        return Rows(panes, self.aggregates.take(panes.slot), self.log.of(panes.slot, len(self.ring)))

    def is_due(self, watermark: Ints) -> bool:
        """Tell whether `close` would close anything."""
        return len(self.ring.due(watermark)) > 0

    def prune(self, watermark: Ints, held_us: int) -> None:
        """Let go of the sketches of panes that are held no longer, once many have gathered; watermark: by series of the level."""
        if self.log.is_full:
            self.log.forget(self.ring.let_go(watermark, held_us), len(self.ring))
            self.log.sum_up()

    def let_go(self, series: Ints) -> None:
        """Forget the panes of series, all of which are out."""
        self.log.forget(self.ring.forget(series), len(self.ring))

    def seal(self) -> None:
        """The panes of the epoch before were put out."""
        self.ring.clear()
        self.log.clear()
