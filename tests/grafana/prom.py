"""A real Prometheus that scrapes the story's processes, asked as Grafana asks it."""

from __future__ import annotations

import http.client
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

from headwater_appliance.stack_servers import Prometheus
from tests.grafana.boards import Query
from tests.grafana.stores import Frame
from tests.stack import make

_SETTINGS = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: headwater
    file_sd_configs:
      - files: [targets.json]
        refresh_interval: 1s
"""
STEP_S = 1


def scraping(folder: Path) -> Prometheus:
    """Make a Prometheus that has no targets yet: see `scrape`."""
    return make(Prometheus, folder, _SETTINGS)


def scrape(server: Prometheus, ports: list[int]) -> None:
    """Have it scrape processes at their health ports."""
    targets = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
    new = server.folder / "targets.new"
    new.write_bytes(msgspec.json.encode(targets))
    new.rename(server.folder / "targets.json")


def metric_names(server: Prometheus) -> set[str]:
    """Return every metric that it has seen."""
    found: list[str] = _get(server, "/api/v1/label/__name__/values", {})
    return set(found)


def label_values(server: Prometheus, query: str) -> list[str]:
    """Return what a variable `label_values(metric, label)` is offered."""
    metric, label = query.removeprefix("label_values(").removesuffix(")").split(", ")
    found: list[str] = _get(server, f"/api/v1/label/{label}/values", {"match[]": metric})
    return found


def ask(server: Prometheus, query: Query, text: str, from_s: float, to_s: float) -> list[Frame]:
    """Return what it finds, as Grafana makes of it: a frame a series with its legend as name, or the rows of a table, a column a label."""
    if not query.target["instant"]:
        words = {"query": text, "start": f"{from_s}", "end": f"{to_s}", "step": f"{STEP_S}"}
        series = _get(server, "/api/v1/query_range", words)["result"]
        return [_line(query, one["metric"], one["values"]) for one in series]
    found = _get(server, "/api/v1/query", {"query": text, "time": f"{to_s}"})["result"]
    if query.target.get("format") != "table":
        return [_line(query, one["metric"], [one["value"]]) for one in found]
    labels = sorted({label for one in found for label in one["metric"]})
    rows = [
        (one["value"][0] * 1000, *(one["metric"].get(name, "") for name in labels), float(one["value"][1]))
        for one in found
    ]
    columns = ["time", *labels, "Value"]
    return (
        [Frame("", {}, {name: [row[at] for row in rows] for at, name in enumerate(columns)})] if rows else []
    )


def _line(query: Query, labels: dict[str, str], points: list[tuple[float, str]]) -> Frame:
    name = query.target.get("legendFormat", "")
    for label, value in labels.items():
        name = name.replace(f"{{{{{label}}}}}", value)
    numbers = [(at * 1000, float(value)) for at, value in points if value not in {"NaN", "+Inf", "-Inf"}]
    return Frame(name, labels, {"time": [at for at, _ in numbers], "Value": [value for _, value in numbers]})


def _get(server: Prometheus, path: str, words: dict[str, str]) -> Any:
    asked = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    with closing(asked):
        asked.request("GET", f"{path}?{urlencode(words)}")
        body = msgspec.json.decode(asked.getresponse().read())
    assert body["status"] == "success", (words, body)
    return body["data"]
