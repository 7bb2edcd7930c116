"""`reload`: the pause that a reload makes, under 5,000 readings/s: the longest time without a PUBACK, with reloads and without.

Each reload moves every window of 1,000 series at four levels, so that all of them are closed and opened anew.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headwater_shared.reload import read_running
from tests.bench.agents import Process, agent
from tests.bench.results import Result
from tests.support import until

_SECONDS = 20.0
_RELOADS = 12


def run(folder: Path) -> Iterator[Result]:
    """Send the same twice: undisturbed, and with a dozen reloads, each when the one before is in the journal."""
    quiet, _ = _loaded(folder / "quiet", 0)
    found, ticks = _loaded(folder / "reloads", _RELOADS)
    assert quiet["held"], quiet
    assert found["held"], found
    assert len(set(ticks)) == _RELOADS
    yield Result(
        "reload",
        found["gap_ms"],
        "ms, longest time without a PUBACK",
        quiet["gap_ms"],
        "the same load without reloads",
        "SQLite WAL, synchronous=FULL",
        {"reloads": _RELOADS, "p99 ms": found["p99_ms"], "p99 ms without": quiet["p99_ms"]},
    )


def _loaded(folder: Path, reloads: int) -> tuple[dict[str, Any], list[int]]:
    """Return what the load saw, and the tick of each reload."""
    with agent(folder) as ours:
        command = [sys.executable, "-m", "tests.bench.load", str(ours.port), "20", "5000", str(_SECONDS)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
            assert load.stdout is not None
            assert load.stdout.readline() == "connected\n"
            ticks = list(_reloads(folder, ours, reloads))
            assert load.poll() is None, "the load was over before the reloads were"
            said, _ = load.communicate()
    found: dict[str, Any] = json.loads(said)
    return found, ticks


def _reloads(folder: Path, ours: Process, reloads: int) -> Iterator[int]:
    file, lateness = folder / "headwater.toml", itertools.cycle(("4s", "2s"))
    text, before = file.read_text(), 0
    for _ in range(reloads):
        file.write_text(text + f'[edge.windows]\nlateness = "{next(lateness)}"\n')
        os.kill(ours.pid, signal.SIGHUP)
        before = until(lambda after=before: _later(ours.folder, after), 10, "the reload is in the journal")  # type: ignore[misc]
        yield before


def _later(data: Path, before: int) -> int:
    running = read_running(data, "edge")
    tick = int(running.reload.get("tick", 0)) if running is not None else 0
    return tick if tick > before else 0
