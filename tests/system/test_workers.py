"""Workers share Kafka's shards: killed one after the other and both at once, under load, and nothing is lost or counted twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater_shared.sqlite_file import read_only
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until
from tests.system import kills
from tests.system.box import EDGE, WORKER, Box
from tests.system.kafka_box import kafka_box
from tests.system.load import load
from tests.system.test_kafka import SLOWLY

WORKERS = (WORKER.format(1), WORKER.format(2))
SECONDS = 60.0
"""Of event time."""


@pytest.fixture
def topics(kafka: KafkaServer) -> Iterator[MadeTopics]:
    made = MadeTopics(kafka)
    yield made
    made.delete()


def worked_on(here: Box) -> int:
    """How many records of the input the rows in the file are made of."""
    if not (here.data / "cloud.db").exists():
        return 0
    reader = read_only(here.data / "cloud.db")
    try:
        (found,) = reader.execute('SELECT ifnull(sum(next), 0) FROM "offset"').fetchone()
        return int(found)
    except sqlite3.OperationalError:  # it is being made
        return 0
    finally:
        reader.close()


def get_on(here: Box) -> None:
    """Wait until the workers have done some more."""
    before = worked_on(here)
    until(lambda: worked_on(here) > before + 20, 60, "the workers get on")


def up(here: Box) -> None:
    """Start the agent and both workers."""
    for part in (EDGE, *WORKERS):
        here.start(part)
    for part in (EDGE, *WORKERS):
        here.ready(part)


@pytest.mark.covers("R24", "R27")
def test_r27_workers_that_are_killed_lose_nothing_and_count_nothing_twice(
    topics: MadeTopics, tmp_path: Path
) -> None:
    """Five kills under load, the last one of both: the audit of the file that they share finds every reading once."""
    with kafka_box(tmp_path, topics) as here:
        up(here)
        with load(here, SECONDS, *SLOWLY) as fleet:
            for dying in (WORKERS[:1], WORKERS[1:], WORKERS[:1], WORKERS):
                get_on(here)
                for part in dying:
                    here.kill(part)
                for part in dying:
                    here.start(part)
            fleet.finished()
        for part in WORKERS:
            here.ready(part)
        status = here.closed()
        for part in (EDGE, *WORKERS):
            here.end(part)
        acknowledged, counted, dead = kills.audited(here, fleet.ledger)
        assert counted + dead >= acknowledged > 50_000
        assert status["outbox"] == 0
        assert not here.troubles()
