"""What breaks in more than one value: stuck sensors, noise, worn bearings, events that many devices see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headwater_firmware_sim import plan as plans
from headwater_firmware_sim.device import Device
from headwater_firmware_sim.plan import Plan
from headwater_shared.errors import SettingsError
from headwater_shared.ledger import read
from headwater_shared.ledger_writer import Ledger

T = 1_800_000_000_000_000
PUMPS = """
[scenario]
devices = 3
sites = ["a"]
name = "pump"
jitter = 0.0
[scenario.metrics.vibration]
base = 2.0
decimals = 9
signals = [{ kind = "noise", deviation = 0.1 }]
[scenario.metrics.temperature]
base = 50.0
decimals = 9
signals = [{ kind = "noise", deviation = 0.1 }]
"""


def planned(folder: Path, fault: str, seconds: float = 300.0) -> Plan:
    path = folder / "pumps.toml"
    path.write_text(PUMPS + (f"[[scenario.faults]]\n{fault}" if fault else ""))
    return plans.make(str(path), seed=1, origin_us=T, seconds=seconds)


def column(plan: Plan, device: int, metric: int) -> tuple[np.ndarray, np.ndarray]:
    """Return times since the origin in seconds, and values."""
    samples = list(Device(plan, device, [0, 1]).samples())
    return np.array([(s.time_us - T) / 1e6 for s in samples]), np.array([s.values[metric] for s in samples])


def test_a_stuck_value_is_the_first_one_again_and_again(tmp_path: Path) -> None:
    """Also over more samples than are made at once; before and after all is as it was."""
    plan = planned(
        tmp_path, 'kind="stuck"\ndevice="pump-002"\nmetric="temperature"\nbegin="20s"\nend="180s"\n'
    )
    t, stuck = column(plan, 1, 1)
    _, right = column(planned(tmp_path, ""), 1, 1)
    inside = (t >= 20) & (t < 180)
    assert set(stuck[inside].tolist()) == {right[inside][0]}
    assert np.array_equal(stuck[~inside], right[~inside])


def test_a_noise_burst_is_as_noisy_as_said_and_the_same_each_time(tmp_path: Path) -> None:
    """Its deviation inside, nothing outside; the same seed gives the same noise."""
    text = 'kind="noise-burst"\ndevice="pump-001"\nmetric="vibration"\nbegin="20s"\nend="280s"\nsize=3.0\n'
    t, noisy = column(planned(tmp_path, text), 0, 0)
    again = column(planned(tmp_path, text), 0, 0)[1]
    off = noisy - column(planned(tmp_path, ""), 0, 0)[1]
    inside = (t >= 20) & (t < 280)
    assert off[inside].std() == pytest.approx(3.0, rel=0.15)
    assert not off[~inside].any()
    assert np.array_equal(noisy, again)


def test_a_bearing_wears_out_vibration_first_then_temperature(tmp_path: Path) -> None:
    """The temperature follows after the lag; the ledger has an interval for each of the two."""
    text = 'kind="bearing-wear"\ndevice="pump-003"\nmetric="vibration"\nsecond="temperature"\nbegin="100s"\nend="200s"\nsize=8.0\nsecond_size=30.0\nlag=0.4\n'
    plan = planned(tmp_path, text)
    t, vibration = column(plan, 2, 0)
    heat = column(plan, 2, 1)[1] - column(planned(tmp_path, ""), 2, 1)[1]
    vibration = vibration - column(planned(tmp_path, ""), 2, 0)[1]
    assert vibration[(t >= 150) & (t < 152)].max() == pytest.approx(8.0 * 0.52**2, rel=0.1)
    assert vibration[t < 200].max() == pytest.approx(8.0, rel=0.05)
    assert not heat[t < 140].any()
    assert heat[(t >= 198) & (t < 200)].min() > 25
    assert not heat[t >= 200].any()
    with Ledger(tmp_path / "ledger") as book:
        plans.enter(plan, book)
    found = {fault["metric"]: fault for fault in read(tmp_path / "ledger").faults}
    assert found["vibration"]["begin_us"] == T + 100_000_000
    assert found["temperature"]["begin_us"] == T + 140_000_000
    assert {fault["end_us"] for fault in found.values()} == {T + 200_000_000}


def test_a_bearing_of_which_a_piece_breaks_out_is_off_at_once(tmp_path: Path) -> None:
    """By the step at the begin, up to the size at the end; the second metric has none."""
    text = 'kind="bearing-wear"\ndevice="pump-003"\nmetric="vibration"\nsecond="temperature"\nbegin="100s"\nend="200s"\nsize=8.0\nstep=2.0\nsecond_size=30.0\n'
    t, vibration = column(planned(tmp_path, text), 2, 0)
    off = vibration - column(planned(tmp_path, ""), 2, 0)[1]
    assert not off[t < 100].any()
    assert off[(t >= 100) & (t < 103)] == pytest.approx(2.0, abs=0.02)
    assert off[t < 200].max() == pytest.approx(8.0, rel=0.05)
    heat = column(planned(tmp_path, text), 2, 1)[1] - column(planned(tmp_path, ""), 2, 1)[1]
    assert heat[(t >= 140) & (t < 142)].max() < 0.2


def test_an_event_is_seen_by_many_one_after_the_other(tmp_path: Path) -> None:
    """A pattern names the devices; each sees it later than the one before, and has an interval of its own in the ledger."""
    text = (
        'kind="event"\ndevice="pump-*"\nmetric="temperature"\nbegin="60s"\nend="80s"\nsize=10.0\napart="5s"\n'
    )
    plan = planned(tmp_path, text)
    for device in range(3):
        t, values = column(plan, device, 1)
        off = values - column(planned(tmp_path, ""), device, 1)[1]
        seen = t[np.abs(off) > 1e-6]
        assert 60 + 5 * device <= seen[0] < 62 + 5 * device
        assert 78 + 5 * device <= seen[-1] < 80 + 5 * device
        assert off.max() == pytest.approx(10.0, rel=0.02)
    with Ledger(tmp_path / "ledger") as book:
        plans.enter(plan, book)
    begins = [fault["begin_us"] for fault in read(tmp_path / "ledger").faults]
    assert begins == [T + 60_000_000, T + 65_000_000, T + 70_000_000]


def test_a_fault_may_be_of_the_devices_of_a_site_only(tmp_path: Path) -> None:
    """An event over one of two sites is seen there, by all whose names fit, one after the other."""
    text = 'kind="event"\ndevice="pump-*"\nsite="b*"\nmetric="temperature"\nbegin="60s"\nend="80s"\nsize=10.0\napart="5s"\n'
    path = tmp_path / "two.toml"
    two = PUMPS.replace('sites = ["a"]', 'sites = ["a", "b1"]').replace("devices = 3", "devices = 5")
    path.write_text(f"{two}[[scenario.faults]]\n{text}")
    plan = plans.make(str(path), seed=1, origin_us=T, seconds=300.0)
    with Ledger(tmp_path / "ledger") as book:
        plans.enter(plan, book)
    faults = read(tmp_path / "ledger").faults
    sites = {plan.scenario.device_name(index): plan.scenario.site(index) for index in range(plan.devices)}
    wanted = [name for name, site in sites.items() if site.startswith("b")]
    assert [fault["device"] for fault in faults] == wanted
    assert {fault["site"] for fault in faults} == {site for site in sites.values() if site.startswith("b")}
    assert [fault["begin_us"] for fault in faults] == [
        T + (60 + 5 * n) * 1_000_000 for n in range(len(wanted))
    ]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            'kind="stuck"\ndevice="pump-001"\nsite="zzz"\nbegin="1s"\nend="2s"\n',
            "the site 'zzz', which is not there",
        ),
        ('kind="stuck"\ndevice="pomp-*"\nbegin="1s"\nend="2s"\n', "'pomp-\\*', which is not there"),
        (
            'kind="bearing-wear"\ndevice="pump-001"\nmetric="vibration"\nsecond="heat"\nbegin="1s"\nend="2s"\nsize=1.0\nsecond_size=1.0\n',
            "metric 'heat'",
        ),
        (
            'kind="bearing-wear"\ndevice="pump-001"\nsecond="temperature"\nbegin="1s"\nend="2s"\nsize=1.0\nsecond_size=1.0\n',
            "metric ''",
        ),
    ],
)
def test_a_mistake_in_such_a_fault_is_told(tmp_path: Path, fault: str, message: str) -> None:
    """A pattern that fits nobody, and a bearing without its two metrics."""
    with pytest.raises(SettingsError, match=message):
        planned(tmp_path, fault)
