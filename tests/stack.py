"""Real InfluxDB, VictoriaMetrics, Prometheus and Alertmanager for tests: killed, stopped, frozen and started again by pid."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec

from headwater_appliance.stack_servers import Alertmanager, Influx, Prometheus, Server, VictoriaMetrics
from tests.started import Started
from tests.support import part_required

_PARTS = {
    Influx: "influxdb",
    VictoriaMetrics: "victoria-metrics",
    Prometheus: "prometheus",
    Alertmanager: "alertmanager",
}
_Made = TypeVar("_Made", bound=Server)


def make(kind: type[_Made], folder: Path, *settings: Any, **more: Any) -> _Made:
    """Make a server in a folder that is made, too; the test is skipped where its program is missing, or fails where HEADWATER_REQUIRE names it."""
    part_required(_PARTS[kind])
    folder.mkdir(parents=True)
    return kind(folder, *settings, **more)


class Running(Started, Generic[_Made]):
    """A server that a test started."""

    def __init__(self, server: _Made) -> None:
        super().__init__(server.folder / "log")
        self.server = server

    @property
    def url(self) -> str:
        return self.server.url

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.begin(self.server.command(), self.server.answers)


@contextmanager
def running(server: _Made) -> Iterator[Running[_Made]]:
    """Run a server; it is ended with the block."""
    made = Running(server)
    made.start()
    try:
        yield made
    finally:
        made.end()


def influxql(influx: Influx, query: str, **more: str) -> list[dict[str, object]]:
    """Ask InfluxDB; return the rows of all series, tags and columns by name. More parameters of /query: db, epoch, rp."""
    words: Mapping[str, str] = {"q": query, "epoch": "u", **more}
    asked = http.client.HTTPConnection("127.0.0.1", influx.port, timeout=30)
    try:
        asked.request(
            "POST", "/query", urlencode(words), {"Content-Type": "application/x-www-form-urlencoded"}
        )
        answer = asked.getresponse()
        body = answer.read()
        assert answer.status == 200, body
    finally:
        asked.close()
    found: list[dict[str, object]] = []
    for result in msgspec.json.decode(body)["results"]:
        assert "error" not in result, result
        for series in result.get("series", []):
            tags, columns = series.get("tags", {}), series["columns"]
            found += [{**tags, **dict(zip(columns, row, strict=True))} for row in series.get("values", [])]
    return found
