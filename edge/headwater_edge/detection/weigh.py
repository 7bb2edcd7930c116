"""What River's models weigh: measured before they are put to work, for a Pi has no memory to find it out later."""

from __future__ import annotations

import math
import pickle
import random
import tracemalloc
from typing import Any

from headwater_edge.detection.river_models import maker
from headwater_edge.detection.specs import Spec
from headwater_shared.errors import SettingsError

MANY = 1_000
"""Above so many series"""
HEAVY = 20_000
"""one series may weigh so many bytes."""
_POINTS, _MOST = 250, 4_000
_COPIES = 4


def weight(spec: Spec) -> int:
    """Return how many bytes of memory, or of a snapshot if that is more, one model takes once it has learnt some hundred windows.

    It learns until it grows no more, or for some thousand windows.

    Raises:
        SettingsError, PartMissing: it cannot be made, or cannot learn.
    """
    make, judges = maker(spec)
    model, chance = make("weighed"), random.Random(8)  # noqa: S311 - the same windows every time
    before = bytes_of = 0
    for at in range(_MOST):
        try:
            _learn(model, _window(spec, at, chance), judges=judges)
        except Exception as error:
            raise SettingsError(
                f"{spec.use} cannot learn with these parameters: {type(error).__name__}: {error}"
            ) from error
        if at % _POINTS == _POINTS - 1:
            before, bytes_of = bytes_of, _bytes_of(model)
            if bytes_of < before * 1.02:
                break
    return bytes_of


def check_weight(spec: Spec, series: int) -> int:
    """Return what one model weighs, in bytes.

    Args:
        series: so many there may be.

    Raises:
        SettingsError: that is too much for so many; or see `weight`.
    """
    bytes_of = weight(spec)
    if series > MANY and bytes_of > HEAVY:
        raise SettingsError(
            f"{spec.use} takes {bytes_of / 1000:.0f} KB a series and {bytes_of * series / 1e6:.0f} MB for {series:,}; "
            f"above {MANY:,} series one may take {HEAVY // 1000} KB",
            hint=f"give it fewer series (a narrower pattern), set edge.max_series to {MANY:,} or less, or give it smaller parameters",
        )
    return bytes_of


def _window(spec: Spec, at: int, chance: random.Random) -> dict[str, float]:
    names = spec.metrics or ("value",)
    return {name: math.sin(at / 20) + chance.gauss(0, 0.3) for name in names}


def _learn(model: Any, x: dict[str, float], *, judges: bool) -> None:
    if judges:
        y = x.pop(next(iter(x)))
        model.learn_one(x, y)
    else:
        model.learn_one(x)


def _bytes_of(model: Any) -> int:
    """Measure copies of a model: what they take of Python's memory, and what they are pickled."""
    pickled = pickle.dumps(model, 5)
    pickle.loads(pickled)  # noqa: S301 - just made; what is loaded only once is no part of it
    began = tracemalloc.is_tracing()
    if not began:
        tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    copies = [pickle.loads(pickled) for _ in range(_COPIES)]  # noqa: S301 - just made
    after, _ = tracemalloc.get_traced_memory()
    if not began:
        tracemalloc.stop()
    del copies
    return max(len(pickled), (after - before) // _COPIES)
