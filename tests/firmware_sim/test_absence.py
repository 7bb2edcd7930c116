"""Devices whose time is wrong: away for hours, clocks that are off, clocks that begin in 1970."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from headwater_firmware_sim import plan as plans
from headwater_firmware_sim.device import Device
from headwater_firmware_sim.flash import Flash
from headwater_firmware_sim.misbehave import script
from headwater_firmware_sim.plan import Plan
from headwater_firmware_sim.roster import muster
from headwater_shared.ledger import read
from headwater_shared.ledger_writer import Ledger

T = 1_800_000_000_000_000
HOUR = 3_600_000_000
TRUCKS = """
[scenario]
devices = 4
sites = ["road"]
name = "truck"
[scenario.metrics.temperature]
base = -20.0
[scenario.metrics.door]
base = 0.0
[[scenario.faults]]
kind = "level-shift"
device = "truck-002"
metric = "temperature"
before = "2h"
begin = "0s"
end = "30m"
size = 9.0
[[scenario.away]]
device = "truck-001"
before = "3h"
end = "20s"
[[scenario.clocks]]
device = "truck-002"
behind = "25m"
[[scenario.clocks]]
device = "truck-003"
boots = "10s"
"""


def trucks(folder: Path, seconds: float = 60.0) -> Plan:
    (folder / "trucks.toml").write_text(TRUCKS)
    return plans.make(str(folder / "trucks.toml"), seed=1, origin_us=T, seconds=seconds)


def test_a_device_that_was_away_sends_all_of_it_in_batches_when_it_is_back(tmp_path: Path) -> None:
    """Three hours once a minute, then what it measured until it was back: due when it is back, in messages of 50 samples."""
    steps = list(script(Device(trucks(tmp_path), 0, [0, 1])))
    due = [step.due_us for step in steps]
    assert due == sorted(due)
    late = [step for step in steps if step.due_us == T + 20_000_000 and len(step.readings) > 2]
    times = [reading.time_us for step in late for reading in step.readings[::2]]
    assert [len(step.readings) for step in late] == [100, 100, 100, 100]
    assert len([time for time in times if time < T]) == 180
    assert T - 3 * HOUR <= times[0] < T - 3 * HOUR + 61_000_000
    assert all(a < b for a, b in pairwise(times))
    assert times[-1] < T + 20_000_000


def test_a_batch_reads_as_a_list_of_moments(tmp_path: Path) -> None:
    """Each with its own time in ISO 8601 and all its values; taken from the ledger again, it is the same bytes."""
    plan = trucks(tmp_path)
    with Ledger(tmp_path / "ledger") as book:
        member = muster(plan, book)[0]
        kept = member.flash.take(next(member.script))
        book.commit()
        (again,) = book.unacknowledged()
        restored = Flash(member.device, book, 1, [again]).kept()[0]
    moments = json.loads(kept.payload)
    assert len(moments) == 50
    first = datetime.fromisoformat(moments[0]["t"])
    assert round(first.timestamp() * 1e6) == kept.message.readings[0].time_us
    assert set(moments[0]["values"]) == {"temperature", "door"}
    assert (restored.topic, restored.payload) == (kept.topic, kept.payload)


def test_a_clock_that_is_behind_stamps_so_and_the_truth_says_what_it_stamped(tmp_path: Path) -> None:
    """25 minutes behind: what is sent now bears that time, and so does the fault in the ledger."""
    plan = trucks(tmp_path)
    steps = list(script(Device(plan, 1, [0, 1])))
    assert {step.due_us - step.readings[0].time_us for step in steps} == {25 * 60_000_000}
    with Ledger(tmp_path / "ledger") as book:
        plans.enter(plan, book)
    fault, booted = read(tmp_path / "ledger").faults
    assert (booted["kind"], booted["device"]) == ("clock-1970", "truck-003")
    assert (booted["begin_us"], booted["end_us"]) == (5_000_000, 15_000_000)
    assert fault["begin_us"] == T - 2 * HOUR - 25 * 60_000_000
    assert fault["end_us"] - fault["begin_us"] == HOUR // 2


def test_a_clock_that_boots_says_1970_until_it_is_set(tmp_path: Path) -> None:
    """Ten seconds of 1970, in ISO 8601, for nobody could tell the unit of such a number; then the right time."""
    device = Device(trucks(tmp_path), 2, [0, 1])
    steps = list(script(device))
    early = [step for step in steps if step.due_us < T + 10_000_000]
    assert len(early) == 10
    for step in early:
        assert step.readings[0].time_us == step.due_us - T + 5_000_000
        assert json.loads(device.render(step.readings)[1])["t"].startswith("1970-01-01T00:00:")
    assert all(step.readings[0].time_us == step.due_us for step in steps[10:])
