"""Wills (R13): published exactly once where a client is gone without a farewell, and never where it came back in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge import sessions as sessions_module
from headwater_edge.events import Connect, Disconnect, Event, WillMessage, WillsPublished
from headwater_edge.sessions import NEVER, Sessions
from headwater_shared.clock import SetClock
from tests.edge.running import Publish, Running, as_after_a_kill, running
from tests.support import until_async

TOPIC = b"hw/s1/d1/data/online"


def connect(
    connection: int, *, clean: bool = False, expiry_s: int = 3600, keep_alive_s: int = 60, delay_s: int = 0,
    payload: bytes = b"0", topic: bytes = TOPIC,
) -> Connect:  # fmt: skip
    """The event of a client that brings a will."""
    will = WillMessage(topic, payload, 1, delay_s)
    return Connect(connection, "c", "", clean, expiry_s, keep_alive_s, will)


async def happens(box: Running, *events: Connect | Disconnect) -> None:
    await box.acknowledged(box.source.send(events=events))


async def time_passes(box: Running, seconds: float) -> None:
    """Let event time pass, and the agent look at it as it does once a second."""
    box.clock.advance(seconds)
    box.agent._idle_timer.cancel()
    box.agent._idle()
    await settled(box)


async def settled(box: Running) -> None:
    """Wait until nothing is under way."""
    await until_async(
        lambda: not box.agent._busy and not box.agent._gather and not box.agent.state.sessions.wills.due
    )


def accepted(box: Running) -> int:
    return box.agent.state.counters.accepted


def run(test: Awaitable[None]) -> None:
    asyncio.run(test)  # type: ignore[arg-type]


def test_r13_a_will_is_a_message_on_its_topic(tmp_path: Path) -> None:
    """Of a data topic it is a reading of the moment at which it is published; of another one a dead letter with its
    bytes; and it is not published again by the next start.
    """

    async def test() -> None:
        async with running(tmp_path) as box:
            await happens(box, connect(1))
            box.clock.advance(7)
            await happens(box, Disconnect(1, clean=False))
            await happens(box, connect(2, topic=b"x/lwt", payload=b"gone"))
            await happens(box, Disconnect(2, clean=False))
            await settled(box)
            state = box.agent.state
            assert (state.names, state.counters.accepted, state.counters.dead) == (["s1/d1/online"], 1, 1)
            assert state.levels.fine.recent.event[:1].tolist() == [box.clock.now().wall_us]
        async with running(tmp_path) as box:
            await time_passes(box, 1000)
            assert (accepted(box), box.agent.state.counters.dead) == (1, 1)

    run(test())


def test_r13_after_a_farewell_there_is_no_will(tmp_path: Path) -> None:
    """DISCONNECT with the code 0 takes it away; one that asks for the will does not."""

    async def test() -> None:
        async with running(tmp_path) as box:
            await happens(box, connect(1))
            await happens(box, Disconnect(1, clean=True))
            await time_passes(box, 4000)
            assert accepted(box) == 0
            await happens(box, connect(2))
            await happens(box, Disconnect(2, clean=False))
            await settled(box)
            assert accepted(box) == 1

    run(test())


def test_r13_who_comes_back_within_the_delay_gets_no_will(tmp_path: Path) -> None:
    """The delay counts from the end of the connection; the session's end makes the will due before."""

    async def test() -> None:
        async with running(tmp_path) as box:
            await happens(box, connect(1, delay_s=30))
            await happens(box, Disconnect(1, clean=False))
            await time_passes(box, 29)
            await happens(box, connect(2, delay_s=30))
            await time_passes(box, 1000)
            assert accepted(box) == 0
            await happens(box, Disconnect(2, clean=False))
            await time_passes(box, 29.9)
            assert accepted(box) == 0
            await time_passes(box, 0.1)
            assert accepted(box) == 1
            await happens(box, connect(3, delay_s=30, payload=b"2"), Disconnect(3, clean=False))
            await happens(box, connect(4, clean=True, delay_s=0, expiry_s=0, payload=b"3"))
            await settled(box)
            assert accepted(box) == 2

    run(test())


