"""The process: a turn of its loop does a step and what is due, whatever becomes of the other (R24, R27)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater_cloud import process as processes
from headwater_cloud.process import Process
from headwater_cloud.settings import CloudSettings
from headwater_shared import records
from headwater_shared.settings import Common
from headwater_shared.sqlite_log import SqliteLog, wall_us
from headwater_shared.topics import IN
from tests.cloud.made import DAY, SHARD, T0, Agent, S, row
from tests.cloud.notified import LINES
from tests.cloud.side import LOG, every_partition
from tests.support import until


class Running:
    """A process of the cloud side whose loop the test turns; its clocks are the machine's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = SqliteLog(folder / LOG)
        settings = CloudSettings(keep={"10s": "1d"}, wait="1ms", batch=4)
        self.process = Process(Common(data=str(folder)), settings)

    def catch_up(self) -> None:
        """Turn until all is read."""
        for _ in range(100):
            self.process.turn()
            if not self.process.lag:
                return
        raise AssertionError("it never catches up")

    def kinds(self) -> list[str]:
        """The kinds of all records in `hw-in`."""
        stored = self.log.read(IN.name, every_partition(), 1000)
        return [records.kind_of(one.headers) for one in stored]

    def rows(self, query: str) -> list[tuple[object, ...]]:
        return self.process._store.connection.execute(query).fetchall()


@pytest.fixture
def running(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(processes, "_AFTER_TROUBLE_S", 0.001)
    monkeypatch.setattr(processes, "_CLOCK_S", 3600.0)  # one is due at the start
    made = Running(folder)
    yield made
    made.process.close()
    made.log.close()


def test_a_turn_steps_and_says_how_far_behind_it_is(running: Running) -> None:
    """A batch a turn; the lag is in the health and the metrics; the clock goes on at once."""
    process = running.process
    assert process.health()["ready"] is False
    running.log.append([Agent().frame(row(10 * n, 1.0)) for n in range(10)])
    process.turn()
    health = process.health()
    assert (health["ready"], health["reasons"], health["lag_records"]) == (True, [], 7)
    assert process.runner.metrics.registry.get_sample_value("headwater_cloud_lag_records") == 7
    running.catch_up()
    assert process.health()["lag_records"] == 0
    assert running.kinds().count("clock") == 1


def test_a_turn_does_what_retention_has_to_do(running: Running) -> None:
    """Windows and parts that are no longer kept go from the file, and from the log what was read for good."""
    process = running.process
    old = (wall_us() - 30 * DAY - T0) / S
    agent, other = Agent(), Agent("a2", 2)
    running.log.append([
        agent.frame(row(old, 1.0), row(old, 1.0, level="1h")),
        other.frame(row(old, 2.0, opened=("a2", 2, 1)), row(old, 2.0, level="1h", opened=("a2", 2, 1))),
    ])  # fmt: skip
    process.turn()
    running.catch_up()
    assert process.runner._shards[SHARD].clock_us
    assert running.rows("SELECT count(*) FROM part") == [(4,)]
    process._prune_at = 0.0
    process.turn()
    assert running.rows("SELECT name, count FROM window JOIN level ON id = level WHERE shard >= 0") == [
        ("1h", 2)
    ]
    assert running.rows("SELECT count(*) FROM part") == [(0,)]
    process.turn()
    consumers = "SELECT count(*), sum(offset) FROM consumer WHERE topic = 'hw-in'"
    registered = running.log._open.execute(consumers).fetchall()  # type: ignore[union-attr]
    assert registered[0][0] == 64
    assert registered[0][1] >= 2


def test_r29_nothing_waits_for_notifications_but_they(running: Running) -> None:
    """A folder that is not ours to write in stops neither rows nor the operators' clock nor retention, the health says it, and the next
    process tells what waits.
    """
    process = running.process
    (running.folder / LINES).mkdir()
    running.log.append([Agent().anomaly("begin", 1)])
    process.courier.start()
    for _ in range(2):
        process.turn()
    until(process.courier.troubles, what="it is said")
    (reason,) = process.health()["reasons"]
    assert "notifications do not go out by 'file'" in reason
    assert process.health()["ready"] is True
    assert process.health()["notify"]["routes"]["file"]["waiting"] == 1
    assert "clock" in running.kinds()
    assert process._prune_at > 0
    process.close()
    (running.folder / LINES).rmdir()
    running.process = process = Process(Common(data=str(running.folder)), CloudSettings(wait="1ms"))
    process.courier.start()
    until(lambda: process.courier.status()["routes"]["file"]["sent"], what="it is told")
    assert process.health()["reasons"] == []
    (line,) = (running.folder / LINES).read_bytes().splitlines()
    assert b"possible_repeat" not in line
