"""Anomalies become alerts of the simplest kind: one a rule, series and episode; its begin fires it, its end resolves it.
A report that a person must act on becomes one too: that an agent's file went back, once an epoch (R6).

An alert is what its begin and its end say, whichever came first: the same anomalies in any order, once or twice, give
the same row. Its id hashes rule, subject and episode (R26).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from headwater_cloud.outputs import Notification, Report
from headwater_shared.identity import stable_id
from headwater_shared.records import Alert, Anomaly

_REPORTED = {"went-back": "state-went-back", "another-body": "identity-twice"}
"""Rules of the alerts that reports of these kinds become: the agent's file was restored, or two agents run with copies of one."""


class Evidence(NamedTuple):
    """One side of an episode. Times in microseconds of event time."""

    time_us: int
    value: float
    severity: str
    text: str
    anomaly: str


class AlertRow(msgspec.Struct, frozen=True):
    """All that is known of one alert."""

    id: str
    rule: str
    subject: str
    episode_us: int
    begin: Evidence | None = None
    end: Evidence | None = None

    def alert(self) -> Alert:
        """The alert as it stands: the last word is the end's, once there is one."""
        newest = self.end or self.begin
        assert newest is not None
        return Alert(
            id=self.id,
            rule=self.rule,
            subject=self.subject,
            state="resolved" if self.end else "firing",
            severity=(self.begin or newest).severity,
            text=newest.text or (self.begin or newest).text,
            episode_us=self.episode_us,
            time_us=newest.time_us,
            value=newest.value,
            anomaly=newest.anomaly,
        )


class Alerts(NamedTuple):
    """Rows to write by id, each change in order, and a notification of each change of state."""

    rows: dict[str, AlertRow]
    changes: list[tuple[Alert, Anomaly | None]]
    """Each with the anomaly that brought it; None: a report did."""
    notifications: list[Notification]


def alert_id(anomaly: Anomaly) -> str:
    """The id of the alert that an anomaly belongs to."""
    return stable_id(anomaly.rule, anomaly.series, anomaly.begin_us)


def report_id(report: Report) -> str:
    """The id of the alert that a report becomes, "" if it becomes none: one an agent and epoch, in whichever shard it shows."""
    rule = _REPORTED.get(report.kind)
    return stable_id(rule, report.agent, report.epoch) if rule else ""


def ids_of(anomalies: Iterable[Anomaly], reports: Iterable[Report]) -> list[str]:
    """The ids of all alerts that these belong to."""
    return [*map(alert_id, anomalies), *filter(None, map(report_id, reports))]


def step(
    known: Mapping[str, AlertRow], anomalies: Iterable[Anomaly], reports: Iterable[Report] = ()
) -> Alerts:
    """Take anomalies and reports in.

    Args:
        known: the stored alerts of `ids_of` them.
        anomalies, reports: in the order of the bus.
    """
    out = Alerts({}, [], [])
    for report in reports:
        at = report_id(report)
        if at and at not in known and at not in out.rows:
            evidence = Evidence(report.time_us, 0.0, "critical", report.text, "")
            row = AlertRow(at, _REPORTED[report.kind], report.agent, report.time_us, evidence)
            out.rows[at] = row
            out.changes.append((row.alert(), None))
            out.notifications.append(_notification(row.alert()))
    for anomaly in anomalies:
        at = alert_id(anomaly)
        before = out.rows.get(at) or known.get(at)
        row = before or AlertRow(at, anomaly.rule, anomaly.series, anomaly.begin_us)
        evidence = Evidence(anomaly.time_us, anomaly.value, anomaly.severity, anomaly.text, anomaly.id)
        if anomaly.phase == "begin":
            row = msgspec.structs.replace(row, begin=min(row.begin or evidence, evidence))
        else:
            row = msgspec.structs.replace(row, end=max(row.end or evidence, evidence))
        if row == before:
            continue
        out.rows[at] = row
        alert, was = row.alert(), before.alert() if before else None
        if alert != was:
            out.changes.append((alert, anomaly))
        if was is None or alert.state != was.state:
            out.notifications.append(_notification(alert))
    return out


def _notification(alert: Alert) -> Notification:
    return Notification(
        id=f"{alert.id}/{alert.state}",
        alert=alert.id,
        state=alert.state,
        rule=alert.rule,
        subject=alert.subject,
        severity=alert.severity,
        text=alert.text,
        value=alert.value,
        begin_us=alert.episode_us,
        time_us=alert.time_us,
    )
