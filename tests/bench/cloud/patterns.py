"""`patterns-1000`: what a thousand rules add to an anomaly, of ten thousand devices that put out a thousand a second: `pipeline.run`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from headwater_cloud import device_registry, pipeline
from headwater_cloud.book import Book, Pattern, Step
from headwater_cloud.lookup import Lookup
from headwater_cloud.names import Names
from headwater_cloud.pipeline import Limits
from headwater_cloud.rule_records import rules_record
from headwater_cloud.shard import Shard
from headwater_cloud.store import Store
from headwater_shared.bus import Record, Stored
from headwater_shared.identity import SHARDS, shard_of, stable_id
from headwater_shared.records import Anomaly, Heartbeat, RegistryChange
from headwater_shared.topics import IN
from tests.bench.results import Result
from tests.cloud.made import T0, S, anomaly_record, clock_record, heartbeat_record

RULES, DEVICES, A_SECOND = 1_000, 10_000, 1_000
_SITES, _NAMES, _COHORTS = 40, 20, 20
_WARM_S, _MEASURED_S = 20, 40
_BATCH = 200
_LASTS_S = 5
_MINUTE = 60 * S


def book() -> Book:
    """A thousand patterns of all kinds, each of a few of the sites, cohorts and rules."""
    return Book(tuple(_pattern(number) for number in range(RULES)), time_us=T0)


def _pattern(number: int) -> Pattern:
    site, kind = number % _SITES, number // _SITES % 10
    a, b, c = ((number // 7 + n) % _NAMES for n in (0, 3, 8))
    series = f"site-{site}/*"
    steps = [Step("anomaly", f"rule-{name}", series) for name in (a, b, c)]
    name, minutes = f"pattern-{number}", 10 * _MINUTE
    if kind < 4:
        return Pattern(name, within_us=minutes, sequence=tuple(steps[: 2 + kind % 2]))
    if kind == 4:
        absent = Step("anomaly", f"rule-{b}", series, absent=True)
        return Pattern(name, within_us=minutes, sequence=(steps[0], absent))
    if kind == 5:
        absent = Step("anomaly", f"rule-{b}", series, absent=True)
        return Pattern(name, within_us=minutes, sequence=(steps[0], absent, steps[2]))
    if kind == 6:
        return Pattern(name, within_us=minutes, all=tuple(steps), calm_us=_MINUTE)
    if kind == 7:
        return Pattern(name, "site", within_us=_MINUTE, of=steps[0], count=5, distinct="device")
    if kind == 8:
        return Pattern(name, "cohort", within_us=_MINUTE, of=Step("anomaly", f"rule-{a}", series), count=3)
    return Pattern(name, within_us=minutes, of=steps[0], count=3, for_us=5 * S)


class Feed:
    """What agents put on the bus, one a site, second by second."""

    def __init__(self) -> None:
        self._seqs = [0] * _SITES
        self._number = 0
        self._open: list[tuple[int, int, int, int]] = []
        """Time, site, device, rule of what began."""

    def second(self, at: int) -> list[Record]:
        """A thousand anomalies: half of them begin, half end; then heartbeats and clocks."""
        now_us = T0 + at * S
        out: list[Record] = []
        for n in range(A_SECOND // 2):
            self._number += 1
            device = self._number * 7_919 % DEVICES
            one = (now_us + n * 1_000, device % _SITES, device, self._number * 31 % _NAMES)
            self._open.append(one)
            out.append(self._anomaly(one, None))
        while self._open and self._open[0][0] < now_us - _LASTS_S * S:
            one = self._open.pop(0)
            out.append(self._anomaly(one, one[0] + _LASTS_S * S))
        for site in range(_SITES):
            shard = shard_of(f"site-{site}")
            beat = Heartbeat(f"agent-{site}", 1, shard, self._seqs[site], None, now_us - 10 * S, now_us)
            out.append(heartbeat_record(beat))
        return out + [clock_record(shard, now_us) for shard in range(SHARDS)]

    def _anomaly(self, one: tuple[int, int, int, int], end_us: int | None) -> Record:
        begin_us, site, device, rule = one
        self._seqs[site] += 1
        series, name = f"site-{site}/dev-{device:05d}/m", f"rule-{rule}"
        phase: Literal["begin", "end"] = "begin" if end_us is None else "end"
        time_us = begin_us if end_us is None else end_us
        return anomaly_record(
            Anomaly(
                f"agent-{site}", 1, shard_of(f"site-{site}"), self._seqs[site], 1, None, stable_id(name, series, begin_us),
                name, series, phase, begin_us, time_us, 90.0, 80.0, "warning", "it is too hot", [time_us], [90.0],
            )
        )  # fmt: skip


class Bus:
    """Records as a runner reads them, and what goes back to `hw-in`."""

    def __init__(self) -> None:
        self._ends = [0] * SHARDS

    def stored(self, some: list[Record], time_us: int) -> list[Stored]:
        out = []
        for one in some:
            out.append(
                Stored(
                    one.topic,
                    one.partition,
                    self._ends[one.partition],
                    time_us,
                    one.key,
                    one.headers,
                    one.body,
                )
            )
            self._ends[one.partition] += 1
        return out


def cost(folder: Path, rules: Book | None) -> tuple[float, float, int]:
    """Return the CPU seconds of `pipeline.run` an anomaly, the share of a core at the rate, and how many episodes were told."""
    store = Store(folder / f"{rules is None}.db")
    shards: dict[int, Shard] = {number: Shard(number) for number in range(SHARDS)}
    names, lookup, bus, feed = Names(), Lookup(store.connection), Bus(), Feed()
    first = [clock_record(shard, T0) for shard in range(SHARDS)]
    if rules is not None:
        first += [rules_record(rules, number) for number in range(SHARDS)]
    for device in range(DEVICES):
        site = f"site-{device % _SITES}"
        shard = shards[shard_of(site)]
        change = RegistryChange(f"{site}/dev-{device:05d}", T0, model=f"model-{device % _COHORTS}")
        device_registry.put(shard.registered, shard.registry, change)
    waiting, spent, anomalies, told = bus.stored(first, T0), 0.0, 0, 0
    for at in range(_WARM_S + _MEASURED_S):
        now_us = T0 + at * S
        waiting += bus.stored(feed.second(at), now_us)
        back: list[Record] = []
        for begin in range(0, len(waiting), _BATCH):
            batch = waiting[begin : begin + _BATCH]
            before = time.process_time()
            out = pipeline.run(shards, names, lookup, batch, lambda us: us, Limits())
            if at >= _WARM_S:
                spent += time.process_time() - before
                anomalies += len(out.anomalies)
                told += sum(len(some) for some in out.watched.values())
            back += [one for one in out.records if one.topic == IN.name]
        waiting = bus.stored(back, now_us)
    store.close()
    return spent / anomalies, spent / _MEASURED_S, told


def run(folder: Path) -> Iterator[Result]:
    """Measure with the rules, and without any."""
    with_rules, share, told = cost(folder, book())
    without, _, _ = cost(folder, None)
    yield Result(
        "patterns-1000", with_rules * 1e6, "us of CPU an anomaly", without * 1e6, "the same without rules",
        "nothing is written: pipeline.run alone",
        {"share of a core at 1,000/s": round(share, 3), "watched": told, "rules": RULES, "devices": DEVICES},
    )  # fmt: skip
