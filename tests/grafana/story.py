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
from tests.support import ROOT, until
from tests.system.box import CLOUD, EDGE, Box

SCENARIO = ROOT / "tests" / "grafana" / "pumps.toml"
SECONDS = 11.0
"""Of the wall."""
_PACE = Pace(600.0, rate=1000.0)
_GUESTS_S = 2.0
"""Two pumps of a yard send for so long, and are taken away."""
_LEVELS = 'levels = ["1m", "10m", "1h"]'
_EVENT_S = 1e6


class Story(NamedTuple):
    """What it left."""

    box: Box
    ledger: Path
    clock: Clock
    began_us: int
    end_us: int
    """The event time of its last moments, with room for windows."""

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
    kept = text.replace('levels = ["10m", "1h"]', _LEVELS)
    assert kept != text
    here.settings.write_text(kept)
    scenario = scenarios.read(str(SCENARIO))
    register(here.data, scenario, scenario.devices, clock.now().wall_us)
    fleets: list[subprocess.Popen[bytes]] = []
    try:
        here.up()
        when_up(here)
        began_us = clock.now().wall_us
        fleets = [
            _fleet(here, runs, began_us, "guests", _GUESTS_S, "--site", "yard", "--devices", "2", "--rate", "100"),
            _fleet(here, runs, began_us, "ledger", SECONDS, "--rate", str(_PACE.rate)),
        ]
        for fleet in fleets:
            assert fleet.wait(60) == 0, (here.folder / "ledger.out").read_text()[-2000:]
        here.closed()
        yield Story(here, here.folder / "ledger", clock, began_us, clock.now().wall_us)
    finally:
        for fleet in fleets:
            fleet.kill()
            fleet.wait(10)
        here.close()


def _fleet(here: Box, clock: str, origin_us: int, name: str, seconds: float, *words: str) -> subprocess.Popen[bytes]:
    with (here.folder / f"{name}.out").open("wb") as out:
        return subprocess.Popen(
            [
                sys.executable, "-m", "headwater_firmware_sim", "run", "--scenario", str(SCENARIO), "--port", str(here.port),
                "--ledger", str(here.folder / name), "--duration", str(seconds), "--json", "--clock", clock, "--origin", iso(origin_us), *words,
            ],
            cwd=ROOT, stdout=out, stderr=out,
        )  # fmt: skip


__all__ = ["CLOUD", "EDGE", "Story", "told", "until"]
