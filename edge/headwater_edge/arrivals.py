"""Where in the journal a reading may stand: few numbers a row, so that a look-up reads only the rows that can hold it (R4).

A series mostly sends its times in rising order. Of those readings a row needs no more than the intervals of time that
they lie in: the row that holds time t of a series is among those whose intervals hold t. Readings that came out of order
(older than what their series had sent already) may be of any time, so of each of them the row keeps a hash.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_edge.journal import Damaged
from headwater_edge.membership import distinct, is_in
from headwater_edge.stamps import STAMPED
from headwater_edge.tick import Readings
from headwater_shared.digest import NO_TIME, reading_digests

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Mask = NDArray[np.bool_]

_APART_US = 60_000_000
"""Times farther apart than this lie in intervals of their own: a device whose clock stands in 1970 widens no other's."""
_MOST = 16
"""Intervals a row; beyond, the narrowest gaps are closed, which costs time only."""


class _Summary(msgspec.Struct, array_like=True):
    spans: list[int]
    """[low, high, low, high, ...] of the times in order."""
    odd: bytes
    """Hashes of the readings out of order, uint64 little-endian."""
    refused: list[int] = []
    """Messages of which nothing was taken nor acknowledged: they have not arrived."""


def hashes(series: NDArray[np.int32], sent: Ints, value: NDArray[np.float64]) -> Words:
    """Hash readings by series, time as sent and value bits; shape (n,)."""
    mixed: Words = reading_digests(sent, value) * (2 * series.astype(np.uint64) + np.uint64(1))
    return mixed


def out_of_order(readings: Readings, last_sent: Ints) -> Mask:
    """Tell which readings with a time are not newer than all that their series sent before, in this tick too.

    Args:
        readings: of one tick, in the order of arrival; n of them.
        last_sent: the largest time as sent of each series before the tick; series beyond it are new.
    """
    series, sent = readings.series, readings.sent
    known = np.append(last_sent, np.full(max(0, int(series.max(initial=-1)) + 1 - len(last_sent)), NO_TIME))
    old: Mask = (sent <= known[series]) & (sent >= STAMPED)
    if len(known) <= 4 * len(series) and bool((np.bincount(series) <= 1).all()):
        return old
    order = np.argsort(series, kind="stable")
    s, t = series[order], sent[order]
    falls = (s[1:] == s[:-1]) & (t[1:] <= t[:-1])
    for number in distinct(s[1:][falls]).tolist():  # rare: one tick brings a series' readings in disorder
        at = order[np.searchsorted(s, number) : np.searchsorted(s, number, side="right")]
        before = np.maximum.accumulate(np.append(known[number], sent[at]))[:-1]
        old[at] = (sent[at] <= before) & (sent[at] >= STAMPED)
    return old


def summary(readings: Readings, odd: Mask) -> bytes:
    """Say where a row's readings lie; `odd` is from `out_of_order`. Empty if none has a time."""
    timed = readings.sent >= STAMPED
    times = readings.sent[timed & ~odd]
    spans: list[int] = []
    if len(times):
        low, high = int(times.min()), int(times.max())
        spans = [low, high] if high - low <= _APART_US else _spans(np.sort(times))
    out = hashes(readings.series[odd], readings.sent[odd], readings.value[odd]) if odd.any() else None
    if not spans and out is None:
        return b""
    return msgspec.msgpack.encode(_Summary(spans, b"" if out is None else out.astype("<u8").tobytes()))


def excluding(row: bytes, messages: list[int]) -> bytes:
    """Note in a summary that messages were refused: whoever sends their readings again sends them for the first time."""
    if not row or not messages:
        return row
    found = msgspec.msgpack.decode(row, type=_Summary)
    return msgspec.msgpack.encode(_Summary(found.spans, found.odd, messages))


def _spans(times: Ints) -> list[int]:
    gaps = np.diff(times)
    wide = np.flatnonzero(gaps > _APART_US)
    if len(wide) >= _MOST:
        wide = np.sort(wide[np.argsort(gaps[wide])[-(_MOST - 1) :]])
    begins, ends = times[np.append(0, wide + 1)], times[np.append(wide, len(times) - 1)]
    return [int(bound) for pair in zip(begins.tolist(), ends.tolist(), strict=True) for bound in pair]


def _read(tick: int, row: bytes) -> _Summary:
    try:
        found = msgspec.msgpack.decode(row, type=_Summary)
    except msgspec.DecodeError as error:
        raise Damaged(f"a damaged summary of tick {tick}: {error}") from error
    if len(found.spans) % 2 or len(found.odd) % 8:
        raise Damaged(f"a damaged summary of tick {tick}")
    return found


def is_good(tick: int, row: bytes) -> bool:
    """Tell whether a summary can be read."""
    try:
        _read(tick, row)
    except Damaged:
        return False
    return True


class Arrivals:
    """The summaries of all journal rows within the horizon: columns (tick, low, high), and (tick, hash)."""

    def __init__(self) -> None:
        self._spans = _Log(3)
        self._odd = _Log(2)
        self.refused: dict[int, list[int]] = {}
        """By tick, the messages that were refused."""

    def add(self, tick: int, row: bytes) -> None:
        """Take up the summary of a committed row.

        Raises:
            Damaged: it is so.
        """
        if not row:
            return
        found = _read(tick, row)
        flat = found.spans
        for low, high in zip(flat[::2], flat[1::2], strict=True):
            self._spans.append(np.array([[tick], [low], [high]]))
        if found.refused:
            self.refused[tick] = found.refused
        if found.odd:
            odd = np.frombuffer(found.odd, "<u8").view(np.int64)
            self._odd.append(np.stack([np.full(len(odd), tick), odd]))

    def forget(self, to_tick: int) -> None:
        """Drop the rows up to a tick."""
        for log in (self._spans, self._odd):
            log.keep(log.rows[0] > to_tick)
        self.refused = {tick: messages for tick, messages in self.refused.items() if tick > to_tick}

    def ticks(self, sent: Ints, hashed: Words) -> Ints:
        """Return the rows that may hold one of some readings, rising."""
        times = np.sort(sent)
        tick, low, high = self._spans.rows
        may = np.searchsorted(times, low) < np.searchsorted(times, high, side="right")
        odd_tick, odd = self._odd.rows
        return distinct(np.concatenate([tick[may], odd_tick[is_in(odd, hashed.view(np.int64))]]))


_GATHER = 4096


class _Log:
    """A matrix of columns that grows at its end."""

    def __init__(self, columns: int) -> None:
        self._rows = np.zeros((columns, 0), np.int64)
        self._new: list[Ints] = []

    def append(self, rows: Ints) -> None:
        self._new.append(rows)
        if len(self._new) >= _GATHER:
            self._gather()

    @property
    def rows(self) -> Ints:
        """The matrix, shape (columns, n)."""
        self._gather()
        return self._rows

    def _gather(self) -> None:
        if self._new:
            self._rows = np.concatenate([self._rows, *self._new], axis=1)
            self._new = []

    def keep(self, kept: Mask) -> None:
        """Drop the rows that are not kept."""
        self._rows = self.rows[:, kept]
