"""What a running agent says of its devices: a column each, for those who list thousands of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from headwater_edge.recent import NEVER
from headwater_edge.state import State
from headwater_shared.clock import Now


def listed(state: State, now: Now) -> dict[str, Any]:
    """Return columns of one length, a row a device in the order of first sight.

    `silent_s`: monotonic seconds since its last reading; `newest_us`: its newest event time, 0 for none; `series`: how many it has;
    `by_us`: its last reading had no time of its own. Call it between two ticks: it reads the step's state.
    """
    marks, devices = state.watermarks, len(state.device_numbers)
    silent_us = np.maximum(now.mono_us - marks.heard[:devices], 0)
    newest = np.where(marks.newest[:devices] > NEVER, marks.newest[:devices], 0)
    return {
        "device": list(state.device_numbers),
        "silent_s": np.round(silent_us / 1e6, 1).tolist(),
        "newest_us": newest.tolist(),
        "series": np.bincount(state.device[state.serial >= 0], minlength=devices).tolist(),
        "by_us": marks.by_us[:devices].tolist(),
        "wall_us": now.wall_us,
    }
