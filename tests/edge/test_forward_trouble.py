"""A bus that is away, slow, hanging, replaced or set back, and a cloud that has less than it was given: nothing stays unsent."""

from __future__ import annotations

import asyncio
import random
import shutil
import threading
from pathlib import Path

import pytest

from headwater_edge import forward, health, metrics
from headwater_edge.forward_settings import ForwardSettings
from headwater_edge.outbox import BEHIND
from headwater_edge.pipeline import Agent
from headwater_shared.bus import Bus
from headwater_shared.clock import SetClock
from headwater_shared.errors import BusReplaced, BusUnavailable, StartAgain
from headwater_shared.sqlite_log import SqliteLog
from tests.edge.forwarding import Desk, HangingBus
from tests.edge.running import FILE, LOG, AwayBus, Publish, ScriptedSource, edge_settings, running
from tests.support import until, until_async

T = 1_800_000_000


def test_pain11_tries_come_less_and_less_often_and_begin_anew_after_a_good_while(desk: Desk) -> None:
    """Pauses grow up to 15 s, jittered; a commit does not shorten them; after a minute of a bus that was well, the first
    is short again.
    """
    desk.forward._retry._uniform = random.Random(7).uniform
    desk.once()
    desk.bus.away = True
    desk.put()
    desk.once(100.0)
    pauses = [desk.forward._pause_s]
    for _ in range(60):
        desk.put()
        assert desk.once(pauses[-1]) == "offline"
        pauses.append(desk.forward._pause_s)
    assert pauses[0] <= 1.0
    assert max(pauses) <= 15.0
    assert max(pauses) > 5.0
    assert len(set(pauses)) > 30
    desk.bus.away = False
    desk.once(1.0)
    desk.once(100.0)
    desk.bus.away = True
    desk.put()
    desk.once(1.0)
    assert desk.forward._pause_s <= 1.0


def test_pain10_what_the_bus_lost_is_sent_again(desk: Desk, tmp_path: Path) -> None:
    """R22: the log came back from yesterday's copy under the same identity, without the last rows. The cloud has what came
    after them and not these: they go out again, and no others.
    """
    desk.put(rows=3)
    desk.once()
    shutil.copyfile(tmp_path / "log.db", tmp_path / "yesterday")
    desk.put(rows=2)
    desk.once()
    assert desk.arrived() == [1, 2, 3, 4, 5]
    desk.do_chores()
    desk.forward.close()
    shutil.copyfile(tmp_path / "yesterday", tmp_path / "log.db")
    desk.bus = AwayBus(tmp_path / "log.db")
    desk.forward = desk.opened()
    desk.have(1, 3)
    desk.once(1.0)
    desk.put()
    desk.once(1.0)
    assert desk.arrived() == [1, 2, 3, 6]
    desk.have(1, 3, 6, 6)
    desk.once(1.0)
    desk.drained()
    assert desk.arrived() == [1, 2, 3, 6, 4, 5]
    assert desk.replayed() == [4, 5]
    desk.have(1, 6)
    desk.once(1.0)
    assert desk.forward.pending == 0


def test_a_cloud_that_is_only_behind_is_sent_nothing_twice(desk: Desk) -> None:
    """It is down, or slow: it has the first rows and not yet the others. Hours later, too, nothing was lost."""
    desk.put(rows=3)
    desk.once()
    desk.have(1, 1)
    for _ in range(5):
        desk.put()
        desk.once(10_000.0)
    assert desk.arrived() == list(range(1, 9))


def test_r22_a_cloud_that_went_back_is_sent_what_is_still_here(desk: Desk) -> None:
    """Its file was restored from a backup: rows that it had said it had, and that a snapshot kept here, go out again."""
    desk.put(rows=4)
    desk.once()
    desk.have(1, 4)
    desk.once(1.0)
    assert desk.forward.pending == 0
    desk.have(1, 2)
    desk.once(1.0)
    assert desk.forward.pending == 2
    desk.put()
    desk.once(1.0)
    desk.have(1, 2, 5, 5)
    desk.once(1.0)
    desk.drained()
    assert desk.arrived() == [1, 2, 3, 4, 5, 3, 4]


