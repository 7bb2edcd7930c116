"""The broker client at QoS 2 with a real Mosquitto: PUBREC after the commit, PUBCOMP after that of the PUBREL; cut at each step."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from headwater_edge.broker_burst import BrokerBurst
from headwater_edge.events import Connect, Disconnect, Release, Subscribe
from headwater_edge.source import DUP, QOS1, QOS2, RETAIN, TWICE
from tests.edge.test_broker import Agent, client, numbered
from tests.edge.test_broker_talk import let_into, suback
from tests.support import Mosquitto, until_async

VERSIONS = ("5", "3.1.1")


def publish_twice(port: int, *messages: tuple[str, bytes], retain: bool = False) -> None:
    """Publish at QoS 2 with paho-mqtt, and wait until the broker has all of it."""
    sender = Client(CallbackAPIVersion.VERSION2, "publisher", protocol=MQTTProtocolVersion.MQTTv5)
    sender.connect("127.0.0.1", port)
    sender.loop_start()
    try:
        for info in [sender.publish(topic, payload, 2, retain) for topic, payload in messages]:
            info.wait_for_publish(10)
            assert info.is_published()
        sender.disconnect()
    finally:
        sender.loop_stop()


def published(port: int, *numbers: int) -> None:
    publish_twice(port, *numbered(*numbers))


async def released(agent: Agent, count: int) -> list[int]:
    """Wait until the broker has released so many ids; return them."""

    def ids() -> list[int]:
        return [one for event in agent.of_kind(Release) for one in getattr(event, "packet_ids", [])]

    await until_async(lambda: len(ids()) >= count, what=f"{count} PUBRELs")
    return ids()


async def again(agent: Agent) -> None:
    """Lose the connection, and wait for the next one."""
    before = agent.broker.counts.connects
    assert agent.broker._link is not None
    agent.broker._link._sock.shutdown(socket.SHUT_RDWR)
    await until_async(lambda: agent.broker.counts.connects > before, what="connected again")


@pytest.mark.parametrize("version", VERSIONS)
def test_each_step_waits_for_its_commit(mosquitto: Mosquitto, version: str) -> None:
    """PUBLISH, and no PUBREL before we say that it is on disk; PUBREL, and nothing more before we say that of it, too."""

    async def test() -> None:
        async with client(mosquitto.port, qos=2, version=version, receive_maximum=2) as agent:
            await agent.subscribed()
            agent.acknowledge()
            published(mosquitto.port, 1)
            await agent.has(1)
            (burst,) = (burst for burst in agent.bursts if burst.topics)
            (packet_id,) = (one & 0xFFFF for one in burst.packet_ids)
            assert burst.packet_ids == [packet_id | TWICE]
            published(mosquitto.port, 2)  # answered later than a PUBREL would have come
            await agent.has(2)
            assert not agent.of_kind(Release)
            agent.acknowledge()
            assert sorted(await released(agent, 2)) == [packet_id, packet_id + 1]
            published(mosquitto.port, 3)  # two are in flight until their PUBCOMP
            assert agent.payloads == []
            agent.acknowledge()
            assert await agent.has(1) == [b"3"]
            assert agent.broker.counts.acknowledgements == 2

    asyncio.run(test())


@pytest.mark.parametrize("version", VERSIONS)
def test_r03_the_connection_is_lost_before_the_pubrec(mosquitto: Mosquitto, version: str) -> None:
    """The broker sends the PUBLISH again, with DUP and the same id."""

    async def test() -> None:
        async with client(mosquitto.port, qos=2, version=version) as agent:
            await agent.subscribed()
            published(mosquitto.port, 1)
            await agent.has(1)
            (first,) = (burst for burst in agent.bursts if burst.topics)
            agent.bursts = []
            await again(agent)
            assert await agent.has(1) == [b"1"]
            (second,) = (burst for burst in agent.bursts if burst.topics)
            assert second.packet_ids == first.packet_ids
            assert second.flags == [QOS2 | DUP]
            (connect,) = agent.of_kind(Connect)
            assert isinstance(connect, Connect)
            assert not connect.clean

    asyncio.run(test())


@pytest.mark.parametrize("version", VERSIONS)
def test_r03_the_connection_is_lost_before_the_pubcomp(mosquitto: Mosquitto, version: str) -> None:
    """The broker sends the PUBREL again, and no PUBLISH: the id is released over the new connection, and free afterwards."""

    async def test() -> None:
        async with client(mosquitto.port, qos=2, version=version) as agent:
            await agent.subscribed()
            published(mosquitto.port, 1)
            await agent.has(1)
            agent.acknowledge()
            first = await released(agent, 1)
            agent.bursts = []
            await again(agent)
            assert await released(agent, 1) == first
            (event,) = agent.of_kind(Release)
            (connect,) = agent.of_kind(Connect)
            assert isinstance(event, Release)
            assert isinstance(connect, Connect)
            assert event.connection == connect.connection
            assert agent.payloads == []
            assert not [one for one in agent.of_kind(Disconnect) if one.connection == connect.connection]  # type: ignore[union-attr]
            agent.acknowledge()
            published(mosquitto.port, 2)
            assert await agent.has(1) == [b"2"]

    asyncio.run(test())


def test_r09_retained_messages_at_qos_2_are_skipped_and_released(mosquitto: Mosquitto) -> None:
    """They go through all four packets, or the broker's window would stay full of them."""
    publish_twice(mosquitto.port, *((f"hw/s/d{n}/data/m", b"old") for n in range(25)), retain=True)

    async def test() -> None:
        async with client(mosquitto.port, qos=2, version="3.1.1") as agent:
            await until_async(lambda: agent.of_kind(Subscribe), what="subscribed")
            while agent.broker.counts.retained < 25:
                await until_async(lambda: agent.bursts, what="retained messages")
                agent.acknowledge()
            published(mosquitto.port, 1)
            while agent.payloads != [b"1"]:
                await until_async(lambda: agent.bursts, what="a live one")
                if not agent.payloads:
                    agent.acknowledge()

    asyncio.run(test())