@pytest.mark.parametrize("back", [False, True], ids=["it stays away", "it comes back"])
def test_r13_after_a_restart_a_device_has_its_keep_alive_to_come_back(tmp_path: Path, back: bool) -> None:
    """kill -9 while a device with a will is connected: one and a half keep alives and the delay later, not before, the
    will is a reading; a device that returned meanwhile, with its session or without, has none.
    """
    (tmp_path / "first").mkdir()

    async def test() -> None:
        clock = SetClock()
        async with running(tmp_path / "first", clock=clock) as first:
            await happens(first, connect(1, keep_alive_s=60, delay_s=10, clean=True))
            copy = as_after_a_kill(tmp_path / "first", tmp_path / "second")
        clock.advance(3600)  # it was off for long, and the device could not know
        async with running(copy, clock=clock) as box:
            await time_passes(box, 99.9)
            assert accepted(box) == 0
            if back:
                await happens(box, connect(1, clean=True))
            await time_passes(box, 0.1)
            assert accepted(box) == (0 if back else 1)

    run(test())


def test_r13_a_will_that_was_due_at_a_kill_is_published_once(tmp_path: Path) -> None:
    """Killed between the commit that makes it due and the one that publishes it, and right after: once in all."""
    (tmp_path / "first").mkdir()

    async def test() -> None:
        async with running(tmp_path / "first") as first:
            await happens(first, connect(1))
            first.agent._wills.look = lambda: None  # type: ignore[method-assign]
            await happens(first, Disconnect(1, clean=False))
            copy = as_after_a_kill(tmp_path / "first", tmp_path / "second")
        async with running(copy) as second:
            await settled(second)
            assert accepted(second) == 1
            again = as_after_a_kill(copy, tmp_path / "third")
        async with running(again) as third:
            await third.publish(Publish("hw/s1/d1/data/x", b"1"))
            await settled(third)
            assert accepted(third) == 2

    run(test())


def test_r13_a_will_outlives_snapshots(tmp_path: Path) -> None:
    """Live, waiting and due ones, to the last bit; and a snapshot of before there were wills is read."""
    before = Sessions()
    before.take(connect(1), 0)
    before.take(Connect(2, "d", "", False, 60, 0, WillMessage(b"t", b"\xff", 0, 20)), 0)
    before.take(Disconnect(2, clean=False), 5_000_000)
    before.take(Connect(3, "e", "", True, 0, 0, WillMessage(b"t", b"", 0, 0)), 0)
    before.take(Disconnect(3, clean=False), 0)
    dumped = msgspec.msgpack.decode(msgspec.msgpack.encode(before.dump()), strict=False)
    after = Sessions()
    after.load(dumped)
    assert after.dump() == before.dump()
    assert after.wills.is_due(25_000_000)
    assert not after.wills.is_due(24_999_999)
    del dumped["wills"]
    Sessions().load(dumped)


def test_a_connect_of_before_there_were_wills_is_read() -> None:
    """Journal rows keep: the fields that came later have their defaults."""
    row = msgspec.msgpack.encode(["connect", 7, "c", "user", True, 60])
    assert msgspec.msgpack.decode(row, type=Event) == Connect(7, "c", "user", True, 60, 0, None)


def test_r13_a_will_of_a_session_that_is_let_go_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many absent clients: the longest absent one's session ends, and so its will comes."""
    monkeypatch.setattr(sessions_module, "KEPT", 1)
    kept = Sessions()
    kept.take(connect(1, delay_s=1000, expiry_s=NEVER), 0)
    kept.take(Disconnect(1, clean=False), 0)
    kept.take(Connect(2, "d", "", False, 60), 0)
    assert [will.payload for will in kept.wills.due.values()] == [b"0"]


acts = st.one_of(
    st.tuples(
        st.just("connect"), st.integers(1, 2), st.booleans(), st.sampled_from((0, 5, 100, NEVER)),
        st.sampled_from((0, 4, 20)), st.sampled_from((None, 0, 3, 10, 200)),
    ),
    st.tuples(st.just("end"), st.integers(1, 2), st.booleans()),
    st.tuples(st.just("advance"), st.sampled_from((1, 4, 7, 60))),
    st.sampled_from((("restart",), ("reload",))),
)  # fmt: skip


