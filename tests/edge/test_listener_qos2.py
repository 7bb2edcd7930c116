"""QoS 2 through the listener (R3, R5, R13): each message counts once, wherever the connection or the agent is lost."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client as Paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from headwater_edge import keeping, ticker
from headwater_shared.clock import SetClock
from tests.edge import mqtt
from tests.edge.cutter import STEPS, Cut, cutter
from tests.edge.mqtt import PUBCOMP, PUBREC, V5, V311, Client
from tests.edge.on_sockets import Served, bench, run, served
from tests.edge.running import as_after_a_kill
from tests.support import until_async

TOPIC = "hw/s1/d1/data/m"
SENT = 8
VERSIONS = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
CUTS = pytest.mark.parametrize(
    ("step", "arrives"),
    [(step, arrives) for step in STEPS for arrives in (False, True)],
    ids=[f"{step} {what}" for step in STEPS for what in ("lost", "arrives and the connection is lost")],
)


class Device:
    """A sender at QoS 2 that keeps its session: equal values without a time, so that only packet ids tell a repeat; each
    to a topic of its own, which shows what became of it.
    """

    def __init__(self, port: int, version: int) -> None:
        self.port = port
        self.version = version
        self.connections = 0
        self._kept: dict[int, int | None] = {}
        """Message by packet id, None once the PUBREC is there."""
        self._left = list(range(SENT))
        self._next = 0

    async def send_all(self) -> None:
        """Send until all is complete, over as many connections as it takes; two messages in flight."""
        while self._left or self._kept:
            client = await Client.open(self.port)
            properties = b"\x11\x00\x00\x0e\x10" if self.version == V5 else b""
            client.send(mqtt.connect("device", self.version, clean=False, properties=properties))
            if await client.next() is None:
                continue
            self.connections += 1
            for packet_id, number in self._kept.items():
                client.send(self._packet(packet_id, number, dup=True))
            self._fill(client)
            while (self._left or self._kept) and (packet := await client.next()) is not None:
                assert packet.code in {0, 0x92}
                if packet.kind == PUBREC and packet.packet_id in self._kept:
                    self._kept[packet.packet_id] = None
                    client.send(mqtt.pubrel(packet.packet_id))
                elif packet.kind == PUBCOMP:
                    self._kept.pop(packet.packet_id, None)
                    self._fill(client)
            client.writer.close()

    def _fill(self, client: Client) -> None:
        while self._left and len(self._kept) < 2:
            self._next = self._next % 3 + 1  # ids are used again soon
            while self._next in self._kept:
                self._next = self._next % 3 + 1
            self._kept[self._next] = self._left.pop(0)
            client.send(self._packet(self._next, self._kept[self._next], dup=False))

    def _packet(self, packet_id: int, number: int | None, *, dup: bool) -> bytes:
        if number is None:
            return mqtt.pubrel(packet_id)
        return mqtt.publish(f"{TOPIC}{number}", b"5", packet_id, self.version, qos=2, dup=dup)


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks as short as the agent's settings in these tests, at any rate: a tick is what each answer waits for."""
    monkeypatch.setattr(ticker, "_LONGEST_US", 1_000)


async def check(box: Served) -> None:
    """Every message was counted once, and no packet id is left behind."""
    assert await box.counted() == {f"s1/d1/m{n}": 1 for n in range(SENT)}
    assert len(box.agent.state.transport.unreleased.key) == 0


@VERSIONS
@CUTS
def test_r03_qos_2_counts_once_wherever_the_connection_is_lost(
    tmp_path: Path, version: int, step: str, arrives: bool
) -> None:
    """In each of the four steps the packet is lost, or it arrives and the connection is lost: the device comes back to
    its session, goes on where it was, and each of its values is counted once.
    """

    async def test() -> None:
        async with (
            served(tmp_path) as box,
            cutter(box.listener.port, Cut(STEPS[step], arrives)) as (cut, port),
        ):
            device = Device(port, version)
            await device.send_all()
            assert cut.done
            assert device.connections == 2
            await check(box)

    run(test())


