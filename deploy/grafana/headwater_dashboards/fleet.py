"""The fleet: who is heard, who is not, who is late, who is not as usual, where they are, and which versions run."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.dashboard import Panel

from headwater_dashboards import columns, panels, variables
from headwater_dashboards.links import FLEET, TO_SITE
from headwater_dashboards.pages import Section, page
from headwater_dashboards.panels import Column, bars, listed, number, over_time
from headwater_dashboards.sources import INFLUX, PROMETHEUS, labels, lines, rows
from headwater_dashboards.variables import FOUND, NO_ROLLUP, WINDOWS

_SITE = '"site" =~ /^$site$/'
_COUNTED = f'{_SITE} AND {NO_ROLLUP} AND "count" > 0 AND $timeFilter'
_OPEN = f'{_SITE} AND "open" = true AND time <= ${{__to}}ms'


def made() -> dashboard.Dashboard:
    return page(
        FLEET,
        "Headwater: fleet",
        "All devices: how many are heard, silent, late, not as usual; where, since when, and why. From here to each of them.",
        [variables.level(), variables.site(several=True)],
        [
            Section("", _numbers()),
            Section("Look at these first", [_firing(), _unheard()]),
            Section("What comes in", [_rate(), _senders(), _late()]),
            Section("All devices, and what runs where", [_all(), _by_site(), _versions()]),
        ],
    )


def _with_status(code: int) -> str:
    query = columns.latest_devices('"status"', _SITE)
    return f'SELECT count("code") FROM ({query}) WHERE "code" = {code}'


def _numbers() -> list[Panel]:
    late = f'SELECT max("revision") AS "n" FROM {WINDOWS} WHERE {_COUNTED} GROUP BY "site", "device"'
    unusual = f'SELECT count("id") AS "n" FROM {FOUND}.."anomalies" WHERE {_OPEN} GROUP BY "site", "device"'
    return [
        number(
            "Live", "Devices that are online, as their agents say, and in contact.", INFLUX, lines(_with_status(2)),
            unit="none", steps={None: panels.GREEN},
        ),
        number(
            "Silent", "Devices that are connected and send nothing, longer than they may.", INFLUX, lines(_with_status(1)),
            unit="none", steps=panels.NONE_IS_BETTER,
        ),
        number(
            "Offline", "Devices whose connection is gone.", INFLUX, lines(_with_status(0)), unit="none", steps=panels.NONE_IS_GOOD,
        ),
        number(
            "Not as usual", "Devices with an anomaly that goes on.", INFLUX, lines(f'SELECT count("n") FROM ({unusual})'),
            unit="none", steps=panels.NONE_IS_BETTER,
        ),
        number(
            "Late", "Devices of which readings came after their window had closed, in the time that is shown; the windows were corrected.",
            INFLUX, lines(f'SELECT count("n") FROM ({late}) WHERE "n" > 0'), unit="none", steps=panels.NONE_IS_BETTER,
        ),
        number(
            "Newest window", "When the newest window began that the store has: are these numbers of now? If not, the pipeline says why.", INFLUX,
            rows(f'SELECT last("count") FROM {WINDOWS} WHERE {_SITE} AND {NO_ROLLUP} AND "count" > 0 AND time <= ${{__to}}ms'),
            unit="dateTimeFromNow", none="nothing", field="/^Time$/",
        ),
    ]  # fmt: skip


def _firing() -> Panel:
    says = "Every alert that is firing or acknowledged now, whenever it began. A click leads to the device; the runbook says what to do."
    return listed(
        "Alerts that are open", says, INFLUX, rows(columns.alerts(_OPEN)), columns=columns.ALERT, height=7
    )


def _unheard() -> Panel:
    latest = columns.latest_devices('"status", "reason", "place", "model", "owner"', _SITE)
    query = f'SELECT "status", "site", "device", "place", "reason", "owner" FROM ({latest}) WHERE "code" < 2'
    says = "Devices that are silent or offline, since when, why, and where they are: the place of the registry of devices."
    return listed(
        "Not heard", says, INFLUX, rows(query), columns=columns.DEVICE, height=7, none="all are heard"
    )


def _rate() -> Panel:
    query = f"""
        SELECT sum("count") * 1000 / $__interval_ms AS "readings" FROM {WINDOWS} WHERE {_COUNTED}
        GROUP BY time($__interval), "site" fill(0)"""
    says = (
        "Readings a second that were counted in windows, each once, by the time at which they were measured."
    )
    return over_time(
        "Readings a second", says, INFLUX, lines(query, "$tag_site"), unit="rps", width=8, interval="$level"
    )


def _senders() -> Panel:
    each = f"""
        SELECT sum("count") AS "n" FROM {WINDOWS} WHERE {_COUNTED} GROUP BY time($__interval), "site", "device" fill(none)"""
    query = f'SELECT count("n") AS "devices" FROM ({each}) WHERE $timeFilter GROUP BY time($__interval), "site" fill(0)'
    says = "Devices of which there are readings, by site: a step down is a site that is cut off; it may fill later."
    return over_time(
        "Devices that were heard",
        says,
        INFLUX,
        lines(query, "$tag_site"),
        unit="none",
        width=8,
        interval="$level",
    )


def _late() -> Panel:
    query = f"""
        SELECT count("revision") AS "windows" FROM {WINDOWS} WHERE {_COUNTED} AND ("revision" > 0 OR "parts" > 1)
        GROUP BY time($__interval), "site" fill(none)"""
    says = "Windows that were corrected after they had closed, by site: readings came late, or by two agents."
    return over_time(
        "Windows corrected by late readings", says, INFLUX, lines(query, "$tag_site"), unit="short", width=8, interval="$level",
        stacked_bars=True,
    )  # fmt: skip


def _all() -> Panel:
    latest = columns.latest_devices('"status", "reason", "place", "model", "agent"', _SITE)
    query = f'SELECT "status", "site", "device", "place", "model", "agent", "reason" FROM ({latest})'
    says = "Every device that was ever heard, with the last word on it before the end of the time that is shown. There is no map: the registry has places by name, not by coordinates."
    return listed(
        "Devices and where they are",
        says,
        INFLUX,
        rows(query),
        columns=columns.DEVICE,
        height=12,
        newest_first="device",
    )


def _by_site() -> Panel:
    latest = columns.latest_devices('"status"', _SITE)
    query = f'SELECT count("code") FROM ({latest}) GROUP BY "site"'
    return bars(
        "Devices by site",
        "Devices that were ever heard.",
        INFLUX,
        lines(query, "$tag_site"),
        unit="none",
        width=8,
    )


def _versions() -> Panel:
    query = 'max by (agent, site, version) (headwater_agent_build_info{site=~"$site"})'
    says = "Which version each agent runs, as its last status frame said; agents that were not heard for an hour are left out."
    shown = {
        "Time": Column(hidden=True),
        "Value": Column(hidden=True),
        "site": TO_SITE,
        "agent": Column(width=150),
    }
    return listed(
        "Agents and their versions",
        says,
        PROMETHEUS,
        labels(query),
        columns=shown,
        width=16,
        height=8,
        newest_first="version",
    )
