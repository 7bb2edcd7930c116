"""Scenarios: what ships, what a file may say, and how it is told that it is wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from headwater_firmware_sim import plan as plans
from headwater_firmware_sim import scenario
from headwater_firmware_sim.device import Device
from headwater_firmware_sim.plan import Plan
from headwater_shared.errors import SettingsError
from headwater_shared.ledger import read
from headwater_shared.ledger_writer import Ledger

T = 1_800_000_000_000_000
SMALL = """
[scenario]
devices = 3
sites = ["a", "b"]
name = "probe"
[scenario.metrics.level]
base = 1.0
"""


def written(folder: Path, more: str = "") -> str:
    path = folder / "my.toml"
    path.write_text(SMALL + more)
    return str(path)


def pumps(seconds: float = 90.0, **changes: object) -> Plan:
    return plans.make("pumps", seed=1, origin_us=T, seconds=seconds, **changes)  # type: ignore[arg-type]


def test_every_scenario_that_ships_can_be_read() -> None:
    """`pumps` is among them, and each says what it is about."""
    names = [name for name, _ in scenario.names()]
    assert "pumps" in names
    assert all(scenario.read(name).about for name in names)


def test_pumps_is_two_hundred_pumps_on_four_sites() -> None:
    """Five metrics each, once a second: 1,000 readings a second; both formats that bear a time are in use."""
    plan = pumps()
    found = plan.scenario
    assert (plan.devices, len(found.metrics), plan.readings_a_second) == (200, 5, 1000.0)
    assert Counter(found.site(index) for index in range(200)) == dict.fromkeys(found.sites, 50)
    assert len(found.sites) == 4
    assert set(Counter(found.format(index) for index in range(200))) == {"multi", "single"}


@pytest.mark.parametrize("seed", range(5))
def test_one_pump_runs_hot_and_no_other(seed: int) -> None:
    """From second 20 to second 40 after the origin one temperature is above 80; all others, and it before, are far below."""
    plan = plans.make("pumps", seed=seed, origin_us=T, seconds=64)
    temperature = list(plan.scenario.metrics).index("temperature")
    hottest = 0.0
    for index in range(0, 200, 3):
        device = Device(plan, index, list(range(5)))
        samples = [(s.time_us, s.values[temperature]) for s in device.samples()]
        inside = [value for time, value in samples if T + 20_000_000 <= time < T + 40_000_000]
        outside = [value for time, value in samples if not T + 20_000_000 <= time < T + 40_000_000]
        if device.name == "pump-007":
            assert min(inside) > 80
            assert len(inside) in {20, 21}
        else:
            outside += [value for value in inside if value == value]  # noqa: PLR0124 - not NaN
        hottest = max(hottest, *outside)
    assert hottest < 75


def test_faults_stand_in_the_ledger_with_their_exact_times(tmp_path: Path) -> None:
    """Each fault of a device that takes part, by event time."""
    with Ledger(tmp_path / "ledger") as book:
        plans.enter(pumps(devices=10), book)
    hot = next(fault for fault in read(tmp_path / "ledger").faults if fault["kind"] == "level-shift")
    assert (hot["site"], hot["device"], hot["metric"]) == ("south", "pump-007", "temperature")
    assert (hot["begin_us"], hot["end_us"]) == (T + 20_000_000, T + 40_000_000)


def test_a_fault_changes_exactly_its_samples(tmp_path: Path) -> None:
    """Apart from the samples at begin <= t < end, a series with a fault is the series without it."""
    fault = '[[scenario.faults]]\nkind = "level-shift"\ndevice = "probe-001"\nbegin = "5s"\nend = "9s"\nsize = 7.0\n'
    found = []
    for more in ("", fault):
        plan = plans.make(written(tmp_path, more), seed=1, origin_us=T, seconds=20)
        found.append([(s.time_us, s.values[0]) for s in Device(plan, 0, [0]).samples()])
    for (time, before), (same, after) in zip(*found, strict=True):
        assert same == time
        assert after - before == pytest.approx(7.0 if T + 5_000_000 <= time < T + 9_000_000 else 0.0)


def test_a_sensor_has_its_digits_and_its_range(tmp_path: Path) -> None:
    """Values are rounded and clipped as the metric says."""
    more = 'decimals = 1\nlow = 0.5\nhigh = 1.5\nsignals = [{ kind = "noise", deviation = 2.0 }]\n'
    plan = plans.make(written(tmp_path, more), seed=1, origin_us=T, seconds=300)
    values = np.array([s.values[0] for s in Device(plan, 0, [0]).samples()])
    assert (values.min(), values.max()) == (0.5, 1.5)
    assert np.array_equal(values, np.round(values, 1))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("bsae = 2.0\n", r"my\.toml:8: unknown key 'bsae'"),
        ("signals = [{ kind = 'noize', deviation = 1.0 }]\n", "noize"),
        ("[scenario.formats]\nmulti = 0\n", "no device a format"),
        (
            "[[scenario.faults]]\nkind='dropout'\ndevice='probe-9'\nbegin='1s'\nend='2s'\n",
            "'probe-9', which is not there",
        ),
        (
            "[[scenario.faults]]\nkind='dropout'\ndevice='probe-001'\nmetric='x'\nbegin='1s'\nend='2s'\n",
            "metric 'x'",
        ),
        (
            "[[scenario.faults]]\nkind='dropout'\ndevice='probe-001'\nbegin='2s'\nend='2s'\n",
            "ends before it begins",
        ),
        ("[scenario.metrics.'a/b']\nbase = 1.0\n", "'a/b' cannot be part of a topic"),
    ],
)
def test_a_mistake_in_a_scenario_is_told(tmp_path: Path, more: str, message: str) -> None:
    """Whatever is wrong is named together with the file."""
    with pytest.raises(SettingsError, match=message) as refused:
        scenario.read(written(tmp_path, more))
    assert "my.toml" in str(refused.value)


def test_an_unknown_scenario_names_those_that_there_are() -> None:
    """A name that is neither a scenario nor a file."""
    with pytest.raises(SettingsError, match="no scenario 'pmups'") as refused:
        scenario.read("pmups")
    assert "pumps" in refused.value.hint


@pytest.mark.parametrize("changes", [{"devices": 0}, {"devices": 201}, {"rate": 0.0}, {"rate": 1e12}])
def test_numbers_that_make_no_sense_are_refused(changes: dict[str, float]) -> None:
    """More devices than the scenario has, or a rate that nothing keeps."""
    with pytest.raises(SettingsError):
        pumps(**changes)


def test_a_fleet_may_be_on_a_site_of_its_own() -> None:
    """`sites` stand in for the scenario's, and are names as those are."""
    plan = pumps(devices=50, sites=["west"])
    assert {plan.scenario.site(index) for index in range(50)} == {"west"}
    with pytest.raises(SettingsError, match="cannot be part of a topic"):
        pumps(sites=["a/b"])


