"""Devices and their scripts: the same seed gives the same readings, whatever happens around them."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from headwater_firmware_sim import plan as plans
from headwater_firmware_sim.device import Device
from headwater_firmware_sim.misbehave import Step, script
from headwater_firmware_sim.plan import Plan
from headwater_shared.digest import NO_TIME
from headwater_shared.ledger import COPY, Reading
from headwater_shared.parts import tumbling

T = 1_800_000_000_000_000
METRICS = list(range(5))
WILD = """
[scenario]
devices = 3
sites = ["a"]
name = "probe"
formats = { multi = 1, single = 1, bare = 1 }
[scenario.misbehaviour]
copies = 0.1
disorder = 0.1
unreadable = 0.1
lost_connections = 0.05
reboots = 0.05
[scenario.metrics.level]
base = 1.0
signals = [{ kind = "noise", deviation = 1.0 }]
[scenario.metrics.heat]
base = -1.0
"""


@pytest.fixture
def wild(tmp_path: Path) -> Plan:
    """Three devices, one of each format, that misbehave a lot."""
    path = tmp_path / "wild.toml"
    path.write_text(WILD)
    return plans.make(str(path), seed=3, origin_us=T, seconds=400)


def pump(index: int, **changes: object) -> Device:
    options: dict[str, object] = {"seed": 1, "origin_us": T, "seconds": 30.0} | changes
    return Device(plans.make("pumps", **options), index, METRICS)  # type: ignore[arg-type]


def plain(steps: list[Step]) -> set[Reading]:
    return {reading for step in steps for reading in step.readings}


def test_the_same_seed_and_origin_give_the_same_readings() -> None:
    """Times and values are the same in another fleet of another size; another seed gives others."""
    first = list(pump(3).samples())
    assert first == list(pump(3, devices=4).samples())
    assert first != list(pump(3, seed=2).samples())
    shifted = [sample.time_us - 1_000_000 for sample in pump(3, origin_us=T + 1_000_000).samples()]
    assert shifted == [sample.time_us for sample in first]


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    """What is sampled does not depend on how long the run lasts."""
    short, long = list(pump(0, seconds=30.0).samples()), list(pump(0, seconds=300.0).samples())
    assert long[: len(short)] == short


def test_no_two_readings_of_one_series_are_at_one_time() -> None:
    """Times ascend strictly, inside the run, one in each period, at moments that differ from device to device."""
    phases = set()
    for index in range(20):
        times = [sample.time_us for sample in pump(index, seconds=200.0).samples()]
        assert all(a < b for a, b in pairwise(times))
        assert len(times) == 200
        assert times[0] >= T
        assert times[-1] < T + 200_000_000
        phases.add(times[0] - T)
    assert len(phases) == 20


def test_a_dropout_leaves_no_readings() -> None:
    """While all of a device's metrics drop out it sends nothing at all."""
    device = pump(1, seconds=60.0, misbehave=False)
    silent = {T + 25_000_000, T + 35_000_000}
    times = [step.due_us for step in script(device)]
    assert device.name == "pump-002"
    assert not [time for time in times if min(silent) <= time < max(silent)]
    assert len(times) in range(49, 52)


def test_payloads_are_those_that_the_agent_knows(wild: Plan) -> None:
    """All values in one message, one each, or the bare number; a value comes back with the same bits."""
    sample = next(Device(wild, 0, [4, 9]).samples())
    multi, single, bare = (Device(wild, index, [4, 9]) for index in range(3))
    (readings,) = multi.messages(sample)
    assert readings == (
        Reading(4, sample.time_us, sample.values[0]),
        Reading(9, sample.time_us, sample.values[1]),
    )
    topic, payload = multi.render(readings)
    assert topic == "hw/a/probe-001/data"
    assert json.loads(payload) == {
        "t": sample.time_us,
        "values": {"level": sample.values[0], "heat": sample.values[1]},
    }
    one, two = single.messages(sample)
    assert single.render(two) == (
        "hw/a/probe-002/data/heat",
        msgspec.json.encode({"t": sample.time_us, "v": sample.values[1]}),
    )
    assert one[0].metric == 4
    number = bare.messages(sample)[0]
    assert number == (Reading(4, NO_TIME, sample.values[0]),)
    topic, payload = bare.render(number)
    assert (topic, float(payload)) == ("hw/a/probe-003/data/level", sample.values[0])


def test_a_script_follows_from_the_seed(wild: Plan) -> None:
    """Every copy, swap, broken payload and fall is at the same place in every run."""
    for index in range(3):
        first = list(script(Device(wild, index, [0, 1])))
        assert first == list(script(Device(wild, index, [0, 1])))


@pytest.mark.parametrize("index", [0, 1])
def test_misbehaviour_changes_no_reading(wild: Plan, index: int) -> None:
    """A device that misbehaves sends the same readings as one that behaves, each once, and copies of some besides."""
    device = Device(wild, index, [0, 1])
    behaving = Device(msgspec.structs.replace(wild, misbehave=False), index, [0, 1])
    steps, calm = list(script(device)), list(script(behaving))
    originals = [step.readings for step in steps if step.readings and not step.flags & COPY]
    assert sorted(originals) == sorted(step.readings for step in calm)
    copies = [step.readings for step in steps if step.flags & COPY]
    assert copies
    assert set(copies) <= set(originals)
    assert plain(steps) == plain(calm)


def test_every_kind_of_misbehaviour_happens(wild: Plan) -> None:
    """Copies of timed readings, disorder within 3 s, broken payloads, drops and reboots, about as often as asked for."""
    steps = [step for index in range(3) for step in script(Device(wild, index, [0, 1]))]
    fell = Counter(step.after for step in steps)
    assert 30 < fell["drop"] < 100
    assert 30 < fell["reboot"] < 100
    assert 80 < sum(not step.readings for step in steps) < 160
    assert not [s for s in steps if s.flags & COPY and s.readings[0].time_us == NO_TIME]
    own = [step for step in script(Device(wild, 0, [0, 1])) if step.readings and not step.flags & COPY]
    late = [step.due_us - step.readings[0].time_us for step in own]
    assert any(a.readings[0].time_us > b.readings[0].time_us for a, b in pairwise(own))
    assert 20 < sum(delay > 0 for delay in late) < 80
    assert max(late) < 3_100_000
    due = [step.due_us for step in script(Device(wild, 0, [0, 1]))]
    assert due == sorted(due)


def test_some_copies_come_after_their_window_is_closed(wild: Plan) -> None:
    """Some come at once and some 15 samples later, when a window of 10 s is long over."""
    steps = [step for step in script(Device(wild, 0, [0, 1])) if step.flags & COPY]
    delays = {round((step.due_us - step.readings[0].time_us) / 1_000_000) for step in steps}
    assert 0 in delays
    assert any(delay * 1_000_000 > tumbling("10s").length_us for delay in delays)


def test_broken_payloads_cannot_be_read(wild: Plan) -> None:
    """Cut short, not UTF-8, or empty: no JSON reader takes any of them."""
    broken = [
        step.payload
        for index in range(3)
        for step in script(Device(wild, index, [0, 1]))
        if not step.readings
    ]
    for payload in broken:
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            msgspec.json.decode(payload)
    assert b"" in broken
    assert any(b"\xff" in payload for payload in broken)
    assert any(payload[:1] == b"{" and b"\xff" not in payload for payload in broken)
    assert any(payload[:1] == b"\xfe" for payload in broken)
