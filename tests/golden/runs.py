"""Live runs that are worth a golden trace: `python -m tests.golden.runs [NAME]` lets them happen again, and records each."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from headwater_edge import words
from headwater_shared.sqlite_log import SqliteLog
from tests.golden import record, trace
from tests.support import until
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.load import load
from tests.system.pumps import pumps
from tests.system.wire import Wire

_ACT = """
[[edge.act]]
name = "cool-down"
rule = "too-hot"
command = { name = "shut" }
undo = { name = "open" }
"""
_KINDS = """
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
_T = int(time.time()) // 60 * 60 - 3600
"""An hour ago: parts of long ago are not revised (R28)."""


def _recorded(here: Box, name: str, about: str) -> str:
    assert not here.troubles()
    log = SqliteLog(here.data / "log.db")
    try:
        found = record.recorded(log, here.data / "cloud.db", about)
    finally:
        log.close()
    size = trace.write(trace.FOLDER / f"{name}.trace", found)
    out = found.outcome
    return (
        f"{name}: {len(found.acts[0])} records, {len(out.windows)} windows, {len(out.parts or ())} parts, {len(out.anomalies)} anomalies,"
        f" {len(out.commands)} commands, {len(out.dead)} dead letters, {size:,} bytes"
    )


def run_pumps(folder: Path) -> str:
    """The pumps of `make demo`, 16 of them: a pump runs hot, is an anomaly, an alert and a command; devices reboot."""
    with pumps(folder, edge=_ACT, devices=16) as (here, finish, _):
        finish()
        return _recorded(here, "run-pumps", (run_pumps.__doc__ or "").strip())


def run_kills(folder: Path) -> str:
    """Two agents with the same series; one dies before it marks what it sent, and again at any time, the cloud side too: repeats, four
    epochs, windows of several parts, hopping windows and sessions, late and unreadable messages.
    """
    with box(folder, edge=_KINDS) as here, box(folder / "other", edge=_KINDS) as other:
        text = other.settings.read_text().replace(
            'name = "box"', f'name = "other"\nbus = "{here.data}/log.db"'
        )
        other.settings.write_text(text)
        here.start(CLOUD)
        here.ready(CLOUD)
        other.start(EDGE)
        here.start(EDGE, crash="forward.after:5")
        other.ready(EDGE)
        few = ("--devices", "5", "--in-flight", "8")
        with load(here, 60, *few) as one, load(other, 60, *few, "--seed", "2") as two:
            here.killed(EDGE)
            here.start(EDGE)
            here.ready(EDGE)
            one.goes_on(600)
            here.kill(EDGE)
            here.kill(CLOUD)
            here.start(CLOUD)
            here.start(EDGE)
            here.ready(EDGE)
            here.ready(CLOUD)
            one.finished()
            two.finished()
        here.closed()
        words.say(other.data / "edge.sock", "flush")
        until(lambda: other.status().get("outbox") == 0, 60, "the cloud side has everything")
        other.end(EDGE)
        here.end(EDGE)
        here.end(CLOUD)
        return _recorded(here, "run-kills", " ".join((run_kills.__doc__ or "").split()))


def run_late(folder: Path) -> str:
    """Readings that come after their windows were closed, held and let go, sessions that are bridged, presses that break a limit again
    and again.
    """
    runs = [
        range(0, 40, 4),
        range(60, 90, 5),
        range(120, 123),
        range(200, 230, 6),
        [95, 105, 112, 196],
        [5, 41, 47],
        [231, 236],
    ]
    with box(folder, edge=f'windows.held = "1s"\nwindows.lateness = "1s"\n{_KINDS}{_ACT}') as here:
        here.up()
        for number, times in enumerate(runs):
            with Wire(here.port, f"press-{number}") as wire:
                for press in range(3):
                    for at in times:
                        value = 85.5 if (at + press) % 7 == 0 else 60.0 + at / 100
                        body = json.dumps({"t": _T + at + press, "v": value}).encode()
                        wire.send(wire.publish(f"hw/hall/press-{press}/data/temperature", body))
                wire.send(wire.publish("hw/hall/press-0/data/temperature", b"{broken"))
                wire.read_acknowledgements(3 * len(times) + 1)
            if number % 2:
                here.closed()
            if number == 4:
                here.kill(EDGE)
                here.start(EDGE)
                here.ready(EDGE)
        here.closed()
        here.end(EDGE)
        here.end(CLOUD)
        return _recorded(here, "run-late", " ".join((run_late.__doc__ or "").split()))


RUNS: dict[str, Callable[[Path], str]] = {"pumps": run_pumps, "kills": run_kills, "late": run_late}


def main() -> None:
    for name in sys.argv[1:] or RUNS:
        with tempfile.TemporaryDirectory(prefix="headwater-golden-") as made:
            print(RUNS[name](Path(made) / "run"))


if __name__ == "__main__":
    main()
