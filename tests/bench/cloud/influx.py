"""`sink-influx`: CPU a window of the way into InfluxDB, beside influxdb-client's own Point objects and batching."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from headwater_cloud.influx_lines import window_head, window_lines
from headwater_cloud.influx_v1 import V1
from headwater_cloud.merge import Windows
from headwater_shared.aggregates import Aggregates
from headwater_shared.digest import value_bits
from headwater_shared.parts import Sketches
from headwater_shared.sketch import buckets_of
from tests.bench.results import Result

WINDOWS, READINGS, SERIES, BATCH = 100_000, 10, 1_000, 5_000
_ROUNDS = 3


def run(folder: Path) -> Iterator[Result]:
    """The best of three rounds of each: to line protocol, and all the way to a store that answers at once, in a process of its own."""
    made = windows()
    heads = [window_head(f"site-{n % 8}/device-{n}/temperature", "10s") for n in range(SERIES)]

    def ours() -> Iterator[bytes]:
        for at in range(0, WINDOWS, BATCH):
            batch = made.take(slice(at, at + BATCH))
            yield window_lines([heads[n] for n in batch.series.tolist()], batch)

    def sent() -> None:
        transport = V1(url, "", "", 30.0)
        for lines in ours():
            assert transport.send("bench", lines, nanoseconds=False).status == 204
        transport.close()

    lines, points = _cost(lambda: sum(map(len, ours()))), _cost(lambda: sum(map(len, _points(made))))
    with _store() as url:
        ours_sent, theirs_sent = _cost(sent), _cost(lambda: _batched(made, url))
    yield Result(
        "sink-influx",
        1e6 / ours_sent,
        "points/s a core: columns to line protocol, gzip, HTTP",
        1e6 / theirs_sent,
        "influxdb-client: a Point object a window with the same fields, its batching WriteApi, gzip",
        "a store on loopback that answers 204 to whatever comes, in a process of its own",
        {
            "CPU, us a point": ours_sent,
            "CPU, us a point, influxdb-client": theirs_sent,
            "times fewer than influxdb-client": theirs_sent / ours_sent,
            "CPU, us a point, to line protocol": lines,
            "CPU, us a point, Point to line protocol": points,
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


def _points(made: Windows) -> Iterator[str]:
    """Each window as a Point object would be written."""
    return (point.to_line_protocol() for point in _objects(made))


def _batched(made: Windows, url: str) -> None:
    from influxdb_client import InfluxDBClient, WriteOptions

    with (
        InfluxDBClient(url, "token", org="bench", enable_gzip=True) as client,
        client.write_api(write_options=WriteOptions(batch_size=BATCH, flush_interval=60_000)) as api,
    ):
        for point in _objects(made):
            api.write("bench", record=point)


def _objects(made: Windows) -> Iterator[Any]:
    from influxdb_client.client.write.point import Point
    from influxdb_client.domain.write_precision import WritePrecision

    a = made.aggregates
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
        yield point.time(start, WritePrecision.US)


_ANSWERS = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *words):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@contextmanager
def _store() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", _ANSWERS], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _cost(work: Callable[[], object]) -> float:
    """Return the microseconds of CPU a window."""
    best = float("inf")
    for _ in range(_ROUNDS):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best / WINDOWS * 1e6
