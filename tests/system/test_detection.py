"""Detection by a real agent: a kill, a start, and what detectors had learnt; what `headwater-edge detectors` and `headwater anomalies` show."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from headwater_edge.words import say
from tests.support import until
from tests.system.box import CLOUD, EDGE, Box, box

DETECT = """
[edge.windows]
lateness = "0s"
future = "3650d"
[[edge.detect]]
name = "unusual"
series = "*/flow"
detectors = ["default", "river.anomaly.StandardAbsoluteDeviation"]
text = "look at the flow"
"""
BEGIN_S, WINDOWS, SPIKE = 1_795_000_000, 200, 180


def readings(first: int, last: int) -> Iterator[tuple[str, bytes]]:
    """Two readings a window of two pumps' flow about 20, with one window far from it at the first pump."""
    chance = random.Random(7)
    for window in range(WINDOWS):
        for part in range(2):
            for pump in ("p1", "p2"):
                value = round(20 + chance.gauss(0, 1) + 60 * (window == SPIKE and pump == "p1"), 3)
                at = BEGIN_S + 10 * window + 4 * part
                if first <= window < last:
                    yield f"hw/s1/{pump}/data/flow", json.dumps({"t": at, "v": value}).encode()


def send(here: Box, first: int, last: int) -> None:
    """Publish windows, and return when all of it is acknowledged."""
    client = Client(CallbackAPIVersion.VERSION2, client_id="feeder", clean_session=False)
    client.max_inflight_messages_set(500)
    client.connect("127.0.0.1", here.port)
    client.loop_start()
    for sent in [client.publish(topic, payload, qos=1) for topic, payload in readings(first, last)]:
        sent.wait_for_publish(30)
        assert sent.is_published()
    client.disconnect()
    client.loop_stop()


def windows_of(here: Box) -> dict[str, int]:
    return {one["series"]: one["windows"] for one in say(here.data / "edge.sock", "detectors")["series"]}


def test_what_was_learnt_outlives_a_kill_and_a_find_is_told(tmp_path: Path) -> None:
    """Killed in the middle, the agent goes on with what it had learnt; the far window is found, with reason, scores and readings."""
    pytest.importorskip("river", reason="pip install 'headwater[river]'")
    with box(tmp_path, edge=DETECT) as here:
        here.up()
        send(here, 0, 120)
        assert windows_of(here).keys() == {"s1/p1/flow", "s1/p2/flow"}
        assert (
            min(windows_of(here).values()) >= 119
        )  # and the last, once its devices have been silent for long enough
        here.kill(EDGE)
        here.start(EDGE)
        here.ready(EDGE)
        assert min(windows_of(here).values()) >= 119
        assert here.status()["detector_troubles"] == []
        send(here, 120, WINDOWS)
        until(
            lambda: windows_of(here)["s1/p1/flow"] >= WINDOWS - 1, what="all windows but the last are judged"
        )
        shown = here.run("headwater-edge", "detectors", "*/p1/flow")
        here.closed()
        (found,) = [json.loads(line) for line in here.run("headwater", "anomalies", "--json").splitlines()]
        here.end(EDGE)
        here.end(CLOUD)
    assert "river.anomaly.StandardAbsoluteDeviation" in shown
    assert "s1/p1/flow" in shown
    assert "s1/p2/flow" not in shown
    assert (found["rule"], found["series"]) == ("unusual", "s1/p1/flow")
    assert found["begin_us"] == (BEGIN_S + 10 * SPIKE) * 1_000_000
    assert found["text"].startswith("look at the flow: ")
    assert max(rarity for _, rarity in found["scores"]) > 4
    assert max(found["samples"]["values"]) > 70
