"""kill -9 of every part at random, on both buses: people get the alerts of the undisturbed run, each told once or with its mark."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.recorded import Audited, Recorded
from tests.kafka import MadeTopics
from tests.system import people
from tests.system.box import CLOUD, EDGE
from tests.system.people import COMPARED, PATTERNS
from tests.system.workers import WORKERS

pytestmark = [pytest.mark.fault, pytest.mark.covers("R24", "R26", "R29")]

TIMES = 20
SECONDS = 800.0
"""Of event time."""


def judged(killed: people.Killed, undisturbed: people.Killed, recorded: Recorded) -> None:
    """Compare, and note for the report."""
    wanted = undisturbed.found
    assert all(wanted.of(rule) > 1 for rule in (*PATTERNS, COMPARED)), {
        rule: wanted.of(rule) for rule in (*PATTERNS, COMPARED)
    }
    assert set(killed.deaths.values()) == {TIMES}
    assert killed.sending > 0.9 * sum(killed.deaths.values())
    people.assert_as_undisturbed(killed, undisturbed)
    acknowledged, counted, dead = killed.audit
    assert counted + dead >= acknowledged > 10_000
    recorded("kill -9, alerts compared", sum(killed.deaths.values()), Audited(*killed.audit, lost=0, twice=0))


@pytest.mark.parametrize("seed", [1, 2])
def test_r26_kills_on_sqlite_leave_people_with_the_same(
    tmp_path: Path, recorded: Recorded, seed: int
) -> None:
    """Agent and cloud side, 20 times each."""
    killed, undisturbed = people.both(tmp_path, SECONDS, times=TIMES, seed=seed)
    assert killed.deaths.keys() == {EDGE, CLOUD}
    judged(killed, undisturbed, recorded)


def test_r26_kills_on_kafka_leave_people_with_the_same(
    kafka_topics: MadeTopics, tmp_path: Path, recorded: Recorded
) -> None:
    """Agent and two workers, 20 times each; the undisturbed run is one on SQLite."""
    killed, undisturbed = people.both(tmp_path, 2 * SECONDS, times=TIMES, seed=3, topics=kafka_topics)
    assert killed.deaths.keys() == {EDGE, *WORKERS}
    judged(killed, undisturbed, recorded)
