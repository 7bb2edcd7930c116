"""Device status: online, silent, offline, from what the journal holds, each change once, and no storm after a restart (R13)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge import snapshot
from headwater_edge.device_settings import DeviceSettings, presence_rules
from headwater_edge.events import Connect, DeviceSaid, Disconnect, Event, Start, WillMessage
from headwater_edge.output import Output
from headwater_edge.sessions import BROKERS
from headwater_shared import records
from headwater_shared.bus import Stored
from headwater_shared.clock import SetClock
from headwater_shared.identity import SHARDS
from headwater_shared.records import Device
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import IN
from tests.edge.feed import Message, step_settings_of
from tests.edge.run import Run
from tests.edge.running import LOG, Publish, Running, as_after_a_kill, edge_settings, running

DEVICES = DeviceSettings(silent_after="5m", silent={"s1/door*": "1h", "s1/never": "0s"}, offline_after="10s")


def desk(devices: DeviceSettings = DEVICES) -> Run:
    """An agent's step that has started."""
    settings = msgspec.structs.replace(step_settings_of(), presence=presence_rules(devices))
    made = Run(settings)
    made.start()
    return made


def says(device: str = "s1/d1", connection: int = 1) -> Message:
    return Message(((f"{device}/temp", None, 1.0),), connection)


def connect(connection: int, client: str = "c", *, keep_alive_s: int = 60, will_s: int = -1) -> Connect:
    will = WillMessage(b"x/lwt", b"gone", 0, will_s) if will_s >= 0 else None
    return Connect(connection, client, "", False, 3600, keep_alive_s, will)


def lost(connection: int) -> Disconnect:
    return Disconnect(connection, clean=False)


def left(connection: int) -> Disconnect:
    return Disconnect(connection, clean=True)


def said(output: Output) -> list[tuple[str, str, str]]:
    """What a tick says: (device, status, reason)."""
    return [(one.device, one.status, one.reason) for one in output.devices]


def after(
    run: Run, seconds: float, *messages: Message, events: tuple[Event, ...] = ()
) -> list[tuple[str, str, str]]:
    run.clock.advance(seconds)
    return said(run.tick(*messages, events=events))


def test_the_first_reading_makes_a_device_online_once() -> None:
    """One record with who, when and why, in the numbering of the shard; none for all that it sends later, or resends."""
    run = desk()
    (record,) = run.tick(says(), events=(connect(1),)).devices
    assert (record.device, record.status, record.before, record.reason) == ("s1/d1", "online", "", "reading")
    assert (record.seq, record.time_us, record.heard_us) == (1, run.clock.wall_us, run.clock.wall_us)
    assert after(run, 1, says(), says("s1/d1")) == []


def test_silence_is_of_a_device_that_is_there_and_says_nothing() -> None:
    """Online until just before its time, silent from then on, by the clock alone; a setting for some devices; online again
    with the next reading.
    """
    run = desk()
    run.tick(says(), says("s1/door-2"), says("s1/never"), events=(connect(1),))
    run.clock.advance(299.9)
    assert not run.state.presence.is_due(run.clock.now())
    assert said(run.tick()) == []
    run.clock.advance(0.1)
    assert run.state.presence.is_due(run.clock.now())
    assert said(run.tick()) == [("s1/d1", "silent", "silence")]
    assert after(run, 3300) == [("s1/door-2", "silent", "silence")]
    assert after(run, 1, says()) == [("s1/d1", "online", "reading")]


@pytest.mark.parametrize(
    ("end", "will_s", "wait_s", "reason"),
    [(lost, -1, 10, "connection-lost"), (left, -1, 10, "disconnected"), (left, 30, 10, "disconnected"), (lost, 30, 30, "will")],
)  # fmt: skip
def test_a_device_is_offline_when_its_connection_has_ended_and_it_has_not_come_back(
    end: Callable[[int], Disconnect], will_s: int, wait_s: float, reason: str
) -> None:
    """After the grace of the settings, or when its will is due; all that was heard on that connection, and nothing else."""
    run = desk()
    run.tick(
        says(), says("s1/d2"), says("s2/other", 2), events=(connect(1, will_s=will_s), connect(2, "else"))
    )
    assert said(run.tick(events=(end(1),))) == []
    assert after(run, wait_s - 0.1) == []
    assert sorted(after(run, 0.1)) == [("s1/d1", "offline", reason), ("s1/d2", "offline", reason)]
    assert after(run, 1, events=(connect(3),)) == [
        ("s1/d1", "online", "connected"),
        ("s1/d2", "online", "connected"),
    ]


