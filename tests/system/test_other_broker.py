"""The pumps through a broker that is not Mosquitto, and a kill: an audit of 0 and 0."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater_appliance.ports import steady_port
from tests.support import ROOT, lacking, program, until
from tests.system import kills
from tests.system.box import EDGE
from tests.system.pumps import broker, connected, pumps

AEDES = ROOT / "tests" / "system" / "brokers"


@pytest.fixture
def aedes(tmp_path: Path) -> Iterator[int]:
    """A broker that is not Mosquitto: npm's aedes, which speaks 3.1.1."""
    node = program("node")
    made = ROOT / ".venv" / "clients" / "aedes"
    if node is None or program("npm") is None:
        lacking("node", "node and npm are not installed")
    if not (made / "node_modules").exists():
        made.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(AEDES / name, made / name)
        words = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        done = subprocess.run(
            ["npm", *words], cwd=made, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            shutil.rmtree(made)
            lacking("node", f"npm's aedes cannot be installed: {done.stderr[-200:]}")
    shutil.copy(AEDES / "aedes.mjs", made / "aedes.mjs")
    port = steady_port()
    with subprocess.Popen([node, "aedes.mjs", str(port)], cwd=made, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield port
        process.terminate()


def test_a_broker_that_is_not_mosquitto(aedes: int, tmp_path: Path) -> None:
    """npm's aedes, 3.1.1: the agent is killed while it delivers and comes back to its session; lost 0, twice 0."""
    way = ("--port", str(aedes))
    with pumps(tmp_path / "box", way, edge=broker(aedes, "3.1.1"), up=connected, devices=20, seconds=30) as (
        here,
        finish,
        ledger,
    ):
        until(lambda: here.status().get("messages", 0) > 50, 30, "the agent is at work")
        here.kill(EDGE)
        here.start(EDGE)
        here.ready(EDGE)
        connected(here)
        finish()
        acknowledged, counted, dead = kills.audited(here, ledger)
        assert counted + dead >= acknowledged > 2_000
