"""Workers share Kafka's shards: killed, held up and given what breaks them, under load, and nothing is lost or counted twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from headwater_shared.identity import shard_of
from headwater_shared.kafka_bus import KafkaBus
from tests.cloud.made import Agent, row
from tests.kafka import MadeTopics
from tests.support import until
from tests.system.workers import ONE, TWO, WORKERS, Under, under_load

SECONDS = 40.0
"""Of event time."""
FAULTY = "tests.system.worker_with_a_fault"


def fed_poison(run: Under) -> bytes:
    """Put a record on the bus that breaks the operators, in the shard of a site that sends; return its bytes."""
    poison = Agent("poison").frame(row(1, 1.0, series="north/d1/temp"), shard=shard_of("north"))
    bus = KafkaBus(run.topics.client, run.topics.prefix)
    bus.append([poison])
    bus.close()
    return poison.body


def held(run: Under) -> None:
    """Hold the file for so long that a worker gives up writing for now."""
    logs = [run.here.log(part) for part in WORKERS]
    with closing(sqlite3.connect(run.here.data / "cloud.db", isolation_level=None)) as holder:
        holder.execute("PRAGMA busy_timeout=5000").fetchall()
        holder.execute("BEGIN IMMEDIATE")
        said = "the sink takes nothing now"
        until(lambda: any(said in log.read_text() for log in logs), 30, "a worker cannot write")


@pytest.mark.covers("R24", "R27")
def test_r27_workers_that_are_killed_lose_nothing_and_count_nothing_twice(
    kafka_topics: MadeTopics, tmp_path: Path
) -> None:
    """Five kills under load, the last one of both, a record that breaks the operators, and a file that takes nothing for a while:
    the audit finds every reading once, and the record is a dead letter.
    """
    with under_load(tmp_path, kafka_topics, SECONDS, module=FAULTY) as run:
        run.get_on()
        poison = fed_poison(run)
        until(run.dead_letters, 30, "the poison is a dead letter")
        for dying in ((ONE,), (TWO,), (ONE,)):
            run.kill(*dying)
            run.get_on()
        run.ready()
        held(run)
        run.get_on()
        run.kill(*WORKERS)
        run.settle()
        (letter,) = run.dead_letters()
        assert (letter.headers["reason"], letter.body) == ("poison", poison)
        troubles = [trouble.get("event", trouble) for trouble in run.here.troubles()]
        assert set(troubles) == {
            "the operators failed: record by record", "a record breaks the operators: it becomes a dead letter",
        }  # fmt: skip
