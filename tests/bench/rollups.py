"""What rollups cost, and comparisons of devices with their peers: microseconds of CPU a row, of the operators alone; `python -m tests.bench.rollups`.

Frames of some sites go through `pipeline.run` and their rollups through `pipeline.run_second`, with what is stored in memory; no bus and
no commit. Clock records come behind every so many starts of windows: each level and start is rolled up once.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headwater_cloud import pipeline, rollup
from headwater_cloud.book import Book, Compare
from headwater_cloud.lookup import Lookup
from headwater_cloud.names import Names
from headwater_cloud.pipeline import Limits
from headwater_cloud.second_state import SecondState
from headwater_cloud.shard import Shard
from headwater_cloud.store import Store
from headwater_shared import frame, records
from headwater_shared.aggregates import of_readings
from headwater_shared.bus import Record, Stored
from headwater_shared.digest import reading_digests
from headwater_shared.frame import Frame
from headwater_shared.identity import shard_of
from headwater_shared.parts import Parts, counted_sketches
from headwater_shared.records import ClockRecord
from headwater_shared.registry import Entry
from headwater_shared.sketch import buckets_of
from headwater_shared.topics import IN, SECOND

S = 1_000_000
T0 = 1_800_000_000 * S
SITES, STARTS, READINGS = 8, 30, 10


RULES = tuple(Compare(f"apart-{n}", f"metric-{n}", level="10s") for n in range(10))
"""All metrics are compared, at the finest level."""


class Cost(NamedTuple):
    """Microseconds of CPU a row of `hw-in`."""

    without: float
    stage_one: float
    stage_two: float
    rollups: int
    """Rows of the second stages' topics, of a thousand rows."""


def body_of(site: str, start: int, tick: int, series: int, metrics: int) -> bytes:
    """A frame of one window of each series."""
    chance = np.random.default_rng([tick, len(site), int(site[4:])])
    names = [f"{site}/device-{n // metrics}/metric-{n % metrics}" for n in range(series)]
    times = np.tile(start + np.arange(READINGS) * S, series)
    values = chance.normal(20, 0.2, series * READINGS)
    first = np.arange(series) * READINGS
    rows = of_readings(first, times, values, reading_digests(times, values))
    sketches = counted_sketches(np.repeat(np.arange(series), READINGS), buckets_of(values), series)
    none = np.zeros(series, np.int64)
    parts = Parts(
        names, ["10s"], [1], np.arange(series), none, none + start, none, none + tick, none, none, rows, sketches
    )  # fmt: skip
    return frame.encode(Frame(site, 1, shard_of(site), tick, tick, None, parts))


def measure(
    series: int, starts: int = 10, metrics: int = 10, cohorts: int = 5, rules: tuple[Compare, ...] = ()
) -> Cost:
    """Run with so many series a site, all in one frame a start, and clocks behind so many starts; `rules`: of comparisons."""
    sites = [f"site{n}" for n in range(SITES)]
    shards = {shard_of(site): Shard(shard_of(site)) for site in sites}
    for site in sites:
        for n in range(series // metrics + 1):
            entry = Entry(model=f"model-{n % cohorts}")
            shards[shard_of(site)].registry[f"{site}/device-{n}"] = entry
        shards[shard_of(site)].book = Book(compare=rules)
    names, spent = Names(), [0.0, 0.0, 0.0]
    made = 0
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "cloud.db")
        lookup = Lookup(store.connection)
        state = SecondState(store.connection)
        step, taken = rollup.step, [0.0]

        def timed(*some: object) -> object:
            begin = time.process_time()
            out = step(*some)  # type: ignore[arg-type]
            taken[0] += time.process_time() - begin
            return out

        rollup.step = timed  # type: ignore[assignment]
        for tick in range(1, STARTS + 1):
            start = T0 + tick * 10 * S
            batch = [_stored(site, body_of(site, start, tick, series, metrics), tick) for site in sites]
            later = [_clock(number, start + second * S) for second in (10, 13) for number in shards]
            clocks = [later[: len(shards)], later[len(shards) :]] if tick % starts == 0 else []
            for some in (batch, *clocks):
                begin, taken[0] = time.process_time(), 0.0
                out = pipeline.run(shards, names, lookup, some, lambda us: us, Limits())
                if tick > STARTS // 3:
                    spent[0] += time.process_time() - begin - taken[0]
                    spent[1] += taken[0]
                if out.merged is not None:
                    lookup.wrote(out.merged)
                for topic in SECOND:
                    found = [_read(record) for record in out.records if record.topic == topic.name]
                    if not found:
                        continue
                    begin = time.process_time()
                    second = pipeline.run_second(names, lookup, found, state.cohorts)
                    if tick > STARTS // 3:
                        spent[2] += time.process_time() - begin
                        made += len(second.merged.windows) if second.merged else 0
                    if second.merged is not None:
                        lookup.wrote(second.merged)
        rollup.step = step
        store.close()
    rows = (STARTS - STARTS // 3) * SITES * series
    without, one, two = (seconds / rows * 1e6 for seconds in spent)
    return Cost(without, one, two, round(1000 * made / rows))


def _stored(site: str, body: bytes, tick: int) -> Stored:
    headers = records.headers(records.FRAME, f"{site}/{1:016x}/{shard_of(site)}/{tick}", "bench", T0)
    return Stored(IN.name, shard_of(site), tick, T0, site, headers, body)


def _clock(shard: int, time_us: int) -> Stored:
    headers = records.headers(records.CLOCK, f"clock/{shard}/{time_us}", "bench", time_us)
    return Stored(IN.name, shard, 0, time_us, "clock", headers, records.encode(ClockRecord(shard, time_us)))


def _read(record: Record) -> Stored:
    return Stored(record.topic, record.partition, 0, T0, record.key, record.headers, record.body)


if __name__ == "__main__":
    for size in map(int, sys.argv[1:] or ("100", "1000", "5000")):
        for starts, rules in ((1, ()), (10, ()), (10, RULES)):
            cost = measure(size, starts, rules=rules)
            print(
                f"{'all metrics compared: ' if rules else ''}{size} rows a frame, clocks behind {starts:>2} starts: {cost.without:.2f} us a row without rollups, {cost.stage_one:.2f}"
                f" in stage one, {cost.stage_two:.2f} in stage two; {cost.rollups} windows of rollups of 1,000"
            )
