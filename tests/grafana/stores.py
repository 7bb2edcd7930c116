"""A real InfluxDB that holds what a cloud's file holds, and what Grafana would be shown of it."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
import numpy as np

from headwater_appliance.stack_servers import Influx
from headwater_cloud import alert_history, influx_found, influx_lines
from headwater_cloud.columns import WINDOW_COLUMNS, window_rows
from headwater_cloud.history import History
from tests.stack import influxql, make, running


class Frame(NamedTuple):
    """What one query found of one series: its tags, and columns by name, `time` in milliseconds."""

    name: str
    tags: dict[str, str]
    columns: dict[str, list[object]]


class Store:
    """InfluxDB, asked as Grafana asks."""

    def __init__(self, influx: Influx) -> None:
        self.influx = influx

    def ask(self, query: str) -> list[Frame]:
        """Return what it finds."""
        asked = http.client.HTTPConnection("127.0.0.1", self.influx.port, timeout=30)
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


@contextmanager
def filled(folder: Path, file: Path) -> Iterator[Store]:
    """Run an InfluxDB into which all of a cloud's file was written."""
    influx = make(Influx, folder)
    with running(influx), closing(History(file)) as history:
        _windows(influx, history)
        _found(influx, history)
        yield Store(influx)


def _windows(influx: Influx, history: History) -> None:
    names = dict(history.connection.execute("SELECT id, name FROM series").fetchall())
    columns = ", ".join("coalesce(shard, -1)" if name == "shard" else name for name in WINDOW_COLUMNS)
    for number, level in history.connection.execute("SELECT id, name FROM level").fetchall():
        rows = history.connection.execute(
            f"SELECT {columns} FROM window WHERE level = ?", (number,)
        ).fetchall()
        windows = window_rows(rows)
        heads = [influx_lines.window_head(names[one], level) for one in np.asarray(windows.series).tolist()]
        _write(
            influx, influx_lines.database("headwater", level), influx_lines.window_lines(heads, windows), "u"
        )


def _found(influx: Influx, history: History) -> None:
    anomalies = list(history.anomalies())
    ends = {one.id: one for one in anomalies if one.phase == "end"}
    lines = [influx_found.anomaly_line(one, ends.get(one.id)) for one in anomalies if one.phase == "begin"]
    for alert in history.alerts():
        lines.append(influx_found.alert_line(alert))
        lines += [
            influx_found.event_line(alert, event, alert.value)
            for event in alert_history.events(history.connection, alert.id)
        ]
    registry = history.registry()
    lines += [influx_found.device_line(one, registry.get(one.device)) for one in history.device_changes()]
    for one in history.commands():
        site, device, _ = influx_lines.place_of(one.device)
        tags = {"site": site, "device": device, "name": one.name, "rule": one.rule}
        fields: dict[str, influx_lines.Value] = {
            "id": one.id, "status": one.status, "reason": one.reason, "arguments": one.arguments, "act": one.act, "series": one.series,
            "undoes": one.undoes, "changed_us": one.changed_us, "open": one.status == "open",
        }  # fmt: skip
        lines.append(influx_lines.line("commands", tags, fields, (one.let_out_us or one.changed_us) * 1000))
    _write(influx, "headwater_found", b"".join(lines), "n")


def _write(influx: Influx, database: str, body: bytes, precision: str) -> None:
    influxql(influx, f'CREATE DATABASE "{database}"')
    asked = http.client.HTTPConnection("127.0.0.1", influx.port, timeout=30)
    with closing(asked):
        asked.request("POST", f"/write?db={database}&precision={precision}", body)
        answer = asked.getresponse()
        assert answer.status == 204, answer.read()
