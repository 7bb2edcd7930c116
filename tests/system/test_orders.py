"""Orders from the cloud side to real devices, through real processes: over the SQLite log and over Kafka (R14)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from headwater_cloud.cli import app
from headwater_cloud.history import History
from tests.brokers import mosquitto_server
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.kafka_box import kafka_box
from tests.system.ordered import Device, device

_BROKER = """
[[edge.broker]]
name = "plant"
host = "127.0.0.1"
port = {port}
reconnect = "200ms"
"""


def _order(here: Box, *words: str, expected: int = 0) -> dict[str, Any]:
    """Run the command, without a process of its own."""
    done = CliRunner().invoke(
        app, ["command", "send", *words, "--json", "--settings", str(here.settings)], catch_exceptions=False
    )
    assert done.exit_code == expected, done.output
    said: dict[str, Any] = json.loads(done.output)
    return said


def _known(here: Box, *names: str) -> None:
    """Wait until the cloud side knows which agent serves devices."""
    with closing(History(here.data / "cloud.db")) as history:
        until(lambda: all(history.agents_of(name) == ["box"] for name in names), 20, "its agent is known")


def _ended(here: Box, ids: Sequence[str]) -> list[str]:
    """Wait until all of these have an end; return how they ended."""
    ends = ("done", "refused", "expired")
    with closing(History(here.data / "cloud.db")) as history:

        def found() -> list[str] | None:
            stands = [one.status if (one := history.command(order)) else "" for order in ids]
            return list(stands) if all(status in ends for status in stands) else None

        return until(found, 30, "each has an end") or []


def test_r14_orders_reach_devices_at_the_listener_and_at_a_broker(tmp_path: Path) -> None:
    """Over the log: done, refused by the device, refused by the agent, expired; one that is sent twice while the agent is dead, once."""
    with (
        mosquitto_server(tmp_path / "plant") as plant,
        box(tmp_path / "box", edge=_BROKER.format(port=plant.port)) as here,
    ):
        here.up()
        with device("home/stove", here.port) as stove, device("home/pump", plant.port) as pump:
            until(lambda: here.status()["broker plant"]["connected"], what="the broker is connected")
            stove.says(20.0)
            pump.says(20.5)
            _known(here, "home/stove", "home/pump")
            first = _order(
                here, "home/stove", "shut", "--arguments", '{"valve": 2}', "--who", "anna", "--wait"
            )
            assert (first["status"], first["agent"]) == ("done", "box")
            said = stove.heard.get(timeout=1)
            assert (said["id"], said["name"], said["arguments"]) == (first["id"], "shut", {"valve": 2})
            assert 590 < said["ttl_s"] <= 600
            assert _order(here, "home/pump", "shut", "--wait")["status"] == "done"
            refused = _order(here, "home/stove", "blink", "--wait", expected=1)
            assert (refused["status"], refused["reason"]) == ("refused", "it has no lamp")
            nobody = _order(here, "home/valve", "shut", "--agent", "box", "--wait", expected=1)
            assert nobody["reason"] == "this agent knows no such device"
            found = _over_a_kill(here, stove)
            assert set(stove.done.values()) == {1}
        assert _ended(here, [one["id"] for one in found]) == ["done", "expired"]
        listed = [json.loads(line) for line in here.run("headwater", "commands", "--json").splitlines()]
        assert [one["who"] for one in listed if one["id"] == first["id"]] == ["anna"]
        here.end(EDGE)
        here.end(CLOUD)
        assert not here.troubles()


def _over_a_kill(here: Box, stove: Device) -> list[dict[str, Any]]:
    """Order while the agent is dead; it dies again with the orders in its hand. Return what was ordered."""
    here.kill(EDGE)
    away = [_order(here, "home/stove", "open"), _order(here, "home/stove", "shut", "--ttl", "100ms")]
    again = _order(here, "home/stove", "open", "--id", away[0]["id"])
    assert again["id"] == away[0]["id"]
    here.start(EDGE, crash="orders.read:1")
    here.killed(EDGE)
    here.start(EDGE)
    here.ready(EDGE)
    stove.there()
    until(lambda: stove.done[away[0]["id"]], 20, "what was ordered meanwhile")
    return away


def test_r14_orders_reach_a_device_through_kafka(tmp_path: Path, kafka: KafkaServer) -> None:
    """Sent to a partition that the agent reads from its own offset, over a kill of the agent; each end is in the cloud side's file."""
    topics = MadeTopics(kafka)
    with kafka_box(tmp_path / "box", topics) as here:
        here.up()
        with device("home/stove", here.port) as stove:
            stove.says(20.0)
            _known(here, "home/stove")
            first = _order(here, "home/stove", "shut", "--wait")
            assert first["status"] == "done"
            here.kill(EDGE)
            second = _order(here, "home/stove", "open")
            _order(here, "home/stove", "shut", "--id", first["id"])
            here.start(EDGE)
            here.ready(EDGE)
            until(lambda: stove.done[second["id"]], 30, "what was ordered meanwhile")
            assert stove.done == {first["id"]: 1, second["id"]: 1}
            assert _ended(here, [first["id"], second["id"]]) == ["done", "done"]
        here.end(EDGE)
        here.end(CLOUD)
        assert not here.troubles()
    topics.delete()
