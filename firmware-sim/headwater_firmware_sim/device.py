"""A device: what it measures, sample after sample, and what its messages look like.

Everything here follows from the plan alone; clock, network and ledger come later on the path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_firmware_sim.faults import Fault
from headwater_firmware_sim.plan import Plan
from headwater_firmware_sim.scenario import Metric
from headwater_firmware_sim.signals import Block, generator
from headwater_shared.digest import NO_TIME
from headwater_shared.ledger import Reading

BLOCK = 64
"""Samples that are made at once; part of what a seed means, like the order in which randomness is drawn."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Sample(NamedTuple):
    """One moment of a device: a value for each of its metrics, NaN where a fault leaves none."""

    time_us: int
    values: list[float]


class Device:
    """One simulated device of a plan."""

    def __init__(self, plan: Plan, index: int, metric_ids: list[int]) -> None:
        """Make device `index`; `metric_ids` are the ledger's numbers of the scenario's metrics, in their order."""
        self.plan = plan
        self.name = plan.scenario.device_name(index)
        self.site = plan.scenario.site(index)
        self.format = plan.scenario.format(index)
        self.timed = self.format != "bare"
        self.topic = f"hw/{self.site}/{self.name}/data"
        self._ids = metric_ids
        self._names = dict(zip(metric_ids, plan.scenario.metrics, strict=True))

    def samples(self) -> Iterator[Sample]:
        """Yield all samples of the run; times ascend strictly."""
        plan = self.plan
        rng = generator(plan.seed, self.name, "clock")
        wobble = int(plan.period_us * plan.scenario.jitter)
        phase = int(rng.integers(max(1, plan.period_us - wobble)))
        blocks = [self._metric(name, metric) for name, metric in plan.scenario.metrics.items()]
        number = 0
        while True:
            steps = np.arange(number, number + BLOCK, dtype=np.int64) * plan.period_us
            times = plan.origin_us + phase + steps + rng.integers(0, max(1, wobble), BLOCK)
            columns = [block(times).tolist() for block in blocks]
            for time_us, *values in zip(times.tolist(), *columns, strict=True):
                if time_us >= plan.end_us:
                    return
                yield Sample(time_us, values)
            number += BLOCK

    def messages(self, sample: Sample) -> list[tuple[Reading, ...]]:
        """Return the readings of each message that carries a sample."""
        time_us = sample.time_us if self.timed else NO_TIME
        readings = tuple(
            Reading(metric, time_us, value)
            for metric, value in zip(self._ids, sample.values, strict=True)
            if not math.isnan(value)
        )
        if self.format == "multi":
            return [readings] if readings else []
        return [(reading,) for reading in readings]

    def metric_of(self, number: int) -> str:
        """Return what the ledger's number of a metric stands for."""
        return self._names[number]

    def render(self, readings: tuple[Reading, ...]) -> tuple[str, bytes]:
        """Return topic and payload; the same readings give the same bytes."""
        if self.format == "multi":
            values = {self._names[metric]: value for metric, _, value in readings}
            return self.topic, msgspec.json.encode({"t": readings[0].time_us, "values": values})
        ((metric, time_us, value),) = readings
        topic = f"{self.topic}/{self._names[metric]}"
        body = {"t": time_us, "v": value} if self.timed else value
        return topic, msgspec.json.encode(body)

    def _metric(self, name: str, metric: Metric) -> Block:
        """Return what the sensor says at the next samples: signals, faults, then its range and its digits."""
        rng = generator(self.plan.seed, self.name, name)
        level = metric.base + metric.spread * float(rng.standard_normal())
        signals = [signal.start(rng) for signal in metric.signals]
        faults = [
            _within(fault, *self.plan.fault_interval(fault))
            for fault in self.plan.scenario.faults
            if fault.device == self.name and fault.metric in {"", name}
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


def _within(fault: Fault, begin_us: int, end_us: int) -> Callable[[Ints, Floats], None]:
    """Return what changes the samples of one block that lie inside a fault, in place."""

    def change(times: Ints, values: Floats) -> None:
        inside = (times >= begin_us) & (times < end_us)
        if inside.any():
            progress = (times[inside] - begin_us) / (end_us - begin_us)
            values[inside] = fault.apply(progress, values[inside])

    return change
