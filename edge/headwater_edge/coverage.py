"""Coverage: the intervals of event time, as sent, in which a series was heard (R4).

Beyond the dedupe horizon nobody can look a reading up any more. In a gap of its series' coverage it must be new (a truck
that was offline for a day); inside an interval it cannot be told from a resend.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_shared.squeeze import squeezed

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

SILENCE_US = 60_000_000
"""A longer silence of a series splits its coverage."""
_MOST = 64
"""Intervals a series; beyond, the two oldest become one: more is taken for covered, and nothing counts twice."""
_NONE = 2**62


class Coverage:
    """Intervals by series: the latest one in columns, the older ones in flat lists [begin, end, begin, end, ...], rising."""

    def __init__(self) -> None:
        self.begin: Ints = np.zeros(0, np.int64)
        self.end: Ints = np.zeros(0, np.int64)
        self.older: dict[int, list[int]] = {}

    def grow(self, series: int) -> None:
        """Make room for so many series."""
        more = series - len(self.begin)
        if more > 0:
            self.begin = np.append(self.begin, np.full(more, _NONE))
            self.end = np.append(self.end, np.full(more, -_NONE))

    def hear(self, series: NDArray[np.int32], sent: Ints) -> None:
        """Take up readings with a time, n of them in any order."""
        begin, end = self.begin[series], self.end[series]
        follows = (sent >= begin) & (sent <= end + SILENCE_US)
        if follows.all():  # nearly always: each goes on where its series is
            np.maximum.at(self.end, series, sent)
            return
        order = np.lexsort((sent, series))
        s, t = series[order], sent[order]
        cuts = np.flatnonzero((s[1:] != s[:-1]) | (t[1:] - t[:-1] > SILENCE_US)) + 1
        first, last = np.append(0, cuts), np.append(cuts, len(s)) - 1
        for number, low, high in zip(s[first].tolist(), t[first].tolist(), t[last].tolist(), strict=True):
            self._insert(number, low, high)

    def _insert(self, series: int, low: int, high: int) -> None:
        """Add one interval; those that lie no silence away from it become one with it."""
        flat = self.older.get(series, [])
        if self.end[series] >= self.begin[series]:
            flat = [*flat, int(self.begin[series]), int(self.end[series])]
        begins, ends = flat[::2], flat[1::2]
        after = bisect_right(begins, high + SILENCE_US)
        before = after
        while before and ends[before - 1] >= low - SILENCE_US:
            before -= 1
        if before < after:
            low, high = min(low, begins[before]), max(high, ends[after - 1])
        flat[2 * before : 2 * after] = [low, high]
        if len(flat) > 2 * _MOST:
            del flat[1:3]
        *older, self.begin[series], self.end[series] = flat
        if older:
            self.older[series] = older
        else:
            self.older.pop(series, None)

    def covers(self, series: NDArray[np.int32], sent: Ints) -> Mask:
        """Tell which times lie inside an interval of their series; shape (n,). Series beyond the room are not covered."""
        known = series < len(self.begin)
        if not known.all():
            out = np.zeros(len(series), np.bool_)
            out[known] = self.covers(series[known], sent[known])
            return out
        begin = self.begin[series]
        inside: Mask = (sent >= begin) & (sent <= self.end[series])
        if self.older:
            for at in np.flatnonzero(sent < begin).tolist():
                flat = self.older.get(int(series[at]))
                if flat:
                    place = bisect_right(flat, int(sent[at]))
                    inside[at] = place % 2 == 1 or (place > 0 and flat[place - 1] == sent[at])
        return inside

    def of(self, series: int) -> list[int]:
        """Return the intervals of a series, [begin, end, begin, end, ...]."""
        if self.end[series] < self.begin[series]:
            return []
        return [*self.older.get(series, ()), int(self.begin[series]), int(self.end[series])]

    def put(self, series: int, flat: Sequence[int]) -> None:
        """Give a series other intervals, or none."""
        *older, begin, end = flat or (_NONE, -_NONE)
        self.begin[series], self.end[series] = begin, end
        if older:
            self.older[series] = older
        else:
            self.older.pop(series, None)

    def dump(self) -> dict[str, NDArray[np.generic]]:
        """Return the columns: `older` as rows (series, begin, end)."""
        rows = [
            (series, flat[at], flat[at + 1])
            for series, flat in self.older.items()
            for at in range(0, len(flat), 2)
        ]
        return {
            "begin": self.begin.copy(),
            "end": self.end.copy(),
            "older": np.array(rows, np.int64).reshape(-1, 3),
        }

    def load(self, columns: dict[str, NDArray[np.generic]]) -> None:
        self.begin = columns["begin"].astype(np.int64)
        self.end = columns["end"].astype(np.int64)
        self.older = {}
        for series, begin, end in columns["older"].tolist():
            self.older.setdefault(series, []).extend((begin, end))


def packed(coverage: Coverage, names: Sequence[str]) -> bytes:
    """Write coverage to bytes: a format byte, then msgpack of its columns in zlib; and which series has which number, which
    stands nowhere else but in snapshots and in the journal as a whole.
    """
    columns = {name: np.ascontiguousarray(c, np.int64).tobytes() for name, c in coverage.dump().items()}
    columns["names"] = "\n".join(names).encode()
    return b"\x01" + squeezed(msgspec.msgpack.encode(columns))


def unpacked(body: bytes) -> Coverage:
    """Read what `packed` wrote.

    Raises:
        ValueError: another format, or damaged.
    """
    columns = _columns(body)
    columns.pop("names", None)
    try:
        arrays = {name: np.frombuffer(raw, np.int64) for name, raw in columns.items()}
        coverage = Coverage()
        coverage.load({**arrays, "older": arrays["older"].reshape(-1, 3)})
    except KeyError as error:
        raise ValueError(f"damaged coverage: no {error}") from error
    return coverage


def names_in(body: bytes) -> list[str]:
    """Return the names of the series, in the order of their numbers; none of what was written before names were.

    Raises:
        ValueError: another format, or damaged.
    """
    names = _columns(body).get("names", b"").decode()
    return names.split("\n") if names else []


def _columns(body: bytes) -> dict[str, bytes]:
    if body[:1] != b"\x01":
        raise ValueError(f"coverage format {body[:1].hex()} is not known here")
    try:
        return msgspec.msgpack.decode(zlib.decompress(body[1:]), type=dict[str, bytes])
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"damaged coverage: {error}") from error
