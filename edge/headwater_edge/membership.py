"""Which items of a column are among others: numpy's own `isin` would import numpy.ma, three megabytes for nothing."""

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