def test_a_scale_stretches_samples_and_faults() -> None:
    """At scale 60 a device samples every 60 event seconds and a fault has as many samples as at scale 1."""
    plan = plans.make("pumps", seed=1, origin_us=T, seconds=90, scale=60.0)
    device = Device(plan, 6, list(range(5)))
    times = np.array([sample.time_us for sample in device.samples()])
    assert len(times) == 90
    assert np.diff(times).mean() == pytest.approx(60_000_000, rel=0.01)
    hot = [s for s in device.samples() if s.values[2] > 80]
    assert len(hot) in {20, 21}
    assert plan.readings_a_second == 1000.0


def test_a_ledger_belongs_to_one_run(tmp_path: Path) -> None:
    """Another seed is refused; the same run goes on from the origin that the ledger has, to the end that it then has."""
    with Ledger(tmp_path / "ledger") as book:
        plans.enter(pumps(), book)
    with Ledger(tmp_path / "ledger") as book:
        later = plans.make("pumps", seed=1, origin_us=T + 500, seconds=90)
        entered = plans.enter(later, book)
        assert (entered.origin_us, entered.end_us) == (T, T + 90_000_000)
        with pytest.raises(SettingsError, match="seed = 1, this one has 2"):
            plans.enter(plans.make("pumps", seed=2, origin_us=T, seconds=90), book)
