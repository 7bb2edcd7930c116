"""Network scripts: what a device's link does while the network cuts, delays, drops, or lets through one way only."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from headwater_firmware_sim import pipeline
from headwater_firmware_sim import plan as plans
from headwater_firmware_sim.server import Server
from headwater_shared.errors import SettingsError
from headwater_shared.ledger import read
from headwater_shared.ledger_writer import Ledger
from tests.firmware_sim.sink import Published, Sink, sink

PROBES = """
[scenario]
devices = 2
sites = ["a", "b"]
name = "probe"
period = "50ms"
[scenario.metrics.level]
base = 1.0
[[scenario.network]]
site = "a"
begin = "400ms"
end = "1400ms"
"""


def ran(folder: Path, more: str, told: Sink, seconds: float = 2.0) -> tuple[pipeline.Result, int]:
    """Run two devices for two seconds, one of them under a network script; return the origin too."""
    path = folder / "probes.toml"
    path.write_text(PROBES + more)
    origin_us = time.time_ns() // 1000
    plan = plans.make(str(path), seed=1, origin_us=origin_us, seconds=seconds)
    done = pipeline.run(plan, Server(port=told.port), folder / "ledger", drain_s=10)
    assert done.complete
    return done, origin_us


@pytest.mark.alone
def test_a_cut_ends_connections_and_lets_none_be_made(tmp_path: Path) -> None:
    """Between begin and end nothing of that site arrives; then all of it does. The other site notices nothing. The ledger has it."""
    arrived: list[tuple[str, float]] = []
    with sink() as told:
        acknowledge = told.answer

        def answer(one: Published) -> str:
            arrived.append((one.client, time.time()))
            return acknowledge(one)

        told.answer = answer
        _, origin_us = ran(tmp_path, 'kind = "cut"\n', told)
    since = {
        name: [at - origin_us / 1e6 for who, at in arrived if who == name]
        for name in ("probe-001", "probe-002")
    }
    assert not [at for at in since["probe-001"] if 0.45 < at < 1.4]
    assert [at for at in since["probe-002"] if 0.45 < at < 1.4]
    assert len({one.payload for one in told.published if one.client == "probe-001"}) == 40
    assert [connect.client for connect in told.connects].count("probe-002") == 1
    (outage,) = read(tmp_path / "ledger").faults
    assert (outage["kind"], outage["site"], outage["device"]) == ("outage", "a", "")
    assert (outage["begin_us"], outage["end_us"]) == (origin_us + 400_000, origin_us + 1_400_000)


def test_a_delay_makes_all_late_and_keeps_the_order(tmp_path: Path) -> None:
    """Each message of that site is late by what was asked for, none lost, none sent twice."""
    late: list[float] = []
    with sink() as told:
        acknowledge = told.answer

        def answer(one: Published) -> str:
            if one.client == "probe-001":
                late.append(time.time() - int(one.payload.split(b":")[1].split(b",")[0]) / 1e6)
            return acknowledge(one)

        told.answer = answer
        ran(tmp_path, 'kind = "delay"\nby = "300ms"\n', told)
    assert len(late) == 40
    assert min(late[10:26]) > 0.29
    ids = [one.packet_id for one in told.published if one.client == "probe-001"]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("blocked", ["up", "down"])
def test_one_way_only_then_all_is_sent_again(tmp_path: Path, blocked: str) -> None:
    """What the device sent, or what it was answered, is swallowed: it comes again with DUP on the next connection, once more or for
    the first time.
    """
    with sink() as told:
        ran(tmp_path, f'kind = "one-way"\nblocked = "{blocked}"\n', told)
    mine = [one for one in told.published if one.client == "probe-001"]
    assert len({one.payload for one in mine}) == 40
    assert any(one.dup for one in mine)
    assert (len(mine) > 40) == (blocked == "down")
    assert [connect.client for connect in told.connects].count("probe-001") == 2


def test_what_is_dropped_takes_its_connection_with_it(tmp_path: Path) -> None:
    """Half of what is written is lost: connections end again and again, and everything arrives in the end."""
    with sink() as told:
        ran(tmp_path, 'kind = "drop"\nshare = 0.5\n', told)
    assert [connect.client for connect in told.connects].count("probe-001") > 2
    assert len({one.payload for one in told.published if one.client == "probe-001"}) == 40


def test_a_script_for_nobody_is_told(tmp_path: Path) -> None:
    """A site that is not there; and the driver that has no links of ours."""
    path = tmp_path / "probes.toml"
    path.write_text(PROBES.replace('site = "a"', 'site = "c"') + 'kind = "cut"\n')
    with pytest.raises(SettingsError, match="no device is concerned"):
        plans.make(str(path), seed=1, origin_us=0, seconds=1)
    path.write_text(PROBES + 'kind = "cut"\n')
    plan = plans.make(str(path), seed=1, origin_us=0, seconds=1)
    with pytest.raises(SettingsError, match="paho knows neither"):
        pipeline.run(plan, Server(port=1), tmp_path / "ledger", driver="paho")


def test_devices_come_and_go_with_new_names(tmp_path: Path) -> None:
    """With lives of half a second two devices at once are twelve in two and a half seconds; each says goodbye, each name is new."""
    path = tmp_path / "mayflies.toml"
    path.write_text(PROBES.partition("[[scenario.network]]")[0].replace("period", 'lives = "500ms"\nperiod'))
    plan = plans.make(str(path), seed=1, origin_us=time.time_ns() // 1000, seconds=2.5)
    with sink() as told:
        done = pipeline.run(plan, Server(port=told.port), tmp_path / "ledger", drain_s=10)
    assert done.complete
    names = [connect.client for connect in told.connects]
    assert len(set(names)) == len(names) in {11, 12}
    truth = read(tmp_path / "ledger")
    assert len(truth.time) == done.tally.readings
    assert 90 <= done.tally.readings <= 100


def test_an_outage_of_one_device_is_of_no_other(tmp_path: Path) -> None:
    """The ledger, by which anomalies are judged, names the devices of a script that names some, each at its own site; else the sites."""
    path = tmp_path / "probes.toml"
    path.write_text(
        PROBES.replace('site = "a"\n', 'device = "probe-00[2-4]"\nkind = "cut"\n').replace(
            "devices = 2", "devices = 5"
        )
        + '[[scenario.network]]\nkind = "drop"\nbegin = "1s"\nend = "2s"\n'
    )
    plan = plans.make(str(path), seed=1, origin_us=0, seconds=2.0)
    with Ledger(tmp_path / "ledger") as book:
        plans.enter(plan, book)
    found = [(fault["kind"], fault["site"], fault["device"]) for fault in read(tmp_path / "ledger").faults]
    assert found == [
        ("outage", "b", "probe-002"),
        ("outage", "a", "probe-003"),
        ("outage", "b", "probe-004"),
        ("network-drop", "a", ""),
        ("network-drop", "b", ""),
    ]
