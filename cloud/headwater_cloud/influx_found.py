"""What was found, as points of line protocol: anomalies, alerts and their history, changes of devices.

Times are in nanoseconds here, for events of one alert may come at one microsecond; tags say whose it is, and never an id or a value.
"""

from __future__ import annotations

from math import isnan

from headwater_cloud.alert_history import OPEN
from headwater_cloud.influx_lines import line, place_of
from headwater_cloud.views import AlertEventView, AlertView, AnomalyView, CommandView, DeviceChangeView
from headwater_shared.records import RegistryChange

CODES = {"offline": 0, "silent": 1, "online": 2}

_MS_NS = 1_000_000


def anomaly_line(begin: AnomalyView, end: AnomalyView | None) -> bytes:
    """One point an anomaly, at its begin; its end, once it is known, is in the same point."""
    site, device, metric = place_of(begin.series)
    end_us = end.time_us if end else 0
    return line(
        "anomalies",
        {"site": site, "device": device, "metric": metric, "rule": begin.rule},
        {
            "id": begin.id, "series": begin.series, "severity": begin.severity, "text": begin.text,
            "value": _number(begin.value), "limit": _number(begin.limit),
            "degree": max(begin.degree, end.degree if end else 0.0), "open": end is None, "end_us": end_us,
            "seconds": max(0, end_us - begin.begin_us) / 1e6 if end else 0.0,
        },
        begin.begin_us * 1000,
    )  # fmt: skip


def alert_line(alert: AlertView) -> bytes:
    """One point an alert, at the begin of its episode: rule, subject and episode are what an alert is one by (R26)."""
    return line(
        "alerts",
        _tags_of(alert),
        {
            "id": alert.id, "state": alert.state, "severity": alert.severity, "text": alert.text,
            "value": _number(alert.value), "fired_us": alert.fired_us or 0, "end_us": alert.end_us or 0,
            "incident": alert.incident, "acked": alert.acked, "muted": alert.muted, "do": alert.do, "link": alert.link,
            "runbook": alert.runbook, "model": alert.model, "place": alert.place, "owner": alert.owner,
            "open": alert.state in OPEN,
        },
        alert.episode_us * 1000,
    )  # fmt: skip


def event_line(alert: AlertView, event: AlertEventView, value: float) -> bytes:
    """One point a change of an alert; `value`: of the alert at the change."""
    return line(
        "alert_events",
        _tags_of(alert),
        {
            "id": alert.id, "n": event.n, "what": event.what, "state": event.state, "severity": event.severity,
            "text": event.text, "value": _number(value), "who": event.who, "why": event.why, "changed_us": event.changed_us,
        },
        _event_ns(alert.id, event),
    )  # fmt: skip


def device_line(change: DeviceChangeView, entry: RegistryChange | None) -> bytes:
    """One point a change of a device's status; `entry`: what the registry has of it now."""
    site, device, _ = place_of(change.device)
    known = None if entry is None or entry.removed else entry
    return line(
        "devices",
        {"site": site, "device": device},
        {
            "status": change.status, "before": change.before, "reason": change.reason, "heard_us": change.heard_us,
            "code": CODES[change.status], "agent": change.agent, "model": known.model if known else "",
            "place": known.place if known else "", "owner": known.owner if known else "",
        },
        change.time_us * 1000,
    )  # fmt: skip


def command_line(command: CommandView) -> bytes:
    """One point of each thing that became of a command, at the time at which its agent noted it; nothing of a point changes."""
    site, device, _ = place_of(command.device)
    _, _, metric = place_of(command.series)
    return line(
        "commands",
        {
            "site": site, "device": device, "metric": metric, "name": command.name, "rule": command.rule, "status": command.status,
        },
        {
            "id": command.id, "reason": command.reason, "arguments": command.arguments, "act": command.act, "series": command.series,
            "undoes": command.undoes, "agent": command.agent,
        },
        command.changed_us * 1000,
    )  # fmt: skip


def _number(value: float | None) -> float | None:
    """What is no number, which SQLite keeps as NULL, is left out."""
    return None if value is None or isnan(value) else float(value)


def _tags_of(alert: AlertView) -> dict[str, str]:
    return {
        "site": alert.site,
        "device": alert.device.partition("/")[2],
        "rule": alert.rule,
        "subject": alert.subject,
    }


def _event_ns(alert_id: str, event: AlertEventView) -> int:
    """The millisecond of the change, and within it a place by alert and number.

    Several changes are made at one moment of the shard's clock, also of two episodes of one rule and subject, whose tags are equal.
    """
    within = int(alert_id[:8], 16) if alert_id else 0
    return event.changed_us // 1000 * _MS_NS + (within % (_MS_NS // 1000) * 1000 + event.n) % _MS_NS
