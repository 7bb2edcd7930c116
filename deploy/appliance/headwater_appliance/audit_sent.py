"""What a ledger says as the audit needs it: each reading once, sorted, and whether it was acknowledged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater_shared.digest import NO_TIME, reading_digests, value_bits
from headwater_shared.ledger import Truth

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(slots=True)
class Sent:
    """Readings as columns of one length n, sorted by (series, time, value bits), each once."""

    series: Ints
    """Index into the audit's names."""
    time: Ints
    """Microseconds as sent; `NO_TIME` of a reading that was stamped by the agent."""
    value: Floats
    digest: NDArray[np.uint64]
    sure: Flags
    """Acknowledged, and so it must be counted; the others may be."""

    def __len__(self) -> int:
        return len(self.series)

    def take(self, at: Flags | Ints | slice) -> Sent:
        """Return the readings at a mask, indices or a slice."""
        return Sent(self.series[at], self.time[at], self.value[at], self.digest[at], self.sure[at])


def of_truth(truth: Truth, names: Sequence[str], at_once: int = 2**62) -> Iterator[tuple[int, int, Sent]]:
    """Make readings of a ledger's records: a timed reading that was sent several times is one (R2).

    Args:
        truth: the ledger.
        names: sorted names of series, that ledger and store share; the index is into it.
        at_once: how many readings of the ledger are made at once, but for a series that has more.

    Yields:
        All series, some at a time: the first of them, the one after the last, and their readings.
    """
    number = index_of(truth.series, names).astype(np.int32)
    sizes = np.zeros(len(names), np.int64)
    sizes[number] = np.bincount(truth.series_of, minlength=len(number))
    before, first = np.append(0, np.cumsum(sizes)), 0
    while first < len(names):
        end = max(first + 1, int(np.searchsorted(before, before[first] + at_once, "right")) - 1)
        theirs = (number >= first) & (number < end)
        yield first, end, _readings(truth, number, np.flatnonzero(theirs[truth.series_of]))
        first = end


def _readings(truth: Truth, number: NDArray[np.int32], at: Ints) -> Sent:
    series, time = number[truth.series_of[at]].astype(np.int64), truth.time[at]
    value, sure = truth.value[at] + 0.0, truth.acknowledged[at]
    order = np.lexsort((value_bits(value), time, series))
    series, time, value, sure = series[order], time[order], value[order], sure[order]
    new = np.ones(len(order), np.bool_)
    same = (series[1:] == series[:-1]) & (time[1:] == time[:-1])
    new[1:] = ~(same & (value[1:] == value[:-1])) | (time[1:] == NO_TIME)
    starts = np.flatnonzero(new)
    if len(starts):
        sure = np.logical_or.reduceat(sure, starts)
    series, time, value = series[starts], time[starts], value[starts]
    return Sent(series, time, value, reading_digests(time, value), sure)


def index_of(wanted: Sequence[str], names: Sequence[str]) -> Ints:
    """Return where names stand in a sorted list that has them all."""
    found = np.searchsorted(np.array(names, object), np.array(wanted, object)) if wanted else ()
    return np.array(found, np.int64)


def windows_of(sent: Sent, length_us: int, offset_us: int = 0) -> tuple[Ints, Ints]:
    """Group timed readings by window; windows start `offset_us` after the multiples of their length.

    Returns:
        The index of each group's first reading, and the start of its window.
    """
    start = (sent.time - offset_us) // length_us * length_us + offset_us
    if not len(sent):
        return np.zeros(0, np.int64), start
    new = np.append(True, (np.diff(sent.series) != 0) | (np.diff(start) != 0))
    at = np.flatnonzero(new)
    return at, start[at]
