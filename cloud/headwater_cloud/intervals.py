"""Sets of seqs as intervals: first, last, first, last, ..., both included, ascending, none touching the next."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


def holds(intervals: list[int], seq: int) -> bool:
    """Tell whether a seq is in the set.

    >>> holds([1, 4, 9, 9], 4), holds([1, 4, 9, 9], 5), holds([1, 4, 9, 9], 9)
    (True, False, True)
    """
    at = bisect_right(intervals, seq)  # odd: behind a first and before its last
    return at % 2 == 1 or (at > 0 and intervals[at - 1] == seq)


def add(intervals: list[int], seq: int) -> bool:
    """Put a seq into the set, in place; tell whether it is new.

    >>> found = [1, 4, 6, 9]
    >>> add(found, 5), found
    (True, [1, 9])
    """
    if intervals and seq == intervals[-1] + 1:  # the next one: nearly always
        intervals[-1] = seq
        return True
    if holds(intervals, seq):
        return False
    at = bisect_left(intervals, seq)  # even: before the first of the interval after it
    joins_before = at > 0 and intervals[at - 1] == seq - 1
    joins_after = at < len(intervals) and intervals[at] == seq + 1
    if joins_before and joins_after:
        del intervals[at - 1 : at + 1]
    elif joins_before:
        intervals[at - 1] = seq
    elif joins_after:
        intervals[at] = seq
    else:
        intervals[at:at] = [seq, seq]
    return True


def gaps(intervals: list[int], up_to: int) -> list[tuple[int, int]]:
    """The seqs from 1 to `up_to` that are not in the set, as (first, last).

    >>> gaps([2, 4, 9, 9], 12)
    [(1, 1), (5, 8), (10, 12)]
    """
    out = []
    following = 1
    for first, last in zip(intervals[::2], intervals[1::2], strict=True):
        if first > up_to:
            break
        if first > following:
            out.append((following, first - 1))
        following = last + 1
    if following <= up_to:
        out.append((following, up_to))
    return out


def whole(intervals: list[int], up_to: int) -> bool:
    """Tell whether every seq from 1 to `up_to` is in the set."""
    return up_to < 1 or (bool(intervals) and intervals[0] <= 1 and intervals[1] >= up_to)
