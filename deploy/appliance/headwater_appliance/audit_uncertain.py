"""Which of the readings that may or may not be counted were: a subset of the right count and digest (R30)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST = 30
"""Uncertain readings of one window that are searched; of more it is undecided."""

Digests = NDArray[np.uint64]
Flags = NDArray[np.bool_]

# One more reading adds this to a sum, so that one number says both count and digest.
_ONE = np.uint64(0x9E3779B97F4A7C15)


class Undecided(Exception):
    """There are too many to search."""


def subset(digests: Digests, count: int, digest: int) -> Flags | None:
    """Find the readings that add up to a count and a digest.

    Args:
        digests: of the uncertain readings; shape (n,).
        count: how many must be chosen.
        digest: what their digests must add up to, modulo 2^64.

    Returns:
        Which ones; None if no subset does.

    Raises:
        Undecided: n is above `MOST`, and neither all nor none of them do.
    """
    n = len(digests)
    if not 0 <= count <= n:
        return None
    if count in {0, n}:
        whole = digests if count else digests[:0]
        return np.full(n, bool(count)) if int(whole.sum(dtype=np.uint64)) == digest else None
    if n > MOST:
        raise Undecided
    # Meet in the middle: sums of one half, each looked up among the sums of the other (Horowitz and Sahni, 1974).
    with np.errstate(over="ignore"):
        words = digests + _ONE
        wanted = np.uint64(digest) + np.uint64(count) * _ONE
        half = n // 2
        low, high = _sums(words[:half]), _sums(words[half:])
        order = np.argsort(high)
        missing = wanted - low
        at = np.minimum(np.searchsorted(high, missing, sorter=order), len(high) - 1)
        found = np.flatnonzero(high[order[at]] == missing)
    if not len(found):
        return None
    chosen = int(found[0]) | int(order[at[found[0]]]) << half
    return (chosen >> np.arange(n) & 1).astype(np.bool_)


def _sums(words: Digests) -> Digests:
    """Return the sum of each subset; bit i of its index says whether it holds words[i]."""
    sums = np.zeros(1, np.uint64)
    for word in words:
        sums = np.concatenate([sums, sums + word])
    return sums
