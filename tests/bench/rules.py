"""`rules-1000`: what a thousand rules on a thousand series add to a reading: the early look and the step, in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from headwater_edge.decode import Decode
from headwater_edge.events import Connect, Start
from headwater_edge.gather import Gather
from headwater_edge.publishes import Known, cut
from headwater_edge.rule_settings import (
    KINDS,
    JumpSettings,
    LimitSettings,
    MissingSettings,
    RangeSettings,
    RateSettings,
    RuleTables,
    StuckSettings,
)
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_edge.source import Burst
from headwater_edge.state import State
from headwater_edge.step import step
from headwater_edge.tick import Tick, quiet_tick
from headwater_edge.topics import SeriesIndex
from headwater_shared.clock import SetClock
from tests.bench.results import Result
from tests.bench.step import wire

_SERIES = 1000
_WARM, _MEASURED = 30, 200


def series_of(number: int) -> str:
    """Return the name of a series of `step.wire`."""
    return f"site-{number % 4}/pump-{number // 5:03d}/m{number % 5}"


def mixed() -> RuleTables:
    """A thousand rules, each for a series of its own: of ten, three limits, a range, two rates, two stuck, one missing, one jump."""
    of: dict[str, list[object]] = {kind: [] for kind in KINDS}
    for number in range(_SERIES):
        kind = ["limit", "limit", "limit", "range", "rate", "rate", "stuck", "stuck", "missing", "jump"][
            number // 5 % 10
        ]
        of[kind].append(_one(kind, f"rule {number}", series_of(number)))
    return RuleTables(**{kind: tuple(rules) for kind, rules in of.items()})  # type: ignore[arg-type]


def of_one_kind(kind: str) -> RuleTables:
    """A thousand rules of one kind, each for a series of its own."""
    rules = tuple(_one(kind, f"rule {number}", series_of(number)) for number in range(_SERIES))
    return RuleTables(**{kind: rules})  # type: ignore[arg-type]


def _one(kind: str, name: str, series: str) -> object:
    """Make a rule that the random walk keeps."""
    if kind == "limit":
        return LimitSettings(name, series, above=500.0, clear=400.0)
    if kind == "range":
        return RangeSettings(name, series, low=-500.0, high=500.0, clear_by=10.0, for_="30s")
    if kind == "rate":
        return RateSettings(name, series, changes=500.0)
    if kind == "stuck":
        return StuckSettings(name, series, for_="10m")
    if kind == "missing":
        return MissingSettings(name, series, for_="5m")
    return JumpSettings(name, series, by=100.0)


def ticks() -> tuple[list[Tick], list[Gather], float]:
    """Return the ticks of a run, and how they were gathered."""
    clock = SetClock()
    index = SeriesIndex([], 20_000)
    decode, known = Decode(index), Known(256_000)
    made, gathered = [], []
    for data in wire(clock.wall_us, _WARM + _MEASURED):
        clock.advance(1)
        burst = Burst(clock.wall_us)
        cut(data, 0, False, known, burst.topics, burst.payloads, burst.packet_ids, burst.flags)
        burst.runs.append((1, len(burst.topics)))
        gather = Gather()
        gather.add(burst, decode.burst(burst))
        made.append(gather.tick(clock.now(), index.take_fresh())[0])
        gathered.append(gather)
    return made, gathered, clock.wall_us


def measure(rules: RuleTables, run: tuple[list[Tick], list[Gather], float]) -> float:
    """Return us of CPU a reading of early looks and steps."""
    tables = {kind: getattr(rules, kind) for kind in KINDS}
    state = State(step_settings(EdgeSettings(**tables)))
    now = SetClock().now()
    step(state, quiet_tick(now, Start(1, "bench"), Connect(1, "bench", "", clean=False, expiry_s=60)))
    spent = 0.0
    for number, (tick, gather) in enumerate(zip(*run[:2], strict=True)):
        began = time.process_time()
        for _, decoded in gather.decoded:
            state.turns(decoded.series, decoded.value)
        step(state, tick)
        if number >= _WARM:
            spent += time.process_time() - began
    assert state.counters.anomalies == 0
    assert state.counters.accepted == _SERIES * (_WARM + _MEASURED)
    return spent / (_MEASURED * _SERIES) * 1e6


def run(_folder: Path) -> Iterator[Result]:
    """Run the bench: with and without in turn, so that what the machine does else falls on both."""
    made = ticks()
    pairs = [(measure(RuleTables(), made), measure(mixed(), made)) for _ in range(5)]
    added = sorted(with_rules - without for without, with_rules in pairs)
    without = sorted(one for one, _ in pairs)[2]
    kinds = {kind: measure(of_one_kind(kind), made) - without for kind in KINDS}
    yield Result(
        "rules-1000",
        added[2],
        "us of CPU a reading",
        without,
        "the same early looks and steps without rules",
        "nothing is written: the step alone",
        {"of five runs": added, "a thousand of one kind": kinds, "series": _SERIES, "ticks": _MEASURED},
    )
