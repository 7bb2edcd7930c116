"""The local runner plays a trace: in one go, or killed at random steps and started again from what lay on the disk."""

from __future__ import annotations

import random
from itertools import groupby
from pathlib import Path

from tests.cloud.kills import Steps
from tests.cloud.side import FILE, Side
from tests.golden import outcome
from tests.golden.outcome import Outcome
from tests.golden.trace import Act, Trace


def play(trace: Trace, folder: Path, batch: int) -> Outcome:
    """Take in a trace with batches of at most so many records."""
    side = Side(folder / "side", batch=batch)
    for act in trace.acts:
        _append(side, act)
        side.run()
    return _read(side, trace)


def killed(trace: Trace, folder: Path, batch: int, steps: Steps, kills: int, seed: int) -> Outcome:
    """Take in a trace, killed at so many random steps of each act; what lies on the disk goes on."""
    chance = random.Random(seed)
    side = Side(folder / "0", batch=batch)
    deaths = 0
    for act in trace.acts:
        _append(side, act)
        left = kills
        while left:
            # The first one early: an act may have few steps.
            to = folder / f"{deaths + 1}"
            dead = steps.killed(side.run, side.folder, chance.randrange(5 if left == kills else 60), to)
            if dead is None:
                break
            deaths, left = deaths + 1, left - 1
            side.drop()
            side.folder = dead
            side.open()
        side.run()
    assert deaths >= len(trace.acts)
    return _read(side, trace)


def _append(side: Side, act: Act) -> None:
    """Put records on the bus, each at its time."""
    for time_us, some in groupby(act, key=lambda one: one.time_us):
        side.clock.wall_us = time_us
        side.put(*(one.record() for one in some))


def _read(side: Side, trace: Trace) -> Outcome:
    side.close()
    side.log = type(side.log)(side.folder / "log.db")
    try:
        return outcome.read(side.folder / FILE, side.topic, patient=trace.outcome.gaps is not None)
    finally:
        side.log.close()
