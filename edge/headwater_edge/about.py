"""What is known of a series for screens: unit and name by the settings, else the unit, model and place of the device registry."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from headwater_edge.home_assistant import About
from headwater_edge.settings import EdgeSettings
from headwater_shared import registry
from headwater_shared.identity import device_of
from headwater_shared.registry import Entry


def about_of(settings: EdgeSettings, data: Path) -> Callable[[str], About]:
    """Return what tells of a series; the registry is read now.

    Raises:
        SettingsError: the registry cannot be read.
    """
    devices = registry.read(data / registry.FILE)

    def about(series: str) -> About:
        entry = devices.get(device_of(series), Entry())
        metric = next((one for one in settings.metric if fnmatchcase(series, one.series)), None)
        unit = (
            metric.unit
            if metric is not None and metric.unit
            else entry.metrics.get(series.rpartition("/")[2], "")
        )
        return About(unit, metric.name if metric is not None else "", entry.model, entry.place)

    return about
