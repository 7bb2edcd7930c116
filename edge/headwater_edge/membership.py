"""Columns as sets: numpy's own `isin` and `unique` would import numpy.ma, three megabytes for nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_in(column: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell of each item of `column` whether it is in `wanted`; shape of `column`."""
    if not len(wanted):
        return np.zeros(len(column), np.bool_)
    rising = np.sort(wanted)
    at = np.minimum(np.searchsorted(rising, column), len(rising) - 1)
    found: NDArray[np.bool_] = rising[at] == column
    return found


def distinct(column: NDArray[Any]) -> NDArray[Any]:
    """Return the items of a column once each, rising."""
    rising = np.sort(column)
    fresh = np.ones(len(rising), np.bool_)
    np.not_equal(rising[1:], rising[:-1], out=fresh[1:])
    return rising[fresh]
