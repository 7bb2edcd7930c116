"""One device: how it is, what it measures beside what is expected, what was found and what was done about it."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.dashboard import Panel

from headwater_dashboards import columns, panels, variables
from headwater_dashboards.annotations import Marks
from headwater_dashboards.links import DEVICE
from headwater_dashboards.pages import Section, page
from headwater_dashboards.panels import listed, number, over_time, states
from headwater_dashboards.sources import INFLUX, lines, rows
from headwater_dashboards.variables import FOUND, PLACE, WINDOWS

_BATTERY = '"metric" =~ /(?i)^(battery|batt|soc|vbat)/'
_COUNTED = f'{PLACE} AND "count" > 0 AND $timeFilter'
_METRIC = '"metric" =~ /^$metric$/'
_SO_MANY, _NEWEST = 30, 6
"""Points of the chart that say what is expected at the last of them, less the newest: what is not as usual would hide itself."""
_SIGMAS = 4
_BEFORE = "time >= ${__from}ms - ${__range_ms}ms AND time <= ${__to}ms"
"""As much again before what is shown, so that the band is there from the chart's edge on."""
_BEGUN = "time >= ${__from}ms - 7d AND time <= ${__to}ms"
"""What began before the time that is shown may reach into it."""
UPPER, LOWER = "expected, at most", "expected, at least"


def made() -> dashboard.Dashboard:
    return page(
        DEVICE,
        "Headwater: device",
        "One device: is it heard, what does it measure, is that as usual, what was found, what was it told to do.",
        [variables.level(), variables.site(several=False), variables.device(), variables.metric()],
        [
            Section("", [*_now(), _latest(), _whose()]),
            Section("Readings, and what is expected of them", [_readings()]),
            Section("What was found, and what was done", [_alerts(), _anomalies(), _commands()]),
            Section("Is it heard?", [_status(), _rate(), _late()]),
        ],
        [
            _marks("anomalies", "orange", "false", '"end_us" / 1000 AS "end_ms"', "anomalies.end_ms"),
            _marks("anomalies that go on", "red", "true", '"severity"', ""),
            Marks(
                "commands", "blue", f'SELECT "act", "name", "status" FROM {FOUND}.."commands" WHERE {PLACE} AND $timeFilter', tags="status", text="name"
            ),
        ],
    )  # fmt: skip


def _marks(name: str, colour: str, goes_on: str, more: str, end: str) -> Marks:
    query = f'SELECT "text", "rule", {more} FROM {FOUND}.."anomalies" WHERE {_BEGUN} AND {PLACE} AND "open" = {goes_on}'
    return Marks(name, colour, query, tags="rule", end=end)


def _now() -> list[Panel]:
    where = f"{PLACE} AND time <= ${{__to}}ms"
    return [
        number(
            "Status", "What its agent said last of its connection.", INFLUX,
            lines(f'SELECT last("code") FROM {FOUND}.."devices" WHERE {where}'),
            unit="none", words=panels.STATUS, steps={None: panels.RED, 1: panels.YELLOW, 2: panels.GREEN}, none="never heard",
        ),
        number(
            "Last window", "When its last window of readings began, of this length of windows.", INFLUX,
            rows(f'SELECT last("count") FROM {WINDOWS} WHERE {PLACE} AND "count" > 0 AND time <= ${{__to}}ms'),
            unit="dateTimeFromNow", none="never", field="/^Time$/",
        ),
        number(
            "Open alerts", "Alerts about it that are firing or acknowledged.", INFLUX,
            lines(f'SELECT count("id") FROM {FOUND}.."alerts" WHERE {where} AND "open" = true'),
            unit="none", steps=panels.NONE_IS_GOOD,
        ),
        number(
            "Open anomalies", "Anomalies of it that go on.", INFLUX,
            lines(f'SELECT count("id") FROM {FOUND}.."anomalies" WHERE {where} AND "open" = true'),
            unit="none", steps=panels.NONE_IS_BETTER,
        ),
        number(
            "Battery", "The last value of its metric of that name; most devices have none.", INFLUX,
            lines(f'SELECT last("last") FROM {WINDOWS} WHERE {_COUNTED} AND {_BATTERY} GROUP BY "metric"', "$tag_metric"),
            unit="none", none="none", steps={None: panels.GREY},
        ),
        number(
            "Readings", "Readings that were counted in the time that is shown, each once.", INFLUX,
            lines(f'SELECT sum("count") FROM {WINDOWS} WHERE {_COUNTED}'),
            unit="short",
        ),
    ]  # fmt: skip


def _latest() -> Panel:
    query = f'SELECT last("last") FROM {WINDOWS} WHERE {_COUNTED} AND {_METRIC} GROUP BY "metric"'
    says = "The last reading of each metric in the time that is shown."
    return number(
        "Measures now",
        says,
        INFLUX,
        lines(query, "$tag_metric"),
        unit="short",
        none="nothing in this time",
        width=24,
        spark=True,
    )