@pytest.mark.parametrize("pictures", [False, True], ids=["from the journal", "from a snapshot"])
@CUTS
def test_r13_qos_2_counts_once_wherever_the_agent_is_killed(
    tmp_path: Path, step: str, arrives: bool, pictures: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, and it is the agent that is lost: the next one goes on from the file as a kill leaves it."""
    if pictures:
        monkeypatch.setattr(keeping, "_REPLAY_US", 0)
    (tmp_path / "first").mkdir()

    async def test() -> None:
        clock = SetClock()
        async with (
            served(tmp_path / "first", clock) as first,
            cutter(first.listener.port, Cut(STEPS[step], arrives, away=True)) as (cut, port),
        ):
            sending = asyncio.ensure_future(Device(port, V311).send_all())
            await until_async(lambda: cut.done)
            first.bus.away = True  # nothing that it does after the copy can be heard
            copy = as_after_a_kill(tmp_path / "first", tmp_path / "second")
            async with served(copy, clock, first.log) as second:
                cut.upstream = second.listener.port
                await sending
                await check(second)

    run(test())


@VERSIONS
@CUTS
def test_r03_paho_at_qos_2(tmp_path: Path, version: int, step: str, arrives: bool) -> None:
    """The same with paho-mqtt, whose session is its own."""

    async def test() -> None:
        async with (
            served(tmp_path) as box,
            cutter(box.listener.port, Cut(STEPS[step], arrives)) as (cut, port),
        ):
            told = threading.Semaphore(0)
            protocol = MQTTProtocolVersion.MQTTv5 if version == V5 else MQTTProtocolVersion.MQTTv311
            client = Paho(
                CallbackAPIVersion.VERSION2,
                "paho",
                protocol=protocol,
                clean_session=None if version == V5 else False,
            )
            client.on_publish = lambda *_: told.release()
            client.reconnect_delay_set(0.01, 0.05)  # type: ignore[arg-type]  # seconds, whole or not
            more: dict[str, Any] = {}
            if version == V5:
                expiry: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
                expiry.SessionExpiryInterval = 3600
                more = {"clean_start": False, "properties": expiry}
            client.connect_async("127.0.0.1", port, **more)
            client.loop_start()
            for n in range(SENT):
                client.publish(f"{TOPIC}{n}", b"5", qos=2)
            all_told = lambda: all(told.acquire(timeout=10) for _ in range(SENT))  # noqa: E731
            assert await asyncio.get_running_loop().run_in_executor(None, all_told)
            client.disconnect()
            client.loop_stop()
            assert cut.done
            await check(box)

    run(test())


@VERSIONS
def test_r03_any_publish_before_its_pubrel_is_the_duplicate(tmp_path: Path, version: int) -> None:
    """With DUP or without, whatever it holds, on this connection or the next; after the PUBREL the id is free."""

    async def test() -> None:
        async with served(tmp_path) as box:
            client = await box.client(version=version, clean=False, present=False)
            client.send(mqtt.publish(TOPIC, b"1", 7, version, qos=2))
            assert [p.kind for p in await client.take(1)] == [PUBREC]
            client.send(
                mqtt.publish(TOPIC, b"1", 7, version, qos=2),
                mqtt.publish(TOPIC, b"2", 7, version, qos=2, dup=True),
            )
            assert [(p.kind, p.packet_id) for p in await client.take(2)] == [(PUBREC, 7)] * 2
            client.drop()
            client = await box.client(version=version, clean=False, present=True)
            client.send(mqtt.publish(TOPIC, b"3", 7, version, qos=2, dup=True), mqtt.pubrel(7))
            assert [p.kind for p in await client.take(2)] == [PUBREC, PUBCOMP]
            assert (box.accepted, box.agent.state.counters.by_transport) == (1, 3)
            client.send(mqtt.publish(TOPIC, b"1", 7, version, qos=2))
            await client.take(1)
            assert box.accepted == 2

    run(test())


def test_r03_a_sessions_end_forgets_unreleased_ids(tmp_path: Path) -> None:
    """A clean start, or the end of a session that lasts as long as its connection: the id is a new one."""

    async def test() -> None:
        async with served(tmp_path) as box:
            for clean, version in ((False, V311), (True, V311), (True, V5), (True, V5)):
                client = await box.client(version=version, clean=clean)
                client.send(mqtt.publish(TOPIC, b"1", 7, version, qos=2))
                await client.take(1)
                client.drop()
            assert box.accepted == 4

    run(test())


def test_r13_pubcomp_waits_for_the_commit_of_its_pubrel() -> None:
    """As PUBREC waits for that of the message; and both come in the order in which they were asked for."""

    async def test() -> None:
        async with bench() as box:
            client = await box.client()
            client.send(mqtt.publish(TOPIC, b"1", 1, qos=2), mqtt.PINGREQ)
            await box.delivered(messages=1)
            assert [p.kind for p in await client.take(1)] == [mqtt.PINGRESP]
            box.commit()
            assert [(p.kind, p.packet_id) for p in await client.take(1)] == [(PUBREC, 1)]
            client.send(
                mqtt.publish(TOPIC, b"2", 2), mqtt.pubrel(1), mqtt.publish(TOPIC, b"3", 3, qos=2),
                mqtt.publish(TOPIC, b"4"), mqtt.pubrel(9), mqtt.pubrel(8), mqtt.PINGREQ,
            )  # fmt: skip
            await box.delivered(messages=4)
            assert [p.kind for p in await client.take(1)] == [mqtt.PINGRESP]
            assert box.released() == [1, 9, 8]
            assert box.replies == 3
            box.commit()
            found = [(p.kind, p.packet_id) for p in await client.take(5)]
            assert found == [(mqtt.PUBACK, 2), (PUBCOMP, 1), (PUBREC, 3), (PUBCOMP, 9), (PUBCOMP, 8)]

    run(test())


@VERSIONS
def test_a_pubrel_of_an_unknown_id_is_answered(tmp_path: Path, version: int) -> None:
    """With PUBCOMP, which in MQTT 5 says that the id is not known; a known one beside it is complete, said twice or not."""

    async def test() -> None:
        async with served(tmp_path) as box:
            client = await box.client(version=version)
            client.send(mqtt.publish(TOPIC, b"1", 7, version, qos=2))
            await client.take(1)
            client.send(mqtt.pubrel(5), mqtt.pubrel(7), mqtt.pubrel(7))
            found = [(p.kind, p.packet_id, p.code) for p in await client.take(3)]
            unknown = 0x92 if version == V5 else 0
            assert found == [(PUBCOMP, 5, unknown), (PUBCOMP, 7, 0), (PUBCOMP, 7, 0)]

    run(test())


def test_r05_acknowledgements_of_qos_2_die_with_their_connection() -> None:
    """A PUBREC or PUBCOMP that was not written before the connection ended is not written to the next one."""

    async def test() -> None:
        async with bench() as box:
            first = await box.client(clean=False)
            first.send(mqtt.publish(TOPIC, b"1", 1, qos=2), mqtt.pubrel(2))
            await box.delivered(messages=1, events=2)
            first.drop()
            await box.ended("c")
            second = await Client.open(box.listener.port)
            second.send(mqtt.connect("c", clean=False), mqtt.publish(TOPIC, b"1", 1, qos=2, dup=True))
            await box.delivered(messages=2, events=4)
            box.commit(present=True)
            assert [p.kind for p in await second.take(2)] == [mqtt.CONNACK, PUBREC]
            second.send(mqtt.BYE)
            assert await second.closed() == []

    run(test())
