"""Quantiles of many sketches at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headwater_shared.parts import Sketches
from headwater_shared.sketch import BUCKETS, middle_of

_SIGN = BUCKETS // 2


def quantiles(sketches: Sketches, q: float) -> NDArray[np.float64]:
    """Return the `q` quantile (0 to 1, nearest rank) of each row, NaN of an empty one; as `sketch.quantile` does of one."""
    (found,) = several(sketches, (q,))
    return found


def several(sketches: Sketches, qs: Sequence[float]) -> list[NDArray[np.float64]]:
    """Return several quantiles of each row: see `quantiles`."""
    bucket, count = sketches.bucket, sketches.count
    if (bucket >= _SIGN).any():  # the buckets of negative values fall as these rise
        rising = np.where(bucket >= _SIGN, _SIGN - 1 - bucket, bucket)
        order = np.lexsort((rising, sketches.rows()))
        bucket, count = bucket[order], count[order]
    reached = np.cumsum(count)
    ends = np.append(0, reached)[sketches.end]
    begins = np.append(0, ends[:-1])
    total = ends - begins
    some = total > 0
    found = []
    for q in qs:
        rank = np.clip(np.ceil(q * total).astype(np.int64) - 1, 0, np.maximum(total - 1, 0))
        out = np.full(len(sketches.end), np.nan)
        at = np.searchsorted(reached, (begins + rank)[some], side="right")
        out[some] = middle_of(bucket[at])
        found.append(out)
    return found
