"""Parts become windows: of each part the highest revision, merged in sorted order of their identities (R1, R7).

Pure over columns, and the same for any order, repetition or cut of the same parts: a window depends only on the set
of parts that it was made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater_cloud.rows import PartRows
from headwater_shared.aggregates import Aggregates, merged_at_once, merged_groups
from headwater_shared.digest import value_bits
from headwater_shared.parts import COARSENED, Sketches, grouped_sketches

Ints = NDArray[np.int64]

OF_ROLLUP = -1
"""In the place of a window's shard."""

_INTEGERS = ("level", "start", "series", "parts", "opener", "tick", "revision", "flags", "shard")
_AS_THEY_ARE = slice(None)
_DEEP = 8
"""Parts of a window; of more, such as a fleet's, all are merged at once."""


@dataclass(slots=True)
class Windows:
    """Whole windows, n rows, by (level, start, series). One of count 0 is none: stores delete it."""

    level: Ints
    start: Ints
    series: Ints
    parts: Ints
    """How many parts it has; at one, opener, tick, revision and flags are that part's."""
    opener: Ints
    tick: Ints
    revision: Ints
    flags: Ints
    """Of several parts, all bits that any of them has."""
    shard: Ints
    """Which shard has it; `OF_ROLLUP` for those of second stages."""
    aggregates: Aggregates
    sketches: Sketches

    def __len__(self) -> int:
        return len(self.level)

    @classmethod
    def empty(cls) -> Windows:
        none = np.zeros(0, np.int64)
        return cls(
            **dict.fromkeys(_INTEGERS, none), aggregates=Aggregates.empty(0), sketches=Sketches.empty()
        )

    @classmethod
    def concatenate(cls, pieces: list[Windows]) -> Windows:
        """Put windows one below the other; of at least one piece."""
        return cls(
            **{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in _INTEGERS},
            aggregates=Aggregates.concatenate([piece.aggregates for piece in pieces]),
            sketches=Sketches.concatenate([piece.sketches for piece in pieces]),
        )

    def take(self, at: Any) -> Windows:
        """Return the rows at indices or a mask."""
        index = np.arange(len(self))[at]
        return Windows(
            self.level[index], self.start[index], self.series[index], self.parts[index], self.opener[index],
            self.tick[index], self.revision[index], self.flags[index], self.shard[index],
            self.aggregates.take(index), self.sketches.take(index),
        )  # fmt: skip

    def by_shard(self) -> Ints:
        """Return the order of windows by shard, and within one as they are."""
        return np.argsort(self.shard, kind="stable")

    def runs(self, order: Ints) -> list[tuple[int, int, int, int, int]]:
        """Return shard, level, start, and begin and end along `order` of each run of windows that have these in common."""
        begins = _starts(order, self.shard, self.level, self.start)
        ends = np.append(begins, len(order))[1:]
        first = order[begins]
        columns = (self.shard[first], self.level[first], self.start[first], begins, ends)
        return list(zip(*(column.tolist() for column in columns), strict=True))


@dataclass(slots=True)
class Merged:
    """What changed: windows, all of their parts, and where these come from."""

    windows: Windows
    parts: PartRows
    """Of each window all, in sorted order of their identities."""
    window: Ints
    """The window of each part: an index into `windows`."""
    source: Ints
    """Where each part comes from: an index into what was stored, followed by what arrived."""


def merge(stored: PartRows, arrived: PartRows, ranks: Ints, shards: Ints | None = None) -> Merged:
    """Merge what arrived with what is stored.

    Args:
        stored: all stored parts of the windows that `arrived` touches (those of others do no harm).
        arrived: any parts, also repeated ones.
        ranks: the place of each opener in sorted order (`Names.opener_ranks`).
        shards: of each row that arrived; None: of a second stage.
    """
    if not len(stored):
        order = _apart(arrived)
        if order is not None:
            parts = arrived if order is _AS_THEY_ARE else arrived.take(order)
            every = np.arange(len(parts))
            windows = _whole(parts, np.ones(len(parts), np.int64))
            if shards is not None:
                windows.shard = shards[order]
            return Merged(windows, parts, every, every[order])
    rows = PartRows.concatenate([stored, arrived])
    is_new = np.arange(len(rows)) >= len(stored)
    order = _order(rows, ranks)
    before, rows.flags = rows.flags, _with_marks(rows, order)
    order = _winners(rows, order, is_new)
    changed = is_new | (rows.flags != before)
    first_of_window = _starts(order, rows.level, rows.start, rows.series)
    touched = np.logical_or.reduceat(changed[order], first_of_window) if len(order) else np.zeros(0, np.bool_)
    sizes = np.diff(np.append(first_of_window, len(order)))
    order = order[np.repeat(touched, sizes)]
    sizes = sizes[touched]
    parts = rows.take(order)
    windows = _whole(parts, sizes)
    if shards is not None:
        windows.shard = _shards(windows, arrived, shards)
    return Merged(windows, parts, np.repeat(np.arange(len(sizes)), sizes), order)


def _apart(rows: PartRows) -> Ints | slice | None:
    """Return the order of the windows if each row is of another one, or None: ticks of agents close new ones mostly, in order."""
    level, start, series = ((column[:-1], column[1:]) for column in (rows.level, rows.start, rows.series))
    later = level[0] < level[1]
    same = level[0] == level[1]
    later |= same & (start[0] < start[1])
    same &= start[0] == start[1]
    later |= same & (series[0] < series[1])
    return _AS_THEY_ARE if later.all() else _narrow_order(rows)


