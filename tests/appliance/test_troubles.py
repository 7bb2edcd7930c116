"""What is said to be wrong with a box: each trouble from what was seen, with a remedy, the worst first; and numbers as people read them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from headwater_appliance.box import Box, box_of
from headwater_appliance.chart import chart
from headwater_appliance.devices import Device
from headwater_appliance.growth import Outbox, days_to_quota
from headwater_appliance.look import Look
from headwater_appliance.processes import Running
from headwater_appliance.shown import ago, rate_of, shortened, size_of, sparkline
from headwater_appliance.state_of_box import State
from headwater_appliance.status_screen import screen
from headwater_appliance.troubles import troubles
from headwater_appliance.up import parts

NOW_US = 1_795_000_000_000_000
AGENT: dict[str, Any] = {
    "epoch": "1", "accepted": 10, "by_transport": 0, "by_meaning": 0, "by_horizon": 0, "late": 0, "dead_letters": 0,
    "dead_letter_bytes": 0, "forward": "live", "outbox": 0, "backlog": 0, "oldest_unsent_s": 0.0, "drain_rate": 0.0,
    "disk_taken": 5_000_000, "disk_quota": 1_000_000_000, "disk_free": 10**10, "holding_back": "", "making_room": False,
    "files_set_aside": 0, "lost_ticks": 0, "salvaged": 0, "set_back": 0,
}  # fmt: skip


def _box(tmp_path: Path) -> Box:
    settings = tmp_path / "headwater.toml"
    settings.write_text(f'[common]\ndata = "{tmp_path}"\n')
    return box_of(settings)


def _well() -> State:
    running = Running(7, 60.0, 50_000_000, 1.0, 20_000)
    now = Look(
        100.0, NOW_US, NOW_US, 0, synchronised=True, kernel_synchronised=True, edge=running, cloud=running
    )
    now.agent, now.cloud_health, now.free = dict(AGENT), {"status": "ok", "reasons": []}, 10**10
    return State(now, {}, 1.0, 0, "0.1.0", "0.1.0", Outbox(), 3.0, [Device("north/stove", 1.0)], [], [])


def test_a_box_that_is_well_has_no_troubles(tmp_path: Path) -> None:
    """Nothing is said where nothing is wrong."""
    assert troubles(_box(tmp_path), _well()) == []


@pytest.mark.parametrize(
    ("seen", "severity", "said", "remedy"),
    [
        ({"holding_back": "the disk quota is reached"}, "wrong", "holds back", "raise edge.disk.quota"),
        ({"holding_back": "the disk is full"}, "wrong", "holds back", "free space on the disk"),
        ({"making_room": True}, "warning", "nearly reached", "raise edge.disk.quota"),
        ({"forward": "offline", "outbox": 12}, "wrong", "12 rows wait in its file", "log.db"),
        ({"files_set_aside": 1}, "warning", "a damaged file of the agent was set aside", "docs/damaged-files.md"),
        ({"dead_letters": 3}, "warning", "3 messages could not be taken in", "dead-letters list"),
        ({"broker plant": {"connected": False, "why": "connection refused"}}, "wrong", "broker plant is away", "see that it runs"),
        ({"broker plant": {"connected": True, "refused": {"x/#": "no"}}}, "wrong", "broker plant refuses x/#", "allow"),
    ],
)  # fmt: skip
def test_what_the_agent_says_is_told(
    tmp_path: Path, seen: dict[str, Any], severity: str, said: str, remedy: str
) -> None:
    """Each state of the agent that a person should know is one trouble with its remedy."""
    state = _well()
    state.now.agent |= seen
    (found,) = troubles(_box(tmp_path), state)
    assert found.severity == severity
    assert said in found.text
    assert remedy in found.remedy


def test_clock_disk_and_versions_are_told(tmp_path: Path) -> None:
    """A clock that jumped or is not set, a disk below its floor or soon full, an agent older than what is installed; the worst first."""
    state = _well()
    state.now.synchronised, state.clock_step_us, state.now.free = False, 3_600_000_000, 1_000_000
    state.days_to_quota, state.agent_version = 2.0, "0.0.9"
    found = troubles(_box(tmp_path), state)
    text = "\n".join(one.text for one in found)
    for said in (
        "the clock is not set",
        "set by +3600.0 s",
        "only 1.0 MB of the disk",
        "reaches the disk quota in 2 days",
        "runs version 0.0.9",
    ):
        assert said in text, said
    severities = [one.severity for one in found]
    assert severities == sorted(severities, key=lambda one: one != "wrong")


def test_thousands_of_devices_fit_the_screen(tmp_path: Path) -> None:
    """However many are silent, a few are named and the rest counted."""
    from rich.console import Console

    state = _well()
    state.devices = [Device(f"site-{n % 50}/a-device-with-a-long-name-{n:05d}", 600.0) for n in range(10_000)]
    box = _box(tmp_path)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(screen(box, state, troubles(box, state)))
    lines = console.export_text().splitlines()
    assert len(lines) < 30
    assert max(map(len, lines)) <= 80
    assert "and 9,997 more" in " ".join(" ".join(lines).split())


def test_the_days_until_the_quota_follow_from_what_waits() -> None:
    """100 MB that gathered in an hour fill 2.4 GB in a day; what waits for less than a minute says nothing."""
    assert days_to_quota(Outbox(1, 100_000_000, 3600.0), 2_400_000_000) == pytest.approx(1.0)
    assert days_to_quota(Outbox(1, 100_000_000, 30.0), 2_400_000_000) is None
    assert days_to_quota(Outbox(), 2_400_000_000) is None


def test_numbers_are_as_people_read_them() -> None:
    """Sizes in units of 1,000, times and rates in the unit that says most, names cut where they tell least."""
    assert [size_of(n) for n in (0, 999, 1_234, 123_456_789, 5 * 10**12)] == [
        "0 B",
        "999 B",
        "1.2 KB",
        "123 MB",
        "5.0 TB",
    ]
    assert [ago(s) for s in (0.5, 59, 600, 7300, 200_000, 10**9)] == [
        "0.5 s",
        "59 s",
        "10 min",
        "2 h",
        "2 days",
        "32 years",
    ]
    assert [rate_of(r) for r in (0, 1 / 600, 1 / 20, 1.5, 12_345)] == [
        "0/s",
        "6.0/h",
        "3.0/min",
        "1.5/s",
        "12,345/s",
    ]
    assert shortened("north/a-very-long-name/temperature", 20) == "north/…e/temperature"
    assert sparkline([1, 2, 3, float("nan"), 8]) == "▁▂▃█"
    assert sparkline([]) == ""


def test_a_chart_of_any_values_can_be_drawn() -> None:
    """No window, one window, one value all the time, the largest floats, values that are none: lines of one width, or none."""
    for values in ([], [5.0], [5.0, 5.0], [-1.7e308, 1.7e308], [float("nan"), 1.0], [float("inf")]):
        column = np.array(values)
        start = np.arange(len(values)) * 10_000_000
        lines = chart(start, np.ones(len(values), np.int64), column, column, column, 79, 5, 10_000_000)
        assert len(lines) == (6 if np.isfinite(column).any() else 0), values
        assert all(len(line.plain) <= 79 for line in lines)


def test_what_a_status_holds_can_be_written_as_json(tmp_path: Path) -> None:
    """Its structures are all known to the encoder."""
    assert msgspec.json.encode(_well())


@pytest.mark.parametrize(
    ("running", "health", "said", "remedy"),
    [
        (False, {}, "the sink does not run: InfluxDB gets nothing", "headwater up"),
        (True, {}, "runs and does not answer", "nothing is lost"),
        (True, {"reasons": ["401\n  hint: look at the token"]}, "the sink says: 401", "look at the token"),
        (True, {"sink": {"dead_letters": 2}}, "InfluxDB refused 2 points for ever", "sink list"),
    ],
)
def test_what_is_wrong_with_the_sink(
    tmp_path: Path, running: bool, health: dict[str, Any], said: str, remedy: str
) -> None:
    """Only where the settings have a store; nothing else waits for it."""
    state = _well()
    assert troubles(_box(tmp_path), state) == []
    settings = tmp_path / "headwater.toml"
    settings.write_text(settings.read_text() + '[cloud.influx]\nurl = "http://127.0.0.1:8086"\n')
    state.now.sink, state.now.sink_health = state.now.cloud if running else None, health
    (found,) = troubles(box_of(settings), state)
    assert said in found.text
    assert remedy in found.remedy
    (sink,) = [part for part in parts(settings) if part.beside]
    assert (sink.name, sink.command[-2:]) == ("sink", ["--sink", str(settings)])
