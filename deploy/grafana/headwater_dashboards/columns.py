"""The columns of tables of what was found, and the queries of those rows."""

from __future__ import annotations

from collections.abc import Mapping

from headwater_dashboards.links import OUT, TO_DEVICE, TO_SITE
from headwater_dashboards.panels import Column
from headwater_dashboards.variables import FOUND

_TEXT = Column(long=True)
_WHOSE = ("site", "device")
_TIME = Column(unit="dateTimeAsIso", width=160)

ANOMALY: Mapping[str, Column] = {
    "Time": _TIME._replace(named="began"),
    "severity": Column(width=90, coloured=True),
    "site": TO_SITE,
    "device": TO_DEVICE,
    "metric": Column(width=110),
    "rule": Column(width=150),
    "text": _TEXT,
    "value": Column(unit="short", width=90),
    "limit": Column(unit="short", width=80),
    "seconds": Column(unit="dtdurations", width=130, named="lasted"),
    "open": Column(unit="bool_yes_no", width=70),
}
ALERT: Mapping[str, Column] = {
    "Time": _TIME._replace(named="began"),
    "severity": Column(width=90, coloured=True),
    "state": Column(width=110, coloured=True),
    "site": TO_SITE,
    "device": TO_DEVICE,
    "rule": Column(width=150),
    "text": _TEXT,
    "do": _TEXT._replace(named="what to do"),
    "acked": Column(width=110, named="acknowledged by"),
    "runbook": OUT._replace(width=140),
    "link": OUT._replace(width=140),
}
COMMAND: Mapping[str, Column] = {
    "Time": _TIME._replace(named="when"),
    "name": Column(width=100, named="command"),
    "status": Column(width=110, coloured=True, named="what became of it"),
    "rule": Column(width=130),
}
CHANGE: Mapping[str, Column] = {
    "Time": _TIME._replace(named="when"),
    "severity": Column(width=90, coloured=True),
    "state": Column(width=110, coloured=True),
    "site": TO_SITE,
    "device": TO_DEVICE,
    "what": Column(width=110),
    "text": _TEXT,
    "rule": Column(width=150),
    "who": Column(width=110),
}
DEVICE: Mapping[str, Column] = {
    "Time": _TIME._replace(named="since", unit="dateTimeFromNow", width=130),
    "status": Column(width=80, coloured=True),
    "site": TO_SITE,
    "device": TO_DEVICE,
    "model": Column(width=90),
    "agent": Column(width=110),
}


def anomalies(where: str, *, of_one: bool = False) -> str:
    """Ask for anomalies, one a row; `of_one`: device, which need not be named."""
    columns = _columns(
        "severity", *_whose(of_one), "metric", "rule", "text", "value", "limit", "seconds", "open"
    )
    return f'SELECT {columns} FROM {FOUND}.."anomalies" WHERE {where}'


def alerts(where: str, *, of_one: bool = False) -> str:
    """Ask for alerts, one a row, the columns first that tell what to do: a phone shows few."""
    columns = _columns("severity", *_whose(of_one), "text", "do", "state", "acked", "rule", "runbook", "link")
    return f'SELECT {columns} FROM {FOUND}.."alerts" WHERE {where}'


def changes(where: str) -> str:
    """Ask for what became of alerts, one change a row."""
    columns = '"what", "state", "severity", "site", "device", "rule", "text", "who", "why"'
    return f'SELECT {columns} FROM {FOUND}.."alert_events" WHERE {where}'


def commands(where: str) -> str:
    """Ask for commands: a row when one was let out, and one for its end."""
    columns = _columns("name", "status", "reason", "rule", "arguments")
    return f'SELECT {columns} FROM {FOUND}.."commands" WHERE {where}'


def latest_devices(columns: str, where: str) -> str:
    """Ask for the last word on each device that was said before the end of the time that is shown, however long ago."""
    last = f'SELECT last("code") AS "code", {columns} FROM {FOUND}.."devices" WHERE time <= ${{__to}}ms AND {where}'
    return f'{last} GROUP BY "site", "device"'


def without_place(columns: Mapping[str, Column]) -> Mapping[str, Column]:
    """Return the columns of a table of one device."""
    return {name: column for name, column in columns.items() if name not in _WHOSE}


def _whose(of_one: bool) -> tuple[str, ...]:
    return () if of_one else _WHOSE


def _columns(*names: str) -> str:
    return ", ".join(f'"{name}"' for name in names)
