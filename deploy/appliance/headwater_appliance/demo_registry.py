"""What a demo says of its devices before they send: their models and units, so that they have peers."""

from __future__ import annotations

from pathlib import Path

from headwater_firmware_sim.scenario import Scenario
from headwater_shared import registry
from headwater_shared.registry import Entry


def entries(scenario: Scenario, devices: int) -> dict[str, Entry]:
    """Return what is known of the first devices of a scenario, by `site/device`; nothing where it has no models."""
    if not scenario.models:
        return {}
    units = {name: metric.unit for name, metric in scenario.metrics.items()}
    return {
        f"{scenario.site(index)}/{scenario.device_name(index)}": Entry(scenario.model(index), metrics=units)
        for index in range(devices)
    }


def register(data: Path, scenario: Scenario, devices: int, now_us: int) -> None:
    """Write it where the cloud side looks: the registry of a data folder."""
    data.mkdir(parents=True, exist_ok=True)
    with registry.changed(data / registry.FILE, now_us) as known:
        known.update(entries(scenario, devices))
