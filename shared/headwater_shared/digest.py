"""The digest: a sum of hashes of readings that merges like a count and tells which readings a window holds (R10)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NO_TIME = -(2**63)
"""In a column of times as sent: the device sent none. Its digest uses time 0."""

_ADD = np.uint64(0x9E3779B97F4A7C15)
_MUL1 = np.uint64(0xBF58476D1CE4E5B9)
_MUL2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


def splitmix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix 64 bits (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), one step from `x`."""
    z = x + _ADD
    z ^= z >> _S30
    z *= _MUL1
    z ^= z >> _S27
    z *= _MUL2
    z ^= z >> _S31
    return z


def value_bits(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Return the bits of float64 values with -0 as 0, shape kept."""
    return (values + 0.0).view(np.uint64)


def reading_digests(sent_us: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Hash readings: splitmix64(splitmix64(t) + bits(v)) mod 2^64.

    Args:
        sent_us: times as the device sent them, microseconds, `NO_TIME` where it sent none; shape (n,).
        values: shape (n,).
    """
    times = np.where(sent_us == NO_TIME, 0, sent_us).view(np.uint64)
    mixed = splitmix64(times)
    mixed += value_bits(values)
    return splitmix64(mixed)
