"""`sink-influx`: CPU a window of the way into InfluxDB, from columns to line protocol, beside influxdb-client's own Point objects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from headwater_cloud.influx_lines import window_head, window_lines
from headwater_cloud.merge import Windows
from headwater_shared.aggregates import Aggregates
from headwater_shared.digest import value_bits
from headwater_shared.parts import Sketches
from headwater_shared.sketch import buckets_of
from tests.bench.results import Result

WINDOWS, READINGS, SERIES, BATCH = 100_000, 10, 1_000, 5_000
_ROUNDS = 3


def run(folder: Path) -> Iterator[Result]:
    """The best of three rounds of each."""
    made = windows()
    heads = [window_head(f"site-{n % 8}/device-{n}/temperature", "10s") for n in range(SERIES)]

    def ours() -> int:
        written = 0
        for at in range(0, WINDOWS, BATCH):
            batch = made.take(slice(at, at + BATCH))
            written += len(window_lines([heads[n] for n in batch.series.tolist()], batch))
        return written

    lines, points = _cost(ours), _cost(lambda: _as_points(made))
    yield Result(
        "sink-influx",
        1e6 / lines,
        "points/s a core, columns to line protocol",
        1e6 / points,
        "influxdb-client: a Point object a window, with the same fields, to line protocol",
        "in memory: neither writes",
        {
            "CPU, us a point": lines,
            "CPU, us a point, Point": points,
            "times fewer than Point": points / lines,
        },
    )


def windows() -> Windows:
    """Made-up windows of a level: ten readings each, a thousand series."""
    made = np.random.default_rng(1)
    values = made.normal(50.0, 5.0, (WINDOWS, READINGS))
    zero, number = np.zeros(WINDOWS, np.int64), np.arange(WINDOWS)
    mean = values.mean(1)
    aggregates = Aggregates(
        zero + READINGS, value_bits(mean), mean, values.var(1) * READINGS, values.min(1), values.max(1),
        values[:, 0].copy(), zero, values[:, -1].copy(), zero,
    )  # fmt: skip
    buckets = np.sort(buckets_of(values.ravel()).reshape(values.shape), 1).ravel()
    sketches = Sketches((number + 1) * READINGS, buckets, np.ones(len(buckets), np.int64))
    start = 1_790_000_000_000_000 + number // SERIES * 10_000_000
    return Windows(zero, start, number % SERIES, zero + 1, zero, zero, zero, zero, zero, aggregates, sketches)


def _as_points(made: Windows) -> int:
    from influxdb_client.client.write.point import Point
    from influxdb_client.domain.write_precision import WritePrecision

    a, written = made.aggregates, 0
    columns = {"mean": a.mean, "stddev": a.m2, "min": a.min, "max": a.max, "first": a.first, "last": a.last,
               "p50": a.mean, "p95": a.max, "p99": a.max, "count": a.count, "digest_hi": a.count, "digest_lo": a.count,
               "parts": made.parts, "revision": made.revision, "flags": made.flags}  # fmt: skip
    for series, start, *values in zip(
        made.series.tolist(),
        made.start.tolist(),
        *(column.tolist() for column in columns.values()),
        strict=True,
    ):
        point = Point("windows").tag("site", f"site-{series % 8}").tag("device", f"device-{series}")
        point.tag("metric", "temperature").tag("level", "10s")
        for name, value in zip(columns, values, strict=True):
            point.field(name, value)
        written += len(point.time(start, WritePrecision.US).to_line_protocol())
    return written


def _cost(work: Callable[[], object]) -> float:
    """Return the microseconds of CPU a window."""
    best = float("inf")
    for _ in range(_ROUNDS):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best / WINDOWS * 1e6
