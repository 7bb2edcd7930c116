"""The sink and what InfluxDB 2 and 3 take by the v2 write API, against the strict stand-in: buckets, revisions, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest

from headwater_cloud.influx_v2 import V2
from headwater_cloud.influx_write import Points
from headwater_cloud.retention import Keep
from tests.cloud.followed import Sink, register, windows_of_file
from tests.cloud.made import DAY, T0, Agent, row
from tests.cloud.side import Side
from tests.influx_v2 import ORG, TOKEN, Fault, Store, listening

A, B = ("a1", 1, 1), ("a2", 3, 1)

pytest.importorskip("influxdb_client")


@pytest.fixture(params=["2", "3"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    version: Literal["2", "3"] = request.param
    with listening(Store(version)) as made:
        yield made


@pytest.fixture
def sink(side: Side, store: Store) -> Iterator[Sink]:
    register(side.store)
    side.clock.wall_us = T0
    way = V2(store.url, ORG, TOKEN, 5.0)
    made = Sink(side.folder, transport=way, keep=Keep({"10s": 400 * DAY}, DAY))
    yield made
    made.close()


def counts(store: Store) -> dict[int, object]:
    """By start (microseconds) the counts of the series' windows of ten seconds."""
    return {
        time // 1000: fields["count"]
        for (_, tags), points in store.bucket("hw_10s").points.items()
        if dict(tags)["device"] == "d1"
        for time, fields in points.items()
    }


def test_buckets_are_made_and_a_revision_is_written_over(side: Side, sink: Sink, store: Store) -> None:
    """With the retention of their level; gzip, microseconds; the same point, one value."""
    agent = Agent()
    side.take(agent.frame(row(0, 1.0, opened=A), row(20, 2.0)))
    sink.run()
    assert store.bucket("hw_10s").retention_s == 400 * 86_400
    side.take(agent.frame(row(0, 1.0, 5.0, opened=A, revision=1)), Agent("a2").frame(row(3, 9.0, opened=B)))
    sink.run()
    there = {
        key[2]: of[0] for key, of in windows_of_file(side.folder).items() if key[:2] == ("s1/d1/temp", "10s")
    }
    assert counts(store) == there == {T0: 3, T0 + 20_000_000: 1}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(200),
        Fault(429, "7"),
        Fault(503),
        Fault(500),
        Fault(401),
        Fault(cut="before"),
        Fault(cut="after"),
    ],
)
def test_what_is_refused_now_is_written_later(side: Side, sink: Sink, store: Store, fault: Fault) -> None:
    """Whatever the answer, and whether the points were taken or not: at last the store has them once."""
    sink.run()
    side.take(Agent().frame(row(0, 1.0)))
    store.bucket("hw_10s")
    store.faults.append(fault)
    said = sink.try_to()
    assert "did not take" in said or not store.faults
    assert sink.writer.counts.failed == 1
    sink.run()
    assert counts(store) == {T0: 1}
    assert sink.file.dead() == []


def test_one_bad_line_of_many_is_a_dead_letter(sink: Sink, store: Store) -> None:
    """A field of another type: the store's own words go with its line, and the others are written."""
    store.bucket("b")
    sink.writer.write(Points("b", None, False, b"m v=1 1\n", 1, str))
    lines = b"".join(b"m v=%d 1%02d\n" % (n, n) for n in range(20)).replace(b"v=7 ", b"v=7i ")
    assert sink.writer.write(Points("b", None, False, lines, 20, str)) == ["7"]
    (points,) = store.bucket("b").points.values()
    assert len(points) == 20
    assert sink.file.dead()[0].line == b"m v=7i 107\n"
