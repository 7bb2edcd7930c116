"""Settings that can be gone by: all that a start would check of them, before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from headwater_edge import grants
from headwater_edge.broker_settings import check_brokers
from headwater_edge.decode import reading
from headwater_edge.disk_settings import disk_limits
from headwater_edge.formats import Formats
from headwater_edge.ranges import Ranges
from headwater_edge.settings import EdgeSettings, StepSettings, step_settings
from headwater_edge.topics import SeriesIndex
from headwater_shared.settings import load, secret


def read(file: Path | None) -> EdgeSettings:
    """Read the agent's settings, of all that they are in: whoever runs an agent, or checks what one would run with, asks here.

    Raises:
        SettingsError: naming file, line and key, or the variable.
    """
    return load(file, "edge", EdgeSettings)


class Checked(NamedTuple):
    """Settings that can be taken up."""

    settings: EdgeSettings
    step: StepSettings
    formats: Formats
    ranges: Ranges
    passwords: Mapping[str, str]


def check(settings: EdgeSettings, index: SeriesIndex | None = None, before: Formats | None = None) -> Checked:
    """Check all that a start would check, but for what only the start can: ports, files of others.

    Raises:
        SettingsError: naming what cannot be.
    """
    from headwater_edge.put_out import check_put_out

    check_brokers(settings.broker)
    check_put_out(settings)
    for broker in settings.broker:
        if broker.password:
            secret(broker.password)
    step = step_settings(settings)
    disk_limits(settings.disk)
    formats, ranges = reading(settings, SeriesIndex([], 1) if index is None else index, before)
    for found in settings.grants.values():
        grants.check(found)
    passwords = {name: secret(value) for name, value in settings.users.items()}
    return Checked(settings, step, formats, ranges, passwords)