def _whose() -> Panel:
    latest = columns.latest_devices('"status", "reason", "place", "owner", "model", "agent"', PLACE)
    query = f'SELECT "status", "place", "owner", "model", "agent", "reason" FROM ({latest})'
    says = "What the registry of devices says of it, which agent hears it, and its status with the reason for it."
    return listed(
        "Where it is, and whose",
        says,
        INFLUX,
        rows(query),
        columns=columns.without_place(columns.DEVICE),
        height=4,
        none="never heard",
    )


def _readings() -> Panel:
    """A chart a metric."""
    seen = f'SELECT "mean" * "count" AS "t", "count" AS "n", "min" AS "l", "max" AS "h" FROM {WINDOWS} WHERE {_COUNTED} AND {_METRIC}'
    shown = f"""
        SELECT sum("t") / sum("n") AS "mean", min("l") AS "lowest", max("h") AS "highest" FROM ({seen})
        WHERE $timeFilter GROUP BY time($__interval) fill(none)"""
    squares = f"""
        SELECT "mean" AS "m", "mean" * "mean" + "stddev" * "stddev" AS "s" FROM {WINDOWS}
        WHERE {PLACE} AND "count" > 0 AND {_BEFORE} AND {_METRIC}"""
    middle = _before("m")
    spread = f"{_SIGMAS} * sqrt({_before('s')} - pow({middle}, 2))"
    band = f"""
        SELECT {middle} + {spread} AS "{UPPER}", {middle} - {spread} AS "{LOWER}" FROM ({squares})
        WHERE {_BEFORE} GROUP BY time($__interval) fill(none)"""
    says = (
        f"Mean, lowest and highest of its windows. The blue band is what is to be expected from what it measured before: the mean, give or take {_SIGMAS} "
        f"standard deviations, of the {_SO_MANY - _NEWEST} points before the newest {_NEWEST}. It is reckoned here, from stored windows; what the detectors of "
        "the agent expect is finer, and is in the reasons of anomalies, which are marked in the chart."
    )
    chart = over_time(
        "$metric", says, INFLUX, lines(shown, "$col"), lines(band, "$col"), unit="short", height=9, interval="$level", from_zero=False,
        band=(UPPER, LOWER),
    )  # fmt: skip
    chart.repeat, chart.repeat_direction, chart.max_per_row = "metric", "h", 2
    return chart


def _before(of: str) -> str:
    """Return the mean of a column over the points before the newest, as the difference of two moving averages; no slash: it would begin
    what Grafana takes for a regular expression.
    """
    rest = _SO_MANY - _NEWEST
    return f'({_SO_MANY / rest} * moving_average(mean("{of}"), {_SO_MANY}) - {_NEWEST / rest} * moving_average(mean("{of}"), {_NEWEST}))'


def _alerts() -> Panel:
    where = f"{PLACE} AND {_BEGUN}"
    return listed(
        "Alerts", "Its alerts that began in the time that is shown, or in the week before.", INFLUX, rows(columns.alerts(where, of_one=True)),
        columns=columns.without_place(columns.ALERT), height=7,
    )  # fmt: skip


def _anomalies() -> Panel:
    return listed(
        "Anomalies", "What was found on it, and why; those that began in the time that is shown, or in the week before.", INFLUX,
        rows(columns.anomalies(f"{PLACE} AND {_BEGUN} AND {_METRIC}", of_one=True)), columns=columns.without_place(columns.ANOMALY), height=7,
    )  # fmt: skip


def _commands() -> Panel:
    return listed(
        "Commands", "What it was told to do by a rule or a person (open: let out, and not answered yet), and what became of that.", INFLUX,
        rows(columns.commands(f"{PLACE} AND {_BEGUN}")), columns=columns.COMMAND, height=6,
    )  # fmt: skip


def _status() -> Panel:
    query = f'SELECT "code" AS "status" FROM {FOUND}.."devices" WHERE {PLACE} AND time >= ${{__from}}ms - 30d AND time <= ${{__to}}ms'
    says = "Online, silent (connected, but sends nothing) or offline, as its agent said; from its last change of the month before on."
    return states("Status over time", says, INFLUX, lines(query, "$col"), words=panels.STATUS)


def _rate() -> Panel:
    query = f"""
        SELECT sum("count") * 1000 / $__interval_ms AS "readings" FROM {WINDOWS} WHERE {_COUNTED} AND {_METRIC}
        GROUP BY time($__interval), "metric" fill(0)"""
    says = "Readings a second that its windows counted; a hole is where none came, and may fill later."
    return over_time(
        "Readings a second", says, INFLUX, lines(query, "$tag_metric"), unit="rps", interval="$level"
    )


def _late() -> Panel:
    query = f"""
        SELECT count("revision") AS "windows" FROM {WINDOWS} WHERE {_COUNTED} AND {_METRIC} AND ("revision" > 0 OR "parts" > 1)
        GROUP BY time($__interval), "metric" fill(none)"""
    says = "Windows that were corrected after they had closed: readings came late, from a buffer of the device or by a bad clock."
    return over_time(
        "Windows corrected by late readings",
        says,
        INFLUX,
        lines(query, "$tag_metric"),
        unit="short",
        interval="$level",
        stacked_bars=True,
    )
