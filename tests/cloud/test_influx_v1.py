"""The sink and a real InfluxDB 1.6: databases are made, revisions write over, and what the server refuses is sorted by its own words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headwater_appliance.stack_servers import Influx
from headwater_cloud.influx_v1 import V1
from headwater_cloud.influx_write import Points, Verdict, judge
from headwater_cloud.retention import Keep
from tests.cloud.followed import Sink, register, windows_of_file
from tests.cloud.made import DAY, T0, Agent, row
from tests.cloud.side import Side
from tests.stack import Running, influxql, make, running

A, B = ("a1", 1, 1), ("a2", 3, 1)


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running[Influx]]:
    with running(make(Influx, tmp_path_factory.mktemp("influx") / "server")) as made:
        yield made


def points(name: str, lines: bytes, keep_us: int | None = None) -> Points:
    return Points(name, keep_us, False, lines, lines.count(b"\n"), str)


@pytest.fixture
def made(
    side: Side, influx: Running[Influx], request: pytest.FixtureRequest
) -> Iterator[tuple[Side, Sink, str]]:
    """A cloud side, a sink of it, and the prefix of its databases."""
    register(side.store)
    side.clock.wall_us = T0
    sink = Sink(
        side.folder,
        influx.url,
        keep=Keep({"1m": 400 * DAY}, DAY),
        prefix=request.node.name,
    )
    yield side, sink, request.node.name
    sink.close()


def of_influx(
    influx: Running[Influx], prefix: str, level: str
) -> dict[tuple[str, str, int], tuple[Any, ...]]:
    """By series, level and start, what InfluxDB says of each window that counts."""
    found = {}
    query = f'SELECT * FROM "{prefix}_{level}".."windows" WHERE "count" > 0'
    for point in influxql(influx.server, query):
        digest = int(point["digest_hi"]) << 32 | int(point["digest_lo"])  # type: ignore[call-overload]
        series = f"{point['site']}/{point['device']}/{point['metric']}"
        found[series, level, int(point["time"])] = (  # type: ignore[call-overload]
            point["count"], digest - (2**64 if digest >= 2**63 else 0), point["mean"], point["min"], point["max"],
            point["first"], point["last"], point["parts"], point["revision"],
        )  # fmt: skip
    return found


def test_databases_are_made_and_hold_what_the_file_holds(
    made: tuple[Side, Sink, str], influx: Running[Influx]
) -> None:
    """One a level, with the retention of the level; a revision and a second part write over the point; the second time nothing new is made."""
    side, sink, prefix = made
    agent = Agent()
    side.take(agent.frame(row(0, 1.5, 2.5, opened=A), row(20, 3.0), row(0, 0.1, 0.2, 0.3, level="1m")))
    sink.run()
    side.take(
        agent.frame(row(0, 1.5, 2.5, -7.25, opened=A, revision=1)), Agent("a2").frame(row(3, 9.0, opened=B))
    )
    sink.run()
    there = windows_of_file(side.folder)
    stored = of_influx(influx, prefix, "10s") | of_influx(influx, prefix, "1m")
    assert stored == {key: there[key] for key in there if key[1] in {"10s", "1m"}}
    policies = influxql(influx.server, f'SHOW RETENTION POLICIES ON "{prefix}_1m"')
    assert [(one["name"], one["duration"], one["default"]) for one in policies] == [
        ("autogen", f"{400 * 24}h0m0s", True)
    ]
    policies = influxql(influx.server, f'SHOW RETENTION POLICIES ON "{prefix}_10s"')
    assert [one["duration"] for one in policies] == ["0s"]


def test_what_was_found_can_be_asked_for(made: tuple[Side, Sink, str], influx: Running[Influx]) -> None:
    """By the queries that dashboards make: names that are words of InfluxQL in quotes."""
    side, sink, prefix = made
    agent = Agent()
    side.take(agent.anomaly("begin", 0, text='say "hot", 5 > 3\\'), agent.status("s1/d 1,=", "silent", 5))
    sink.run()
    (anomaly,) = influxql(
        influx.server, f'SELECT "limit", "text", "open", "site", "metric" FROM "{prefix}_found".."anomalies"'
    )
    assert (anomaly["text"], anomaly["limit"], anomaly["open"], anomaly["site"]) == (
        'say "hot", 5 > 3\\',
        80.0,
        True,
        "s1",
    )
    (alert,) = influxql(influx.server, f'SELECT "do", "subject", "state" FROM "{prefix}_found".."alerts"')
    assert (alert["subject"], alert["state"], alert["time"]) == ("s1/d1/temp", "firing", T0)
    assert influxql(influx.server, f'SELECT "what", "n" FROM "{prefix}_found".."alert_events"')
    (device,) = influxql(influx.server, f'SELECT "status", "device" FROM "{prefix}_found".."devices"')
    assert (device["status"], device["device"]) == ("silent", "d 1,=")


def test_one_bad_line_is_found_and_the_rest_is_written(
    made: tuple[Side, Sink, str], influx: Running[Influx]
) -> None:
    """Somebody wrote a field of another type before: of many points the one that breaks on it is a dead letter, by InfluxDB's own words."""
    _, sink, prefix = made
    writer, transport = sink.writer, sink.transport
    writer.write(points(prefix, b"m,a=b v=1 1\n"))
    lines = b"".join(b"m,a=b v=%d 1%02d\n" % (n, n) for n in range(20)).replace(b"v=7 ", b"v=7i ")
    assert transport.send(prefix, lines, nanoseconds=False).status == 400
    assert writer.write(points(prefix, lines)) == ["7"]
    (dead,) = sink.file.dead()
    assert (dead.line, dead.status) == (b"m,a=b v=7i 107\n", 400)
    assert "field type conflict" in dead.why
    (count,) = influxql(influx.server, f'SELECT count("v") FROM "{prefix}".."m"')
    assert count["count"] == 20


