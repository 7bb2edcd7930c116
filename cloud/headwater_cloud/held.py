"""What a shard keeps of its windows' parts, over pieces of state: the twin of `lookup` for engines that have no tables.

Parts of the same level and time stand in a *bucket*: a run of pieces, added to as parts come, written anew when they
are many. A bucket stays in memory while it is touched, goes by age, and comes back when a part needs it. What is older
than parts are kept is deleted, and what comes for it later is a dead letter (R28).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_cloud import part_pieces
from headwater_cloud.kept import Found
from headwater_cloud.merge import Merged, Windows, merge
from headwater_cloud.names import Names
from headwater_cloud.pieces import Pieces
from headwater_cloud.retention import length_us
from headwater_cloud.rows import PartRows
from headwater_shared.errors import SettingsError
from headwater_shared.parts import COARSENED, level_of

Ints = NDArray[np.int64]

_NEVER = -(2**62)
_SESSION_US = 60_000_000
"""How long the buckets of levels are whose windows have no common length."""
_LEAST_US = 10_000_000
_STAYS_US = 30_000_000
"""So long by the shard's clock a bucket stays in memory after it was touched."""
_MANY = 16
"""Pieces of a bucket; beyond, they become few."""
_DELETED_AT_ONCE = 200


class Newest:
    """The start of the newest kept window by level and series, of all shards of a process; made anew when a shard is taken over."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._starts: dict[int, Ints] = {}

    def clear(self) -> None:
        """Forget all: another process may have kept newer windows meanwhile."""
        self._starts.clear()

    def of(self, level: int) -> Ints:
        """Return a column by series; `_NEVER` for one that was not seen."""
        starts = self._starts.get(level)
        if starts is None or len(starts) < len(self._names.series):
            grown = np.full(len(self._names.series) * 5 // 4 + 64, _NEVER, np.int64)
            if starts is not None:
                grown[: len(starts)] = starts
            starts = self._starts[level] = grown
        return starts


class _Bucket:
    """The parts of one level and time: in memory as they came, and how many pieces hold them."""

    __slots__ = ("chunks", "few", "pieces", "touched_us")

    def __init__(self, chunks: list[PartRows], pieces: int) -> None:
        self.chunks = chunks
        self.pieces = self.few = pieces
        self.touched_us = 0

    def rows(self) -> PartRows:
        if len(self.chunks) > 1:
            self.chunks = [PartRows.concatenate(self.chunks)]
        return self.chunks[0] if self.chunks else PartRows.empty()


class _Level(msgspec.Struct, array_like=True):
    """Of one level, as its piece holds it: the oldest bucket that may have pieces, and the start of the newest window."""

    oldest: int | None = None
    newest: int = _NEVER


class HeldParts:
    """One shard's. `clock_us` is the shard's clock, set by the runner before each batch."""

    def __init__(self, pieces: Pieces, names: Names, newest: Newest, keep_us: int) -> None:
        self.clock_us = 0
        self._pieces, self._names, self._newest, self._keep_us = pieces, names, newest, keep_us
        newest.clear()
        body = pieces.get("levels")
        self._levels = msgspec.msgpack.decode(body, type=dict[str, _Level]) if body else {}
        self._written = body
        self._buckets: dict[tuple[int, int], _Bucket] = {}
        self._lengths: dict[int, int] = {}

    def parts_of(self, arrived: PartRows) -> Found:
        """Find the stored parts of all windows that `arrived` touches (and perhaps of others beside them)."""
        gone = np.zeros(len(arrived), np.bool_)
        found = []
        for level in arrived.levels():
            of_level = arrived.level == level
            late = of_level & (arrived.start < self._kept_from(level))
            gone |= late
            series, start = arrived.series[of_level], arrived.start[of_level]
            newest = self._newest.of(level)[series]
            newest[newest == _NEVER] = self._about(level).newest
            maybe = (start <= newest) & ~late[of_level]
            if maybe.any():
                found += self._touched(level, start[maybe], series[maybe])
        return Found(PartRows.concatenate(found), 0, gone)

    def windows_at(self, shards: Ints, levels: Ints, starts: Ints) -> Windows:
        """Find all windows of some levels and starts; all of `shards` are this one."""
        found = []
        for level, start in zip(levels.tolist(), starts.tolist(), strict=True):
            rows = self._bucket(level, start // self._bucket_us(level)).rows()
            if not (rows.start == start).all():
                rows = rows.take(rows.start == start)
            found.append(rows)
        rows = PartRows.concatenate(found)
        ranks = self._names.opener_ranks()  # not before: what comes back from the state may bring openers
        return merge(PartRows.empty(), rows, ranks, np.resize(shards, len(rows))).windows

    def keep(self, merged: Merged, stored: int) -> None:
        """Keep what a merge put out; `stored`: so many of `merged.source` were kept before."""
        for level, at, first, last in self._runs(merged.parts):
            parts = merged.parts.run(first, last)
            bucket = self._bucket(level, at)
            kept = merged.source[first:last] < stored
            new = parts
            if kept.any():
                which = ~kept | (parts.flags & COARSENED > 0)
                new = parts if which.all() else parts.take(which)
                _drop_windows(bucket, parts)
            bucket.chunks.append(parts)
            self._append(level, at, bucket, new)
            about, newest = self._about(level), self._newest.of(level)
            # A late part is perhaps the first that is seen of a series since a start: newer ones may be in the state.
            unseen = parts.series[newest[parts.series] == _NEVER]
            newest[unseen] = about.newest
            np.maximum.at(newest, parts.series, parts.start)
            about.newest = max(about.newest, int(parts.start.max()))

    def _runs(self, parts: PartRows) -> Iterator[tuple[int, int, int, int]]:
        """Yield level, number, first row and end of each bucket's run: parts are in the order of level and start."""
        lengths = np.array([self._bucket_us(n) for n in range(len(self._names.levels))], np.int64)
        number = parts.start // lengths[parts.level]
        change = (number[1:] != number[:-1]) | (parts.level[1:] != parts.level[:-1])
        firsts = [0, *(np.flatnonzero(change) + 1).tolist()]
        for first, last in zip(firsts, [*firsts[1:], len(parts)], strict=True):
            yield int(parts.level[first]), int(number[first]), first, last

    def end_batch(self) -> None:
        """Let go of what is old: from memory by age, from the state what is no longer kept; write what is known of the levels."""
        for key, bucket in list(self._buckets.items()):
            if bucket.touched_us < self.clock_us - _STAYS_US:
                del self._buckets[key]
        for name, about in self._levels.items():
            self._delete_old(name, about)
        body = msgspec.msgpack.encode(self._levels)
        if body != self._written:
            self._pieces.set("levels", body)
            self._written = body

    def rows_in_memory(self) -> int:
        """How many parts are in memory."""
        return sum(len(chunk) for bucket in self._buckets.values() for chunk in bucket.chunks)

    def _touched(self, level: int, starts: Ints, series: Ints) -> list[PartRows]:
        numbers = np.unique(starts // self._bucket_us(level)).tolist()
        found = [rows for at in numbers if len(rows := self._bucket(level, at).rows())]
        wanted = np.zeros(
            len(self._names.series), np.bool_
        )  # not before: what comes back from the state may bring names
        wanted[series] = True
        return [rows.take(wanted[rows.series] & np.isin(rows.start, starts)) for rows in found]

    def _bucket(self, level: int, at: int) -> _Bucket:
        bucket = self._buckets.get((level, at))
        if bucket is None:
            name = self._names.levels[level]
            chunks: list[PartRows] = []
            while body := self._pieces.get(_piece(name, at, len(chunks))):
                chunks.append(part_pieces.decode(body, self._names))
            bucket = self._buckets[level, at] = _Bucket(chunks, len(chunks))
            if len(chunks) > 1:  # a later piece may hold a later revision
                bucket.chunks = [self._winners(bucket.rows())]
            about = self._about(level)
            about.oldest = at if about.oldest is None else min(about.oldest, at)
        bucket.touched_us = self.clock_us
        return bucket

    def _append(self, level: int, at: int, bucket: _Bucket, rows: PartRows) -> None:
        name = self._names.levels[level]
        if bucket.pieces < bucket.few + max(_MANY, bucket.few):
            written = bucket.pieces
        else:  # few instead of many
            rows = self._winners(bucket.rows())
            bucket.chunks, bucket.few, written = [rows], 0, 0
        if len(rows):
            for body in part_pieces.pieces_of(rows, self._names):
                self._pieces.set(_piece(name, at, written), body)
                written += 1
        for number in range(written, bucket.pieces):
            self._pieces.delete(_piece(name, at, number))
        bucket.pieces = written
        bucket.few = bucket.few or written

    def _winners(self, rows: PartRows) -> PartRows:
        return merge(PartRows.empty(), rows, self._names.opener_ranks()).parts

    def _delete_old(self, name: str, about: _Level) -> None:
        if about.oldest is None or not self.clock_us:
            return
        (level,) = self._names.level_numbers([name]).tolist()
        kept = self._kept_from(level) // self._bucket_us(level)
        for _ in range(_DELETED_AT_ONCE):
            if about.oldest >= kept:
                return
            number = 0
            while self._pieces.get(_piece(name, about.oldest, number)):
                self._pieces.delete(_piece(name, about.oldest, number))
                number += 1
            self._buckets.pop((level, about.oldest), None)
            about.oldest += 1

    def _kept_from(self, level: int) -> int:
        """The start of the oldest windows that may still be revised."""
        if not self.clock_us:
            return _NEVER
        return self.clock_us - self._keep_us - length_us(self._names.levels[level])

    def _bucket_us(self, level: int) -> int:
        length = self._lengths.get(level)
        if length is None:
            length = self._lengths[level] = _bucket_us(self._names.levels[level])
        return length

    def _about(self, level: int) -> _Level:
        return self._levels.setdefault(self._names.levels[level], _Level())


def _bucket_us(level: str) -> int:
    try:
        hop_us = level_of(level).hop_us
    except SettingsError:
        hop_us = 0
    return max(hop_us, _LEAST_US) if hop_us else _SESSION_US


def _piece(level: str, at: int, number: int) -> str:
    return f"part/{level}/{at}/{number}"


def _drop_windows(bucket: _Bucket, parts: PartRows) -> None:
    """Take the windows of `parts` out of a bucket: all of their parts follow."""
    rows = bucket.rows()
    if not len(rows):
        return
    starts = np.unique(np.concatenate([rows.start, parts.start]))
    most = int(max(rows.series.max(), parts.series.max())) + 1
    key = np.searchsorted(starts, rows.start) * most + rows.series
    gone = np.searchsorted(starts, parts.start) * most + parts.series
    bucket.chunks = [rows.take(~np.isin(key, gone))]
