"""The settings of a demo: those of a fast clock are as patient, for its readings, as the usual ones are."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from headwater_appliance.box import box_of
from headwater_appliance.demo_registry import register
from headwater_appliance.demo_settings import (
    Told,
    agent_settings,
    clock_of,
    cloud_rules_of,
    pace_of,
    rules_of,
)
from headwater_appliance.demo_stand import cluster, one_box
from headwater_edge.settings import step_settings
from headwater_firmware_sim import scenario
from headwater_shared import registry
from headwater_shared.clock import ScaledClock
from headwater_shared.settings import duration


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


@pytest.mark.parametrize("name", dict(scenario.names()))
def test_each_part_has_its_own_rules(name: str) -> None:
    """What an agent can tell stands in its settings; patterns and comparisons in the cloud side's, with windows that there are."""
    for scale, levels in ((1.0, {"10s", "1m"}), (3000.0, {"10m", "1h"})):
        edge, cloud = (tomllib.loads(text) for text in (rules_of(name, scale), cloud_rules_of(name, scale)))
        assert edge.keys() == {"edge"}
        assert cloud.keys() == {"cloud"}
        assert {one["level"] for one in cloud["cloud"]["compare"]} <= levels
        withins = [duration(one["within"]) for one in cloud["cloud"]["pattern"]]
        assert min(withins) >= 30_000_000 * scale
        steps = [step for one in cloud["cloud"]["pattern"] for step in one.get("sequence", [])]
        assert all(duration(step["for"]) == 300_000_000 * scale for step in steps if "for" in step)
    assert cloud_rules_of("own/file.toml") == ""


@pytest.mark.parametrize("name", dict(scenario.names()))
def test_devices_of_a_scenario_have_peers(tmp_path: Path, name: str) -> None:
    """Each is registered with its model and units before it sends; eight or more of each model on several sites."""
    found = scenario.read(name)
    register(tmp_path / "data", found, found.devices, 1_800_000_000_000_000)
    known = registry.read(tmp_path / "data" / registry.FILE)
    assert len(known) == found.devices
    sites: dict[str, list[str]] = {}
    for device, entry in known.items():
        assert entry.metrics.keys() == found.metrics.keys()
        sites.setdefault(entry.model, []).append(device.partition("/")[0])
    assert sites.keys() == set(found.models)
    for some in sites.values():
        assert len(some) >= 8
        assert set(some) == set(found.sites)
