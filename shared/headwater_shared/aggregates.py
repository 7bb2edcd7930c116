"""Mergeable aggregates of readings as columns: count, digest, mean, M2, minimum, maximum, first and last with times.

One row describes one set of readings; merging rows is associative and commutative but for the last bits of mean and
M2 (Welford 1962 for one set, Chan, Golub and LeVeque 1979 for the merge). Edge panes and cloud windows share it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from headwater_shared.digest import value_bits

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Digests = NDArray[np.uint64]


@dataclass(slots=True)
class Aggregates:
    """Columns of one length n. Times in microseconds; `digest` modulo 2^64; a row of count 0 is the neutral one."""

    count: Ints
    digest: Digests
    mean: Floats
    m2: Floats
    min: Floats
    max: Floats
    first: Floats
    first_time: Ints
    last: Floats
    last_time: Ints

    def __len__(self) -> int:
        return len(self.count)

    @classmethod
    def empty(cls, n: int) -> Self:
        """Return n neutral rows."""
        ints, floats = np.zeros(n, np.int64), np.zeros(n, np.float64)
        return cls(
            ints, np.zeros(n, np.uint64), floats, floats.copy(), floats.copy(), floats.copy(),
            floats.copy(), ints.copy(), floats.copy(), ints.copy(),
        )  # fmt: skip

    def take(self, at: Any) -> Self:
        """Return the rows at indices, a slice or a mask, copied."""
        return type(self)(*(getattr(self, name)[at].copy() for name in COLUMNS))

    def put(self, at: Any, rows: Aggregates) -> None:
        """Overwrite the rows at distinct indices."""
        for name in COLUMNS:
            getattr(self, name)[at] = getattr(rows, name)

    @classmethod
    def concatenate(cls, pieces: list[Self]) -> Self:
        return cls(*(np.concatenate([getattr(p, name) for p in pieces]) for name in COLUMNS))


COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(Aggregates))


def of_readings(starts: Ints, times: Ints, values: Floats, digests: Digests) -> Aggregates:
    """Aggregate grouped readings.

    Args:
        starts: index of each group's first reading, ascending, starts[0] == 0; shape (g,). No group is empty.
        times, values, digests: the readings, group by group and within a group by (time, value bits); shape (n,).

    Returns:
        g rows.
    """
    n = len(values)
    ends = np.append(starts[1:], n)
    count = ends - starts
    with np.errstate(over="ignore", invalid="ignore"):
        if len(starts) == n:  # one reading a group: the common case of a tick
            mean, m2 = values + 0.0, np.zeros(n)
            low = high = values
            digest = digests.copy()
        else:
            mean = np.add.reduceat(values, starts) / count
            off = values - np.repeat(mean, count)
            m2 = np.add.reduceat(off * off, starts)
            low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
            digest = np.add.reduceat(digests, starts)
    final = ends - 1
    return Aggregates(
        count, digest, mean, m2, low + 0.0, high + 0.0,
        values[starts] + 0.0, times[starts], values[final] + 0.0, times[final],
    )  # fmt: skip


def merged(a: Aggregates, b: Aggregates) -> Aggregates:
    """Merge row by row. Of equal first times the smaller value bits are first, of equal last times the larger last."""
    n = a.count + b.count
    some = np.maximum(n, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        delta = b.mean - a.mean
        share = b.count / some
        mean = a.mean + delta * share
        m2 = a.m2 + b.m2 + delta * delta * (a.count * share)
    bits = value_bits
    a_first = (a.first_time < b.first_time) | ((a.first_time == b.first_time) & (bits(a.first) <= bits(b.first)))
    a_last = (a.last_time > b.last_time) | ((a.last_time == b.last_time) & (bits(a.last) >= bits(b.last)))
    out = Aggregates(
        n, a.digest + b.digest, mean, m2, np.minimum(a.min, b.min), np.maximum(a.max, b.max),
        np.where(a_first, a.first, b.first), np.where(a_first, a.first_time, b.first_time),
        np.where(a_last, a.last, b.last), np.where(a_last, a.last_time, b.last_time),
    )  # fmt: skip
    lone_a, lone_b = b.count == 0, a.count == 0
    if lone_a.any():
        out.put(lone_a, a.take(lone_a))
    if lone_b.any():
        out.put(lone_b, b.take(lone_b))
    return out


def merged_groups(rows: Aggregates, starts: Ints) -> Aggregates:
    """Merge the rows of each group one after the other, in the order given: the same order, the same bits.

    Args:
        rows: group by group; shape (n,).
        starts: index of each group's first row, as for `of_readings`; shape (g,).
    """
    out = rows.take(starts)
    sizes = np.append(starts[1:], len(rows)) - starts
    for rank in range(1, int(sizes.max(initial=0))):
        (deep,) = np.nonzero(sizes > rank)
        out.put(deep, merged(out.take(deep), rows.take(starts[deep] + rank)))
    return out
