"""Workers on a real Kafka under every fault that they are promised to survive: each audited, lost 0 and twice 0 (R24, R27)."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headwater_shared.bus import Record
from headwater_shared.clock import parse_clock
from headwater_shared.crash import STOP
from headwater_shared.identity import SHARDS
from headwater_shared.kafka_bus import KafkaBus
from headwater_shared.topics import IN
from tests.fault.recorded import Audited, Recorded
from tests.kafka import KafkaServer, MadeTopics
from tests.system import workers
from tests.system.box import EDGE
from tests.system.workers import ONE, TWO, WORKERS, under_load

pytestmark = [pytest.mark.fault, pytest.mark.covers("R24", "R27")]

SECONDS = 30.0
"""Of event time."""
CRASHES = (
    "quix.taken",
    "quix.written",
    "quix.sink.before",
    "quix.sink.after",
    "quix.produced",
    "quix.committed",
)
"""Every step of a worker's checkpoint: after the operators, around the file's commit, before Kafka's and after it."""
SETTLED = ("quix.settled.before", "quix.settled.after")
"""Around what takes effect then: where something was found."""
TEN_MINUTES_US = 600_000_000


def noted(recorded: Recorded, fault: str, times: int, found: workers.Audited) -> None:
    recorded(fault, times, Audited(*found, lost=0, twice=0))


def test_r27_twenty_kills_of_workers(kafka_topics: MadeTopics, tmp_path: Path, recorded: Recorded) -> None:
    """One, the other, both at once, a worker with the agent, all three: twenty times."""
    deaths: Sequence[tuple[str, ...]] = [(ONE,), (TWO,), WORKERS, (ONE, EDGE), (EDGE, *WORKERS)] * 4
    with under_load(tmp_path, kafka_topics, 8 * SECONDS) as run:
        for dying in deaths:
            run.get_on(10)
            run.kill(*dying)
        noted(recorded, "kill -9 of workers", len(deaths), run.settle())


def test_r27_a_worker_that_dies_at_each_step(
    kafka_topics: MadeTopics, tmp_path: Path, recorded: Recorded
) -> None:
    """Each step of a checkpoint, at the first one after a start and at the third, while the other worker goes on; and where something is found."""
    deaths = [f"{step}:1" for step in SETTLED] + [f"{step}:{nth}" for nth in (1, 3) for step in CRASHES]
    with under_load(tmp_path, kafka_topics, 8 * SECONDS) as run:
        run.get_on()
        run.here.kill(ONE)
        for death in deaths:
            run.start(ONE, crash=death)
            run.here.killed(ONE, 90)
        run.start(ONE)
        noted(recorded, "kill -9 of workers", len(deaths), run.settle())


@pytest.mark.covers("R29")
def test_r29_the_other_worker_tells_what_a_killed_one_left(
    kafka_topics: MadeTopics, tmp_path: Path, recorded: Recorded
) -> None:
    """Whoever tells people is killed, at each step of it; the other one takes that over. Each notification is told, and twice, marked, at most
    what was on its way.
    """
    steps = ("read", "taken", "sending", "written", "sent", "recorded")
    with under_load(tmp_path, kafka_topics, 6 * SECONDS) as run:
        run.get_on()
        for step in steps:
            run.here.kill(run.teller())
            run.until(lambda: bool(run.teller()), "the other one has the file")
            first = run.teller()
            other = next(part for part in WORKERS if part != first)
            run.start(other, crash=f"cloud.notify.{step}:1")
            run.ready()
            run.here.kill(first)
            run.here.killed(other, 120)
            for part in WORKERS:
                run.start(part)
            run.ready()
        found = run.settle()
        told = run.told()
    noted(recorded, "kill -9 of workers", 3 * len(steps), found)
    twice = {one.id for one in told if sum(other.id == one.id for other in told) > 1}
    assert twice <= {one.id for one in told if one.repeat}
    assert len(told) >= 2 * len(steps)


@pytest.mark.parametrize("step", ["", "quix.taken", "quix.written", "quix.produced", "quix.committed"])
def test_r27_a_worker_that_was_away_writes_nothing_stale(
    kafka_topics: MadeTopics, tmp_path: Path, recorded: Recorded, step: str
) -> None:
    """A worker stops, anywhere or at a step, the other one takes its shards over and goes on; then it wakes up, twice: what it holds is nobody's.

    It goes on, or ends to be started again.
    """
    mark = tmp_path / "stop"
    with under_load(tmp_path, kafka_topics, 2 * SECONDS, env={STOP: str(mark)}) as run:
        for _ in range(2):
            run.every_shard_gets_on()
            run.ready()
            if step:
                (tmp_path / "new").write_text(f"{step}:3")
                (tmp_path / "new").rename(mark)
                run.until(lambda: not mark.exists(), f"the worker stops at {step}")
            else:
                run.here.freeze(ONE)
            run.every_shard_gets_on()
            run.here.running[ONE].send_signal(signal.SIGCONT)
        run.every_shard_gets_on()
        noted(recorded, "worker stopped", 2, run.settle())


