"""The pumps through a broker that is there already: the windows and alerts of the listener, and an audit of 0 and 0."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headwater_appliance.ports import steady_port
from headwater_shared import ledger as ledgers
from tests.brokers import mosquitto_server
from tests.support import ROOT, program, until
from tests.system import kills, result
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.load import load

PUMPS = ROOT / "firmware-sim" / "headwater_firmware_sim" / "scenarios" / "pumps.toml"
SECONDS = 45.0
"""Of event time: pump-007 runs hot from second 20 to 40."""
AEDES = ROOT / "tests" / "system" / "brokers"

_BROKER = """
[[edge.broker]]
name = "plant"
host = "127.0.0.1"
port = {port}
version = "{version}"
reconnect = "200ms"
filters = ["hw/+/+/data", "hw/+/+/data/+"]
"""


@contextmanager
def pumps(
    folder: Path, port: int = 0, version: str = "5", *, devices: int = 200, seconds: float = SECONDS
) -> Iterator[tuple[Box, Callable[[], None], Path]]:
    """Run the pumps into the listener, or into the broker at a port; devices keep their connection.

    What a broker makes of a message that a device sent it twice is nothing that the agent could know.
    """
    scenario = folder / "pumps.toml"
    folder.mkdir(parents=True, exist_ok=True)
    scenario.write_text(PUMPS.read_text().replace("lost_connections = 0.0005\nreboots = 0.0002\n", ""))
    with box(folder, edge=_BROKER.format(port=port, version=version) if port else "") as here:
        here.up()
        if port:
            _connected(here)
        words = ("--scenario", str(scenario), "--devices", str(devices))
        with load(here, seconds, *words, *(("--port", str(port)) if port else ())) as fleet:

            def finish() -> None:
                fleet.finished()
                truth = ledgers.read(fleet.ledger)
                readings = len(set(zip(truth.series_of, truth.time, truth.value, strict=True)))
                until(lambda: here.status().get("accepted", 0) >= readings, 60, "all are taken")
                here.closed()
                here.end(EDGE)
                here.end(CLOUD)

            yield here, finish, fleet.ledger


def _connected(here: Box) -> None:
    until(lambda: here.status().get("broker plant", {}).get("connected"), 20, "the broker is connected")


def test_the_pumps_through_mosquitto_give_what_they_give_through_the_listener(tmp_path: Path) -> None:
    """The same windows, anomalies and alerts (R31); lost 0, twice 0."""
    with pumps(tmp_path / "listener") as (direct, finish, ledger):
        finish()
        assert kills.audited(direct, ledger)
    with (
        mosquitto_server(tmp_path / "mosquitto", "max_queued_messages 0") as broker,
        pumps(tmp_path / "broker", broker.port) as (through, finish, ledger),
    ):
        finish()
        acknowledged, counted, dead = kills.audited(through, ledger)
        assert counted + dead >= acknowledged > 40_000
    series = result.timed_series(ledger)
    result.assert_same(result.read(through.data / "cloud.db"), result.read(direct.data / "cloud.db"), series)
    assert not through.troubles()


@pytest.fixture
def aedes(tmp_path: Path) -> Iterator[int]:
    """A broker that is not Mosquitto: npm's aedes, which speaks 3.1.1."""
    node = program("node")
    made = ROOT / ".venv" / "clients" / "aedes"
    if node is None or program("npm") is None:
        pytest.skip("node and npm are not installed")
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
            pytest.skip(f"npm's aedes cannot be installed: {done.stderr[-200:]}")
    shutil.copy(AEDES / "aedes.mjs", made / "aedes.mjs")
    port = steady_port()
    with subprocess.Popen([node, "aedes.mjs", str(port)], cwd=made, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield port
        process.terminate()


def test_a_broker_that_is_not_mosquitto(aedes: int, tmp_path: Path) -> None:
    """npm's aedes, 3.1.1: the agent is killed while it delivers and comes back to its session; lost 0, twice 0."""
    with pumps(tmp_path / "box", aedes, "3.1.1", devices=20, seconds=30) as (here, finish, ledger):
        until(lambda: here.status().get("messages", 0) > 50, 30, "the agent is at work")
        here.kill(EDGE)
        here.start(EDGE)
        here.ready(EDGE)
        _connected(here)
        finish()
        acknowledged, counted, dead = kills.audited(here, ledger)
        assert counted + dead >= acknowledged > 2_000
