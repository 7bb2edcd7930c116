"""Hopping windows, sessions and windows over the time of arrival on a whole box, killed under load, proved by the audit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.reference import sessions, windows
from tests.system import kills, result
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.load import load
from tests.system.wire import Wire

TABLES = """
[[edge.window]]
series = "*/temperature"
kind = "hopping"
length = "1m"
hop = "20s"
[[edge.window]]
series = "*"
kind = "session"
gap = "10s"
"""
S = 1_000_000
T = 1_795_000_000 * S


def _end(here: Box) -> None:
    here.end(EDGE)
    here.end(CLOUD)
    assert not here.troubles()


@pytest.mark.parametrize(
    ("edge", "levels"),
    [
        (TABLES, {"10s", "1m", "10m", "1h", "1m/20s", "session-10s"}),
        (
            f'windows.levels = ["10s", "1m"]\nwindows.time = "arrival"\n{TABLES}',
            {"10s@arrival", "1m@arrival", "1m/20s@arrival", "session-10s@arrival"},
        ),
    ],
    ids=["event", "arrival"],
)
def test_the_audit_proves_every_kind_of_window_after_a_kill(
    tmp_path: Path, edge: str, levels: set[str]
) -> None:
    """The agent is killed while a fleet sends, resends and loses connections: lost 0, twice 0 at each level, and it looked at
    all of them, those of some series for these.
    """
    with box(tmp_path, edge=edge) as here:
        here.up()
        with load(here, 30, "--devices", "20") as fleet:
            fleet.goes_on(1_500)
            here.kill(EDGE)
            assert fleet.sending()
            here.start(EDGE)
            here.ready(EDGE)
            fleet.finished()
        here.closed()
        said = here.run("headwater", "audit", str(fleet.ledger), "--json")
        evidence = json.loads(said[: said.rindex("}") + 1])
        found = result.read(here.data / "cloud.db").windows
        _end(here)
    assert kills.AUDITED.fullmatch(evidence["line"])
    assert evidence["good"]
    assert {level for _, level, _ in found} == levels
    if "arrival" not in edge:
        assert set(evidence["windows"]) == levels
        hopped = {name for name, level, _ in found if level == "1m/20s"}
        assert hopped == {name for name, *_ in found if name.endswith("/temperature")}


def test_sessions_are_those_of_the_readings_though_the_agent_is_killed(tmp_path: Path) -> None:
    """Presses run, rest and run again; the agent is killed in the middle of a run, and late readings bridge two others:
    the history holds each run once, from its first to its last reading, and the hopping windows around it.
    """
    runs = [range(0, 40, 4), range(60, 90, 5), range(120, 123), range(200, 230, 6)]
    late = [95, 105, 112, 196]  # bridge the second and the third, and come before the fourth
    readings = []
    with box(tmp_path, edge=f'windows.held = "10m"\n{TABLES}') as here:
        here.up()
        for number, times in enumerate((*runs, late)):
            with Wire(here.port, f"press-{number}") as wire:
                for press in range(3):
                    said = [(T + (at + press) * S, float(at)) for at in times]
                    readings += [(f"hall/press-{press}/temperature", *one) for one in said]
                    for time_us, value in said:
                        body = json.dumps({"t": time_us, "v": value}).encode()
                        wire.send(wire.publish(f"hw/hall/press-{press}/data/temperature", body))
                wire.read_acknowledgements(3 * len(times))
            if number == 0:
                here.kill(EDGE)
                here.start(EDGE)
                here.ready(EDGE)
        here.closed()
        shown = here.run("headwater", "query", "hall/press-0/*", "--level", "session-10s", "--format", "csv")
        found = result.read(here.data / "cloud.db").windows
        _end(here)
    wanted = {(name, "session-10s", start): w for (name, start), w in sessions(readings, 10 * S).items()}
    wanted |= {(name, "1m/20s", at): w for (name, at), w in windows(readings, 60 * S, 20 * S).items()}
    ours = {place: window for place, window in found.items() if place[1] in {"session-10s", "1m/20s"}}
    result.assert_same_windows(ours, wanted, {name for name, *_ in readings})
    assert [line.split(",")[2] for line in shown.splitlines()[1:]] == ["10", "12", "6"]
