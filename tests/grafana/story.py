"""Pumps whose story has something for every panel, on a box of real processes, at 600 times the clock's pace."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from headwater_appliance.demo_registry import entries
from headwater_appliance.demo_settings import Pace, Told, agent_settings, clock_of, cloud_settings
from headwater_cloud.query import iso
from headwater_firmware_sim import scenario as scenarios
from headwater_shared import registry
from headwater_shared.clock import Clock, parse_clock
from tests.support import ROOT, until
from tests.system.box import CLOUD, EDGE, SINK, Box
from tests.system.stored import behind

SCENARIO = ROOT / "tests" / "grafana" / "pumps.toml"
_PLACE, _OWNER, _RUNBOOK = "Hall 3", "Anna", "https://wiki.example.org/pumps"
_PACE = Pace(600.0, rate=1000.0)
_GUESTS_S = 1.5
"""Of the wall."""
_AT_LEAST_S = 9.0
_AT_MOST_S = 60.0
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
    'silent_after = "6000s"\noffline_after = "6000s"': 'silent_after = "24h"\noffline_after = "2400s"\n'
    '[edge.devices.silent]\n"east/pump-002" = "600s"',
    'text = "it shakes: look at its bearings"': 'severity = "critical"\ntext = "it shakes: look at its bearings"',
}
"""Of a demo's settings at that pace: finer windows, other patience, and one more that is critical. On a busy machine nobody falls silent
but the one that is to."""
_PARTS = (EDGE, CLOUD, SINK)
_SEEN = (
    "SELECT count(*) FROM device WHERE status = 'silent'",
    "SELECT count(*) > 1 FROM device WHERE status = 'offline'",
    "SELECT count(*) FROM alert WHERE rule = 'too-hot' AND state = 'resolved'",
    "SELECT count(*) FROM alert WHERE rule = 'shakes' AND state = 'firing'",
    "SELECT count(*) FROM command WHERE name = 'run' AND status = 'done'",
)
"""What has to have happened."""


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
def told(folder: Path, influx: str, when_up: Callable[[list[int]], None] = lambda _: None) -> Iterator[Story]:
    """Run it; agent, cloud side and sink still run when it is told, and all that was sent is in the cloud's file and in InfluxDB.

    Args:
        folder: a new one is made.
        influx: where an InfluxDB answers.
        when_up: called with the ports of metrics when all run, before the pumps begin.
    """
    runs = clock_of(_PACE)
    clock = parse_clock(runs)
    here = Box(folder)
    of_both = Told(str(SCENARIO), runs, _PACE.scale)
    text = agent_settings(of_both, "plant", here.data, here.port) + cloud_settings(of_both)
    for before, after in _ELSE.items():
        assert before in text
        text = text.replace(before, after)
    here.settings.write_text(text + f'\n[cloud.influx]\nurl = "{influx}"\nhealth_port = 0\n')
    guests = folder / "guests.toml"
    guests.write_text(_GUESTS)
    scenario = scenarios.read(str(SCENARIO))
    with registry.changed(here.data / registry.FILE, clock.now().wall_us) as known:
        for name, entry in entries(scenario, scenario.devices).items():
            known[name] = replace(entry, place=_PLACE, owner=_OWNER, runbook=_RUNBOOK)
    fleets: list[subprocess.Popen[bytes]] = []
    try:
        here.start(EDGE, module="tests.grafana.agent_that_tells")
        here.start(CLOUD)
        here.ready(CLOUD)
        here.start(SINK)
        when_up([here.ready(part)["health"] for part in _PARTS])
        began_us = clock.now().wall_us
        fleets = [
            _fleet(here, runs, began_us, "guests", str(guests), _GUESTS_S, "--rate", "20"),
            _fleet(here, runs, began_us, "ledger", str(SCENARIO), 0.0, "--rate", str(_PACE.rate)),
        ]
        assert fleets[0].wait(60) == 0, (here.folder / "guests.out").read_text()[-2000:]
        between_us = began_us + round(_GUESTS_S / 2 * _PACE.scale * 1e6)
        fleets.append(
            _fleet(here, runs, between_us, "late", str(guests), _GUESTS_S / 4, "--rate", "20", "--seed", "2")
        )
        least_us = began_us + round(_AT_LEAST_S * _PACE.scale * 1e6)
        until(
            lambda: clock.now().wall_us > least_us and _seen(here.data / "cloud.db"),
            _AT_MOST_S,
            "all has happened",
        )
        fleets[1].terminate()
        for fleet in fleets[1:]:
            assert fleet.wait(60) == 0, (here.folder / "ledger.out").read_text()[-2000:]
        end_us = clock.now().wall_us
        here.closed()
        until(lambda: behind(here) == 0, 60, "the store has all")
        yield Story(here, here.folder / "ledger", clock, began_us, end_us)
    finally:
        for fleet in fleets:
            fleet.kill()
            fleet.wait(10)
        here.close()


def _seen(file: Path) -> bool:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as opened:
        return all(opened.execute(query).fetchone()[0] for query in _SEEN)


def _fleet(
    here: Box, clock: str, origin_us: int, name: str, scenario: str, seconds: float, *words: str
) -> subprocess.Popen[bytes]:
    with (here.folder / f"{name}.out").open("wb") as out:
        return subprocess.Popen(
            [
                sys.executable, "-m", "headwater_firmware_sim", "run", "--scenario", scenario, "--port", str(here.port),
                "--ledger", str(here.folder / name), "--duration", f"{seconds:g}", "--json", "--clock", clock, "--origin", iso(origin_us), *words,
            ],
            cwd=ROOT, stdout=out, stderr=out,
        )  # fmt: skip
