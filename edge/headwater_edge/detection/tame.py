"""Values that can be squared and divided by, whatever a sensor says."""

from __future__ import annotations

import numpy as np

from headwater_edge.detection.points import Floats

_MOST = 1e120
_LEAST = 1e-100
_RELATIVE = 1e-9


def tame(values: Floats) -> Floats:
    """Return values bounded, so that squares and quotients of them are finite."""
    return np.clip(values, -_MOST, _MOST)


def at_least(spread: Floats, level: Floats) -> Floats:
    """Return spreads that can be divided by: not less than what the rounding of values at such a level makes."""
    return np.maximum(spread, np.abs(level) * _RELATIVE + _LEAST)
