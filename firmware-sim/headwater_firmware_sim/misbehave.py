"""Misbehaviour: in which order, how often and how broken a device sends its samples, and when it falls over.

A device's script follows from the seed alone. What the network does to it (which messages were in flight when a socket
was dropped, and so come again) does not, and is not part of it.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from headwater_firmware_sim.device import Device, Sample
from headwater_firmware_sim.scenario import Misbehaviour
from headwater_firmware_sim.signals import seed_of
from headwater_shared.ledger import COPY, Reading

After = Literal["", "drop", "reboot"]

_DISORDER_US = 3_000_000
_LATER = (0, 1, 3, 15)
"""How many samples a copy comes behind its original: from at once to after its window is closed."""


@dataclass(slots=True)
class Step:
    """One message of a script: readings, or a payload that nobody can read; `after` is what befalls the device then."""

    due_us: int
    readings: tuple[Reading, ...]
    payload: bytes = b""
    flags: int = 0
    after: After = ""


def script(device: Device) -> Iterator[Step]:
    """Yield all that a device sends, in order; `due_us` never goes back."""
    plan = device.plan
    samples = device.samples()
    if device.away is not None:
        samples = yield from _batches(device, samples, device.away.batch)
    habits = plan.scenario.misbehaviour
    if not plan.misbehave or habits == Misbehaviour():
        for sample in samples:
            yield from _messages(device, sample, sample.time_us)
        return
    luck = random.Random(seed_of(plan.seed, device.name, "habits"))
    farthest = min(3, int(_DISORDER_US * plan.scale) // plan.period_us)
    later: list[tuple[int, Sample, int]] = []  # (with which sample it is sent, what, flags)
    number, now_us = -1, plan.origin_us
    for number, sample in enumerate(samples):
        now_us = sample.time_us
        # Drawn for every sample, whatever comes of it, so that one habit's share does not move the others.
        copied, disordered, unreadable, lost, rebooted = (luck.random() for _ in range(5))
        behind, how, distance = luck.randrange(len(_LATER)), luck.random(), luck.randrange(3)
        out: list[Step] = []
        if disordered < habits.disorder and farthest:
            later.append((number + 1 + distance % farthest, sample, 0))
        else:
            out += _messages(device, sample, now_us)
        if copied < habits.copies and device.timed:
            later.append((number + _LATER[behind] + (disordered < habits.disorder) * farthest, sample, COPY))
        for _, held, flags in [held for held in later if held[0] <= number]:
            out += _messages(device, held, now_us, flags)
        later = [held for held in later if held[0] > number]
        if unreadable < habits.unreadable:
            out.append(Step(now_us, (), _broken(device, sample, how)))
        if out and lost < habits.lost_connections:
            out[-1].after = "drop"
        if out and rebooted < habits.reboots:
            out[-1].after = "reboot"
        yield from out
    for _, held, flags in later:
        yield from _messages(device, held, now_us, flags)


def _batches(device: Device, samples: Iterator[Sample], size: int) -> Generator[Step, None, Iterator[Sample]]:
    """Send what a device stored while it was away, when it is back; return the samples of later."""
    batch: list[Sample] = []
    for sample in samples:
        fresh = sample.time_us >= device.back_us
        if batch and (fresh or len(batch) == size):
            readings = device.batch(batch)
            if readings:
                yield Step(device.back_us, readings)
            batch = []
        if fresh:
            return chain([sample], samples)
        batch.append(sample)
    if batch and (readings := device.batch(batch)):
        yield Step(device.back_us, readings)
    return iter(())


def _messages(device: Device, sample: Sample, due_us: int, flags: int = 0) -> list[Step]:
    return [Step(due_us, readings, flags=flags) for readings in device.messages(sample)]


def _broken(device: Device, sample: Sample, how: float) -> bytes:
    """Break a payload: cut short, not UTF-8, not JSON at all, or empty."""
    readings = device.messages(sample)
    whole = device.render(readings[0])[1] if readings else b'{"t":1,"v":2}'
    if not whole.startswith(b"{"):
        whole = b'{"v":' + whole + b"}"
    half = 1 + int(how * 4 % 1 * (len(whole) - 1))
    ways = (whole[:half], whole.replace(b'":', b'\xff":', 1), b"\xfe" + whole[:half], b"")
    return ways[int(how * 4)]
