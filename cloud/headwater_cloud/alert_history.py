"""Alerts and incidents as people ask for them, read from the cloud's file: lists, one with its evidence and its timeline."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from fnmatch import fnmatchcase
from math import nan
from typing import Any

import msgspec

from headwater_cloud.outputs import Notification
from headwater_cloud.views import AlertEventView, AlertView, AnomalyView, IncidentView
from headwater_shared.errors import Refused

OPEN = ("firing", "acknowledged")
STATES = ("pending", *OPEN, "resolved", "withdrawn")

_COLUMNS = ", ".join(f'"{name}"' for name in AlertView.__struct_fields__)
_SEVERITIES = ("info", "warning", "critical")
_SHORTEST = 4


def alerts(
    connection: sqlite3.Connection,
    states: Sequence[str] = (*OPEN, "resolved"),
    site: str = "*",
    rule: str = "*",
    last: int | None = None,
    incident: str = "",
) -> list[AlertView]:
    """Return the alerts of some states, sites and rules (globs), or of one incident, the newest episode first."""
    marks = ", ".join("?" * len(states))
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM alert WHERE state IN ({marks}) AND (? IN ('', incident)) ORDER BY episode_us DESC, id",
        (*states, incident),
    )
    found = []
    for row in rows:
        one = _view(row)
        if fnmatchcase(one.site or one.key or one.subject.partition("/")[0], site) and fnmatchcase(
            one.rule, rule
        ):
            found.append(one)
            if len(found) == last:
                break
    return found


def firing(connection: sqlite3.Connection) -> list[AlertView]:
    """Return the alerts that are open, in no particular order. It reads the whole table: see `changes_since`."""
    marks = ", ".join("?" * len(OPEN))
    return [
        _view(row)
        for row in connection.execute(f"SELECT {_COLUMNS} FROM alert WHERE state IN ({marks})", OPEN)
    ]


def changes_since(connection: sqlite3.Connection, time_us: int) -> int:
    """Return how many changes of alerts there were since a time of the shards' clocks: if none came, there is nothing to read."""
    query = "SELECT count(*) FROM alert_event WHERE changed_us >= ? OR changed_us = 0"  # 0: its shard had heard no clock yet
    return int(connection.execute(query, (time_us,)).fetchone()[0])


def by_id(connection: sqlite3.Connection, id_: str) -> AlertView | None:
    """Return an alert; None if the file does not know it."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM alert WHERE id = ?", (id_,)).fetchone()
    return None if row is None else _view(row)


def alert(connection: sqlite3.Connection, name: str) -> AlertView:
    """Find one alert by its id, or by a beginning of it that no other one has.

    Raises:
        Refused: there is none, or there are several.
    """
    return _view(
        _one(connection, f"SELECT {_COLUMNS} FROM alert WHERE id", name, "alert", "headwater alerts")
    )


def events(connection: sqlite3.Connection, alert_id: str) -> list[AlertEventView]:
    """Return what happened to an alert, the oldest first."""
    rows = connection.execute(
        "SELECT n, what, state, severity, text, who, why, changed_us, time_us FROM alert_event WHERE alert = ? ORDER BY changed_us, n",
        (alert_id,),
    )
    return [AlertEventView(*row) for row in rows]


def told(connection: sqlite3.Connection, alert_id: str, incident: str) -> list[Notification]:
    """Return what people were told of an alert and of its incident, the oldest first."""
    rows = connection.execute(
        "SELECT body FROM notification WHERE json_extract(body, '$.alert') = ?"
        " OR (? <> '' AND json_extract(body, '$.incident') = ?) ORDER BY n",
        (alert_id, incident, incident),
    )
    return [msgspec.json.decode(body, type=Notification) for (body,) in rows]


def evidence(connection: sqlite3.Connection, ids: Sequence[str]) -> list[AnomalyView]:
    """Return the anomalies among the evidence of an alert, each begin and end once, by time."""
    names = ", ".join(f'"{name}"' for name in AnomalyView.__struct_fields__)
    found: dict[tuple[str, str], AnomalyView] = {}
    for at in ids:
        for row in connection.execute(
            f"SELECT {names} FROM anomaly WHERE id = ? ORDER BY time_us, phase", (at,)
        ):
            one = AnomalyView(*row)
            found.setdefault((one.id, one.phase), one)
    return sorted(found.values(), key=lambda one: (one.time_us, one.phase))


_INCIDENT = "SELECT id, site, rank, begin_us, last_us, end_us, members, open, acknowledged, muted, devices FROM incident"


def incidents(connection: sqlite3.Connection, *, open_only: bool, site: str = "*", last: int | None = None) -> list[IncidentView]:  # fmt: skip
    """Return incidents, the newest first."""
    rows = connection.execute(f"{_INCIDENT} {'WHERE open' if open_only else ''} ORDER BY begin_us DESC, id")
    found = [_incident(row) for row in rows if fnmatchcase(row[1], site)]
    return found[:last]


def incident(connection: sqlite3.Connection, name: str) -> IncidentView:
    """Find one incident by its id or the beginning of it; see `alert`."""
    return _incident(_one(connection, f"{_INCIDENT} WHERE id", name, "incident", "headwater incidents"))


def _one(connection: sqlite3.Connection, select: str, name: str, what: str, command: str) -> tuple[Any, ...]:
    rows = []
    if len(name) >= _SHORTEST:
        rows = connection.execute(f"{select} >= ? AND id < ? LIMIT 3", (name, name + "g")).fetchall()
    if not rows:
        raise Refused(
            f"there is no {what} {name!r}",
            hint=f"`{command}` shows their ids; the first {_SHORTEST} characters or more are enough",
        )
    if len(rows) > 1:
        raise Refused(f"several {what}s begin with {name!r}", hint="write more of the id")
    row: tuple[Any, ...] = rows[0]
    return row


def _view(row: tuple[Any, ...]) -> AlertView:
    fields = dict(zip(AlertView.__struct_fields__, row, strict=True))
    for name in ("evidence", "agents"):
        fields[name] = msgspec.json.decode(fields[name])
    if fields["value"] is None:  # as SQLite keeps NaN
        fields["value"] = nan
    return AlertView(**fields)


def _incident(row: tuple[Any, ...]) -> IncidentView:
    return IncidentView(row[0], row[1], _SEVERITIES[row[2]], *row[3:])
