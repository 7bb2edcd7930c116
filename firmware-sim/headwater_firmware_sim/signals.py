"""Signals: how a quantity moves when nothing is wrong, one class each, and the randomness of one series.

A signal is started once a series and then asked for one block of samples after the other; blocks have a fixed size, so
that what comes out depends on nothing but the seed. A metric is the sum of its signals around its base.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from math import sqrt
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_shared.digest import splitmix64
from headwater_shared.identity import stable_id
from headwater_shared.settings import Duration, Section, duration

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Block = Callable[[Ints], Floats]
"""From the event times of the next samples (us, ascending) to what the signal adds to them; both of shape (n,)."""

DAY_US = 86_400_000_000


def seed_of(seed: int, *words: str) -> int:
    """Return the seed of whatever the words name: the same in every process, apart from all others (128 bits)."""
    return int(stable_id(seed, *words), 16)


def generator(seed: int, *words: str) -> np.random.Generator:
    """Return the randomness of whatever the words name."""
    return np.random.Generator(np.random.PCG64(seed_of(seed, *words)))


Size = Annotated[float, msgspec.Meta(description="How much it adds at most, in the metric's unit.")]


class DailySeason(Section, frozen=True, forbid_unknown_fields=True, tag="daily-season", tag_field="kind"):
    """A sine of one day."""

    size: Size
    peak: Annotated[
        float, msgspec.Meta(ge=0, lt=24, description="The hour, UTC, at which it is highest.")
    ] = 14.0

    def start(self, rng: np.random.Generator) -> Block:
        def block(times: Ints) -> Floats:
            turns = (times % DAY_US) / DAY_US - self.peak / 24
            found: Floats = self.size * np.cos(2 * np.pi * turns)
            return found

        return block


class RandomWalk(Section, frozen=True, forbid_unknown_fields=True, tag="random-walk", tag_field="kind"):
    """A walk with normal steps of deviation `step`, one a sample, reflected at plus and minus `bound`."""

    step: Annotated[float, msgspec.Meta(ge=0, description="Deviation of one step, one a sample.")]
    bound: Annotated[float, msgspec.Meta(gt=0, description="How far it goes to either side.")]

    def start(self, rng: np.random.Generator) -> Block:
        free = 0.0

        def block(times: Ints) -> Floats:
            nonlocal free
            path = free + np.cumsum(rng.standard_normal(len(times)) * self.step)
            free = float(path[-1])
            # The free walk folded like a strip of paper: the same as reflecting it at each bound.
            folded: Floats = np.abs((path - self.bound) % (4 * self.bound) - 2 * self.bound) - self.bound
            return folded

        return block


class Noise(Section, frozen=True, forbid_unknown_fields=True, tag="noise", tag_field="kind"):
    """Autoregressive noise of first order."""

    deviation: Annotated[float, msgspec.Meta(ge=0, description="Standard deviation of the whole.")]
    memory: Annotated[
        float, msgspec.Meta(ge=0, lt=1, description="How much of one sample stays in the next.")
    ] = 0.0

    def start(self, rng: np.random.Generator) -> Block:
        last = float(rng.standard_normal()) * self.deviation
        scale = self.deviation * sqrt(1 - self.memory**2)

        def block(times: Ints) -> Floats:
            nonlocal last
            new = (rng.standard_normal(len(times)) * scale).tolist()
            path = list(accumulate(new, lambda before, fresh: self.memory * before + fresh, initial=last))
            last = path[-1]
            return np.array(path[1:])

        return block


class DutyCycle(Section, frozen=True, forbid_unknown_fields=True, tag="duty-cycle", tag_field="kind"):
    """On for `share` of each `period`, adding `size`, and off for the rest; each series begins at a moment of its own."""

    size: Size
    period: Annotated[Duration, msgspec.Meta(description="From one switching on to the next.")]
    share: Annotated[float, msgspec.Meta(gt=0, lt=1, description="How much of the period it is on.")] = 0.5

    def start(self, rng: np.random.Generator) -> Block:
        period = duration(self.period)
        offset = int(rng.integers(period))

        def block(times: Ints) -> Floats:
            on = (times + offset) % period < self.share * period
            return np.where(on, self.size, 0.0)

        return block


class WeeklySeason(Section, frozen=True, forbid_unknown_fields=True, tag="weekly-season", tag_field="kind"):
    """Higher by `size` in the hours of work of some days of the week, as whatever people switch on is."""

    size: Size
    days: Annotated[
        tuple[int, ...], msgspec.Meta(description="Days of the week that it adds to: 1 is Monday, 7 Sunday.")
    ] = (1, 2, 3, 4, 5)
    begin: Annotated[
        float, msgspec.Meta(ge=0, le=24, description="The hour, UTC, at which it begins on each of them ...")
    ] = 0.0
    end: Annotated[float, msgspec.Meta(ge=0, le=24, description="... and the one at which it ends.")] = 24.0

    def start(self, rng: np.random.Generator) -> Block:
        def block(times: Ints) -> Floats:
            weekday = (times // DAY_US + 3) % 7 + 1  # 1970 began on a Thursday
            hour = (times % DAY_US) / (DAY_US / 24)
            working = np.isin(weekday, self.days) & (hour >= self.begin) & (hour < self.end)
            return np.where(working, self.size, 0.0)

        return block


class Counter(Section, frozen=True, forbid_unknown_fields=True, tag="counter", tag_field="kind"):
    """A meter that only counts up, in pulses, until it wraps around; each series stands at a number of its own."""

    rate: Annotated[float, msgspec.Meta(gt=0, description="What it grows by in a second, on the average.")]
    pulse: Annotated[float, msgspec.Meta(gt=0, description="What it grows by at once.")] = 1.0
    wraps_at: Annotated[float, msgspec.Meta(gt=0, description="Where it begins at nothing again.")] = (
        1_000_000.0
    )

    def start(self, rng: np.random.Generator) -> Block:
        stands = float(rng.uniform(0, self.wraps_at))

        def block(times: Ints) -> Floats:
            # The turns that are whole already are taken off as integers: a float of all of them has no pulses left.
            turn_us = max(1, round(self.wraps_at / self.rate * 1e6))
            found = stands + (times % turn_us) / 1e6 * self.rate
            counted: Floats = np.floor(found / self.pulse) * self.pulse % self.wraps_at
            return counted

        return block


class OnOff(Section, frozen=True, forbid_unknown_fields=True, tag="on-off", tag_field="kind"):
    """On or off, as chance has it for each `slot` of time: a door, a lamp, a heater."""

    slot: Annotated[Duration, msgspec.Meta(description="How long a state lasts at least.")]
    share: Annotated[float, msgspec.Meta(gt=0, lt=1, description="How much of the time it is on.")] = 0.5
    size: Size = 1.0

    def start(self, rng: np.random.Generator) -> Block:
        slot = duration(self.slot)
        key = rng.integers(0, 2**63, dtype=np.uint64)

        def block(times: Ints) -> Floats:
            # Drawn by the number of the slot, so that a moment's state does not hang on which samples came before it.
            mixed = splitmix64((times // slot).astype(np.uint64) ^ key)
            return np.where(mixed < np.uint64(self.share * 2**64), self.size, 0.0)

        return block


Signal = DailySeason | WeeklySeason | RandomWalk | Noise | DutyCycle | Counter | OnOff
