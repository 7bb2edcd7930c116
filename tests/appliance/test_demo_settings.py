"""The settings of a demo: those of a fast clock are as patient, for its readings, as the usual ones are."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater_appliance.box import box_of
from headwater_appliance.demo_settings import Told, agent_settings, clock_of, pace_of
from headwater_appliance.demo_stand import cluster, one_box
from headwater_edge.settings import step_settings
from headwater_firmware_sim import scenario
from headwater_shared.clock import ScaledClock


@pytest.mark.parametrize("scale", [None, 60.0, 6000.0])
@pytest.mark.parametrize("name", [*dict(scenario.names()), "own/file.toml"])
def test_each_scenario_runs_at_any_pace(tmp_path: Path, name: str, scale: float | None) -> None:
    """The settings are good, and all processes find the same clock in them."""
    pace = pace_of(name, scale)
    box = one_box(tmp_path, Told(name, clock_of(pace), pace.scale)).box
    assert isinstance(box.clock(), ScaledClock) is (pace.scale != 1)
    assert step_settings(box.edge).levels[0] == ("10s" if pace.scale == 1 else "10m")


@pytest.mark.parametrize("sites", [["north", "east", "south", "west"], ["yard"], [f"s{n}" for n in range(9)]])
def test_a_cluster_has_an_agent_for_each_site(tmp_path: Path, sites: list[str]) -> None:
    """At most four agents share the sites, with names and folders of their own; the workers are in the first one's settings."""
    stand = cluster(tmp_path, Told("pumps", "real", 1.0), sites, "kafka://127.0.0.1:9092")
    assert len(stand.agents) == min(4, len(sites))
    assert sorted(site for one in stand.agents for site in one.sites) == sorted(sites)
    boxes = [box_of(one.settings) for one in stand.agents]
    assert len({box.edge.name for box in boxes} | {str(box.data) for box in boxes}) == 2 * len(boxes)
    assert {box.edge.bus for box in boxes} == {stand.box.cloud.bus} == {"kafka://127.0.0.1:9092"}
    assert [process.name for process in stand.box.cloud_processes] == ["worker-1", "worker-2"]
    assert len(stand.parts) == len(boxes) + 2


def test_times_of_rules_are_stretched() -> None:
    """A time to live of a minute is one of an hour at sixty times the pace; what is no time stays."""
    usual, fast = (agent_settings(Told("pumps", "real", scale), "x", Path("x"), 1) for scale in (1.0, 60.0))
    assert 'ttl = "1m"' in usual
    assert 'ttl = "3600s"' in fast
    assert fast.count("above = 80.0") == usual.count("above = 80.0") == 1
    assert usual.count("lateness") == 0