class Model:
    """What must be published, from the rule's own words: seconds, one client after the other."""

    def __init__(self) -> None:
        self.now = 0.0
        self.published: set[int] = set()
        self.live: dict[int, tuple[int | None, int, int, int]] = {}
        """By client: will, delay, expiry, keep alive."""
        self.away: dict[int, tuple[int, float, bool]] = {}
        """By client: will, when it is due, and whether it was we who went."""

    def connect(self, client: int, clean: bool, live: tuple[int | None, int, int, int]) -> None:
        if client in self.live:
            self.end(client, clean=False)
        will, _, ours = self.away.pop(client, (0, 0.0, True))
        if clean and not ours:
            self.published.add(will)
        self.live[client] = live

    def end(self, client: int, *, clean: bool) -> None:
        will, delay, expiry, _ = self.live.pop(client)
        if will is not None and not clean:
            self.away[client] = (will, self.now + min(delay, expiry), False)
            if not min(delay, expiry):
                self.due()

    def restart(self) -> None:
        for client, (will, delay, _, keep_alive) in self.live.items():
            if will is not None:
                self.away[client] = (will, self.now + (1.5 * keep_alive or 90) + delay, True)
        self.live.clear()

    def due(self) -> None:
        for client, (will, due, _) in list(self.away.items()):
            if due <= self.now:
                self.published.add(will)
                del self.away[client]


@given(st.lists(acts, max_size=40))
def test_r13_wills_are_those_of_a_plain_model(todo: list[tuple]) -> None:  # type: ignore[type-arg]
    """Whatever clients come, go, come back, and however often we start again: each will that is due is published once,
    and no other.
    """
    model, kept, clock = Model(), Sessions(), SetClock()
    clock.mono_us = 0
    connections: dict[int, int] = {}
    published: list[int] = []
    for number, (act, *more) in enumerate(todo, 1):
        now_us = clock.mono_us
        if act == "connect":
            client, clean, expiry, keep_alive, delay = more
            will = None if delay is None else WillMessage(b"t", b"%d" % number, 0, delay)
            kept.take(Connect(number, str(client), "", clean, expiry, keep_alive, will), now_us)
            connections[client] = number
            model.connect(client, clean, (None if will is None else number, delay or 0, expiry, keep_alive))
        elif act == "end" and more[0] in connections:
            client, clean = more
            kept.take(Disconnect(connections.pop(client), clean), now_us)
            model.end(client, clean=clean)
        elif act == "advance":
            clock.advance(more[0])
            model.now += more[0]
        elif act == "restart":
            connections.clear()
            kept.start(clock.now(), clock.now())
            model.restart()
        elif act == "reload":
            dumped = msgspec.msgpack.decode(msgspec.msgpack.encode(kept.dump()), strict=False)
            kept = Sessions()
            kept.load(dumped)
        kept.wills.ripen(clock.mono_us)
        model.due()
        numbers = list(kept.wills.due)
        published += [int(kept.wills.due[one].payload) for one in numbers]
        kept.take(WillsPublished(numbers), clock.mono_us)
        kept.end_tick()
        assert sorted(published) == sorted(model.published)


def test_sessions_do_not_end_when_a_clock_that_stood_in_1970_is_set() -> None:
    """Expiry counts monotonic time; over a reboot the wall clock counts, if it was believed both times."""
    clock = SetClock(wall_us=1_000_000)
    clock.quality = 1
    kept = Sessions()
    kept.take(Connect(1, "c", "", False, 60), clock.now().mono_us)
    kept.take(Disconnect(1, clean=False), clock.now().mono_us)
    clock.wall_us = 1_800_000_000_000_000
    clock.quality = 0
    assert kept.take(Connect(2, "c", "", False, 60), clock.now().mono_us)
    before = clock.now()
    clock.boot, clock.mono_us = "another", 5
    clock.wall_us += 59_000_000
    kept.start(before, clock.now())
    clock.advance(59)  # the connection ended with the reboot
    assert kept.take(Connect(1, "c", "", False, 60), clock.now().mono_us)
    kept.take(Disconnect(1, clean=False), clock.now().mono_us)
    before = clock.now()
    clock.boot, clock.mono_us = "a third", 5
    clock.wall_us += 61_000_000
    kept.start(before, clock.now())
    assert not kept.take(Connect(1, "c", "", False, 60), clock.now().mono_us)
