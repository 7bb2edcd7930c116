"""The agent's process with brokers: several at once, one away at boot, what status, health and metrics say, what is refused."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from headwater_appliance.ports import steady_port
from tests.brokers import MosquittoServer, mosquitto_server, publish
from tests.support import until
from tests.system.box import EDGE, Box, box

_TWO = """
[[edge.broker]]
name = "plant"
host = "127.0.0.1"
port = {0}
[[edge.broker]]
name = "office"
host = "127.0.0.1"
port = {1}
version = "3.1.1"
reconnect = "200ms"
reconnect_most = "500ms"
"""


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_two_brokers_at_once_and_one_away_at_boot(tmp_path: Path) -> None:
    """Readings of both are taken; health says which one is away and why; metrics and status bear the broker's name."""
    away = MosquittoServer(tmp_path / "office")
    with (
        mosquitto_server(tmp_path / "plant") as plant,
        box(tmp_path / "box", edge=_TWO.format(plant.port, away.port)) as here,
    ):
        here.start(EDGE)
        health = here.ready(EDGE)["health"]
        until(lambda: here.status().get("broker plant", {}).get("connected"), what="plant is connected")
        publish(plant.port, ("hw/s/d1/data/m", b"1"))
        code, said = _get(health, "/health")
        assert code == 503
        (reason,) = json.loads(said)["reasons"]
        assert reason.startswith("broker office is away: 127.0.0.1:")
        away.start()
        try:
            until(lambda: here.status()["broker office"]["connected"], what="office is connected")
            publish(away.port, ("hw/s/d2/data/m", b"2"))
            until(lambda: here.status()["accepted"] == 2, what="both are taken")
            assert _get(health, "/health")[0] == 200
            metrics = _get(health, "/metrics")[1]
            for name in ("plant", "office"):
                assert f'headwater_edge_broker_connected{{broker="{name}"}} 1.0' in metrics
                assert f'headwater_edge_broker_messages_total{{broker="{name}"}} 1.0' in metrics
            assert (
                'headwater_edge_broker_connections_lost_total{broker="office",reason="unreachable"}'
                in metrics
            )
            said = here.run("headwater-edge", "status")
            (line,) = (line for line in said.splitlines() if line.startswith("broker plant"))
            assert "connected True, since 20" in line
            here.end(EDGE)
        finally:
            away.end()
        assert not here.troubles()


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ('filters = ["hw/#", "hw/+/+/data"]', "overlap"),
        ('filters = ["$share/agents/hw/#"]', "shared subscription"),
        ('tls = true\nca = "/nowhere/ca.pem"', "there is no file /nowhere/ca.pem"),
        ('user = "u"\npassword = "env:NOT_THERE_AT_ALL"', "NOT_THERE_AT_ALL"),
        ('colour = "red"', "unknown key 'colour'"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(tmp_path: Path, tables: str, said: str) -> None:
    """Exit code 78, and one line with the hint: no half agent runs."""
    broker = f'[[edge.broker]]\nname = "plant"\nhost = "127.0.0.1"\nport = {steady_port()}\n{tables}\n'
    here = Box(tmp_path, edge=broker)
    try:
        here.start(EDGE)
        assert here.running.pop(EDGE).wait(20) == 78
        told = here.log(EDGE).read_text()
        assert said in told
        assert "hint:" in told
    finally:
        here.close()