def test_rows_that_the_cloud_never_has_are_sent_again_seldom(desk: Desk) -> None:
    """Whatever the reason: no more often than every ten minutes, for a loop would fill the bus."""
    desk.put(rows=2)
    desk.once()
    for number in range(3, 63):
        desk.put()
        desk.once(10.0)
        desk.have(2, number)
        desk.once(10.0)
    assert 2 <= desk.arrived().count(1) <= 4


def test_r22_a_log_that_is_replaced_while_it_is_open_is_noticed(desk: Desk, tmp_path: Path) -> None:
    """Deleted and made anew under a running agent: it would write where nobody reads. All that is here goes to the new one."""
    desk.put(rows=3)
    desk.once()
    for half in tmp_path.glob("log.db*"):
        half.unlink()
    desk.put()
    desk.bus, old = AwayBus(tmp_path / "log.db"), desk.bus
    desk.once(1.0)
    assert desk.forward.mode == "offline"
    with pytest.raises(BusReplaced, match="was replaced"):
        old.ends("hw-in")
    desk.drained()
    desk.once(1.0)
    assert desk.arrived() == [1, 2, 3, 4]


def test_r22_a_log_that_went_back_under_a_running_agent_is_noticed(desk: Desk) -> None:
    """Its `have` topic ends before where we read already: all that is here goes out again."""
    desk.put(rows=3)
    desk.once()
    desk.have(1, 2)
    desk.once(1.0)
    desk.forward._have_offset += 5
    desk.once(1.0)
    desk.once(1.0)
    assert desk.arrived() == [1, 2, 3, 1, 2, 3]


def test_pain16_a_bus_that_is_absent_at_the_start_is_found_later(tmp_path: Path) -> None:
    """No folder for the log, no file: the forwarder tries on, and sends all when it is there."""
    desk = Desk(tmp_path)
    desk.forward.close()
    place = tmp_path / "mount" / "log.db"
    desk.forward = desk.opened()
    desk.forward._open_bus = lambda: SqliteLog(place)
    desk.put(rows=2)
    assert desk.once() == "offline"
    place.parent.mkdir()
    desk.once(1.0)
    desk.once(1.0)
    assert desk.forward.mode == "live"
    assert desk.forward.sent_rows == 2
    desk.close()


