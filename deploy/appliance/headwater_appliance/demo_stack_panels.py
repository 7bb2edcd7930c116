"""What each panel of the dashboards shows: its queries, asked as Grafana asks them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from headwater_appliance.demo_stack_query import influxql, promql
from headwater_shared.errors import PartMissing, TryAgain

FOLDER = Path(__file__).parents[2] / "grafana" / "dashboards"
"""In a checkout: a package brings no dashboards along."""


class Query(NamedTuple):
    """One query of a panel, with what was chosen put in."""

    dashboard: str
    panel: str
    text: str
    to_prometheus: bool


class Shown(NamedTuple):
    """A time, in microseconds, and how fine it is looked at."""

    begin_us: int
    end_us: int
    interval: str = "10s"
    rate: str = "30s"
    """Of Prometheus: some scrapes."""


def queries(chosen: Mapping[str, str], shown: Shown, folder: Path = FOLDER) -> Iterator[Query]:
    """Return the queries of all panels.

    Args:
        chosen: what a person chooses at the top, such as site and device; where several can be chosen, all are.
        shown: the time.
        folder: of the dashboards.

    Raises:
        PartMissing: there are none.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise PartMissing(f"there are no dashboards in {folder}", hint="run it in a checkout of Headwater")
    for file in files:
        board = msgspec.json.decode(file.read_bytes())
        values = _values(board, chosen, shown)
        for panel in _panels(board["panels"]):
            for target in panel.get("targets", []):
                to_prometheus = target["datasource"]["type"] == "prometheus"
                text = _filled(target["expr" if to_prometheus else "query"], values)
                yield Query(board["title"], panel.get("title", ""), text, to_prometheus)


class Panels:
    """Which queries have had rows whenever they were asked: some have only while something is wrong."""

    def __init__(self, influx: str, prometheus: str) -> None:
        """Take the addresses; nothing is asked yet."""
        self._influx, self._prometheus = influx, prometheus
        self.had: dict[tuple[str, str, str], bool] = {}
        """By dashboard, panel and number."""
        self.wrong: list[str] = []
        """What was not answered."""

    def look(self, chosen: Mapping[str, str], shown: Shown) -> None:
        """Ask all, with what was chosen; it takes a second."""
        for number, query in enumerate(queries(chosen, shown)):
            key = (query.dashboard, query.panel, str(number))
            try:
                some = rows(query, self._influx, self._prometheus) > 0
            except TryAgain as error:
                self.wrong.append(f"the panel {query.panel!r} of {query.dashboard!r}: {error}")
                some = False
            self.had[key] = self.had.get(key, False) or some


def rows(query: Query, influx: str, prometheus: str) -> int:
    """Ask; return how many rows, or series, there are.

    Raises:
        TryAgain: it is not answered, or taken for wrong.
    """
    return len(promql(prometheus, query.text) if query.to_prometheus else influxql(influx, query.text))


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels") or [])


def _values(board: Mapping[str, Any], chosen: Mapping[str, str], shown: Shown) -> dict[str, str]:
    own = {
        one["name"]: one.get("allValue") or ".*" if one.get("includeAll") else chosen.get(one["name"], "")
        for one in board.get("templating", {}).get("list", [])
    }
    begin_ms, end_ms = shown.begin_us // 1000, -(-shown.end_us // 1000)
    return own | {
        "timeFilter": f"time >= {begin_ms}ms AND time <= {end_ms}ms",
        "__from": str(begin_ms),
        "__to": str(end_ms),
        "__range_ms": str(end_ms - begin_ms),
        "__range": f"{(end_ms - begin_ms) // 1000}s",
        "__interval": shown.interval,
        "__interval_ms": "10000",
        "__rate_interval": shown.rate,
    }


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Put values in for `$name`, `${name}` and `${name:format}`; another name stays as it is."""
    return re.sub(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))", lambda found: values.get(found[1] or found[2], found[0]), text)  # fmt: skip