def _message(n: int, flags: int, topic: bytes = b"hw/a") -> bytes:
    body = len(topic).to_bytes(2) + topic + (n.to_bytes(2) if flags & (QOS1 | QOS2) else b"") + b"\0v"
    return bytes((0x30 | flags, len(body))) + body


def _pubrel(n: int, *, with_reason: bool = False) -> bytes:
    return b"\x62\x03" + n.to_bytes(2) + b"\0" if with_reason else b"\x62\x02" + n.to_bytes(2)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"),
            st.integers(1, 9),
            st.sampled_from((0, QOS1, QOS2, QOS2 | DUP, QOS1 | RETAIN, QOS2 | RETAIN)),
        ),
        st.tuples(st.just("release"), st.integers(1, 9), st.sampled_from((0, 1))),
    ),
    max_size=20,
)


@given(STEPS, st.integers(0, 200))
def test_r03_acknowledgements_stand_in_the_order_of_what_they_answer(
    steps: list[tuple[str, int, int]], cut_at: int
) -> None:
    """PUBACK and PUBREC for each message of any stream, PUBCOMP for each PUBREL, in their order; each release stands before the
    messages that came after it.
    """
    stream, wanted, comps, history = b"", [], [], []
    for kind, n, how in steps:
        if kind == "publish":
            stream += _message(n, how)
            if how & (QOS1 | QOS2):
                wanted.append(n | (TWICE if how & QOS2 else 0))
            if not how & RETAIN:
                history.append(("publish", n if how & (QOS1 | QOS2) else 0))
        else:
            stream += _pubrel(n, with_reason=bool(how))
            comps.append(n)
            history.append(("release", n))
    made = let_into()
    made.take(suback(1, 0), BrokerBurst(0), 0.0)
    acknowledged, completed, seen = [], [], []
    for piece in (stream[:cut_at], stream[cut_at:]):
        burst = BrokerBurst(0)
        made.take(piece, burst, 1.0)
        made.finish(burst, 1.0)
        acknowledged += [one for one in burst.acknowledgements() if one]
        completed += burst.released
        events = iter([*burst.events, (len(burst.topics) + 1, None)])
        at, event = next(events)
        for message in range(len(burst.topics) + 1):
            while at == message:
                assert isinstance(event, Release)
                seen += [("release", one) for one in event.packet_ids]
                at, event = next(events)
            if message < len(burst.topics):
                seen.append(("publish", burst.packet_ids[message] & 0xFFFF))
    assert acknowledged == wanted
    assert completed == comps
    assert seen == history
