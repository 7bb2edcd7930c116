"""Agent and cloud side with a real Kafka between them, which is killed, hangs, and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headwater_cloud.history import History
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until
from tests.system import kills, outage
from tests.system.box import CLOUD, EDGE, Box
from tests.system.kafka_box import Commanded, commanded, kafka_box, note
from tests.system.load import load

SECONDS = 80.0
"""Of event time."""


@dataclass
class Told:
    """What was seen on the way."""

    box: Box
    ledger: Path
    commands: list[Commanded] = field(default_factory=list)
    """While Kafka is well, is killed, and hangs."""
    went_on: list[str] = field(default_factory=list)
    """Under what the devices were acknowledged."""
    status: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def told(kafka_server: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """One run: Kafka is killed under load, started again, stopped (SIGSTOP), and goes on."""
    if not kafka_server.runs:
        kafka_server.start()
    topics = MadeTopics(kafka_server)
    with kafka_box(tmp_path_factory.mktemp("kafka-box"), topics) as here:
        here.up()
        with load(here, SECONDS, "--in-flight", "12") as fleet:
            found = Told(here, fleet.ledger)
            fleet.goes_on(4_000)
            found.commands.append(commanded(here, "stove-0"))
            kafka_server.kill()
            fleet.goes_on(4_000)
            found.went_on.append("killed")
            found.commands.append(commanded(here, "stove-1"))
            kafka_server.start()
            fleet.goes_on(4_000)
            kafka_server.hang()
            fleet.goes_on(4_000)
            found.went_on.append("hangs")
            found.commands.append(commanded(here, "stove-2"))
            until(lambda: outage.mode(here) == "offline", 30, "Kafka is missed")
            kafka_server.go_on()
            fleet.finished()
        note(found.ledger, found.commands)
        found.status = here.closed()
        here.end(EDGE)
        here.end(CLOUD)
        yield found
    topics.delete()


def test_nothing_is_lost_or_twice_through_kafka(told: Told) -> None:
    """Kafka is killed and hangs under load: the audit of what the cloud side read from it finds all, once."""
    acknowledged, counted, dead = kills.audited(told.box, told.ledger)
    assert counted + dead >= acknowledged > 50_000
    assert told.status["outbox"] == 0
    assert not told.box.troubles()


def test_devices_are_acknowledged_and_commanded_while_kafka_is_away(told: Told) -> None:
    """The bus is not in the way of a PUBACK or of a local rule: killed or hanging, both go on as fast as before."""
    assert told.went_on == ["killed", "hangs"]
    assert len(told.commands) == 3
    assert max(one.took_s for one in told.commands) < 5.0


def test_alerts_come_through_kafka(told: Told) -> None:
    """The rule's anomaly reached the cloud side and is an alert there."""
    history = History(told.box.data / "cloud.db")
    subjects = {alert.subject for alert in history.alerts()}
    assert {f"home/stove-{n}/temperature" for n in range(3)} <= subjects
