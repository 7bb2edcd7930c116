"""A device against its peers: how far its mean is from the median of its cohort, in spreads of the cohort; the pure part of stage two.

The distance is that of B. Iglewicz and D. Hoaglin, How to Detect and Handle Outliers (ASQC, 1993), chapter 3: from the median, in units of
1.4826 times the median absolute deviation, which is the standard deviation if values are normal; up to half of a cohort may be far off
without moving either much. All of a cohort is in its median, the device too: with five peers or more that makes little difference. So
a cohort that moves together moves its median, and a cohort of two kinds that are half and half has a wide spread: neither is an anomaly.
Nor is it one where more than a third would be outliers: pumps of which some run and some stand are no peers of each other at that moment.

Of few values that deviation is often small by chance: of six normal ones, one in 130 would be more than six spreads away. So the spread of n
devices is widened by 1 + 80 / (n - 2)^2, fitted by simulation so that at six spreads, whatever n is, about one in 10,000 healthy devices or fewer is
taken for an outlier: six times for six devices, twice for eleven, by a sixteenth for 38. Few peers find what is grossly wrong, many find what is slightly so.

Where more than half of a cohort has one value, the deviation is 0 and anything else would be far away. So a spread is at least a millionth
of the median, which is about what 32-bit sensors resolve: devices that differ by their rounding only are equal. Sensors of few steps need `least`.
"""

from __future__ import annotations

from math import floor, log10
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_SIGMA = 1.4826
"""Standard deviations of a normal distribution in one median absolute deviation: 1 / Phi^-1(3/4)."""
_FEW = 80.0
"""How much wider the spread of few is."""
_MOST = 3
"""One in so many may be an outlier."""
_RELATIVE, _TINY = 1e-6, 1e-12
"""Least spread: of the median, and where that is 0."""
_FAR = 1000.0
"""Spreads; what is further is not told apart."""


class Judged(NamedTuple):
    """n rows each, in the order of the values."""

    median: Floats
    spread: Floats
    away: Floats
    """Spreads from the median."""
    peers: Ints
    """How many others there are."""
    outlier: NDArray[np.bool_]


def judge(value: Floats, group: Ints, away: Floats, least: Floats, peers: Ints) -> Judged:
    """Compare each value with those of its group.

    Args:
        value: shape (n,), finite, in any order.
        group: of each value, 0 to g - 1; none is empty.
        away: shape (g,): an outlier is further than so many spreads from the median,
        least: shape (g,): and at least so far, in the unit of the values,
        peers: shape (g,): and has at least so many others in its group.
    """
    sizes = np.bincount(group, minlength=len(away))
    median = _medians(value, group, sizes)[group]
    with np.errstate(over="ignore"):
        off = np.abs(value - median)
        wider = _SIGMA * (1 + _FEW / np.maximum(sizes - 2, 1) ** 2)
        spread = np.maximum((wider * _medians(off, group, sizes))[group], _RELATIVE * np.abs(median))
        spread = np.minimum(np.maximum(spread, _TINY), np.finfo(np.float64).max)
        off = np.minimum(off, np.finfo(np.float64).max)
        distance = np.minimum(off / spread, np.finfo(np.float64).max)
    others = sizes[group] - 1
    outlier = (distance > away[group]) & (off >= least[group]) & (others >= peers[group])
    many = _MOST * np.bincount(group, outlier, minlength=len(away)) > sizes
    outlier &= ~many[group]
    return Judged(median, spread, distance, others, outlier)


def _medians(value: Floats, group: Ints, sizes: Ints) -> Floats:
    """Return the median of each group: of an even number the middle of the two."""
    along = value[np.lexsort((value, group))]
    first = np.cumsum(sizes) - sizes
    low, high = along[first + (sizes - 1) // 2], along[first + sizes // 2]
    middle: Floats = np.where(low == high, low, low / 2 + high / 2)
    return middle


def words(value: float, median: float, spread: float, away: float, peers: int) -> str:
    """Say how far a value is off: `21.4, where 37 peers have 12.1 give or take 0.8: 11.6 spreads away`."""
    alike = spread <= max(_RELATIVE * abs(median), _TINY) * (1 + 1e-9)
    digits = _digits(abs(value - median) if alike else spread)
    mine, theirs = _number(value, digits), _number(median, digits)
    if alike:
        return f"{mine}, where {peers} peers have {theirs}, most of them alike"
    how_far = f"{away:.1f}" if away < _FAR else f"more than {_FAR:.0f}"
    return f"{mine}, where {peers} peers have {theirs} give or take {_number(spread, digits)}: {how_far} spreads away"


def _digits(size: float) -> int:
    """How many digits after the point show a number of this size."""
    return min(max(-floor(log10(size)), 0), 12) if size > 0 else 0


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if abs(value) < 1e15 else f"{value:.4g}"
