"""A sink follows the cloud's file: whatever ends it, or the cloud side, in between, the store has what the file has, once."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from headwater_cloud import changes, influx_file
from headwater_cloud.changes import Cursor, Followed
from headwater_cloud.influx_file import followed
from headwater_cloud.rebuild import made_again
from headwater_cloud.retention import Keep
from headwater_cloud.store import APPLICATION, SCHEMA
from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.errors import TryAgain
from headwater_shared.records import RegistryChange
from headwater_shared.sqlite_file import open_reader, open_writer
from headwater_shared.topics import IN
from tests.cloud.followed import Sink, of, register, windows_of_file, windows_of_store
from tests.cloud.line_store import LineStore, Said, line_store
from tests.cloud.made import DAY, SHARD, T0, Agent, S, row
from tests.cloud.on_pieces import PieceSide
from tests.cloud.side import FILE, Side
from tests.support import until

A, B = ("a1", 1, 1), ("a2", 3, 1)


@pytest.fixture
def store() -> Iterator[LineStore]:
    with line_store() as made:
        yield made


@pytest.fixture
def followed_side(side: Side) -> Side:
    """A cloud side that a sink is registered with."""
    register(side.store)
    side.clock.wall_us = T0
    return side


@pytest.fixture
def sink(followed_side: Side, store: LineStore) -> Iterator[Sink]:
    made = Sink(followed_side.folder, store.url)
    yield made
    made.close()


def equal(side: Side | PieceSide, store: LineStore) -> bool:
    """Whether the store has all windows of the file, and no others."""
    return windows_of_store(store) == windows_of_file(side.folder)


def test_windows_come_to_the_store_with_revisions_over_them(
    followed_side: Side, sink: Sink, store: LineStore
) -> None:
    """New windows, a revision and a part of another agent: one point a window, as the file has it at last."""
    agent = Agent()
    followed_side.take(agent.frame(row(0, 1.0, opened=A), row(20, 3.0, 4.0)))
    sink.run()
    assert equal(followed_side, store)
    followed_side.take(
        agent.frame(row(0, 1.0, 2.0, opened=A, revision=1)), Agent("a2").frame(row(3, 9.0, opened=B))
    )
    sink.run()
    assert equal(followed_side, store)
    assert windows_of_store(store)["s1/d1/temp", "10s", T0][0] == 3


def test_a_key_that_changed_often_is_written_once(followed_side: Side, sink: Sink) -> None:
    """What came while the store was away is written as it is by then: a catch-up does not repeat history."""
    sink.run()
    agent = Agent()
    for revision in range(5):
        followed_side.take(agent.frame(row(0, *map(float, range(revision + 1)), opened=A, revision=revision)))
    assert sink.run() == len(windows_of_file(followed_side.folder))


def test_r28_a_retry_is_built_anew(followed_side: Side, sink: Sink, store: LineStore) -> None:
    """The store refuses a batch; a revision comes; what is tried again is the revision."""
    sink.run()
    agent = Agent()
    followed_side.take(agent.frame(row(0, 1.0, opened=A)))
    store.say(Said(503))
    assert "503" in sink.try_to()
    followed_side.take(agent.frame(row(0, 1.0, 2.0, opened=A, revision=1)))
    store.say(None)
    store.requests.clear()
    sink.run()
    assert [len(lines) for database, lines in store.requests if database == "hw_10s"] == [1]
    assert equal(followed_side, store)


def test_the_cursor_moves_only_after_the_store_has_the_points(
    followed_side: Side, sink: Sink, store: LineStore
) -> None:
    """Not while it refuses them: whoever looks into the file of the sink sees the same cursor."""
    sink.run()
    before = followed(followed_side.folder / influx_file.FILE)
    followed_side.take(Agent().frame(row(0, 1.0)))
    store.say(Said(500))
    sink.try_to()
    assert followed(followed_side.folder / influx_file.FILE) == before
    store.say(None)
    sink.run()
    assert followed(followed_side.folder / influx_file.FILE) != before


def test_what_was_read_and_not_taken_is_behind(followed_side: Side, sink: Sink, store: LineStore) -> None:
    """`headwater status` must not say "up to date" of a store that is away: what it did not take is not in it, whoever has read it."""
    sink.run()
    assert (sink.follower.behind, sink.follower.oldest_s) == (0, 0)
    agent = Agent()
    followed_side.take(agent.frame(row(0, 1.0)))
    store.say(Said(503))
    sink.try_to()
    first = sink.follower.behind
    assert first > 0
    assert sink.follower.oldest_s > 0
    followed_side.take(agent.frame(row(20, 2.0)))
    sink.try_to()
    assert sink.follower.behind > first
    store.say(None)
    sink.run()
    assert (sink.follower.behind, sink.follower.oldest_s) == (0, 0)


def test_a_sink_that_is_registered_later_misses_nothing(side: Side, store: LineStore) -> None:
    """What was there before, what comes while that is written, and what comes after: all of it, in pieces of one window."""
    side.clock.wall_us = T0
    agent = Agent()
    side.take(agent.frame(*(row(10 * n, 1.0 + n) for n in range(7))))
    register(side.store)
    side.take(agent.frame(row(100, 1.0)))
    sink = Sink(side.folder, store.url, batch=1)
    for n in range(4):
        sink.follower.step()
        side.take(agent.frame(row(200 + 10 * n, 1.0)))
    sink.run()
    assert equal(side, store)
    assert not sink.file.job()
    sink.close()


def test_a_window_that_is_none_any_more_is_written_as_count_0(
    followed_side: Side, sink: Sink, store: LineStore
) -> None:
    """A session that was bridged comes as a revision of count 0: its row goes, and its point says 0."""
    agent = Agent()
    followed_side.take(agent.frame(row(0, 1.0, opened=A)))
    sink.run()
    key = ("s1/d1/temp", "10s", T0)
    assert key in windows_of_store(store)
    followed_side.take(agent.frame(row(0, opened=A, revision=1)))
    assert key not in windows_of_file(followed_side.folder)
    sink.run()
    assert equal(followed_side, store)
    assert {point["count"] for point in of(store, "windows") if point["level"] == "10s"} == {0}


def test_a_window_that_ended_while_nobody_followed_is_none_in_the_store(
    followed_side: Side, sink: Sink, store: LineStore
) -> None:
    """The file does not show what is none any more: it is noted also while the settings have no sink, once they had one."""
    agent = Agent()
    followed_side.take(agent.frame(row(0, 1.0, opened=A)))
    followed_side.take(agent.frame(row(10, 1.0)))
    sink.run()
    followed_side.runner.prune(Keep({}, 7 * DAY, followed=Followed(lambda: followed(sink.file.path))))
    register(followed_side.store, wanted=False)
    followed_side.take(agent.frame(row(0, opened=A, revision=1)))
    register(followed_side.store)
    sink.run()
    assert equal(followed_side, store)


def test_a_window_that_ended_after_its_file_went_back_is_none_in_the_store(
    followed_side: Side, sink: Sink, store: LineStore, folder: Path
) -> None:
    """It ends before the sink looks at the file that was put back: a new beginning reads all that is noted, too."""
    agent = Agent()
    followed_side.take(agent.frame(row(0, 1.0, opened=A), row(10, 1.0)))
    backup = folder / "backup.db"
    followed_side.store.connection.execute("VACUUM INTO ?", (str(backup),))
    followed_side.take(agent.frame(row(20, 1.0)))
    sink.run()
    followed_side.close()
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
        (followed_side.folder / name).unlink(missing_ok=True)
    backup.rename(followed_side.folder / FILE)
    followed_side.open()
    followed_side.take(agent.frame(row(0, opened=A, revision=1)))
    sink.run()
    assert equal(followed_side, store)


def test_the_same_again_after_a_kill_changes_nothing(
    followed_side: Side, sink: Sink, store: LineStore
) -> None:
    """The store has the points, and the process ends before its commit: the next one writes the same again."""
    sink.run()
    followed_side.take(Agent().frame(row(0, 1.0), row(20, 2.0)))
    kept = sink.file.path.with_name("kept.db")
    with closing(sqlite3.connect(sink.file.path)) as before, closing(sqlite3.connect(kept)) as copy:
        before.backup(copy)
    sink.run()
    points = dict(store.points)
    sink.close()
    shutil.copy(kept, sink.file.path)
    sink.file, sink.follower = sink._make()
    assert sink.run() > 0
    assert store.points == points


def test_r27_retention_leaves_what_a_registered_sink_has_not_read(
    followed_side: Side, sink: Sink, store: LineStore
) -> None:
    """A week passes while the store is away: windows, and what was found, stay until they are written, and go then."""
    sink.run()
    agent = Agent()
    followed_side.take(agent.frame(row(0, 1.0)), agent.anomaly("begin", 0))
    keep = Keep({"10s": DAY}, 7 * DAY, DAY, followed=Followed(lambda: followed(sink.file.path)))
    followed_side.put_clock(seconds=8 * 86_400)
    followed_side.run()
    while followed_side.runner.prune(keep):
        pass
    of_10s = [key for key in windows_of_file(followed_side.folder) if key[1] == "10s"]
    assert of_10s
    assert followed_side.rows("SELECT count(*) FROM anomaly") == [(1,)]
    sink.run()
    while followed_side.runner.prune(keep):
        pass
    assert not [key for key in windows_of_file(followed_side.folder) if key[1] == "10s"]
    assert followed_side.rows("SELECT count(*) FROM anomaly") == [(0,)]
    assert set(of_10s) <= windows_of_store(store).keys()
    assert sink.run() == 0  # nothing is written as gone


def test_r27_retention_waits_for_a_sink_that_never_began(followed_side: Side) -> None:
    """Registered, and no file of it is there: nothing of windows goes, nor of changes."""
    followed_side.take(Agent().frame(row(0, 1.0)))
    followed_side.put_clock(seconds=8 * 86_400)
    followed_side.run()
    path = followed_side.folder / influx_file.FILE
    while followed_side.runner.prune(Keep({"10s": DAY}, 7 * DAY, followed=Followed(lambda: followed(path)))):
        pass
    assert [key for key in windows_of_file(followed_side.folder) if key[1] == "10s"]
    assert followed_side.rows("SELECT count(*) FROM change") != [(0,)]
    register(followed_side.store, wanted=False)
    while followed_side.runner.prune(Keep({"10s": DAY}, 7 * DAY, followed=Followed(lambda: followed(path)))):
        pass
    assert not [key for key in windows_of_file(followed_side.folder) if key[1] == "10s"]


def test_r27_retention_waits_until_all_that_was_there_is_written(side: Side, store: LineStore) -> None:
    """A sink is registered with a file of old windows: none goes before the first copy of them all is in the store."""
    side.clock.wall_us = T0
    side.take(Agent().frame(*(row(10 * n, 1.0) for n in range(7))))
    register(side.store)
    side.put_clock(seconds=8 * 86_400)
    side.run()
    sink = Sink(side.folder, store.url, batch=2)
    keep = Keep({"10s": DAY}, 7 * DAY, followed=Followed(lambda: followed(sink.file.path)))
    for _ in range(2):
        sink.follower.step()
        while side.runner.prune(keep):
            pass
    there = windows_of_file(side.folder)
    sink.run()
    assert windows_of_store(store) == there
    assert len([key for key in there if key[1] == "10s"]) >= 7
    while side.runner.prune(keep):
        pass
    assert not [key for key in windows_of_file(side.folder) if key[1] == "10s"]
    sink.close()


def test_a_dead_letter_whose_row_retention_took_is_tried_as_it_was(
    followed_side: Side, sink: Sink, store: LineStore
) -> None:
    """It is not written as a window that is none any more."""
    sink.run()
    followed_side.take(Agent().frame(row(0, 1.0, 2.0)))
    store.say(Said(400, '{"error":"field type conflict"}'))
    sink.run()
    assert {one.database for one in sink.file.dead()} >= {"hw_10s"}
    keep = Keep({"10s": DAY}, 7 * DAY, followed=Followed(lambda: followed(sink.file.path)))
    followed_side.put_clock(seconds=8 * 86_400)
    followed_side.run()
    sink.run()
    while followed_side.runner.prune(keep):
        pass
    assert not [key for key in windows_of_file(followed_side.folder) if key[1] == "10s"]
    store.say(None)
    assert sink.file.retry() > 0
    sink.run()
    assert sink.file.dead() == []
    assert windows_of_store(store)["s1/d1/temp", "10s", T0][0] == 2


def test_r27_a_sink_that_was_away_for_long_is_looked_at_in_pieces(
    followed_side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each unread change is looked at once; nothing may go before all are; what was read since holds nothing back any more."""
    monkeypatch.setattr(changes, "_LOOK", 2)
    db = followed_side.store.connection
    (mark,) = db.execute("SELECT mark FROM sink").fetchone()
    with followed_side.store.transaction() as connection:
        for n in range(5):
            changes.note(connection, "anomaly", [n], 100 - n)
        changes.note(connection, "alert", [9], 7)
    marks = dict(db.execute("SELECT n, mark FROM change"))
    retained, at_first = Followed(), Cursor(mark, 1, marks[1], whole=True)
    assert [retained.held(db, at_first).of("found") for _ in range(2)] == [-(2**63)] * 2
    for _ in range(2):
        assert retained.held(db, at_first).of("found") == 7
    assert retained.held(db, at_first).of(3) is None
    assert retained.held(db, Cursor(mark, 5, marks[5], whole=True)).of("found") == 7
    assert retained.held(db, Cursor(mark, 6, marks[6], whole=True)).of("found") is None
    assert Followed().held(db, None).of(3) == -(2**63)
    with followed_side.store.transaction() as connection:
        connection.execute("DELETE FROM change WHERE n < 6")
    assert Followed().held(db, Cursor(mark, 0, 0, whole=True)).of("found") == 7, "numbers may begin anywhere"


