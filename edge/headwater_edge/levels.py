"""The windows of all levels: readings into base panes, closed base panes and late deltas into the coarser ones (R7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater_edge.panes import EMPTY, Added, Panes, Rows, rounds
from headwater_edge.recent import NEVER, Recent
from headwater_edge.sketch_log import SketchLog
from headwater_shared.aggregates import Aggregates, merged_groups, of_readings
from headwater_shared.digest import value_bits
from headwater_shared.parts import Level, Sketches, grouped_sketches
from headwater_shared.sketch import buckets_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(slots=True)
class Piece:
    """Panes of one level on their way out, with their sketches."""

    level: int
    rows: Rows
    sketches: Sketches


@dataclass(slots=True)
class _Fed:
    """Base rows on their way into the coarser levels."""

    series: Ints
    start: Ints
    aggregates: Aggregates
    sketches: Sketches


class Levels:
    """The base level first, each coarser one fed by its panes; every level's length is a multiple of the base's."""

    def __init__(self, levels: list[Level], held_us: int, lateness_us: int) -> None:
        self.levels = levels
        self.panes = [Panes(lv, -(-(held_us + lateness_us) // lv.length_us) + 2) for lv in levels]
        self.logs = [SketchLog() for _ in levels[1:]]
        self.recent = Recent()
        self.late = 0
        """Readings that came after their base pane was closed."""
        self._fed: list[_Fed] = []
        self._out: list[Piece] = []

    def grow(self, series: int) -> None:
        for panes in self.panes:
            panes.grow(series)

    def add(
        self, series: NDArray[np.int32], sent: Ints, event: Ints, value: Floats, digests: NDArray[np.uint64], tick: int
    ) -> None:
        """Count accepted readings, n of them in the order of arrival."""
        base = self.panes[0]
        length = base.level.length_us
        window = event // length
        order = _grouped(series, window, event, value)
        s, w = series[order].astype(np.int64), window[order]
        begins = np.empty(len(s), np.bool_)
        begins[0] = True
        begins[1:] = (s[1:] != s[:-1]) | (w[1:] != w[:-1])
        (starts,) = np.nonzero(begins)
        delta = of_readings(starts, event[order], value[order], digests[order])
        g_series, g_start = s[starts], w[starts] * length
        flat = base.flat_of(g_series, g_start)
        late = np.zeros(len(starts), np.bool_)
        slots = np.empty(len(starts), np.int64)
        leaving: list[Added] = []
        for at in rounds(flat):
            whole = len(at) == len(flat)
            added = base.add(flat[at], g_start[at], delta if whole else delta.take(at), tick)
            slots[at], late[at] = added.flat, added.late
            if added.closed or added.revised:
                leaving.append(added)
        slot = np.empty(len(series), np.int32)
        slot[order] = np.repeat(slots, delta.count)
        self.recent.append(series, sent, event, value, slot)
        for added in leaving:
            if added.closed:
                self._out_base(added.closed, feed=True)
            if added.revised:
                self._out_base(added.revised, feed=False)
        if late.any():
            self._late(late, slots, g_series, g_start, delta, value[order], tick)

    def _late(
        self, late: NDArray[np.bool_], slots: Ints, series: Ints, start: Ints, delta: Aggregates, value: Floats, tick: int
    ) -> None:
        """Feed late deltas to the coarser levels at once; those that no slot took go out as parts of their own."""
        (which,) = np.nonzero(late)
        self.late += int(delta.count[which].sum())
        of_late = np.full(len(late), -1)
        of_late[which] = np.arange(len(which))
        row = np.repeat(of_late, delta.count)
        ours = row >= 0
        buckets = buckets_of(value[ours])
        sketches = grouped_sketches(row[ours], buckets, np.ones(len(buckets), np.int64), len(which))
        small = delta.take(which)
        self._fed.append(_Fed(series[which], start[which], small, sketches))
        (alone,) = np.nonzero(slots[which] < 0)
        if len(alone):
            self._out.append(
                Piece(0, _own(series[which[alone]], start[which[alone]], small.take(alone), tick), sketches.take(alone))
            )

    def close(self, watermark: Ints, tick: int) -> list[Piece]:
        """Close what the watermark of each series has passed, feed it upwards, put out revisions.

        Args:
            watermark: by series.

        Returns:
            all that goes out of this tick.
        """
        base = self.panes[0]
        due = base.due(watermark)
        if len(due):
            self._out_base(base.close(due), feed=True)
        revised = base.revise()
        if revised:
            self._out_base(revised, feed=False)
        fed, self._fed = self._fed, []
        for index in range(1, len(self.panes)):
            if fed:
                self._feed(index, fed, tick)
            self._close_coarser(index, self.panes[index].due(watermark))
        out, self._out = self._out, []
        return out

    def close_all(self, tick: int) -> list[Piece]:
        """Close every open pane of every level; they are held."""
        watermark = np.full(len(self.panes[0].status) // self.panes[0].slots, np.iinfo(np.int64).max)
        return self.close(watermark, tick)

    def seal(self, tick: int) -> list[Piece]:
        """At a start: put out every open pane under its old identity and empty the slots (R1)."""
        out = self.close_all(tick)
        for panes in self.panes:
            panes.clear()
        for log in self.logs:
            log.clear()
        self.recent.forget_slots()
        return out

    def prune(self, watermark: Ints, held_us: int) -> None:
        """Let go of raw columns that no pane counts and that are older than panes are held."""
        if not self.recent.is_full():
            return
        base = self.panes[0]
        starts = np.where(base.status == EMPTY, NEVER, base.start)
        self.recent.prune(watermark - held_us - base.level.length_us, starts, base.level.length_us)

    def is_due(self, watermark: Ints) -> bool:
        """Tell whether `close` would close anything."""
        return any(len(panes.due(watermark)) for panes in self.panes)

    def _out_base(self, rows: Rows, *, feed: bool) -> None:
        """Put base panes out with the sketch of their raw columns, and feed them upwards if they close."""
        base = self.panes[0]
        pane, at = self.recent.rows_of(rows.slot, rows.start, base.level.length_us, len(base.status))
        buckets = buckets_of(self.recent.value[at])
        sketches = grouped_sketches(pane, buckets, np.ones(len(buckets), np.int64), len(rows))
        self._out.append(Piece(0, rows, sketches))
        if feed:
            self._fed.append(_Fed(rows.series, rows.start, rows.aggregates, sketches))

    def _feed(self, index: int, fed: list[_Fed], tick: int) -> None:
        """Merge base rows into the panes of one coarser level."""
        panes, log = self.panes[index], self.logs[index - 1]
        series = np.concatenate([f.series for f in fed])
        start = np.concatenate([f.start for f in fed])
        first_row = np.cumsum([0] + [len(f.series) for f in fed])
        window = start // panes.level.length_us
        order = np.lexsort((start, window, series))  # stable: equal base windows merge in the order fed
        s, w = series[order], window[order]
        begins = np.empty(len(s), np.bool_)
        begins[0] = True
        begins[1:] = (s[1:] != s[:-1]) | (w[1:] != w[:-1])
        (starts,) = np.nonzero(begins)
        rows = Aggregates.concatenate([f.aggregates for f in fed])
        delta = merged_groups(rows.take(order), starts)
        group = np.empty(len(s), np.int64)
        group[order] = np.cumsum(begins) - 1
        sketches = grouped_sketches(
            np.concatenate([group[n + f.sketches.rows()] for n, f in zip(first_row, fed, strict=False)]),
            np.concatenate([f.sketches.bucket for f in fed]),
            np.concatenate([f.sketches.count for f in fed]),
            len(starts),
        )
        g_series, g_start = s[starts], w[starts] * panes.level.length_us
        flat = panes.flat_of(g_series, g_start)
        for at in rounds(flat):
            small = sketches.take(at)
            added = panes.add(flat[at], g_start[at], delta.take(at), tick)
            for leaving in (added.closed, added.revised):
                if leaving:
                    self._out.append(Piece(index, leaving, log.of(leaving.slot, len(panes.status))))
            if len(added.reused):
                log.forget(added.reused, len(panes.status))
            log.add(added.flat, small)
            (alone,) = np.nonzero(added.flat < 0)
            if len(alone):
                own = _own(g_series[at[alone]], g_start[at[alone]], delta.take(at[alone]), tick)
                self._out.append(Piece(index, own, small.take(alone)))

    def _close_coarser(self, index: int, due: Ints) -> None:
        panes, log = self.panes[index], self.logs[index - 1]
        if len(due):
            self._out.append(Piece(index, panes.close(due), log.of(due, len(panes.status))))
        revised = panes.revise()
        if revised:
            self._out.append(Piece(index, revised, log.of(revised.slot, len(panes.status))))


def _own(series: Ints, start: Ints, delta: Aggregates, tick: int) -> Rows:
    """Make parts that no slot holds."""
    n = len(series)
    return Rows(np.full(n, -1), series, start, np.full(n, tick), np.zeros(n, np.int64), delta)


def _grouped(series: NDArray[np.int32], window: Ints, event: Ints, value: Floats) -> Ints:
    """Order readings by series, window, event time, value bits."""
    order = np.argsort(series, kind="stable")
    s, t = series[order], event[order]
    rising = (s[1:] != s[:-1]) | (t[1:] > t[:-1])
    if rising.all():  # each series came in the order of its times
        return order
    return np.lexsort((value_bits(value), event, window, series))
