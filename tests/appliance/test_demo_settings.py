"""The settings of a demo: those of a fast clock are as patient, for its readings, as the usual ones are."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater_appliance.box import box_of
from headwater_appliance.demo_settings import clock_of, pace_of, settings_of
from headwater_edge.settings import step_settings
from headwater_firmware_sim import scenario
from headwater_shared.clock import ScaledClock


@pytest.mark.parametrize("scale", [None, 60.0, 6000.0])
@pytest.mark.parametrize("name", [*dict(scenario.names()), "own/file.toml"])
def test_each_scenario_runs_at_any_pace(tmp_path: Path, name: str, scale: float | None) -> None:
    """The settings are good, and all processes find the same clock in them."""
    pace = pace_of(name, scale)
    file = tmp_path / "headwater.toml"
    file.write_text(settings_of(name, tmp_path, 1883, clock_of(pace), pace.scale))
    box = box_of(file)
    assert isinstance(box.clock(), ScaledClock) is (pace.scale != 1)
    assert step_settings(box.edge).levels[0] == ("10s" if pace.scale == 1 else "10m")


def test_times_of_rules_are_stretched() -> None:
    """A time to live of a minute is one of an hour at sixty times the pace; what is no time stays."""
    usual, fast = (settings_of("pumps", Path("x"), 1, "real", scale) for scale in (1.0, 60.0))
    assert 'ttl = "1m"' in usual
    assert 'ttl = "3600s"' in fast
    assert fast.count("above = 80.0") == usual.count("above = 80.0") == 1
    assert usual.count("lateness") == 0