def _narrow_order(rows: PartRows) -> Ints | None:
    """Sort by window, if windows fit one word and each row is of another one."""
    base = int(rows.start.min())
    if (
        int(rows.start.max()) - base < 1 << 40
        and int(rows.series.max()) < 1 << 19
        and int(rows.level.max()) < 1 << 4
    ):
        key = rows.level << 59 | (rows.start - base) << 19 | rows.series
        order = np.argsort(key, kind="stable")  # quick on what is runs of sorted rows, as frames are
        along = key[order]
        if (along[1:] > along[:-1]).all():
            return order
    return None


def _order(rows: PartRows, ranks: Ints) -> Ints:
    """Sort by window and then by identity."""
    narrow = _narrow_order(rows) if len(rows) else None
    if narrow is not None:
        return narrow
    rank = ranks[rows.opener]
    small = (
        len(rows) and int(rows.tick.max()) < 1 << 40 and int(rows.tick.min()) >= 0 and len(ranks) < 1 << 22
    )
    inner = ((rank << 40) | rows.tick,) if small else (rows.tick, rank)
    return np.lexsort((*inner, rows.series, rows.start, rows.level))


def _starts(order: Ints, *columns: Ints) -> Ints:
    """Return where, along `order`, any of the columns changes; 0 too unless it is empty."""
    change = np.zeros(max(0, len(order) - 1), np.bool_)
    for column in columns:
        along = column[order]
        change |= along[1:] != along[:-1]
    return np.append(0, np.flatnonzero(change) + 1)[: len(order)]


def _with_marks(rows: PartRows, order: Ints) -> Ints:
    """Return the flags; `COARSENED` stays on a part once any of its revisions had it: what was let go does not come back (R22)."""
    if not (rows.flags & COARSENED).any():
        return rows.flags
    starts = _starts(order, rows.level, rows.start, rows.series, rows.opener, rows.tick)
    marks = np.bitwise_or.reduceat(rows.flags[order], starts) & COARSENED
    flags = rows.flags.copy()
    flags[order] |= np.repeat(marks, np.diff(np.append(starts, len(order))))
    return flags


def _winners(rows: PartRows, order: Ints, is_new: NDArray[np.bool_]) -> Ints:
    """Keep one row of each identity: the highest revision, of equal ones the larger count, then any fixed order.

    What is stored wins over an equal row that arrived, so that a repetition changes nothing.
    """
    starts = _starts(order, rows.level, rows.start, rows.series, rows.opener, rows.tick)
    sizes = np.diff(np.append(starts, len(order)))
    if len(starts) == len(order):
        return order
    group = np.repeat(np.arange(len(starts)), sizes)
    several = sizes[group] > 1
    some, of_group = order[several], group[several]
    a = rows.aggregates
    content: list[Any] = [
        value_bits(getattr(a, name)[some]) for name in ("m2", "mean", "last", "first", "max", "min")
    ]
    ranked = np.lexsort((
        ~is_new[some], *content, a.last_time[some], a.first_time[some], rows.flags[some], a.digest[some],
        a.count[some], rows.revision[some], of_group,
    ))  # fmt: skip
    last = np.append(np.flatnonzero(np.diff(of_group[ranked])), len(ranked) - 1)
    winners = np.empty(len(starts), np.int64)
    winners[group[~several]] = order[~several]
    winners[of_group[ranked[last]]] = some[ranked[last]]
    return winners


def _whole(parts: PartRows, sizes: Ints) -> Windows:
    """Merge the parts of each window; `sizes` says how many each has."""
    if len(sizes) == len(parts):  # one part a window: nearly always
        return Windows(
            parts.level, parts.start, parts.series, sizes, parts.opener, parts.tick, parts.revision, parts.flags,
            np.full(len(sizes), OF_ROLLUP), parts.aggregates, parts.sketches,
        )  # fmt: skip
    first = np.cumsum(sizes) - sizes
    of_window = np.repeat(np.arange(len(sizes)), sizes)
    buckets = parts.sketches
    sketches = grouped_sketches(
        np.repeat(of_window, np.diff(buckets.end, prepend=0)), buckets.bucket, buckets.count, len(sizes)
    )
    return Windows(
        parts.level[first], parts.start[first], parts.series[first], sizes, parts.opener[first],
        parts.tick[first], parts.revision[first], np.bitwise_or.reduceat(parts.flags, first),
        np.full(len(sizes), OF_ROLLUP), _aggregated(parts.aggregates, first, sizes), sketches,
    )  # fmt: skip


def _aggregated(rows: Aggregates, first: Ints, sizes: Ints) -> Aggregates:
    """Merge each window's parts in a way that depends on these alone, not on what else is merged with them."""
    deep = sizes > _DEEP
    if not deep.any():
        return merged_groups(rows, first)
    out = Aggregates.empty(len(sizes))
    for some, merged in ((deep, merged_at_once), (~deep, merged_groups)):
        if some.any():
            ends = np.cumsum(sizes[some])
            out.put(some, merged(rows.take(np.repeat(some, sizes)), ends - sizes[some]))
    return out


def _shards(windows: Windows, arrived: PartRows, shards: Ints) -> Ints:
    """Return the shard of each window: that of the parts of it that arrived, and each window that changed has some."""
    of_series = np.zeros(int(arrived.series.max(initial=-1)) + 1, np.int64)
    of_series[arrived.series] = shards
    if (of_series[arrived.series] == shards).all():
        return of_series[windows.series]
    keys = (arrived.level.tolist(), arrived.start.tolist(), arrived.series.tolist())
    found = dict(zip(zip(*keys, strict=True), shards.tolist(), strict=True))
    wanted = (windows.level.tolist(), windows.start.tolist(), windows.series.tolist())
    return np.array([found[key] for key in zip(*wanted, strict=True)], np.int64)
