"""Quantiles of many sketches at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater_shared.parts import Sketches
from headwater_shared.sketch import BUCKETS, middle_of

_SIGN = BUCKETS // 2


def quantiles(sketches: Sketches, q: float) -> NDArray[np.float64]:
    """Return the `q` quantile (0 to 1, nearest rank) of each row, NaN of an empty one; as `sketch.quantile` does of one."""
    rows = sketches.rows()
    rising = np.where(sketches.bucket >= _SIGN, _SIGN - 1 - sketches.bucket, sketches.bucket)
    order = np.lexsort((rising, rows))
    reached = np.cumsum(sketches.count[order])
    ends = np.append(0, reached)[sketches.end]
    begins = np.append(0, ends[:-1])
    total = ends - begins
    rank = np.clip(np.ceil(q * total).astype(np.int64) - 1, 0, np.maximum(total - 1, 0))
    some = total > 0
    out = np.full(len(sketches.end), np.nan)
    at = np.searchsorted(reached, (begins + rank)[some], side="right")
    out[some] = middle_of(sketches.bucket[order[at]])
    return out
