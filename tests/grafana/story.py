"""Pumps whose story has something for every panel, on a box of real processes, at 600 times the clock's pace."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from headwater_appliance.demo_registry import register
from headwater_appliance.demo_settings import Pace, Told, agent_settings, clock_of, cloud_settings
from headwater_cloud.query import iso
from headwater_firmware_sim import scenario as scenarios
from headwater_shared.clock import Clock, parse_clock
from tests.support import ROOT
from tests.system.box import Box

SCENARIO = ROOT / "tests" / "grafana" / "pumps.toml"
SECONDS = 11.0
"""Of the wall."""
_PACE = Pace(600.0, rate=1000.0)
_GUESTS_S = 1.5
_GUESTS = """[scenario]
name = "truck"
devices = 2
sites = ["yard"]
[scenario.metrics.temperature]
base = -20.0
"""
"""Two trucks send for a while, then what they had forgotten, and leave."""
_ELSE = {
    'levels = ["10m", "1h"]': 'levels = ["1m", "10m", "1h"]',
    'lateness = "600s"': 'lateness = "60s"',
    'silent_after = "6000s"\noffline_after = "6000s"': 'silent_after = "2400s"\noffline_after = "900s"',
    'text = "it shakes: look at its bearings"': 'severity = "critical"\ntext = "it shakes: look at its bearings"',
}
"""Of a demo's settings at that pace: finer windows, less patience, and one more that is critical."""


class Story(NamedTuple):
    """What it left."""

    box: Box
    ledger: Path
    clock: Clock
    began_us: int
    end_us: int
    """When the pumps had sent all; the processes' clock goes on."""

    @property
    def file(self) -> Path:
        return self.box.data / "cloud.db"


@contextmanager
def told(folder: Path, when_up: Callable[[Box], None] = lambda _: None) -> Iterator[Story]:
    """Run it; agent and cloud side still run when it is told, and all that was sent is in the cloud's file.

    Args:
        folder: a new one is made.
        when_up: called when both run, before the pumps begin.
    """
    runs = clock_of(_PACE)
    clock = parse_clock(runs)
    here = Box(folder)
    of_both = Told(str(SCENARIO), runs, _PACE.scale)
    text = agent_settings(of_both, "plant", here.data, here.port) + cloud_settings(of_both)
    for before, after in _ELSE.items():
        assert before in text
        text = text.replace(before, after)
    here.settings.write_text(text)
    guests = folder / "guests.toml"
    guests.write_text(_GUESTS)
    scenario = scenarios.read(str(SCENARIO))
    register(here.data, scenario, scenario.devices, clock.now().wall_us)
    fleets: list[subprocess.Popen[bytes]] = []
    try:
        here.up()
        when_up(here)
        began_us = clock.now().wall_us
        fleets = [
            _fleet(here, runs, began_us, "guests", str(guests), _GUESTS_S, "--rate", "20"),
            _fleet(here, runs, began_us, "ledger", str(SCENARIO), SECONDS, "--rate", str(_PACE.rate)),
        ]
        assert fleets[0].wait(60) == 0, (here.folder / "guests.out").read_text()[-2000:]
        between_us = began_us + round(_GUESTS_S / 2 * _PACE.scale * 1e6)
        fleets.append(
            _fleet(here, runs, between_us, "late", str(guests), _GUESTS_S / 4, "--rate", "20", "--seed", "2")
        )
        for fleet in fleets[1:]:
            assert fleet.wait(60) == 0, (here.folder / "ledger.out").read_text()[-2000:]
        here.closed()
        yield Story(
            here, here.folder / "ledger", clock, began_us, began_us + round(SECONDS * _PACE.scale * 1e6)
        )
    finally:
        for fleet in fleets:
            fleet.kill()
            fleet.wait(10)
        here.close()


def _fleet(
    here: Box, clock: str, origin_us: int, name: str, scenario: str, seconds: float, *words: str
) -> subprocess.Popen[bytes]:
    with (here.folder / f"{name}.out").open("wb") as out:
        return subprocess.Popen(
            [
                sys.executable, "-m", "headwater_firmware_sim", "run", "--scenario", scenario, "--port", str(here.port),
                "--ledger", str(here.folder / name), "--duration", str(seconds), "--json", "--clock", clock, "--origin", iso(origin_us), *words,
            ],
            cwd=ROOT, stdout=out, stderr=out,
        )  # fmt: skip
