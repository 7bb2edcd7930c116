"""Mergeable aggregates of readings as columns: count, digest, mean, M2, minimum, maximum, first and last with times.

One row describes one set of readings; merging rows is associative and commutative but for the last bits of mean and
M2 (Welford 1962 for one set, Chan, Golub and LeVeque 1979 for the merge). The mean of finite values is finite; M2 is
infinite where squares are larger than any float. Edge panes and cloud windows share it.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from headwater_shared.digest import value_bits

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Digests = NDArray[np.uint64]

COLUMNS = ("count", "digest", "mean", "m2", "min", "max", "first", "first_time", "last", "last_time")


class Aggregates:
    """Columns of one length n. Times in microseconds; `digest` modulo 2^64; a row of count 0 is the neutral one.

    The columns are views of one matrix of 64-bit words, a row of ten after the other, so that rows are taken and put
    with one copy instead of ten.
    """

    __slots__ = ("words",)

    def __init__(
        self, count: Ints, digest: Digests, mean: Floats, m2: Floats, min: Floats, max: Floats,  # noqa: A002 - columns
        first: Floats, first_time: Ints, last: Floats, last_time: Ints,
    ) -> None:  # fmt: skip
        self.words = np.empty((len(count), len(COLUMNS)), np.int64)
        columns = (count, digest, mean, m2, min, max, first, first_time, last, last_time)
        for at, column in enumerate(columns):
            self.words[:, at] = column.view(np.int64)

    @classmethod
    def of_words(cls, words: NDArray[np.int64]) -> Self:
        """Wrap a matrix of shape (n, 10)."""
        self = cls.__new__(cls)
        self.words = words
        return self

    @classmethod
    def empty(cls, n: int) -> Self:
        """Return n neutral rows."""
        return cls.of_words(np.zeros((n, len(COLUMNS)), np.int64))

    @classmethod
    def concatenate(cls, pieces: list[Self]) -> Self:
        return cls.of_words(np.concatenate([piece.words for piece in pieces]))

    def __len__(self) -> int:
        return len(self.words)

    def take(self, at: Any) -> Self:
        """Return the rows at indices, a slice or a mask, copied."""
        rows = self.words[at]
        return type(self).of_words(rows.copy() if isinstance(at, slice) else rows)

    def put(self, at: Any, rows: Aggregates) -> None:
        """Overwrite the rows at distinct indices."""
        self.words[at] = rows.words

    @property
    def count(self) -> Ints:
        return self.words[:, 0]

    @property
    def digest(self) -> Digests:
        return self.words[:, 1].view(np.uint64)

    @property
    def mean(self) -> Floats:
        return self.words[:, 2].view(np.float64)

    @property
    def m2(self) -> Floats:
        return self.words[:, 3].view(np.float64)

    @property
    def min(self) -> Floats:
        return self.words[:, 4].view(np.float64)

    @property
    def max(self) -> Floats:
        return self.words[:, 5].view(np.float64)

    @property
    def first(self) -> Floats:
        return self.words[:, 6].view(np.float64)

    @property
    def first_time(self) -> Ints:
        return self.words[:, 7]

    @property
    def last(self) -> Floats:
        return self.words[:, 8].view(np.float64)

    @property
    def last_time(self) -> Ints:
        return self.words[:, 9]


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
            low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
            mean = np.add.reduceat(values, starts) / count + 0.0
            if not np.isfinite(
                mean
            ).all():  # the sum has no room in a float, the mean has: shares of it first
                shares = np.add.reduceat(values / np.repeat(count, count), starts)
                mean = np.where(np.isfinite(mean), mean, np.clip(shares, low, high))
            off = values - np.repeat(mean, count)
            m2 = np.add.reduceat(off * off, starts)
            digest = np.add.reduceat(digests, starts)
    final = ends - 1
    return Aggregates(
        count, digest, mean, m2, low + 0.0, high + 0.0,
        values[starts] + 0.0, times[starts], values[final] + 0.0, times[final],
    )  # fmt: skip


def merged(a: Aggregates, b: Aggregates) -> Aggregates:
    """Merge row by row. Of equal first times the smaller value bits are first, of equal last times the larger last."""
    if not len(a):
        return a.take(slice(None))
    out = Aggregates.of_words(a.words.copy())
    words = out.words
    a_count, b_count, a_mean = a.count, b.count, a.mean
    words[:, 0] += b_count
    words[:, 1] += b.words[:, 1]
    with np.errstate(over="ignore", invalid="ignore"):
        delta = b.mean - a_mean
        share = b_count / np.maximum(words[:, 0], 1)
        out.mean[:] = a_mean + delta * share
        if not np.isfinite(out.mean).all():  # means so far apart that their distance has no room in a float
            (far,) = np.nonzero(~np.isfinite(out.mean))
            out.mean[far] = a_mean[far] * (1 - share[far]) + b.mean[far] * share[far]
        share *= a_count
        delta *= delta
        out.m2[:] += b.m2 + delta * share
    np.minimum(a.min, b.min, out=out.min)
    np.maximum(a.max, b.max, out=out.max)
    if bool((b.first_time > a.last_time).all()):  # in the order of time: first stays, last is b's
        words[:, 8:10] = b.words[:, 8:10]
    else:
        _merge_ends(out, a, b)
    if not a_count.all() or not b_count.all():
        lone_a, lone_b = b_count == 0, a_count == 0
        out.put(lone_a, a.take(lone_a))
        out.put(lone_b, b.take(lone_b))
    return out


def _merge_ends(out: Aggregates, a: Aggregates, b: Aggregates) -> None:
    bits = value_bits
    b_first = (b.first_time < a.first_time) | (
        (b.first_time == a.first_time) & (bits(b.first) < bits(a.first))
    )
    b_last = (b.last_time > a.last_time) | ((b.last_time == a.last_time) & (bits(b.last) > bits(a.last)))
    out.words[b_first, 6:8] = b.words[b_first, 6:8]
    out.words[b_last, 8:10] = b.words[b_last, 8:10]


def merged_groups(rows: Aggregates, starts: Ints) -> Aggregates:
    """Merge the rows of each group one after the other, in the order given: the same order, the same bits.

    Args:
        rows: group by group; shape (n,).
        starts: index of each group's first row, as for `of_readings`; shape (g,).
    """
    if len(starts) == len(rows):
        return rows
    out = rows.take(starts)
    sizes = np.append(starts[1:], len(rows)) - starts
    for rank in range(1, int(sizes.max(initial=0))):
        (deep,) = np.nonzero(sizes > rank)
        out.put(deep, merged(out.take(deep), rows.take(starts[deep] + rank)))
    return out


def merged_at_once(rows: Aggregates, starts: Ints) -> Aggregates:
    """Merge the rows of each group in one pass, however deep it is: for many rows a group, where `merged_groups` takes a step a rank.

    Mean and M2 are those of all readings together (mean = sum(n_i mean_i) / n, M2 = sum(M2_i + n_i (mean_i - mean)^2)), and
    may differ from `merged_groups` in the last bits; the same order gives the same bits.

    Args:
        rows: group by group; shape (n,).
        starts: index of each group's first row, as for `of_readings`; shape (g,).
    """
    if len(starts) == len(rows):
        return rows
    sizes = np.append(starts[1:], len(rows)) - starts
    if not rows.count.all():
        return _merged_of_some(rows, sizes)
    group = np.repeat(np.arange(len(starts)), sizes)
    out = Aggregates.empty(len(starts))
    count, mean = rows.count, rows.mean
    total = np.add.reduceat(count, starts)
    out.words[:, 0] = total
    out.words[:, 1] = np.add.reduceat(rows.digest, starts).view(np.int64)
    low, high = np.minimum.reduceat(rows.min, starts), np.maximum.reduceat(rows.max, starts)
    with np.errstate(over="ignore", invalid="ignore"):
        whole = np.add.reduceat(mean * count, starts) / total
        if not np.isfinite(whole).all():  # the sum has no room in a float, the mean has: shares of it first
            shares = np.add.reduceat(mean * (count / total[group]), starts)
            whole = np.where(np.isfinite(whole), whole, np.clip(shares, low, high))
        off = mean - whole[group]
        out.m2[:] = np.add.reduceat(rows.m2 + off * off * count, starts)
    out.mean[:], out.min[:], out.max[:] = whole + 0.0, low, high
    first, last = np.minimum.reduceat(rows.first_time, starts), np.maximum.reduceat(rows.last_time, starts)
    out.first_time[:], out.last_time[:] = first, last
    # Of equal times value bits decide, as in `merged`.
    bits = np.where(rows.first_time == first[group], value_bits(rows.first), ~np.uint64(0))
    out.words[:, 6] = np.minimum.reduceat(bits, starts).view(np.int64)
    bits = np.where(rows.last_time == last[group], value_bits(rows.last), np.uint64(0))
    out.words[:, 8] = np.maximum.reduceat(bits, starts).view(np.int64)
    return out


def _merged_of_some(rows: Aggregates, sizes: Ints) -> Aggregates:
    """Leave neutral rows out, and merge the others; a group of none but neutral ones is neutral."""
    out = Aggregates.empty(len(sizes))
    real = np.flatnonzero(rows.count)
    group = np.repeat(np.arange(len(sizes)), sizes)[real]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    if len(starts):
        out.put(group[starts], merged_at_once(rows.take(real), starts))
    return out
