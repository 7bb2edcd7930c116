"""A device: what it measures, sample after sample, and what its messages look like.

Everything here follows from the plan alone; clock, network and ledger come later on the path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_firmware_sim.absence import absence_of, clock_of
from headwater_firmware_sim.faults import Apply
from headwater_firmware_sim.plan import Plan
from headwater_firmware_sim.scenario import Metric
from headwater_firmware_sim.signals import Block, generator
from headwater_shared.digest import NO_TIME
from headwater_shared.ledger import Reading
from headwater_shared.settings import duration

BLOCK = 64
"""Samples that are made at once; part of what a seed means, like the order in which randomness is drawn."""

_MANY = {"multi", "iso"}
"""Formats whose messages carry all values of a moment."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Sample(NamedTuple):
    """One moment of a device: a value for each of its metrics, NaN where a fault leaves none."""

    time_us: int
    values: list[float]
    stamp_us: int = NO_TIME
    """When it was, where that is not when it is sent: of a table that is replayed."""


class Device:
    """One simulated device of a plan."""

    def __init__(self, plan: Plan, index: int, metric_ids: list[int]) -> None:
        """Make device `index`; `metric_ids` are the ledger's numbers of the scenario's metrics, in their order."""
        self.plan = plan
        self.name = plan.scenario.device_name(index)
        self.site = plan.scenario.site(index)
        self.begin_us, self.end_us = plan.life(index)
        self._clock = clock_of(plan.scenario.clocks, self.name)
        self.away = absence_of(plan.scenario.away, self.name)
        by_hand = self.away is not None or (self._clock is not None and duration(self._clock.boots) > 0)
        self.format = "iso" if by_hand else plan.scenario.format(index)
        """`iso` is `multi` with the time in ISO 8601: of a number of 1970 nobody can tell its unit."""
        self.back_us = self.begin_us
        """What it measures before is sent only then."""
        if self.away is not None:
            self.back_us += round(duration(self.away.end) * plan.scale)
        self.timed = self.format != "bare"
        self.topic = f"hw/{self.site}/{self.name}/data"
        self._ids = metric_ids
        self._names = dict(zip(metric_ids, plan.scenario.metrics, strict=True))

    def samples(self) -> Iterator[Sample]:
        """Yield all samples of the run; times ascend strictly."""
        for times, columns in self.blocks():
            for time_us, *values in zip(times.tolist(), *(c.tolist() for c in columns), strict=True):
                yield Sample(time_us, values)

    def blocks(self) -> Iterator[tuple[Ints, list[Floats]]]:
        """Yield the samples of the run as columns: times, and the values of each metric; of shape (n,), a few at once."""
        plan = self.plan
        rng = generator(plan.seed, self.name, "clock")
        wobble = int(plan.period_us * plan.scenario.jitter)
        phase = int(rng.integers(max(1, plan.period_us - wobble)))
        stored = self._stored(phase)
        metrics = [self._metric(name, metric) for name, metric in plan.scenario.metrics.items()]
        number = 0
        while True:
            if stored:
                times = stored.pop()
            else:
                steps = np.arange(number, number + BLOCK, dtype=np.int64) * plan.period_us
                times = self.begin_us + phase + steps + rng.integers(0, max(1, wobble), BLOCK)
                number += BLOCK
            columns = [block(times) for block in metrics]
            n = int(np.searchsorted(times, self.end_us))
            if n < len(times):
                if n:
                    yield times[:n], [column[:n] for column in columns]
                return
            yield times, columns

    def _stored(self, phase: int) -> list[Ints]:
        """Return the times of the samples before the origin, of a device that was away then: blocks, the last one first."""
        if self.away is None:
            return []
        scale = self.plan.scale
        period = round(duration(self.away.period) * scale)
        times = np.arange(self.begin_us - round(duration(self.away.before) * scale), self.begin_us, period)
        times = times + phase % period
        times = times[times < self.begin_us]
        return [times[at : at + BLOCK] for at in range(0, len(times), BLOCK)][::-1]

    def messages(self, sample: Sample) -> list[tuple[Reading, ...]]:
        """Return the readings of each message that carries a sample."""
        time_us = self._stamp(sample.time_us)
        readings = tuple(
            [
                Reading(metric, time_us, value)
                for metric, value in zip(self._ids, sample.values, strict=True)
                if value == value  # noqa: PLR0124 - not NaN
            ]
        )
        if self.format in _MANY:
            return [readings] if readings else []
        return [(reading,) for reading in readings]

    def metric_of(self, number: int) -> str:
        """Return what the ledger's number of a metric stands for."""
        return self._names[number]

    def batch(self, samples: list[Sample]) -> tuple[Reading, ...]:
        """Return the readings of a message that carries several samples."""
        return tuple(
            [reading for sample in samples for message in self.messages(sample) for reading in message]
        )

    def render(self, readings: tuple[Reading, ...]) -> tuple[str, bytes]:
        """Return topic and payload; the same readings give the same bytes."""
        if self.format in _MANY:
            if readings[0].time_us == readings[-1].time_us:
                return self.topic, msgspec.json.encode(self._moment(readings))
            moments = groupby(readings, lambda reading: reading.time_us)
            return self.topic, msgspec.json.encode([self._moment(tuple(found)) for _, found in moments])
        ((metric, time_us, value),) = readings
        topic = f"{self.topic}/{self._names[metric]}"
        body = {"t": time_us, "v": value} if self.timed else value
        return topic, msgspec.json.encode(body)

    def _moment(self, readings: tuple[Reading, ...]) -> dict[str, object]:
        time_us = readings[0].time_us
        values = {self._names[metric]: value for metric, _, value in readings}
        return {"t": _iso(time_us) if self.format == "iso" else time_us, "values": values}

    def _stamp(self, time_us: int) -> int:
        """Return what the device's clock shows."""
        if not self.timed:
            return NO_TIME
        if self._clock is None:
            return time_us
        return self._clock.shown_us(time_us, self.plan.origin_us, self.plan.scale)

    def _metric(self, name: str, metric: Metric) -> Block:
        """Return what the sensor says at the next samples: signals, faults, then its range and its digits."""
        rng = generator(self.plan.seed, self.name, name)
        level = metric.base + metric.spread * float(rng.standard_normal())
        signals = [signal.start(rng) for signal in metric.signals]
        faults = [
            _within(
                fault.start(generator(self.plan.seed, self.name, name, f"fault {number}")),
                *self.plan.fault_interval(fault),
            )
            for number, fault in enumerate(self.plan.faults_of.get(self.name, ()))
            if fault.metric in {"", name}
        ]

        def block(times: Ints) -> Floats:
            values = np.full(len(times), level)
            for signal in signals:
                values += signal(times)
            for fault in faults:
                fault(times, values)
            if metric.low is not None or metric.high is not None:
                values = np.clip(values, metric.low, metric.high)
            return np.round(values, metric.decimals) + 0.0  # no sensor says -0

        return block


def _iso(time_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _within(apply: Apply, begin_us: int, end_us: int) -> Callable[[Ints, Floats], None]:
    """Return what changes the samples of one block that lie inside a fault, in place."""

    def change(times: Ints, values: Floats) -> None:
        inside = (times >= begin_us) & (times < end_us)
        if inside.any():
            progress = (times[inside] - begin_us) / (end_us - begin_us)
            values[inside] = apply(progress, values[inside])

    return change
