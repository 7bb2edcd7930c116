"""Anomalies and alerts: what is open now, what came and went, by rule and site."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.dashboard import Panel

from headwater_dashboards import columns, panels, variables
from headwater_dashboards.links import FINDINGS
from headwater_dashboards.pages import Section, page
from headwater_dashboards.panels import bars, listed, number, over_time
from headwater_dashboards.sources import INFLUX, lines, rows
from headwater_dashboards.variables import FOUND

_WHOSE = '"site" =~ /^$site$/ AND "rule" =~ /^$rule$/'
_OPEN = f'{_WHOSE} AND "open" = true AND time <= ${{__to}}ms'
_BEGAN = f"{_WHOSE} AND $timeFilter"
_ANOMALIES, _ALERTS = f'{FOUND}.."anomalies"', f'{FOUND}.."alerts"'


def made() -> dashboard.Dashboard:
    return page(
        FINDINGS,
        "Headwater: anomalies and alerts",
        "What is open, who has it, what to do; and what came and went, by rule and site.",
        [variables.level(), variables.site(several=True), variables.rule()],
        [
            Section("", _numbers()),
            Section("Open now", [_open_alerts()]),
            Section("When", [_alerts_over_time(), _anomalies_over_time()]),
            Section(
                "What came and went",
                [_history(), _alerts(), _anomalies()],
            ),
            Section("By kind and site, in the time that is shown", [*_counted()]),
        ],
        shown="now-24h",
    )


def _numbers() -> list[Panel]:
    incidents = f'SELECT count(distinct("incident")) FROM {_ALERTS} WHERE {_OPEN}'
    return [
        number(
            "Critical", "Critical alerts that are open (firing or acknowledged).", INFLUX,
            lines(f"SELECT count(\"id\") FROM {_ALERTS} WHERE {_OPEN} AND \"severity\" = 'critical'"),
            unit="none", steps=panels.NONE_IS_GOOD,
        ),
        number(
            "Nobody has it", "Alerts that are firing and that nobody acknowledged.", INFLUX,
            lines(f"SELECT count(\"id\") FROM {_ALERTS} WHERE {_OPEN} AND \"state\" = 'firing'"),
            unit="none", steps=panels.NONE_IS_GOOD,
        ),
        number(
            "Open alerts", "All that are firing or acknowledged.", INFLUX,
            lines(f'SELECT count("id") FROM {_ALERTS} WHERE {_OPEN}'), unit="none", steps=panels.NONE_IS_BETTER,
        ),
        number(
            "Open incidents", "Alerts of one site that began together are one incident, and one message.", INFLUX,
            lines(incidents), unit="none", steps=panels.NONE_IS_BETTER,
        ),
        number(
            "Open anomalies", "Anomalies that go on; most are evidence, and no alert by themselves.", INFLUX,
            lines(f'SELECT count("id") FROM {_ANOMALIES} WHERE {_OPEN}'), unit="none", steps=panels.NONE_IS_BETTER,
        ),
        number(
            "Alerts in this time", "Alerts that began in the time that is shown.", INFLUX,
            lines(f'SELECT count("id") FROM {_ALERTS} WHERE {_BEGAN}'), unit="none",
        ),
    ]  # fmt: skip


def _open_alerts() -> Panel:
    says = (
        "What is firing or acknowledged, whenever it began. The device leads to its dashboard, `link` to the alert's page, where it can be acknowledged, "
        "`runbook` to what to do."
    )
    return listed(
        "Alerts that are open", says, INFLUX, rows(columns.alerts(_OPEN)), columns=columns.ALERT, height=8
    )


def _alerts_over_time() -> Panel:
    query = f'SELECT count("id") AS "alerts" FROM {_ALERTS} WHERE {_BEGAN} GROUP BY time($__interval), "rule" fill(none)'
    says = "When alerts began, by rule."
    return over_time(
        "Alerts began", says, INFLUX, lines(query, "$tag_rule"), unit="none", interval="1m", stacked_bars=True
    )


def _anomalies_over_time() -> Panel:
    query = f'SELECT count("id") AS "anomalies" FROM {_ANOMALIES} WHERE {_BEGAN} GROUP BY time($__interval), "rule" fill(none)'
    says = "When anomalies began, by rule: a rule that finds something all the time is to be set anew."
    return over_time(
        "Anomalies began",
        says,
        INFLUX,
        lines(query, "$tag_rule"),
        unit="none",
        interval="1m",
        stacked_bars=True,
    )


def _history() -> Panel:
    says = "Each change of each alert: fired, grew worse, acknowledged by whom, resolved; why."
    return listed(
        "What became of alerts", says, INFLUX, rows(columns.changes(_BEGAN)), columns=columns.CHANGE, height=9
    )


def _alerts() -> Panel:
    says = "Alerts that began in the time that is shown, the open ones and those that are over."
    return listed("Alerts", says, INFLUX, rows(columns.alerts(_BEGAN)), columns=columns.ALERT, height=9)


def _anomalies() -> Panel:
    says = "Anomalies that began in the time that is shown: what was found on which series, why, and how long it lasted."
    return listed(
        "Anomalies", says, INFLUX, rows(columns.anomalies(_BEGAN)), columns=columns.ANOMALY, height=9
    )


def _counted() -> list[Panel]:
    return [
        bars(
            f"{what.title()} by {tag}", f"How many {what} began in the time that is shown, by {tag}.", INFLUX,
            lines(f'SELECT count("id") FROM {table} WHERE {_BEGAN} GROUP BY "{tag}"', f"$tag_{tag}"), unit="none", width=6,
        )
        for what, table in (("alerts", _ALERTS), ("anomalies", _ANOMALIES))
        for tag in ("rule", "site")
    ]  # fmt: skip