def test_pain10_a_bus_that_hangs_stops_no_tick_and_stall_means_exit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append hangs: readings are committed and acknowledged as ever. It hangs too long while the bus answers others:
    the agent ends with one line that says so, and its end does not wait for the bus either.
    """

    async def test() -> None:
        bus = HangingBus(tmp_path / LOG)
        calls: list[Bus] = []

        def open_bus() -> Bus:
            calls.append(bus if not calls else SqliteLog(tmp_path / LOG))
            return calls[-1]

        settings = edge_settings(forward=ForwardSettings(stall="1s"))
        agent = Agent(settings, tmp_path / FILE, SetClock(), open_bus, "test")
        source = agent.attach(ScriptedSource)
        await agent.start()
        bus.goes_on.clear()
        for at in range(20):
            burst = source.send(Publish("hw/s1/d1/data/temp", b'{"t":%d,"v":1}' % (T + 20 * at)))
            await until_async(lambda burst=burst: burst in source.acknowledged)  # type: ignore[misc]
        assert bus.hangs.is_set()
        await until_async(agent.failed.done, what="it gives up")
        with pytest.raises(StartAgain, match="forwarding stands still"):
            agent.failed.result()
        agent._idle_timer.cancel()
        monkeypatch.setattr(forward, "_LEAVE_S", 0.2)
        leaving = asyncio.get_running_loop().run_in_executor(None, agent._close_threads)
        await until_async(leaving.done, what="it ends though the bus hangs")
        bus.goes_on.set()

    asyncio.run(test())


def test_a_bus_that_says_it_is_away_is_no_stall(desk: Desk) -> None:
    """Hours of errors end no process: it would find the same bus."""
    desk.put()
    desk.bus.away = True
    for _ in range(20):
        desk.once(3600.0)
        assert not desk.forward.watch.stalled()


def test_a_bus_that_answers_nobody_is_no_stall(tmp_path: Path) -> None:
    """Who asks beside the forwarder hears nothing either: a new process would not help."""
    desk = Desk(tmp_path)
    desk.bus = HangingBus(tmp_path / "log.db")
    desk.forward.close()
    desk.forward = desk.opened()
    desk.put()
    desk.bus.goes_on.clear()
    turn = threading.Thread(target=desk.forward.once)
    turn.start()
    until(desk.bus.hangs.is_set)
    desk.clock.advance(61)

    def away() -> Bus:
        raise BusUnavailable("nobody answers")

    desk.forward.watch._open_bus = away
    assert not desk.forward.watch.stalled()
    desk.forward.watch._open_bus = lambda: SqliteLog(tmp_path / "log.db")
    assert desk.forward.watch.stalled()
    desk.bus.goes_on.set()
    turn.join()
    assert not desk.forward.watch.stalled()
    desk.close()


def test_a_slow_bus_is_no_stall(tmp_path: Path) -> None:
    """Each append takes long, and none too long: the watch begins anew with every answer."""
    desk = Desk(tmp_path, ForwardSettings(stall="60s"))
    desk.put(rows=500)
    append = desk.bus.append
    looks = []

    def slow(records: object) -> None:
        desk.clock.advance(50)
        looks.append(desk.forward.watch.stalled())
        append(records)  # type: ignore[arg-type]

    desk.bus.append = slow  # type: ignore[method-assign]
    desk.drained()
    assert len(looks) >= 8
    assert not any(looks)
    desk.close()


def test_status_health_and_metrics_say_how_forwarding_stands(tmp_path: Path) -> None:
    """The mode, what waits and since when; away is a reason of `/health`, a backlog is none."""

    async def test() -> None:
        async with running(tmp_path) as box:
            await box.forwarded()
            box.bus.away = True
            for at in range(BEHIND + 2):
                await box.publish(Publish("hw/s1/d1/data/temp", b'{"t":%d,"v":1}' % (T + 20 * at)))
            await until_async(lambda: box.agent.forward.mode == "offline")
            box.clock.advance(30)
            registry = metrics.registry(box.agent)
            assert registry.get_sample_value("headwater_edge_forward_mode", {"mode": "offline"}) == 1
            assert registry.get_sample_value("headwater_edge_forward_mode", {"mode": "live"}) == 0
            said = health.health(box.agent)
            assert said["forward"] == "offline"
            assert said["reasons"] == ["the bus is away; everything waits in the outbox"]
            await until_async(lambda: health.status(box.agent)["oldest_unsent_s"] == 30, 20)
            box.bus.away = False
            await until_async(lambda: box.agent.forward.mode == "backlog", 20)
            assert health.health(box.agent)["reasons"] == []
            await until_async(lambda: box.agent.forward.mode == "live", 20)
            assert (registry.get_sample_value("headwater_edge_replayed_rows_total") or 0) > BEHIND
            assert registry.get_sample_value("headwater_edge_backlog_rows") == 0
            assert health.status(box.agent)["oldest_unsent_s"] == 0

    asyncio.run(test())


def test_pain11_a_commit_is_no_reason_to_try_a_bus_that_is_away(tmp_path: Path) -> None:
    """Rows come several times a second: with each of them a try, a thousand agents would be a storm."""

    async def test() -> None:
        async with running(tmp_path) as box:
            await box.forwarded()
            box.bus.away = True
            await box.publish(Publish("hw/s1/d1/data/temp", b'{"t":%d,"v":1}' % T))
            box.agent.forward.wake(0)
            await until_async(lambda: box.agent.forward.mode == "offline")
            tries: list[None] = []
            look = box.bus._look

            def counted() -> None:
                tries.append(None)
                look()

            box.bus._look = counted  # type: ignore[method-assign]
            for at in range(50):
                await box.publish(Publish("hw/s1/d1/data/temp", b'{"t":%d,"v":1}' % (T + 20 * at)))
            assert len(tries) < 15
            box.bus.away = False

    asyncio.run(test())
