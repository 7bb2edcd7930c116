"""The quantile sketch: fixed log buckets with integer counts, the same on every machine.

A bucket is the float's bits shifted right by 46: sign, exponent and six bits of the mantissa. Two values of one
bucket differ by less than 1/64 of the smaller, so the middle is off by at most 0.8%. No logarithm is taken, so every
machine and the plain reference agree to the last bit. Zero shares its bucket with nothing larger than 2**-1028.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater_shared.digest import value_bits

RELATIVE_ERROR = 1 / 128
"""Of a quantile, against the true value of that rank (normal numbers)."""

BUCKETS = 1 << 18
"""How many there are: sign, eleven bits of exponent, six of the mantissa."""

_SHIFT = np.uint64(46)
_SIGN = 1 << 17


def buckets_of(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bucket of each value, 0 to 2**18 - 1; shape kept."""
    return (value_bits(values) >> _SHIFT).astype(np.int64)


def middle_of(buckets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the value that stands for each bucket: the middle of its range; 0 for the one that zero is in."""
    low = buckets.astype(np.uint64) << _SHIFT
    middle = (low | np.uint64(1 << 45)).view(np.float64)
    return np.where(buckets == 0, 0.0, middle)


def quantile(buckets: NDArray[np.int64], counts: NDArray[np.int64], q: float) -> float:
    """Return the `q` quantile (0 to 1, nearest rank) of a sketch; NaN of an empty one."""
    total = int(counts.sum())
    if total == 0:
        return float("nan")
    rising = np.argsort(np.where(buckets >= _SIGN, _SIGN - 1 - buckets, buckets), kind="stable")
    rank = min(total - 1, max(0, int(np.ceil(q * total)) - 1))
    at = int(np.searchsorted(np.cumsum(counts[rising]), rank, side="right"))
    return float(middle_of(buckets[rising[at : at + 1]])[0])
