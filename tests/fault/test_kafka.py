"""Kafka away for so long that the agent's quota is full: the outbox's marks reach the device's PUBACK, and all goes on after."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kafka import KafkaServer, MadeTopics
from tests.support import until
from tests.system import kills
from tests.system.box import CLOUD, EDGE
from tests.system.kafka_box import kafka_box
from tests.system.load import load

pytestmark = [pytest.mark.fault, pytest.mark.covers("R22", "R18", "pain 1")]

SMALL = '[edge.disk]\nquota = "24MB"\ncoalesce = 1.0\n'


def test_r22_a_kafka_that_stays_away_holds_devices_back_and_loses_nothing(
    kafka: KafkaServer, tmp_path: Path
) -> None:
    """Kafka is killed and stays away until the quota is full: acknowledgements stop, and go on when it is back, and nothing is
    lost or twice.
    """
    topics = MadeTopics(kafka)
    with kafka_box(tmp_path, topics, tables=SMALL) as here:
        here.up()
        with load(here, 800.0) as fleet:
            fleet.goes_on(4_000)
            kafka.kill()
            until(lambda: here.status().get("holding_back"), 400, "the quota is full")
            assert fleet.sending()
            assert here.status()["forward"] == "offline"
            kafka.start()
            until(lambda: not here.status().get("holding_back", "?"), 120, "it goes on")
            fleet.goes_on(4_000)
            here.end(EDGE)  # so little is too little for the rest: its owner gives the agent more
            here.settings.write_text(here.settings.read_text().replace(SMALL, ""))
            here.start(EDGE)
            here.ready(EDGE)
            fleet.finished(600)
        here.closed()
        here.end(EDGE)
        here.end(CLOUD)
        acknowledged, counted, dead = kills.audited(here, fleet.ledger)
        assert counted + dead >= acknowledged > 500_000
    topics.delete()
