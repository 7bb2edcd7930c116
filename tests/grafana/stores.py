"""A real InfluxDB, asked as Grafana asks it."""

from __future__ import annotations

import http.client
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec


class Frame(NamedTuple):
    """What one query found of one series: its tags, and columns by name, `time` in milliseconds."""

    name: str
    tags: dict[str, str]
    columns: dict[str, list[object]]


class Store:
    """InfluxDB, asked as Grafana asks."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, query: str) -> list[Frame]:
        """Return what it finds."""
        asked = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        with closing(asked):
            words = urlencode({"db": "headwater_found", "epoch": "ms", "q": query})
            asked.request("POST", "/query", words, {"Content-Type": "application/x-www-form-urlencoded"})
            answer = asked.getresponse()
            body = msgspec.json.decode(answer.read())
        assert answer.status == 200, (query, body)
        (result,) = body["results"]
        assert "error" not in result, (query, result)
        return [Frame(one["name"], one.get("tags", {}), _columns(one)) for one in result.get("series", [])]

    def values(self, query: str) -> list[str]:
        """Return what a variable is offered: the column `value`, or the only one."""
        found: dict[str, None] = {}
        for frame in self.ask(query):
            column = frame.columns.get("value") or next(iter(frame.columns.values()))
            found |= dict.fromkeys(map(str, column))
        return sorted(found)


def _columns(series: dict[str, list[Any]]) -> dict[str, list[object]]:
    return {name: [row[at] for row in series["values"]] for at, name in enumerate(series["columns"])}