def test_a_will_without_delay_makes_offline_at_once_and_a_takeover_does_not() -> None:
    """The new connection of a client ends the old one in the same tick: nobody was gone."""
    run = desk()
    run.tick(says(), events=(connect(1, will_s=0),))
    assert said(run.tick(events=(lost(1), connect(2, will_s=0)))) == []
    assert said(run.tick(events=(lost(2),))) == [("s1/d1", "offline", "will")]


def test_who_comes_back_in_time_was_never_gone() -> None:
    """By its client, or heard on another client's connection: a gateway that was exchanged."""
    run = desk()
    run.tick(says(), says("s1/d2"), events=(connect(1),))
    run.tick(events=(lost(1),))
    assert after(run, 5, says("s1/d2", 2), events=(connect(2, "other"),)) == []
    assert after(run, 4, events=(connect(3),)) == []
    assert after(run, 100) == []
    assert after(run, 0, events=(lost(2),)) == []
    assert after(run, 10) == [("s1/d2", "offline", "connection-lost")]


def test_a_broker_that_is_lost_makes_nobody_offline() -> None:
    """What is behind it may be well: it falls silent in its time; a topic that says so makes it offline, a reading online."""
    run = desk()
    run.tick(says(), says("s1/d2"), events=(connect(1, f"{BROKERS}plant"),))
    assert after(run, 0, events=(lost(1),)) == []
    assert after(run, 100) == []
    assert after(run, 0, events=(DeviceSaid("s1/d1", online=False),)) == [("s1/d1", "offline", "said")]
    assert after(run, 1, events=(DeviceSaid("s1/d1", online=True),)) == [("s1/d1", "online", "said")]
    assert after(run, 0, events=(DeviceSaid("s1/stranger", online=False),)) == []
    assert after(run, 199) == [("s1/d2", "silent", "silence")]


def test_what_comes_later_in_a_tick_is_right() -> None:
    """A reading behind the message that says that a device is gone makes it online; one before it does not."""
    run = desk()
    gone = DeviceSaid("s1/d1", online=False)
    run.tick(says(), events=(connect(1),))
    for at, wanted in ((1, []), (2, [("s1/d1", "offline", "said")])):
        tick = run.feed.tick(run.clock.now(), [Message(), says(), Message()])
        tick.events = [(at - 1 if at == 1 else 2, gone)]
        from headwater_edge.step import step

        assert said(step(run.state, tick)) == wanted


@pytest.mark.parametrize("reboot", [False, True], ids=["of the agent", "of the machine"])
def test_r13_a_restart_is_no_storm(reboot: bool) -> None:
    """All connections are gone with the agent: who returns within one and a half keep alives and the grace is not mentioned,
    who does not is offline then; nobody is silent for the time in which no agent ran, nor for a reboot.
    """
    run = desk()
    messages = [says(f"s1/d{n}", n) for n in range(1, 4)]
    run.tick(*messages, events=tuple(connect(n, f"c{n}") for n in range(1, 4)))
    run.picture()
    run.crash(run.pictures[-1])
    run.clock.advance(86_400)
    if reboot:
        run.clock.boot, run.clock.mono_us = "another", 5_000_000
    assert said(run.start()) == []
    assert after(run, 50, events=(connect(1, "c1"),)) == []
    assert after(run, 10, says("s1/d2", 2), events=(connect(2, "c2"),)) == []
    assert after(run, 39.9) == []
    assert after(run, 0.1) == [("s1/d3", "offline", "connection-lost")]
    assert after(run, 250, says("s1/d2", 2)) == [("s1/d1", "silent", "silence")]


