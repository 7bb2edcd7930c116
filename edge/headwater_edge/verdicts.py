"""What look-ups in the journal said of a tick's readings, applied inside the step (R2, R4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater_edge.tick import Tick

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_KNOWN, _BEYOND = 1, 2


def verdicts(tick: Tick) -> Ints | None:
    """Return what was said of each reading: nothing (0), known, or beyond with the reading's index above it; None if of none."""
    if not tick.known and not tick.beyond:
        return None
    said = np.zeros(len(tick.readings), np.int64)
    said[tick.known] = _KNOWN
    beyond = np.array(tick.beyond, np.int64)
    said[beyond] = _BEYOND | beyond << 2
    return said


def split(said: Ints, repeated: Mask) -> tuple[Mask, Mask, Ints]:
    """Tell which readings had arrived before, and which cannot be told from a resend, without those that repeat another here.

    Returns:
        (known, beyond, indices in the tick of what is beyond).
    """
    known = (said == _KNOWN) & ~repeated
    beyond = (said & 3 == _BEYOND) & ~repeated
    return known, beyond, said[beyond] >> 2
