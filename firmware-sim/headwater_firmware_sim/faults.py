"""Faults: what is wrong with a series from an exact begin to an exact end, one class each.

A fault changes the samples at begin <= t < end, no other. A sample that it takes away becomes NaN, which is never sent.
What a scenario writes once may be several faults (a pattern of devices, the wear of a bearing): `spread` makes them of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_shared.settings import Duration, Section, duration

Floats = NDArray[np.float64]
Apply = Callable[[Floats, Floats], Floats]
"""From how much of the fault is over at each sample (0 to below 1), and the samples, to what they become; both of shape (n,)."""


class _Fault(Section, frozen=True, forbid_unknown_fields=True):
    """Where and when."""

    device: Annotated[
        str, msgspec.Meta(description="Which device, by its name; * and ? match any text: several devices.")
    ]
    begin: Annotated[Duration, msgspec.Meta(description="When it begins, from the origin of the run.")]
    end: Annotated[
        Duration, msgspec.Meta(description="When it is over; the sample at this moment is right again.")
    ]
    metric: Annotated[str, msgspec.Meta(description="Which metric; empty: all of the device.")] = ""
    site: Annotated[str, msgspec.Meta(description="Only devices of these sites; * and ? match any text.")] = (
        "*"
    )
    before: Annotated[
        Duration, msgspec.Meta(description="Begin and end are counted from so long before the origin.")
    ] = "0s"

    def apply(self, progress: Floats, values: Floats) -> Floats:
        raise NotImplementedError

    def start(self, rng: np.random.Generator) -> Apply:
        """Begin it on one series, which is then asked for block after block."""
        return self.apply


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


class Stuck(_Fault, frozen=True, forbid_unknown_fields=True, tag="stuck", tag_field="kind"):
    """The sensor says its first value again and again."""

    def start(self, rng: np.random.Generator) -> Apply:
        held: list[float] = []

        def hold(progress: Floats, values: Floats) -> Floats:
            held[1:] = [] if held else [float(values[0])]
            return np.full_like(values, held[0])

        return hold


class NoiseBurst(
    _Sized, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="noise-burst", tag_field="kind"
):
    """Noise of the deviation `size` on top, without memory: a loose contact."""

    def start(self, rng: np.random.Generator) -> Apply:
        return lambda _, values: values + rng.standard_normal(len(values)) * self.size


class Event(_Sized, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="event", tag_field="kind"):
    """Something real that many devices see: up to `size` in the middle and back, half a sine; it passes from one to the next."""

    apart: Annotated[Duration, msgspec.Meta(description="How much later each next device sees it.")] = "0s"

    def apply(self, progress: Floats, values: Floats) -> Floats:
        return values + self.size * np.sin(np.pi * progress)


class Wear(_Sized, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="wear", tag_field="kind"):
    """Off by `step` at once, if it has one, then further, slowly at first: with the square of the time, up to `size`."""

    step: Annotated[float, msgspec.Meta(description="How far off it is at the begin.")] = 0.0

    def apply(self, progress: Floats, values: Floats) -> Floats:
        return values + self.step + (self.size - self.step) * progress**2


class BearingWear(
    _Fault, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="bearing-wear", tag_field="kind"
):
    """A bearing wears out: `metric` (the vibration) grows from the begin, `second` (the temperature) only after `lag`.

    With a `step` a piece breaks out of its raceway first: the vibration is larger at once, and grows from there.
    """

    size: Annotated[float, msgspec.Meta(description="How far off the first metric is at the end.")]
    step: Annotated[float, msgspec.Meta(description="How far off it is at once.")] = 0.0
    second: Annotated[str, msgspec.Meta(description="The metric that follows.")]
    second_size: Annotated[float, msgspec.Meta(description="How far off that is at the end.")]
    lag: Annotated[
        float, msgspec.Meta(gt=0, lt=1, description="Share of the fault after which the second one follows.")
    ] = 0.4

    def parts(self) -> list[Wear]:
        """Return the fault of each metric, with its own begin."""
        begin, end = duration(self.begin), duration(self.end)
        later = f"{begin + round((end - begin) * self.lag)}us"
        first = Wear(
            device=self.device, begin=self.begin, end=self.end, metric=self.metric, before=self.before,
            size=self.size, step=self.step, site=self.site,
        )  # fmt: skip
        second = msgspec.structs.replace(
            first, begin=later, metric=self.second, size=self.second_size, step=0.0
        )
        return [first, second]


Simple = Spike | Drift | LevelShift | Dropout | Stuck | NoiseBurst | Event | Wear
"""What one fault does to one device. Each has `start(rng)`: see `Apply`."""
Fault = Simple | BearingWear
"""What a scenario may write."""


def spread(faults: Sequence[Fault], devices: Mapping[str, str]) -> Iterator[Simple]:
    """Make one fault of each device, and of a worn bearing one of each metric; `devices`: the site of each by its name."""
    for fault in faults:
        there = [name for name, site in devices.items() if fnmatchcase(site, fault.site)]
        for number, name in enumerate(name for name in there if fnmatchcase(name, fault.device)):
            one = msgspec.structs.replace(fault, device=name)
            if isinstance(one, BearingWear):
                yield from one.parts()
            elif isinstance(one, Event):
                late = number * duration(one.apart)
                moved = {key: f"{duration(getattr(one, key)) + late}us" for key in ("begin", "end")}
                yield msgspec.structs.replace(one, **moved)
            else:
                yield one
