"""Parts as columns: what an agent's panes become on the wire, and what the cloud merges to windows (R1)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_shared.aggregates import Aggregates
from headwater_shared.errors import SettingsError

Ints = NDArray[np.int64]

COARSENED = 1 << 32
"""Flag of a part: of its window's time, finer tumbling windows of the same series are not kept; it holds their readings (R22)."""

_UNITS_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


_LENGTH = "[1-9][0-9]{0,5}[smhd]"
_LEVEL = re.compile(
    rf"(?:(?P<length>{_LENGTH})(?:/(?P<hop>{_LENGTH}))?|session-(?P<gap>{_LENGTH}))(?P<arrival>@arrival)?"
)


class Level(NamedTuple):
    """One window definition. Its name is its identity on the wire, and says all of it (see `level_of`).

    Tumbling and hopping windows start at the multiples of `hop_us`; a tumbling one hops by its length. A session has
    neither: it starts with its first reading and is over `gap_us` after its last.
    """

    name: str
    length_us: int
    """0: it varies."""
    hop_us: int
    gap_us: int = 0
    arrival: bool = False
    """Windows are over the time of arrival, not over the time that devices sent."""

    @property
    def at_once(self) -> int:
        """How many windows each reading is in."""
        return self.length_us // self.hop_us if self.hop_us else 1


def tumbling(name: str) -> Level:
    """Return the tumbling event-time level called `10s`, `1m`, `10m`, `1h`, ...

    Raises:
        SettingsError: the name is not a whole number of s, m, h or d.
    """
    if re.fullmatch(_LENGTH, name) is None:
        raise SettingsError(
            f"{name!r} is no window length", hint="write a whole number of s, m, h or d, such as 10s"
        )
    return level_of(name)


def level_of(name: str) -> Level:
    """Return the level of any kind that is called so: `1m` tumbling, `10m/1m` hopping, `session-5m`, each with or without
    `@arrival` behind it.

    Raises:
        SettingsError: nothing is called so.
    """
    match = _LEVEL.fullmatch(name)
    length, hop, gap = (_us(match[part]) if match else 0 for part in ("length", "hop", "gap"))
    if match is None or (hop and (length % hop or hop == length)):
        raise SettingsError(
            f"{name!r} is no level", hint="levels are called 1m, 10m/1m, session-5m, 1m@arrival"
        )
    return Level(name, length, hop or length, gap, match["arrival"] is not None)


def is_within(fine: Level, coarse: Level) -> bool:
    """Tell whether every window of one level lies whole in one of another: both tumbling, over the same time."""
    if (
        fine.gap_us
        or coarse.gap_us
        or fine.at_once > 1
        or coarse.at_once > 1
        or fine.arrival != coarse.arrival
    ):
        return False
    return fine.length_us < coarse.length_us and coarse.length_us % fine.length_us == 0


def length_name(length_us: int) -> str:
    """Write a length as names of levels have it: in the largest unit that it is a whole number of, so that one definition
    has one name.

    Raises:
        SettingsError: it is no whole number of seconds, or more than 999,999 days.
    """
    for unit in ("d", "h", "m", "s"):
        number, rest = divmod(length_us, _UNITS_US[unit])
        if number and not rest and number < 10**6:
            return f"{number}{unit}"
    raise SettingsError(
        f"{length_us} us is no window length", hint="write a whole number of s, m, h or d, such as 10s"
    )


def _us(length: str | None) -> int:
    return int(length[:-1]) * _UNITS_US[length[-1]] if length else 0


@dataclass(slots=True)
class Sketches:
    """The sketches of n rows as compressed sparse rows: row i holds bucket[end[i-1]:end[i]], ascending, and counts."""

    end: Ints
    bucket: Ints
    count: Ints

    @classmethod
    def empty(cls, n: int = 0) -> Sketches:
        return cls(np.zeros(n, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))

    @classmethod
    def concatenate(cls, pieces: list[Sketches]) -> Sketches:
        """Put the rows of several sketches one below the other."""
        before = np.cumsum([0, *(len(piece.bucket) for piece in pieces[:-1])])
        return cls(
            np.concatenate([piece.end + n for n, piece in zip(before, pieces, strict=True)]),
            np.concatenate([piece.bucket for piece in pieces]),
            np.concatenate([piece.count for piece in pieces]),
        )

    def sizes(self) -> Ints:
        """Return how many buckets each row has."""
        sizes = self.end.copy()
        sizes[1:] -= self.end[:-1]
        return sizes

    def rows(self) -> Ints:
        """Return the row of each bucket; shape of `bucket`."""
        return np.repeat(np.arange(len(self.end)), self.sizes())

    def take(self, at: Ints) -> Sketches:
        """Return the sketches of the rows at indices."""
        begin = np.append(0, self.end[:-1])[at] if len(self.end) else self.end[at]
        sizes = self.end[at] - begin
        end = np.cumsum(sizes)
        index = np.arange(int(end[-1]) if len(end) else 0) + np.repeat(begin - (end - sizes), sizes)
        return Sketches(end, self.bucket[index], self.count[index])


def counted_sketches(rows: Ints, bucket: Ints, n: int) -> Sketches:
    """Count (row, bucket) pairs in any order to the sketches of rows 0 to n-1."""
    key = np.sort((rows << 18) | bucket)
    if not len(key):
        return Sketches.empty(n)
    begins = np.empty(len(key), np.bool_)
    begins[0] = True
    np.not_equal(key[1:], key[:-1], out=begins[1:])
    (starts,) = np.nonzero(begins)
    count = np.append(starts[1:], len(key)) - starts
    key = key[starts]
    return Sketches(np.searchsorted(key, np.arange(1, n + 1) << 18), key & 0x3FFFF, count)


def grouped_sketches(rows: Ints, bucket: Ints, count: Ints, n: int) -> Sketches:
    """Sum (row, bucket, count) triples in any order to the sketches of rows 0 to n-1."""
    key = (rows << 18) | bucket
    order = np.argsort(key)  # equal keys in any order: whole numbers are added
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1) != 0)  # of truths: of numbers it takes ten times as long
    sums = np.add.reduceat(count[order], starts) if len(starts) else np.zeros(0, np.int64)
    key = key[starts]
    end = np.searchsorted(key, np.arange(1, n + 1) << 18)
    return Sketches(end.astype(np.int64), key & 0x3FFFF, sums)


@dataclass(slots=True)
class Parts:
    """Parts of one agent, n rows; `series`, `level` and `epoch` index the dictionaries beside them."""

    names: list[str]
    levels: list[str]
    epochs: list[int]
    series: Ints
    level: Ints
    start: Ints
    epoch: Ints
    """Which of `epochs` opened the part."""
    tick: Ints
    """The tick that opened it; (agent, epoch, tick) is the part's identity within its window (R1)."""
    revision: Ints
    flags: Ints
    aggregates: Aggregates
    sketches: Sketches = field(default_factory=Sketches.empty)

    def __len__(self) -> int:
        return len(self.series)

    @classmethod
    def empty(cls) -> Parts:
        none = np.zeros(0, np.int64)
        return cls([], [], [], none, none, none, none, none, none, none, Aggregates.empty(0))

    def take(self, at: Any) -> Parts:
        """Return the rows at indices or a mask; the dictionaries stay whole."""
        index = np.arange(len(self))[at]
        return Parts(
            self.names, self.levels, self.epochs, self.series[index], self.level[index], self.start[index],
            self.epoch[index], self.tick[index], self.revision[index], self.flags[index],
            self.aggregates.take(index), self.sketches.take(index),
        )  # fmt: skip
