"""The input of the cloud side as agents put it out: parts of readings of devices, with heartbeats, clock records and the registry.

Half of the series are read each second, half every ten seconds; values are around 20, each series a little off, with noise of
1% and two decimals, as sensors say them. At each full minute a frame holds the minute's parts beside those of its last 10 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_shared import frame, records
from headwater_shared.aggregates import Aggregates, of_readings
from headwater_shared.bus import Record
from headwater_shared.digest import reading_digests
from headwater_shared.frame import Frame
from headwater_shared.identity import SHARDS, shard_of
from headwater_shared.parts import Parts, Sketches, counted_sketches
from headwater_shared.records import ClockRecord, Heartbeat, RegistryChange
from headwater_shared.sketch import buckets_of
from headwater_shared.topics import IN

S = 1_000_000
T0 = 1_800_000_000 * S
METRICS = ("temperature", "vibration", "pressure", "flow", "current")
MODELS = 5
_FINE, _COARSE = 10, 60
_PER_MINUTE = _COARSE // _FINE

Floats = NDArray[np.float64]


class Site(NamedTuple):
    """What one agent reads of one site."""

    agent: str
    name: str
    shard: int
    series: list[str]

    @property
    def devices(self) -> list[str]:
        return sorted({name.rpartition("/")[0] for name in self.series})


class Made(NamedTuple):
    """A round's records, and how many rows are in their frames."""

    records: list[Record]
    rows: int


def sites_of(count: int, agents: int, rows: int) -> list[Site]:
    """Sites of so many agents each; frames have `rows` rows on the average, those of the minutes among them."""
    return _sites([f"site-{number}" for number in range(count)], agents, rows)


def spread(agents: int, rows: int) -> list[Site]:
    """A site in each of the shards, as `sites_of`."""
    names: dict[int, str] = {}
    number = 0
    while len(names) < SHARDS:
        names.setdefault(shard_of(f"site-{number}"), f"site-{number}")
        number += 1
    return _sites(sorted(names.values()), agents, rows)


def _sites(names: list[str], agents: int, rows: int) -> list[Site]:
    series = max(1, round(rows * _PER_MINUTE / (_PER_MINUTE + 1)))
    return [
        Site(
            f"{name}-{agent}",
            name,
            shard_of(name),
            [
                f"{name}/pump-{agent}-{n // len(METRICS):04}/{METRICS[n % len(METRICS)]}"
                for n in range(series)
            ],
        )
        for name in names
        for agent in range(agents)
    ]


def registry(sites: list[Site]) -> list[Record]:
    """What is known of all devices: models, of which there are a few."""
    out = []
    for site in sites:
        for n, device in enumerate(site.devices):
            change = RegistryChange(device, T0, model=f"model-{n % MODELS}", place=site.name)
            headers = records.headers(records.REGISTRY, f"{device}/{T0}", "bench", T0)
            out.append(Record(IN.name, site.shard, device, headers, records.encode(change)))
    return out


def rounds(sites: list[Site], seed: int = 9) -> Iterator[Made]:
    """Yield ten seconds after the other: a frame and a heartbeat of each agent and site, then a clock record of each shard."""
    chance = np.random.default_rng(seed)
    seq = 0
    levels = {id(site): 20 + chance.normal(0, 2, len(site.series)) for site in sites}
    minute = T0 - T0 % (_COARSE * S)
    while True:
        values = {at: _values(chance, level) for at, level in levels.items()}
        for step in range(_PER_MINUTE):
            seq += 1
            made, rows = [], 0
            start = minute + step * _FINE * S
            for site in sites:
                parts = _parts(site, values[id(site)], minute, step, seq)
                body = frame.encode(Frame(site.agent, 1, site.shard, seq, seq, None, parts))
                rows += len(parts)
                made += [_record(records.FRAME, site, seq, start, body), _heartbeat(site, seq, start)]
            for shard in sorted({site.shard for site in sites}):
                now = start + _FINE * S
                headers = records.headers(records.CLOCK, f"clock/{shard}/{now}", "bench", now)
                made.append(Record(IN.name, shard, "clock", headers, records.encode(ClockRecord(shard, now))))
            yield Made(made, rows)
        minute += _COARSE * S


def _values(chance: np.random.Generator, level: Floats) -> Floats:
    """A minute of readings, one a second; shape (series, 60)."""
    noise = chance.normal(0, 0.01, (len(level), _COARSE))
    return np.round(level[:, None] * (1 + noise), 2)


def _parts(site: Site, values: Floats, minute: int, step: int, tick: int) -> Parts:
    n = len(site.series)
    fine = _of_level(values[:, step * _FINE : (step + 1) * _FINE], minute + step * _FINE * S)
    runs = [(0, minute + step * _FINE * S, fine)]
    if step == _PER_MINUTE - 1:
        runs.append((1, minute, _of_level(values, minute)))
    none = np.zeros(n * len(runs), np.int64)
    return Parts(
        site.series, ["10s", "1m"], [1], np.tile(np.arange(n), len(runs)),
        np.repeat([level for level, _, _ in runs], n), np.repeat([start for _, start, _ in runs], n), none,
        np.repeat([tick, max(1, tick - _PER_MINUTE + 1)][: len(runs)], n), none, none,
        Aggregates.concatenate([of for _, _, (of, _) in runs]),
        Sketches.concatenate([sketches for _, _, (_, sketches) in runs]),
    )  # fmt: skip


def _of_level(values: Floats, start: int) -> tuple[Aggregates, Sketches]:
    """The windows of all series; every other series is read at every tenth second only."""
    n, seconds = values.shape
    read = np.ones((n, seconds), np.bool_)
    read[1::2] = np.arange(seconds) % _FINE == 0
    times = np.broadcast_to(start + np.arange(seconds) * S + 137_000, (n, seconds))[read]
    some = values[read]
    counts = read.sum(axis=1)
    rows = of_readings(np.cumsum(counts) - counts, times, some, reading_digests(times, some))
    return rows, counted_sketches(np.repeat(np.arange(n), counts), buckets_of(some), n)


def _record(kind: str, site: Site, seq: int, time_us: int, body: bytes) -> Record:
    name = f"{site.agent}/{1:016x}/{site.shard}/{seq}"
    headers = records.headers(kind, name, f"headwater-edge/{site.agent}", time_us)
    return Record(IN.name, site.shard, site.agent, headers, body)


def _heartbeat(site: Site, seq: int, start: int) -> Record:
    now = start + _FINE * S
    body = records.encode(Heartbeat(site.agent, 1, site.shard, seq, None, now, now))
    return _record(records.HEARTBEAT, site, seq, now, body)