def test_r27_workers_come_and_go_under_load(
    kafka_topics: MadeTopics, tmp_path: Path, recorded: Recorded
) -> None:
    """The second worker ends as a supervisor ends it, its shards go to the first, and come back to it: six times."""
    with under_load(tmp_path, kafka_topics, 2 * SECONDS) as run:
        for _ in range(6):
            run.ready()
            run.every_shard_gets_on()
            run.here.end(TWO)
            run.every_shard_gets_on()
            run.start(TWO)
        noted(recorded, "rebalance", 12, run.settle())


def test_r27_workers_whose_state_is_deleted(
    kafka_topics: MadeTopics, tmp_path: Path, recorded: Recorded
) -> None:
    """Both are killed and their folders of state deleted, twice: all of it comes back from Kafka."""
    with under_load(tmp_path, kafka_topics, SECONDS) as run:
        folders = [run.here.data / f"{part}.state" for part in WORKERS]
        for _ in range(2):
            run.every_shard_gets_on()
            run.until(lambda: all(folder.exists() for folder in folders), "there is state")
            for part in WORKERS:
                run.here.kill(part)
            for part, folder in zip(WORKERS, folders, strict=True):
                shutil.rmtree(folder)
                run.start(part)
        run.get_on()
        noted(recorded, "state deleted", 4, run.settle())


def test_r27_a_broker_that_is_killed_and_hangs(
    kafka: KafkaServer, kafka_topics: MadeTopics, tmp_path: Path, recorded: Recorded
) -> None:
    """Kafka is killed three times, once with a worker, and hangs once: workers start again until it is back."""
    with under_load(tmp_path, kafka_topics, 8 * SECONDS) as run:
        for n in range(3):
            run.get_on()
            kafka.kill()
            run.fleet.goes_on(2_000)
            if n == 1:
                run.kill(ONE)
            kafka.start()
        run.get_on()
        kafka.hang()
        run.fleet.goes_on(4_000)
        kafka.go_on()
        run.get_on()
        noted(recorded, "kill -9 of Kafka", 3, run.settle())


def test_r27_a_broker_that_is_away_for_ten_minutes(
    kafka: KafkaServer, kafka_topics: MadeTopics, tmp_path: Path, recorded: Recorded
) -> None:
    """By a clock that runs 60 times as fast: agents hold what is acknowledged, workers start again until it is back, and all counts once."""
    text = f"scaled:60@{datetime.now(UTC).isoformat()}"
    clock = parse_clock(text)
    with under_load(tmp_path, kafka_topics, 8 * SECONDS, common=f'clock = "{text}"') as run:
        run.get_on()
        kafka.kill()
        back_us = clock.now().wall_us + TEN_MINUTES_US
        run.until(lambda: clock.now().wall_us > back_us, "ten minutes pass")
        kafka.start()
        run.every_shard_gets_on()
        noted(recorded, "Kafka away", 1, run.settle())


def test_r23_the_same_history_twice_and_clocks_doubled_delayed_and_missing(
    kafka_topics: MadeTopics, tmp_path: Path, recorded: Recorded
) -> None:
    """All that is on the input is put there once more, shuffled, clock records too, so that they are late or there twice, and none
    come while both workers are dead: nothing counts again.
    """
    chance = random.Random(9)
    with under_load(tmp_path, kafka_topics, SECONDS) as run:
        bus = KafkaBus(kafka_topics.client, kafka_topics.prefix)
        read = dict.fromkeys(range(SHARDS), 0)
        for dying in ((ONE,), WORKERS):
            run.get_on(100)
            again = bus.read(IN.name, read, 100_000)
            for stored in again:
                read[stored.partition] = stored.offset + 1
            records = [
                Record(*(getattr(stored, name) for name in Record.__struct_fields__))
                for stored in again
                if chance.random() < 0.9
            ]
            chance.shuffle(records)
            bus.append(records)
            run.kill(*dying)
        bus.close()
        run.get_on(100)
        noted(recorded, "history twice", 2, run.settle())