def test_points_beyond_the_retention_are_counted_and_no_dead_letters(
    made: tuple[Side, Sink, str], influx: Running[Influx]
) -> None:
    """InfluxDB drops them, and says how many."""
    _, sink, prefix = made
    assert (
        sink.writer.write(points(prefix, b"m v=1 1000\nm v=1 2000\nm v=2 4000000000000000\n", 7 * DAY)) == []
    )
    assert (sink.writer.counts.beyond, sink.writer.counts.points, sink.writer.counts.dead) == (2, 1, 0)


def test_what_a_real_server_answers_is_sorted(influx: Running[Influx], tmp_path: Any) -> None:
    """No such database, no line protocol at all, nobody there."""
    transport = V1(influx.url, "", "", 2.0)
    assert judge(transport.send("never_made", b"m v=1 1\n", nanoseconds=False))[0] is Verdict.MAKE
    assert transport.make("made_now", None).status == 200
    assert judge(transport.send("made_now", b"m v= 1\n", nanoseconds=False))[0] is Verdict.SPLIT
    assert judge(transport.send("made_now", b"m v=1 1\n", nanoseconds=True))[0] is Verdict.DONE
    transport.close()
    away = V1("http://127.0.0.1:9", "", "", 2.0)
    verdict, hint = judge(away.send("x", b"m v=1 1\n", nanoseconds=False))
    assert verdict is Verdict.WAIT
    assert "[cloud.influx] url" in hint


def test_users_and_passwords(tmp_path: Any) -> None:
    """A wrong password waits with a word on what to look at; the right one writes, and one who may only write says which database to make."""
    with running(make(Influx, tmp_path / "server", users=True)) as server:
        admin = V1(server.url, "", "", 5.0)
        admin._ask("/query?q=CREATE+USER+admin+WITH+PASSWORD+'secret'+WITH+ALL+PRIVILEGES", b"", {})
        admin.close()
        wrong, right = V1(server.url, "admin", "wrong", 5.0), V1(server.url, "admin", "secret", 5.0)
        verdict, hint = judge(wrong.send("x", b"m v=1 1\n", nanoseconds=False))
        assert verdict is Verdict.WAIT
        assert "password" in hint
        assert right.make("x", 7 * DAY).status == 200
        assert right.send("x", b"m v=1 1795713947481642\n", nanoseconds=False).status == 204
        right._ask("/query?q=CREATE+USER+plain+WITH+PASSWORD+'plain'", b"", {})
        plain = V1(server.url, "plain", "plain", 5.0)
        assert judge(plain.send("x", b"m v=1 1\n", nanoseconds=False))[0] is Verdict.WAIT
        for one in (wrong, right, plain):
            one.close()


def test_the_hint_names_what_to_make() -> None:
    """For who may not make databases."""
    assert 'CREATE DATABASE "hw_1m"' in V1("http://x", "", "", 1.0).missing("hw_1m")
