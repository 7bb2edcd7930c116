"""A write whose answer never came may reach the store late, after the one that was built anew: it must not be what stays (R28)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headwater_cloud.influx_v1 import V1
from headwater_cloud.influx_write import Answer
from tests.cloud.followed import Sink, register, windows_of_file, windows_of_store
from tests.cloud.line_store import LineStore, line_store
from tests.cloud.made import T0, Agent, row
from tests.cloud.side import Side

A = ("a1", 1, 1)


class Late:
    """A store behind something that gives no answer, and delivers what it was given after the next write: InfluxDB that was frozen."""

    def __init__(self, way: V1, answer: Answer) -> None:
        self._way, self._answer = way, answer
        self._held: list[tuple[str, bytes, bool]] = []
        self.holds = True

    def send(self, database: str, lines: bytes, *, nanoseconds: bool) -> Answer:
        if self.holds:
            self._held.append((database, lines, nanoseconds))
            return self._answer
        answer = self._way.send(database, lines, nanoseconds=nanoseconds)
        for held in self._held:
            self._way.send(*held[:2], nanoseconds=held[2])
        self._held.clear()
        return answer

    def make(self, database: str, keep_us: int | None) -> Answer:
        return self._way.make(database, keep_us)

    def missing(self, database: str) -> str:
        return self._way.missing(database)

    def close(self) -> None:
        self._way.close()


@pytest.fixture
def store() -> Iterator[LineStore]:
    with line_store() as made:
        yield made


@pytest.mark.parametrize("answer", [Answer(0, "timed out"), Answer(500, '{"error":"timeout"}')])
def test_r28_a_write_that_comes_late_is_written_over(side: Side, store: LineStore, answer: Answer) -> None:
    """The first revision was sent, and nobody answered; the second one is written, then the first one arrives: the second one stays."""
    register(side.store)
    side.clock.wall_us = T0
    late = Late(V1(store.url, "", "", 5.0), answer)
    sink = Sink(side.folder, transport=late)
    agent = Agent()
    sink.run()
    side.take(agent.frame(row(0, 1.0, opened=A)))
    assert sink.try_to()
    side.take(agent.frame(row(0, 1.0, 2.0, opened=A, revision=1)))
    late.holds = False
    sink.try_to()
    sink.run()
    assert windows_of_store(store) == windows_of_file(side.folder)
    sink.close()


@pytest.mark.parametrize("sent", [True, False])
def test_r28_what_was_never_sent_is_not_waited_for(side: Side, store: LineStore, *, sent: bool) -> None:
    """A connection that was refused carried nothing: once the store is there the points are written, and not once more a while later."""
    register(side.store)
    side.clock.wall_us = T0
    late = Late(V1(store.url, "", "", 5.0), Answer(0, "refused", sent=sent))
    sink = Sink(side.folder, transport=late)
    late.holds = False
    sink.run()
    side.take(Agent().frame(row(0, 1.0, opened=A)))
    late.holds = True
    assert sink.try_to()
    late.holds = False
    step = sink.follower.step()
    assert (step.changes > 0, step.again_s) == ((False, 10.0) if sent else (True, 0.0))
    sink.run()
    assert windows_of_store(store) == windows_of_file(side.folder)
    sink.close()


def test_r28_a_process_that_was_killed_may_have_left_a_write_under_way(side: Side, store: LineStore) -> None:
    """What was sent when the sink was killed arrives after the next one's first write: it is written over, too."""
    register(side.store)
    side.clock.wall_us = T0
    late = Late(V1(store.url, "", "", 5.0), Answer(0, "nobody waits for it"))
    agent = Agent()
    first = Sink(side.folder, transport=late)
    first.run()
    side.take(agent.frame(row(0, 1.0, opened=A)))
    assert first.try_to()
    first.close()
    side.take(agent.frame(row(0, 1.0, 2.0, opened=A, revision=1)))
    late.holds = False
    following = Sink(side.folder, transport=late, unsure=True)
    following.run()
    assert windows_of_store(store) == windows_of_file(side.folder)
    following.close()
