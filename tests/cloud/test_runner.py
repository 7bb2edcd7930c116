"""The runner: batches in order, one commit for state, offsets and outputs, and what the bus is told (R27)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec import msgpack, structs

from headwater_cloud.store import APPLICATION, SCHEMA, Store
from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.errors import BusUnavailable, StateInUse, TryAgain
from headwater_shared.records import Have
from headwater_shared.sqlite_file import open_writer
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import ALERT_EVENTS, DEAD_LETTERS, HAVE, IN
from tests.cloud.kills import Steps
from tests.cloud.made import SHARD, Agent, S, row
from tests.cloud.side import FILE, LOG, Side, all_of, copied, on_bus, windows_of

OTHER = "s2/d1/temp"


class AwayLog(SqliteLog):
    """The real log, that takes nothing while it is told to, or does not say that it took what it was given."""

    away = False
    lost_answers = 0

    def append_once(self, producer: str, first_id: int, some: Sequence[Record]) -> None:
        if self.away:
            raise BusUnavailable("away")
        super().append_once(producer, first_id, some)
        if self.lost_answers:
            self.lost_answers -= 1
            raise BusUnavailable("no answer")


def with_away_log(side: Side) -> AwayLog:
    """Give the runner another hold of the same log."""
    log = AwayLog(side.folder / LOG)
    side.runner._bus = side.runner._publisher._bus = log
    return log


def test_full_batches_are_taken_in_the_order_of_the_log(side: Side) -> None:
    """Partitions are read together, at most `batch` records at a time, and none overtakes another."""
    one, two = Agent("a1"), Agent("a2")
    for n in range(12):
        side.put(one.frame(row(0, *[1.0] * (n + 1), revision=n)))
        side.put(*(two.frame(row(10 * n + k, 1.0, series=OTHER)) for k in range(n % 4)))
    of_one = [stored.partition == SHARD for stored in side.topic(IN)]
    side.batch = 5
    side.reopen()
    seen = []
    while side.runner.step():
        ((read,),) = side.rows('SELECT sum(next) FROM "offset"')
        ((revision,),) = side.rows("SELECT max(revision) FROM window")
        seen.append((read, revision))
    assert [read for read, _ in seen] == [*range(5, len(of_one), 5), len(of_one)]
    assert [revision for _, revision in seen] == [sum(of_one[:read]) - 1 for read, _ in seen]


def test_the_lag_is_what_is_on_the_bus_and_not_read(side: Side) -> None:
    """Of all partitions; what was read and waits for its commit is no lag."""
    agent = Agent()
    side.put(*(agent.frame(row(10 * n, 1.0)) for n in range(7)), agent.frame(row(0, 1.0, series=OTHER)))
    assert side.runner.lag() == 8
    side.batch = 5
    side.reopen()
    side.runner.step()
    assert side.runner.lag() == 3
    side.run()
    side.put(agent.heartbeat(10))
    side.runner.step()
    assert side.runner.lag() == 0


def commits(side: Side) -> float:
    return side.count("commits_total")


def test_clocks_and_heartbeats_alone_wait_for_a_commit(side: Side) -> None:
    """They are on the bus and can be read once more: two seconds at most, or until something else is to be written."""
    agent = Agent()
    side.take(agent.frame(row(0, 1.0)))
    side.put_clock(seconds=1)  # the first of a shard: what came before it is rolled up
    side.run()
    before = commits(side)
    for n in range(3):
        side.put(agent.heartbeat(10 + n))
        side.put_clock(seconds=1)
        side.runner.step()
    assert commits(side) == before
    assert side.rows("SELECT complete_us FROM progress") == [(0,)]
    side.put(agent.frame(row(10, 1.0)))
    side.runner.step()
    assert commits(side) == before + 1
    assert side.rows("SELECT waiting, complete_us / 1000000 % 100 FROM progress") == [(0, 12)]
    side.put_clock(seconds=1)
    side.runner.step()
    side.real_s += 1.9
    side.runner.step()
    assert commits(side) == before + 1
    side.real_s += 0.2
    side.runner.step()
    assert commits(side) == before + 2
    assert side.store.load_shards()[SHARD].clock_us == side.clock.wall_us


def test_what_waits_is_committed_with_what_does_not(side: Side) -> None:
    """The offsets move past the heartbeat of one agent when the frame of another is committed: so does what it said."""
    side.put(Agent("a1").heartbeat(30), Agent("a3").heartbeat(10))
    side.runner.step()
    side.put(Agent("a3").heartbeat(20), Agent("a2").frame(row(0, 1.0, series=OTHER)))
    side.runner.step()
    side.drop()
    side.open()
    assert side.runner.lag() == 0
    assert side.rows("SELECT agent, complete_us / 1000000 % 100 FROM progress ORDER BY agent") == [
        ("a1", 30), ("a2", 0), ("a3", 20),
    ]  # fmt: skip
    assert side.store.load_shards()[SHARD].agents.keys() == {"a1", "a3"}


def test_an_end_by_a_signal_commits_what_waits(side: Side) -> None:
    """The next process need not read it again."""
    side.take(Agent().frame(row(0, 1.0)))
    side.put_clock(seconds=1)
    side.runner.step()
    side.reopen()
    assert side.runner.lag() == 0


def test_r27_outputs_leave_the_file_once_they_are_on_the_bus(side: Side) -> None:
    """They wait in the file, in the commit of what they came from, and go with a later one."""
    agent = Agent()
    side.take(agent.frame(row(0, 1.0)), agent.anomaly("begin", 0))
    assert len(side.rows("SELECT id FROM output")) == 3
    side.take(agent.frame(row(10, 1.0)))
    assert side.rows("SELECT id, topic FROM output") == [(4, "hw-have")]
    assert len(side.topic(HAVE)) == 2


def test_r27_while_the_bus_is_away_outputs_wait_and_nothing_is_read(side: Side) -> None:
    """Nothing is lost, nothing comes twice, and the order stays, whether or not the bus took what it did not answer."""
    agent = Agent()
    log = with_away_log(side)
    log.away = True
    side.put(agent.frame(row(0, 1.0)), agent.anomaly("begin", 0))
    with pytest.raises(TryAgain):
        side.runner.step()
    side.put(agent.anomaly("end", 5, begin=0), agent.frame(row(10, 1.0)))
    for _ in range(3):
        with pytest.raises(TryAgain):
            side.runner.step()
    assert len(windows_of(side)) == 1, "committed, and the rest is not read"
    assert not any(on_bus(side).values())
    log.away, log.lost_answers = False, 1
    with pytest.raises(TryAgain):
        side.runner.step()
    side.run()
    had = [records.decode(Have, stored.body).intervals for stored in side.topic(HAVE)]
    assert had == [[1, 2], [1, 4]]
    assert len(side.topic(ALERT_EVENTS)) == 2
    log.close()


def test_r11_on_a_full_disk_the_same_commit_is_tried_again_and_nothing_is_read_meanwhile(side: Side) -> None:
    """The file is as before; once there is room the rows, the outputs and the notifications are there once."""
    agent = Agent()
    side.take(agent.frame(row(0, 1.0)))
    ((pages,),) = side.store.connection.execute("PRAGMA page_count").fetchall()
    side.store.connection.execute(f"PRAGMA max_page_count={pages}")
    side.put(
        *(agent.frame(*(row(10 * n, *[0.1] * 9, series=f"s1/d{k}/x") for k in range(80))) for n in range(4))
    )
    side.put(agent.anomaly("begin", 0))
    before = all_of(side)
    for _ in range(3):
        with pytest.raises(TryAgain, match="the commit did not fit"):
            side.runner.step()
    assert all_of(side) == before
    assert side.told() == []
    side.put(agent.frame(row(100, 1.0)))
    side.store.connection.execute("PRAGMA max_page_count=1000000")
    side.run()
    assert len(windows_of(side)) == 1 + 4 * 80 + 1
    assert side.haves() == {("a1", 1, SHARD): [1, 7]}
    assert side.told() == ["firing"]
    assert len(side.topic(ALERT_EVENTS)) == 1


def test_r32_a_second_process_on_the_same_file_is_refused(side: Side) -> None:
    """The message names the file and the process that has it; the first one goes on."""
    with pytest.raises(StateInUse, match=r"cloud\.db is in use by process"):
        Store(side.folder / FILE)
    side.take(Agent().frame(row(0, 1.0)))


def test_r27_retention_keeps_what_was_not_read_of_an_old_log(side: Side) -> None:
    """Agents wrote for weeks before the first cloud side came: what it has not committed yet is not deleted as old."""
    agent, lonely = Agent(), Agent("lonely")
    side.put(*(lonely.heartbeat(n) for n in range(3)), *(agent.frame(row(10 * n, 1.0)) for n in range(6)))
    side.clock.advance(30 * 86_400)
    side.batch = 3
    side.reopen()
    for _ in range(9):
        side.runner.step()
        side.runner.read_for_good()
        side.log.retain(side.clock.wall_us)
    assert len(windows_of(side)) == 6
    side.runner.read_for_good()
    side.log.retain(side.clock.wall_us)
    assert side.topic(IN) == [], "and what was read for good goes"


def test_r27_retention_keeps_what_is_read_and_not_committed(side: Side) -> None:
    """Heartbeats and clocks that wait for a commit are read again after a crash."""
    agent = Agent()
    side.take(agent.frame(row(0, 1.0)))
    side.put(agent.heartbeat(5))
    side.clock.advance(30 * 86_400)
    side.runner.step()
    side.runner.read_for_good()
    side.log.retain(side.clock.wall_us)
    side.drop()
    side.open()
    side.run()
    assert side.rows("SELECT complete_us FROM progress") == [(1_800_000_005 * S,)]


def test_another_log_is_read_from_its_beginning_and_nothing_counts_twice(side: Side) -> None:
    """The log was moved away: offsets begin anew, rows that come again are known, and agents hear what is had."""
    agent, other = Agent(), Agent("a2", epoch=5)
    sent = [agent.frame(row(10 * n, 1.0)) for n in range(4)]
    side.take(*sent[:3], agent.anomaly("begin", 0), other.frame(row(0, 9.0, series=OTHER)))
    rows, haves = all_of(side), side.haves()
    side.reopen("log-2.db")
    assert side.topic(HAVE) == []
    side.run()
    assert side.haves() == haves
    side.take(sent[2])
    side.take(agent.frame(row(40, 1.0)))
    assert side.count("repeated_rows_total") == 1
    assert [window for window in windows_of(side) if window in rows["window"]] == rows["window"]
    assert len(windows_of(side)) == len(rows["window"]) + 1
    had = side.topic(HAVE)[-1].offset + 1
    side.reopen("log-2.db")
    assert side.runner.lag() == 0, "it is the same log now"
    assert side.topic(HAVE)[-1].offset + 1 == had


def test_another_log_is_told_what_is_had_even_after_a_kill(side: Side, folder: Path, steps: Steps) -> None:
    """A kill at any step of the first start with it: the next process tells the agents all the same."""
    agent = Agent()
    side.take(agent.frame(row(0, 1.0)), agent.frame(row(10, 1.0)))
    side.take(Agent("a2").frame(row(0, 1.0)))
    haves = side.haves()
    side.drop()
    before = side.folder
    for at in range(100):
        side.folder = copied(before, folder / f"{at}")
        left = steps.killed(lambda: _started(side), side.folder, at, folder / f"{at}-killed")
        side.drop()
        side.folder = left or side.folder
        side.open("log-2.db")
        side.run()
        assert side.haves() == haves, f"killed at {steps.passed[at]}"
        side.drop()
        if left is None:
            break
    assert {"store.before", "store.after", "cloud.publish.before", "cloud.publish.after"} <= set(steps.passed)
    side.open()


def _started(side: Side) -> None:
    side.open("log-2.db")
    side.run()


def test_a_log_that_went_back_is_read_from_its_beginning(side: Side) -> None:
    """It was restored from a backup, or the disk lost its last commits: what agents append then has offsets that were read before."""
    agent = Agent()
    side.take(agent.frame(row(0, 1.0)))
    before = (side.folder / LOG).read_bytes()
    side.take(*(agent.frame(row(10 * n, 1.0)) for n in range(1, 4)))
    haves = side.haves()
    side.close()
    (side.folder / LOG).write_bytes(before)
    side.open()
    side.run()
    assert side.haves() == haves
    side.take(*(agent.frame(row(10 * n, 1.0)) for n in range(4, 6)))
    assert len(windows_of(side)) == 6
    assert side.count("repeated_rows_total") == 1


def test_r27_a_file_that_was_restored_from_a_backup_loses_no_output(side: Side) -> None:
    """It counts its outputs on from the backup's, and reads again in other batches: the bus has seen those ids, but not
    what they stand for now.
    """
    agent, other = Agent(), Agent("a2", 7)
    side.take(agent.frame(row(0, 1.0)))
    side.reopen()
    before = (side.folder / FILE).read_bytes()
    for n in range(1, 20):
        side.take(agent.frame(row(10 * n, 1.0)))
    side.close()
    (side.folder / FILE).write_bytes(before)
    side.open()
    side.run()
    broken = structs.replace(other.frame(row(0, 1.0)), body=b"\xc3\x01broken")
    side.take(broken, agent.anomaly("begin", 5), other.frame(row(10, 1.0)))
    assert [stored.body for stored in side.topic(DEAD_LETTERS)] == [broken.body]
    assert [event.key for event in side.topic(ALERT_EVENTS)] == [
        alert for (alert,) in side.rows("SELECT id FROM alert")
    ]
    assert side.haves() == {("a1", 1, SHARD): [1, 21], ("a2", 7, SHARD): [1, 2]}
    assert side.told() == ["firing"]


def test_outputs_that_a_file_of_version_1_holds_are_on_the_bus_once(folder: Path) -> None:
    """They bear the name under which that version appended: those that the bus has are skipped, the others follow."""
    old = open_writer(folder / FILE, application=APPLICATION, schema=SCHEMA[:1], page_size=8192)
    old.execute("INSERT INTO meta VALUES ('producer', 'feed')")
    packed = msgpack.encode({"ce_id": "x"})
    old.executemany("INSERT INTO output VALUES (?, 'hw-alert-events', 0, 'k', ?, ?)", [(n, packed, b"%d" % n) for n in (4, 5, 6)])  # fmt: skip
    old.close()
    log = SqliteLog(folder / LOG)
    log.append_once(
        "cloud/feed", 4, [Record("hw-alert-events", 0, "k", {"ce_id": "x"}, b"%d" % n) for n in (4, 5)]
    )
    side = Side(folder)
    side.run()
    side.reopen()
    side.take(Agent().frame(row(0, 1.0)))
    assert [stored.body for stored in side.topic(ALERT_EVENTS)] == [b"4", b"5", b"6"]
    assert side.rows("SELECT count(*) FROM output") == [(1,)]
    side.close()
    log.close()


def test_the_first_log_of_a_new_file_is_no_other_log(side: Side) -> None:
    """The first start, and the second one, say nothing to anybody."""
    assert side.topic(HAVE) == []
    side.reopen()
    side.run()
    assert side.topic(HAVE) == []