def test_status_that_is_off_says_nothing_and_switched_on_says_it_anew() -> None:
    """`edge.devices.status = false`; with the setting changed at a start, each device is said when it is heard."""
    run = desk(msgspec.structs.replace(DEVICES, status=False))
    assert said(run.tick(says(), events=(connect(1),))) == []
    from headwater_edge.events import Settings

    on = msgspec.structs.replace(run.state.settings, presence=presence_rules(DEVICES))
    run.tick(events=(Start(9, "test"), Settings(msgspec.json.encode(on).decode())))
    assert after(run, 1, says()) == [("s1/d1", "online", "reading")]


moves = st.one_of(
    st.tuples(st.just("connect"), st.integers(0, 3)),
    st.tuples(st.just("end"), st.integers(0, 3)),
    st.tuples(st.just("say"), st.integers(0, 3), st.integers(0, 4)),
    st.tuples(st.just("wait"), st.sampled_from([1, 9, 10, 100, 300])),
    st.tuples(st.just("crash")),
    st.tuples(st.just("start")),
)


@given(st.lists(moves, max_size=40))
def test_r31_whatever_happens_each_record_says_a_change_and_a_crash_says_it_again_alike(
    moved: list[tuple[object, ...]],
) -> None:
    """Records of a device chain: each begins with the status that the one before ended with, and differs from it; the journal
    run again, from a snapshot or from nothing, says the same and gives the same state.
    """
    run = desk()
    live: dict[int, int] = {}
    numbers = 0
    for move in moved:
        match move:
            case ("connect", int(client)):
                numbers += 1
                events = [lost(live[client])] if client in live else []
                live[client] = numbers
                run.tick(events=(*events, connect(numbers, f"c{client}")))
            case ("end", int(client)) if client in live:
                run.tick(events=(lost(live.pop(client)),))
            case ("say", int(client), int(device)) if client in live:
                run.tick(says(f"s{device % 2}/d{device}", live[client]))
            case ("wait", int(seconds)):
                run.clock.advance(seconds)
                run.tick()
            case ("crash",):
                run.picture()
                run.crash(run.pictures[-1])
            case ("start",):
                live.clear()
                run.start()
            case _:
                pass
    now: dict[str, str] = {}
    for output in run.outputs:
        for record in output.devices:
            assert record.before == now.get(record.device, "")
            assert record.status != record.before
            now[record.device] = record.status
    assert snapshot.fingerprint(run.restored()) == snapshot.fingerprint(run.state)


def on_bus(folder: Path) -> list[Device]:
    log = SqliteLog(folder / LOG)
    found: list[Stored] = log.read(IN.name, dict.fromkeys(range(SHARDS), 0), 10_000)
    log.close()
    return [
        records.decode(Device, one.body) for one in found if records.kind_of(one.headers) == records.DEVICE
    ]


def test_status_reaches_the_bus_once_whatever_is_killed(tmp_path: Path) -> None:
    """An agent that is killed with its records unsent sends each after the start, under the same id; what was sent is not said
    anew.
    """
    (tmp_path / "first").mkdir()
    settings = edge_settings(devices=DEVICES)

    async def speak(box: Running, connection: int) -> None:
        await box.connect(connection, "c")
        await box.publish(Publish("hw/s1/d1/data/temp", b"20.5", 1, connection=connection))

    async def test() -> None:
        clock = SetClock()
        async with running(tmp_path / "first", settings, clock) as first:
            first.bus.away = True
            await speak(first, 1)
            copy = as_after_a_kill(tmp_path / "first", tmp_path / "second")
        async with running(copy, settings, clock) as box:
            await speak(box, 1)
            clock.advance(3)
            await box.acknowledged(box.source.send(events=[Disconnect(1, clean=True)]))
            clock.advance(10)
            await box.acknowledged(box.source.send(events=[connect(2, "else")]))
            await box.forwarded()
            assert box.agent.state.presence.counts() == {"online": 0, "silent": 0, "offline": 1}
        found = on_bus(copy)
        assert [(one.device, one.status) for one in found] == [("s1/d1", "online"), ("s1/d1", "offline")]
        assert len({one.id for one in found}) == 2

    asyncio.run(test())
