"""Faults: what is wrong with a series from an exact begin to an exact end, one class each.

A fault changes the samples at begin <= t < end, no other. A sample that it takes away becomes NaN, which is never sent.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_shared.settings import Duration, Section

Floats = NDArray[np.float64]


class _Fault(Section, frozen=True, forbid_unknown_fields=True):
    """Where and when."""

    device: Annotated[str, msgspec.Meta(description="Which device, by its name.")]
    begin: Annotated[Duration, msgspec.Meta(description="When it begins, from the origin of the run.")]
    end: Annotated[
        Duration, msgspec.Meta(description="When it is over; the sample at this moment is right again.")
    ]
    metric: Annotated[str, msgspec.Meta(description="Which metric; empty: all of the device.")] = ""


class _Sized(_Fault, frozen=True, forbid_unknown_fields=True, kw_only=True):
    size: Annotated[float, msgspec.Meta(description="How far off, in the metric's unit.")]


class Spike(_Sized, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="spike", tag_field="kind"):
    """Off by `size` at the begin, and back in a straight line at the end."""

    def apply(self, progress: Floats, values: Floats) -> Floats:
        return values + self.size * (1 - progress)


class Drift(_Sized, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="drift", tag_field="kind"):
    """Away in a straight line up to `size`, and back at once at the end, as if the sensor was set right."""

    def apply(self, progress: Floats, values: Floats) -> Floats:
        return values + self.size * progress


class LevelShift(
    _Sized, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="level-shift", tag_field="kind"
):
    """Off by `size` from begin to end."""

    def apply(self, progress: Floats, values: Floats) -> Floats:
        return values + self.size


class Dropout(_Fault, frozen=True, forbid_unknown_fields=True, tag="dropout", tag_field="kind"):
    """No readings."""

    def apply(self, progress: Floats, values: Floats) -> Floats:
        return np.full_like(values, np.nan)


Fault = Spike | Drift | LevelShift | Dropout
"""Each has `apply(progress, values)`: the samples inside the fault, with how much of it is over at each (0 to below 1)."""
