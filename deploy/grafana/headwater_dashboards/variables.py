"""What a person chooses at the top of a dashboard."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import QueryVariable
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from headwater_dashboards.sources import INFLUX, PROMETHEUS

PREFIX = "headwater"
"""`prefix` of `[cloud.influx]`, and of what Prometheus scrapes."""
FOUND = f'"{PREFIX}_found"'
"""The database of what was found."""
WINDOWS = f'"{PREFIX}_$level".."windows"'
PLACE = '"site" =~ /^$site$/ AND "device" =~ /^$device$/'
NO_ROLLUP = r'"device" !~ /^\+/'
"""Rollups over devices stand beside the devices, as device `+`."""
LEVEL_NAMES = rf"/^{PREFIX}_(\d+(?:ms|s|m|h|d))$/"
"""Plain lengths: a window that hops, or a session, counts its readings more than once, or at no fixed time."""
ALL = ".*"


def level() -> VariableModel:
    """Which windows: a database each."""
    return _asked(
        "level",
        "Windows",
        "Length of the windows that are shown",
        "SHOW DATABASES",
        regex=LEVEL_NAMES,
        chosen="1m",
    )


def site(*, several: bool) -> VariableModel:
    query = f'SHOW TAG VALUES ON {FOUND} FROM "devices" WITH KEY = "site"'
    return _asked("site", "Site", "Where the devices are", query, several=several)


def device() -> VariableModel:
    query = f'SHOW TAG VALUES ON {FOUND} FROM "devices" WITH KEY = "device" WHERE "site" =~ /^$site$/'
    return _asked("device", "Device", "Of that site", query)


def metric() -> VariableModel:
    query = f'SHOW TAG VALUES ON "{PREFIX}_$level" FROM "windows" WITH KEY = "metric" WHERE {PLACE}'
    return _asked("metric", "Metric", "What the device measures", query, several=True)


def rule() -> VariableModel:
    query = (
        f'SHOW TAG VALUES ON {FOUND} FROM "anomalies", "alerts" WITH KEY = "rule" WHERE "site" =~ /^$site$/'
    )
    return _asked("rule", "Rule", "What found it", query, several=True)


def agent(metric_name: str) -> VariableModel:
    """The agents that a metric of Prometheus names."""
    query = f"label_values({metric_name}, agent)"
    return _asked("agent", "Agent", "Edge agents", query, several=True, source=PROMETHEUS)


def _asked(
    name: str,
    label: str,
    says: str,
    query: str,
    *,
    several: bool = False,
    regex: str = "",
    chosen: str = "",
    source: DataSourceRef = INFLUX,
) -> VariableModel:
    made = (
        QueryVariable(name).label(label).description(says).datasource(source).sort(VariableSort.NATURAL_ASC)
    )
    made.query({"query": query, "refId": f"{label}VariableQuery"}).refresh(
        VariableRefresh.ON_TIME_RANGE_CHANGED
    ).regex(regex)
    if several:
        made.multi(True).include_all(True).all_value(ALL)
        made.current(VariableOption(text=["All"], value=["$__all"]))
    elif chosen:
        made.current(VariableOption(text=chosen, value=chosen))
    return made.build()