def test_r27_a_sink_that_is_away_for_ever_is_remembered_in_so_much(
    followed_side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each half minute some changes more: what retention holds is as before, nothing may go too early, and what it remembers does not grow."""
    monkeypatch.setattr(changes, "_PIECES", 4)
    db = followed_side.store.connection
    (mark,) = db.execute("SELECT mark FROM sink").fetchone()
    retained, times = Followed(), [50, 40, 90, 30, 80, 70, 20, 60, 85, 95, 99, 97]
    most = 0
    for time_us in times:
        with followed_side.store.transaction() as connection:
            changes.note(connection, "anomaly", [time_us], time_us)
        marks = dict(db.execute("SELECT n, mark FROM change"))
        at_first = Cursor(mark, 0, 0, whole=True)
        assert retained.held(db, at_first).of("found") == min(times[: len(marks)])
        most = max(most, len(retained._pieces))
    assert most <= 4
    for n in range(1, len(times) + 1):
        held = retained.held(db, Cursor(mark, n, marks[n], whole=True)).of("found")
        unread = min(times[n:], default=None)
        assert held is None if unread is None else held is not None and held <= unread
    assert not retained._pieces
    retained.held(db, at_first)
    assert retained._pieces
    assert retained.held(db, None).of("found") == -(2**63)
    assert not retained._pieces, "of another beginning nothing is remembered"


def test_changes_are_let_go_when_they_are_read(followed_side: Side, sink: Sink) -> None:
    """All but the row that the cursor stands at, by which the file is known."""
    agent = Agent()
    for n in range(5):
        followed_side.take(agent.frame(row(10 * n, 1.0)))
    sink.run()
    followed_side.runner.prune(Keep({}, DAY, followed=Followed(lambda: followed(sink.file.path))))
    assert len(followed_side.rows("SELECT n FROM change")) == 1
    followed_side.take(agent.frame(row(100, 1.0)))
    assert sink.run() > 0


def test_no_row_is_noted_where_nobody_follows(side: Side) -> None:
    """It costs nothing where there is no store."""
    side.take(Agent().frame(row(0, 1.0)))
    assert side.rows("SELECT count(*) FROM change") == [(0,)]


def test_a_file_that_went_back_is_written_whole_again(
    followed_side: Side, sink: Sink, store: LineStore, folder: Path
) -> None:
    """A backup of the cloud's file is put back, and the cloud side goes on: what it writes then is under numbers that the sink has read
    already, and comes to the store all the same.
    """
    agent = Agent()
    followed_side.take(agent.frame(row(0, 1.0)))
    backup = folder / "backup.db"
    followed_side.store.connection.execute("VACUUM INTO ?", (str(backup),))
    for n in range(1, 5):
        followed_side.take(agent.frame(row(10 * n, 1.0)))
    sink.run()
    followed_side.close()
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
        (followed_side.folder / name).unlink(missing_ok=True)
    backup.rename(followed_side.folder / FILE)
    store.points.clear()  # what the store is to have is what it is told from now on
    followed_side.open()
    register(followed_side.store)
    followed_side.run()  # the log is read again from where the backup was
    for n in range(5, 9):
        followed_side.take(agent.frame(row(10 * n, 2.0)))
    keep = Keep({}, DAY, followed=Followed(lambda: followed(sink.file.path)))
    followed_side.runner.prune(keep)  # by a cursor of before
    sink.run()
    assert equal(followed_side, store)


@pytest.mark.parametrize("first", [True, False])
def test_another_registration_is_another_beginning(
    followed_side: Side, sink: Sink, store: LineStore, *, first: bool
) -> None:
    """The cloud side ran for a while without a sink in its settings: what it wrote then is noted nowhere, and is written all the same,
    also if there was nothing before.
    """
    agent = Agent()
    if first:
        followed_side.take(agent.frame(row(0, 1.0)))
    sink.run()
    register(followed_side.store, wanted=False)
    followed_side.take(agent.frame(row(10, 1.0)))
    with pytest.raises(TryAgain, match="notes no changes"):
        sink.follower.step()
    register(followed_side.store)
    followed_side.take(agent.frame(row(20, 1.0)))
    sink.run()
    assert equal(followed_side, store)


def test_what_was_found_comes_too(followed_side: Side, sink: Sink, store: LineStore) -> None:
    """An anomaly is open and then over, its alert fires and resolves: one point each, and one a change."""
    agent = Agent()
    followed_side.take(agent.anomaly("begin", 0))
    sink.run()
    assert [point["open"] for point in of(store, "anomalies")] == [True]
    assert [point["open"] for point in of(store, "alerts")] == [True]
    followed_side.take(agent.anomaly("end", 60, begin=0))
    followed_side.put_clock(seconds=3600)
    followed_side.run()
    sink.run()
    assert [(point["open"], point["seconds"]) for point in of(store, "anomalies")] == [(False, 60.0)]
    assert [point["open"] for point in of(store, "alerts")] == [False]
    assert len(of(store, "alert_events")) == followed_side.rows("SELECT count(*) FROM alert_event")[0][0] >= 2


def test_r27_an_event_that_is_there_before_its_alert_is_written_with_it(
    followed_side: Side, sink: Sink, store: LineStore
) -> None:
    """It has no tags without its alert, and is noted once: when the alert comes, so does it."""
    followed_side.take(Agent().anomaly("begin", 0))
    connection = followed_side.store.connection
    ((alert, *_), *others) = rows = connection.execute("SELECT * FROM alert").fetchall()
    assert not others
    with followed_side.store.transaction():
        connection.execute("DELETE FROM alert")
    sink.run()
    assert of(store, "alerts") == of(store, "alert_events") == []
    with followed_side.store.transaction():
        connection.executemany(f"INSERT INTO alert VALUES ({', '.join('?' * len(rows[0]))})", rows)
        changes.note(connection, "alert", [alert])
    sink.run()
    assert [point["id"] for point in of(store, "alerts")] == [alert]
    assert [point["id"] for point in of(store, "alert_events")] == [alert]


def test_r28_a_database_that_was_dropped_gets_all_that_the_file_holds(
    followed_side: Side, sink: Sink, store: LineStore
) -> None:
    """InfluxDB lost its disk, or somebody dropped it: where the sink wrote before there is nothing, so nothing may count as there; also where
    the process is killed as soon as the database is made again. One that was never written is made, and that is all.
    """
    store.databases = set()
    agent = Agent()
    followed_side.take(agent.frame(row(0, 1.0), row(0, 1.0, level="1m")), agent.anomaly("begin", 0))
    sink.run()
    assert {"hw_10s", "hw_1m", "hw_found"} <= store.databases
    assert sink.file.job() is None
    store.databases.clear()
    store.points.clear()
    followed_side.take(agent.frame(row(20, 2.0)))
    taken = store.answer

    def answer(database: str, lines: list[str]) -> Said | None:
        return Said(503) if store.databases and database in store.databases else taken(database, lines)

    store.answer = answer
    assert "503" in sink.try_to()
    sink.reopen()
    store.say(None)
    sink.run()
    assert equal(followed_side, store)
    assert len(of(store, "anomalies")) == len(of(store, "alerts")) == 1


def test_r28_a_page_that_is_not_found_is_no_database_that_was_dropped(
    followed_side: Side, sink: Sink, store: LineStore
) -> None:
    """A proxy without a server behind it says 404, too: what the store has is not written again for it."""
    agent = Agent()
    followed_side.take(agent.frame(row(0, 1.0)))
    sink.run()
    store.say(Said(404, "404 page not found"))
    followed_side.take(agent.frame(row(20, 1.0)))
    assert "404" in sink.try_to()
    assert sink.file.job() is None
    store.say(None)
    sink.run()
    assert equal(followed_side, store)


def test_what_became_of_a_command_is_a_point_each(followed_side: Side, sink: Sink, store: LineStore) -> None:
    """That it was let out, and how it ended, each at its time; what came twice is one point."""
    agent = Agent()
    followed_side.take(agent.ended("s1/d1", "shut", "open", 0), agent.ended("s1/d1", "shut", "done", 9))
    sink.run()
    told = of(store, "commands")
    assert [(one["device"], one["name"], one["status"], one["time"]) for one in told] == [
        ("d1", "shut", "open", T0 * 1000),
        ("d1", "shut", "done", (T0 + 9 * S) * 1000),
    ]
    followed_side.take(agent.ended("s1/d1", "shut", "done", 9))
    sink.run()
    assert of(store, "commands") == told


def test_a_device_and_what_the_registry_says_of_it(followed_side: Side, sink: Sink, store: LineStore) -> None:
    """Each change of status is a point; the latest has what the registry knows now."""
    agent = Agent()
    followed_side.take(
        agent.status("s1/d1", "online", 0), agent.status("s1/d1", "offline", 1, before="online")
    )
    sink.run()
    assert [(point["status"], point["code"]) for point in of(store, "devices")] == [
        ("online", 2),
        ("offline", 0),
    ]
    body = records.encode(RegistryChange("s1/d1", T0, model="P100"))
    followed_side.take(
        Record(IN.name, SHARD, "s1/d1", records.headers(records.REGISTRY, "registry/s1/d1", "test", T0), body)
    )
    sink.run()
    assert [(point["code"], point["model"]) for point in of(store, "devices")] == [(2, ""), (0, "P100")]


def test_more_sets_of_tags_than_may_be_are_counted_and_left_out(
    followed_side: Side, store: LineStore
) -> None:
    """They stay in the cloud's file; those that were there first are written on, also after a start."""
    sink = Sink(followed_side.folder, store.url, max_series=2)
    sink.run()
    agent = Agent()
    followed_side.take(agent.frame(*(row(0, 1.0, series=f"s1/d{n}/temp") for n in range(4))))
    sink.run()
    assert len({point["device"] for point in of(store, "windows")}) <= 2
    assert sink.follower.rows.left_out > 0
    known = sink.follower.rows.tag_sets
    there = {point["device"] for point in of(store, "windows")}
    sink.reopen()
    for devices in ({"d0", "d1", "d2", "d3"} - there, there - {"+"}):
        followed_side.take(agent.frame(*(row(10, 1.0, series=f"s1/{device}/temp") for device in devices)))
        sink.run()
    assert sink.follower.rows.tag_sets == known == 2
    assert {point["device"] for point in of(store, "windows")} == there
    assert len(of(store, "windows")) == 4
    sink.close()


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_in_whatever_order_the_store_has_what_the_file_has(
    side: Side, store: LineStore, folder: Path, seed: int
) -> None:
    """New windows, revisions, windows that end, a store that refuses, kills before a commit, registrations, backups that are put back,
    retention: drawn at random; at last the store has the windows of the file, and of those that retention took, too.
    """
    draw = random.Random(seed)
    side.clock.wall_us = T0
    register(side.store)
    sink = Sink(side.folder, store.url, batch=draw.choice([1, 3, 1000]))
    keep = Keep({}, 7 * DAY, followed=Followed(lambda: followed(sink.file.path)))
    agents, revisions = [Agent("a1"), Agent("a2", epoch=9)], dict.fromkeys(range(12), 0)

    def write() -> None:
        n, at = draw.randrange(2), draw.randrange(6)
        revisions[6 * n + at] += 1
        values = [draw.uniform(0, 9) for _ in range(draw.randrange(4))]
        opened = (agents[n].name, agents[n].epoch, 1)
        side.take(agents[n].frame(row(10 * at, *values, opened=opened, revision=revisions[6 * n + at])))

    def kill() -> None:
        """End the sink with the points written and the cursor where it was."""
        kept = folder / "kept.db"
        kept.unlink(missing_ok=True)
        with closing(sqlite3.connect(sink.file.path)) as before, closing(sqlite3.connect(kept)) as copy:
            before.backup(copy)
        sink.try_to()
        sink.close()
        for end in ("", "-wal", "-shm"):
            sink.file.path.with_name(sink.file.path.name + end).unlink(missing_ok=True)
        shutil.copy(kept, sink.file.path)
        sink.file, sink.follower = sink._make()

    def register_again() -> None:
        register(side.store, wanted=False)
        if draw.random() < 0.5:
            write()
        register(side.store)

    def go_back() -> None:
        backup = folder / "backup.db"
        backup.unlink(missing_ok=True)
        side.store.connection.execute("VACUUM INTO ?", (str(backup),))
        for _ in range(draw.randrange(3)):
            write()
        if draw.random() < 0.5:
            sink.try_to()
        side.close()
        for end in ("", "-wal", "-shm"):
            (side.folder / (FILE + end)).unlink(missing_ok=True)
        backup.rename(side.folder / FILE)
        side.open()
        side.run()

    def step() -> None:
        with suppress(TryAgain):
            sink.follower.step()

    acts: list[Callable[[], object]] = [
        write, write, write, write, step, step, kill, register_again, go_back, sink.try_to,
        lambda: store.say(None), lambda: store.say(Said(draw.choice([503, 500, 401]))),
        lambda: side.runner.prune(keep),
    ]  # fmt: skip
    for _ in range(60):
        draw.choice(acts)()
    store.say(None)
    sink.run()
    assert windows_of_store(store) == windows_of_file(side.folder)
    sink.close()


def test_alerts_that_are_made_again_are_written_again(
    followed_side: Side, sink: Sink, store: LineStore
) -> None:
    """`alerts rebuild` throws the tables away and makes them from the topics: what comes of it is noted, too."""
    followed_side.take(Agent().anomaly("begin", 0))
    sink.run()
    before = of(store, "alerts"), of(store, "alert_events")
    store.points.clear()
    with followed_side.store.transaction() as connection:
        made_again(connection, followed_side.log)
    sink.run()
    assert (of(store, "alerts"), of(store, "alert_events")) == before
    assert before[0]


def test_a_commit_that_failed_notes_nothing(followed_side: Side, sink: Sink, store: LineStore) -> None:
    """Keys and rows are one transaction: what was taken back is not noted, and what is written in its place is."""
    sink.run()
    noted = followed_side.rows("SELECT max(n) FROM change")
    followed_side.put(Agent().frame(*(row(10 * n, 1.0) for n in range(500))))
    (pages,) = followed_side.store.connection.execute("PRAGMA page_count").fetchone()
    followed_side.store.connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(TryAgain):
        followed_side.runner.step()
    followed_side.store.connection.execute("PRAGMA max_page_count=1000000")
    followed_side.run()
    assert followed_side.rows("SELECT max(n) FROM change") != noted
    sink.run()
    assert equal(followed_side, store)


WRITER = """
import sys
from pathlib import Path
from headwater_cloud import changes
from headwater_cloud.store import APPLICATION, SCHEMA, one_commit
from headwater_shared.sqlite_file import open_writer
path = Path(sys.argv[1])
connection = open_writer(path, application=APPLICATION, schema=SCHEMA, wal=False)
for n in range(int(sys.argv[2])):
    with one_commit(connection, path):
        changes.note(connection, "alert", [n])
        if n % 3 == 0:
            changes.note(connection, "anomaly", [n])
"""


def test_r27_the_order_of_changes_is_that_of_commits_whatever_processes_write(folder: Path) -> None:
    """Three processes commit at once: who reads from the last number that it saw never sees a lower one come later, and misses none."""
    path = folder / FILE
    with closing(open_writer(path, application=APPLICATION, schema=SCHEMA, wal=False)) as connection:
        changes.register(connection, wanted=True)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), "60"]) for _ in range(3)]
    seen: list[int] = []
    with closing(open_reader(path, application=APPLICATION, version=len(SCHEMA))) as reader:

        def read_on() -> bool:
            over = all(writer.poll() is not None for writer in writers)
            seen.extend(row[0] for row in changes.read(reader, seen[-1] if seen else 0, 7))
            return over and seen[-1:] == [3 * 80]

        until(read_on, 60, "all is read")
        assert seen == [n for (n,) in reader.execute("SELECT n FROM change ORDER BY n")]
    assert [writer.wait(20) for writer in writers] == [0, 0, 0]


def test_workers_of_one_file_note_changes_in_the_order_of_their_commits(
    folder: Path, store: LineStore
) -> None:
    """Two processes write in turns, with a sink between: whoever has read up to a number never meets a lower one later."""
    one, other = PieceSide(folder), PieceSide(folder, log="other.db")
    with closing(open_writer(folder / FILE, application=APPLICATION, schema=SCHEMA, wal=False)) as connection:
        changes.register(connection, wanted=True)
    sink = Sink(folder, store.url)
    for n in range(6):
        each = (one, other)[n % 2]
        each.take(
            Agent(f"a{n % 2}").frame(row(10 * n, 1.0, series=f"s{n % 2}/d/temp", opened=(f"a{n % 2}", 1, n)))
        )
        if n % 3:
            sink.follower.step()
    sink.run()
    assert equal(one, store)
    for each in (one, other):
        each.close()
    sink.close()
