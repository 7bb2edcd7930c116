"""`scrape`: one GET of /metrics of a cloud side that shows a thousand agents, half of which told anew since the last one."""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from headwater_cloud.agents_shown import AgentsShown
from headwater_cloud.metrics import Metrics
from headwater_cloud.store import Store
from headwater_cloud.told import Told, write_told
from headwater_shared import health
from headwater_shared.agent_metrics import TOLD
from headwater_shared.identity import SHARDS, agent_shard
from headwater_shared.metric import Value, shown
from headwater_shared.sqlite_log import wall_us
from tests.bench.results import Result

AGENTS, SCRAPES = 1_000, 31
_LABELLED = 2
"""Values of a metric with labels of its own."""


def run(folder: Path) -> Iterator[Result]:
    """The median of thirty scrapes as Prometheus makes them by default, each 15 s, with frames each 30 s; after the first."""
    store, random = Store(folder / "cloud.db"), np.random.default_rng(1)
    _tell(store, range(AGENTS), random)
    agents = AgentsShown(folder / "cloud.db", lambda: range(SHARDS))
    server = health.serve("127.0.0.1", 0, dict, Metrics().registry, more=agents.text)
    took, anew = [], []
    try:
        first, _, size = _scrape(server.port)
        for at in range(1, SCRAPES):
            _tell(store, range(at % 2, AGENTS, 2), random)
            took.append(_scrape(server.port))
        for _ in range(5):
            _tell(store, range(AGENTS), random)
            anew.append(_scrape(server.port)[0])
    finally:
        server.close()
        store.close()
    registry = CollectorRegistry()
    registry.register(_AsFamilies())
    began = time.process_time()
    generate_latest(registry)
    yield Result(
        "scrape",
        statistics.median(cpu for cpu, _, _ in took) * 1e3,
        "ms of CPU a scrape",
        (time.process_time() - began) * 1e3,
        "prometheus-client: the same values as families of its own, to text",
        "reads the cloud's file",
        {
            "agents": AGENTS,
            "values": AGENTS * len(_names()),
            "MB": size / 1e6,
            "ms, wall": statistics.median(wall for _, wall, _ in took) * 1e3,
            "ms, the best": min(cpu for cpu, _, _ in took) * 1e3,
            "ms, all told anew": statistics.median(anew) * 1e3,
            "ms, the first": first * 1e3,
        },
    )


def _scrape(port: int) -> tuple[float, float, int]:
    """Return what one costs: CPU and wall time in seconds, and its bytes."""
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        cpu, wall = time.process_time(), time.perf_counter()
        asked.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
        body = asked.getresponse().read()
        return time.process_time() - cpu, time.perf_counter() - wall, len(body)
    finally:
        asked.close()


def _names() -> list[tuple[str, str]]:
    """Name and labels of each value of a frame."""
    return [
        (name, msgspec.json.encode(dict.fromkeys(metric.labels[2:], f"one-{n}")).decode() if metric.labels[2:] else "")
        for name, metric in TOLD.items()
        for n in range(_LABELLED if metric.labels[2:] else 1)
    ]  # fmt: skip


def _tell(store: Store, numbers: range, random: np.random.Generator) -> None:
    names = _names()
    shape = msgspec.msgpack.encode(([name for name, _ in names], [labels for _, labels in names]))
    now_us, told = wall_us(), []
    for number in numbers:
        values = random.integers(0, 10_000_000, len(names)).astype(np.float64)
        values[::5] = (values[::5] / 7).round(3)
        agent = f"agent-{number:04}"
        told.append(
            Told(
                agent,
                agent_shard(agent),
                f"site-{number % 50}",
                now_us,
                now_us,
                0,
                shape,
                values.tobytes(),
                0,
            )
        )
    with store.transaction() as connection:
        write_told(connection, told)


class _AsFamilies(Collector):
    def collect(self) -> Iterator[Metric]:
        for metric in TOLD.values():
            labels = [f"one-{n}" for n in range(_LABELLED if metric.labels[2:] else 1)]
            values: list[Value] = [
                (
                    (f"agent-{number:04}", f"site-{number % 50}", *[label] * len(metric.labels[2:])),
                    number * 7.3,
                )
                for number in range(AGENTS)
                for label in labels
            ]
            yield shown(metric, values)
