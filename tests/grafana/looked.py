"""The dashboards, as someone looks at them when the story is over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from headwater_appliance.stack_servers import Influx, Prometheus
from tests.grafana import prom
from tests.grafana.asked import Chosen, Shown, opened, text_of
from tests.grafana.boards import INFLUX, Json, Query, read
from tests.grafana.stores import Frame, Store
from tests.grafana.story import Story, told
from tests.stack import make, running

_BEFORE_MS = 9_000_000
"""Before the story, in event time: what a pump that was away had measured."""


class Looked(NamedTuple):
    """The dashboards, the stores that they ask, and the story that these are filled with."""

    boards: dict[str, Json]
    story: Story
    store: Store
    metrics: Prometheus
    began_s: float
    """Of the wall, which metrics go by; the story's times are scaled."""

    def opened(self, uid: str, **chosen: Chosen) -> Shown:
        """Open a dashboard on all of the story: on its event time, or, of those of Prometheus, on the time that it took."""
        board = self.boards[uid]
        if uid in OF_METRICS:
            from_ms, to_ms = int(self.began_s * 1000), int(time.time() * 1000)
        else:
            from_ms, to_ms = self.story.began_us // 1000 - _BEFORE_MS, self.story.end_us // 1000
        return opened(board, from_ms, to_ms, self._values, **chosen)

    def _values(self, query: str, source: str) -> list[str]:
        return self.store.values(query) if source == INFLUX else prom.label_values(self.metrics, query)

    def find(self, query: Query, shown: Shown) -> list[Frame]:
        """Return what a query finds; metrics are asked for as they are now wherever they are shown."""
        text = text_of(query, self.boards[query.board], shown)
        if query.source == INFLUX:
            return self.store.ask(text)
        return prom.ask(self.metrics, query, text, self.began_s, time.time())


OF_METRICS = {"headwater-pipeline"}
"""Dashboards of Prometheus alone."""


@contextmanager
def looked(folder: Path) -> Iterator[Looked]:
    """Run the story with an InfluxDB that the sink writes to, and a Prometheus that scrapes all of it each second."""
    influx, metrics = make(Influx, folder / "influx"), prom.scraping(folder / "prometheus")
    with running(influx), running(metrics):
        began_s = time.time()
        with told(folder / "box", influx.url, lambda ports: prom.scrape(metrics, ports)) as story:
            yield Looked(read(), story, Store(influx.port), metrics, began_s)
