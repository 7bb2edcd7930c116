"""The settings that a demo runs with: its clock, its rules, and, where time runs fast, patience that is as much longer."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from headwater_shared.errors import SettingsError
from headwater_shared.settings import duration

_EPOCH, _US = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_DEFAULT = "own"
_TIMES = re.compile(r'\b(for|ttl|per|apart|within|calm) = "([0-9]+[a-z]+)"')
_CLOUD_RULES = re.compile(r"^\[+cloud\.", re.MULTILINE)
"""From the first table of the cloud side on all of a scenario's rules are the cloud side's."""
_LEVELS = '["10m", "1h"]'
_LEVEL = {"10s": "10m", "1m": "1h"}
"""Windows where time runs fast, and which stand for the usual ones."""
FAST = 60.0
"""From this pace on a reading comes once in minutes, and times are told in hours."""


class Pace(NamedTuple):
    """How a story is told."""

    scale: float = 1.0
    """Event time runs so many times as fast as the wall clock."""
    devices: int | None = None
    """All of the scenario's if not said."""
    rate: float | None = None
    """Readings a second of the wall; as the scenario says if not said."""


_PACES = {"pumps": Pace(3000, devices=40, rate=1000)}
"""Two and a half days in 76 seconds, each pump every ten minutes: a bearing wears out in a day."""
_ON_KAFKA = {"pumps": Pace(3000, devices=200, rate=5000)}
"""The same with all of the pumps, where several agents share them."""
_ON_STACK = {"pumps": Pace(1, devices=60)}
"""Prometheus and Alertmanager go by the clock on the wall, so all of it does."""

_SETTINGS = """# The settings of the demo: `headwater init` writes a file with every key and what it means.
[common]
data = "{data}"
clock = "{clock}"
log = "json"

[edge]
name = "{agent}"
health_port = 0
{bus}
[edge.listener]
port = {port}

{broker}{patience}{rules}
"""
_BROKER = """[[edge.broker]]
name = "mosquitto"
host = "127.0.0.1"
port = {port}

"""
_CLOUD = """[cloud]
health_port = 0
{bus}"""

_PATIENCE = """[edge.windows]
levels = {levels}
lateness = "{one}"
idle = "{ten}"
held = "{ten}"
horizon = "{long}"

[edge.devices]
silent_after = "{ten}"
offline_after = "{ten}"

"""
_CLOUD_PATIENCE = """gap_after = "{long}"
silent_after = "{long}"
"""


def pace_of(scenario: str, scale: float | None, ground: str = "box") -> Pace:
    """Return how a scenario is told on some ground; `scale`: a person wants another pace.

    Raises:
        SettingsError: another pace than the wall's, where others go by that.
    """
    pace = {"kafka": _ON_KAFKA, "stack": _ON_STACK}.get(ground, _PACES).get(scenario, Pace())
    if ground == "stack" and scale not in {None, 1}:
        raise SettingsError(
            "Prometheus and Alertmanager go by the clock on the wall", hint="--stack without --scale"
        )
    return pace if scale is None or scale == pace.scale else Pace(scale)


def clock_of(pace: Pace, origin_us: int | None = None, lead_s: float = 0.0) -> str:
    """Return the clock of all processes of a demo that begins now.

    Args:
        pace: how fast it runs.
        origin_us: what it is to show so many seconds from now; None: it goes on from the time that it is.
        lead_s: those seconds, of the wall.

    Raises:
        SettingsError: a clock that is not scaled cannot show another time.
    """
    if pace.scale == 1:
        if origin_us is not None:
            raise SettingsError(
                "only where time runs faster can it begin at another one", hint="give --scale too"
            )
        return "real"
    anchor = datetime.now(UTC)
    if origin_us is not None:  # anchor + (wall - anchor) * scale must be the origin then
        wall_us = (anchor - _EPOCH) / _US + lead_s * 1e6
        anchor = _EPOCH + (wall_us * pace.scale - origin_us) / (pace.scale - 1) * _US
    return f"scaled:{pace.scale:g}@{anchor.isoformat()}"


class Told(NamedTuple):
    """What the settings of all processes of a demo have in common."""

    scenario: str
    clock: str
    scale: float


def agent_settings(told: Told, name: str, data: Path, port: int, bus: str = "", broker: int = 0) -> str:
    """Return the settings of an agent as TOML; `bus`: that of a cluster; `broker`: the port of one that it connects to."""
    patience = _PATIENCE.format(levels=_LEVELS, **_patience(told.scale)) if told.scale >= FAST else ""
    return _SETTINGS.format(
        data=data, clock=told.clock, agent=name, port=port, patience=patience,
        broker=_BROKER.format(port=broker) if broker else "",
        rules=rules_of(told.scenario, told.scale), bus=_key("bus", bus),
    )  # fmt: skip


def cloud_settings(told: Told, bus: str = "", workers: int = 0) -> str:
    """Return the table of the cloud side as TOML."""
    patience = _CLOUD_PATIENCE.format(**_patience(told.scale)) if told.scale >= FAST else ""
    settings = _CLOUD.format(bus=_key("bus", bus)) + (f"workers = {workers}\n" if workers else "") + patience
    return f"{settings}\n{cloud_rules_of(told.scenario, told.scale)}"


def _key(name: str, value: str) -> str:
    return f'{name} = "{value}"\n' if value else ""


def _patience(scale: float) -> dict[str, str]:
    return {"one": _times(1, scale), "ten": _times(10, scale), "long": _times(300, scale)}


def rules_of(scenario: str, scale: float = 1.0) -> str:
    """Return the agents' rules of a scenario that ships with Headwater, as TOML; a few for a file of one's own.

    Their times are those of a clock that is not scaled: they become as much longer as the faults do.
    """
    return _rules(scenario, scale)[0]


def cloud_rules_of(scenario: str, scale: float = 1.0) -> str:
    """Return the rules of the cloud side likewise; windows, too, are as much longer then as a demo has them."""
    text = _rules(scenario, scale)[1]
    if scale < FAST:
        return text
    return re.sub(
        r'^level = "(\w+)"',
        lambda found: f'level = "{_LEVEL.get(found[1], found[1])}"',
        text,
        flags=re.MULTILINE,
    )


def _rules(scenario: str, scale: float) -> tuple[str, str]:
    folder = resources.files("headwater_appliance") / "rules"
    own = folder / f"{scenario}.toml"
    text = (own if own.is_file() else folder / f"{_DEFAULT}.toml").read_text()
    if scale != 1:
        text = _TIMES.sub(lambda found: f'{found[1]} = "{_times(duration(found[2]) / 1e6, scale)}"', text)
    cloud = _CLOUD_RULES.search(text)
    return (text[: cloud.start()], text[cloud.start() :]) if cloud else (text, "")


def _times(seconds: float, scale: float) -> str:
    return f"{max(1, round(seconds * scale))}s"
