"""`sim-fleet-10k`: 10,000 devices of one simulator process, each on its own connection: CPU a message, rates, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.agents import Process, agent, python_process
from tests.bench.results import Result

DEVICES = int(os.environ.get("HEADWATER_FLEET_DEVICES", "10000"))
_SECONDS = float(os.environ.get("HEADWATER_FLEET_S", "30"))
_LOOKS = 5
"""Seconds that all devices must have been connected at once: of less no figure comes. A busy machine takes long to connect them."""
_SCENARIO = f"""
[scenario]
about = "as many devices as one process carries"
name = "device"
devices = {DEVICES}
sites = ["a", "b", "c", "d"]
period = "1s"
[scenario.metrics.value]
base = 50.0
signals = [{{ kind = "noise", deviation = 1.0, memory = 0.5 }}]
"""


class _Ran(NamedTuple):
    """What a fleet did while all of its devices were connected."""

    us_a_message: float
    other_us: float
    """CPU of the other side, a message."""
    rate: float
    rss_mb: float
    all_acknowledged: bool


def run(folder: Path) -> Iterator[Result]:
    """Paced, one message a device and second, for the CPU; as fast as it goes into a bare sink and through an agent for the rates."""
    scenario = folder / "fleet.toml"
    scenario.write_text(_SCENARIO)
    with python_process(folder / "sink", "tests.bench.bare_sink") as sink:
        paced = _fleet(folder / "paced", scenario, sink, "--paced", "--duration", str(_SECONDS + 20))
        fast = _fleet(folder / "fast", scenario, sink, "--no-paced", "--duration", "400")
    with agent(folder / "agent", listener=f"port = 0\nmax_connections = {DEVICES}") as ours:
        through = _fleet(folder / "through", scenario, ours, "--no-paced", "--duration", "100")
    yield Result(
        "sim-fleet-10k",
        paced.us_a_message,
        "us of CPU a message, ledger included",
        paced.other_us,
        "the bare sink of the same run: an epoll loop that reads and acknowledges, and keeps nothing",
        "the fleet's ledger by one write a nap, not synced",
        {
            "devices": DEVICES,
            "messages/s paced": paced.rate,
            "messages/s into a bare sink": fast.rate,
            "messages/s through the agent": through.rate,
            "us a message, 20 in flight": fast.us_a_message,
            "MB of RSS": max(paced.rss_mb, fast.rss_mb, through.rss_mb),
            "all acknowledged": paced.all_acknowledged and fast.all_acknowledged and through.all_acknowledged,
        },
    )


def _fleet(folder: Path, scenario: Path, other: Process, *options: str) -> _Ran:
    folder.mkdir()
    command = [
        sys.executable, "-m", "headwater_firmware_sim", "run", "--scenario", str(scenario), "--port", str(other.port),
        "--ledger", str(folder / "ledger"), "--json", "--drain", "60", *options,
    ]  # fmt: skip
    seen: list[tuple[float, float, float, int]] = []
    rss, done = 0.0, {}
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        us = Process(process.pid, 0, folder)
        for line in process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "done" in said:
                done = said["done"]
            elif said["connected"] == DEVICES:
                rss = us.rss_mb()
                seen.append((time.monotonic(), us.cpu_s(), other.cpu_s(), said["acknowledged"]))
    assert len(seen) >= _LOOKS, f"{DEVICES} devices were connected at once for {len(seen)} s only: {done}"
    (begin, own, others, first), (end, own_end, others_end, last) = seen[0], seen[-1]
    count = last - first
    return _Ran(
        (own_end - own) / count * 1e6,
        (others_end - others) / count * 1e6,
        count / (end - begin),
        rss,
        not done["unacknowledged"],
    )
