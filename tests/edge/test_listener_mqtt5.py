"""The edges of MQTT 5 at the listener: aliases, limits of both sides, reason codes, properties, keep alive, expiry."""

from __future__ import annotations

import struct
from pathlib import Path

import mqtt5
import pytest

from headwater_edge.events import Connect, Disconnect
from tests.edge import mqtt
from tests.edge.mqtt import BYE, CONNACK, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBREC, V5, Client
from tests.edge.on_sockets import bench, run, served
from tests.support import until_async

TOPIC = "hw/s1/d1/data/m"
USER = b"\x26" + mqtt.text("trace") + mqtt.text("x" * 50)


def alias(number: int) -> bytes:
    return b"\x23" + struct.pack(">H", number)


def expiry(seconds: int) -> bytes:
    return b"\x11" + struct.pack(">I", seconds)


def packet_maximum(size: int) -> bytes:
    return b"\x27" + struct.pack(">I", size)


def read(packet: mqtt.Packet) -> mqtt5.ConnAckPacket:
    """Read a CONNACK with a codec that is not ours."""
    whole = mqtt.packet(packet.kind << 4, packet.body)
    found, _ = mqtt5.read(memoryview(whole))
    assert isinstance(found, mqtt5.ConnAckPacket)
    return found


async def connacked(port: int, data: bytes) -> tuple[Client, mqtt.Packet]:
    client = await Client.open(port)
    client.send(data)
    (connack,) = await client.take(1)
    return client, connack


def test_connack_says_what_the_listener_takes(tmp_path: Path) -> None:
    """Receive Maximum, longest packet, topic aliases, QoS 2, no shared subscriptions and no subscription identifiers; an
    id for who brought none; a keep alive where the one asked for is too long or none.
    """

    async def test() -> None:
        async with served(tmp_path) as box:
            _, connack = await connacked(box.listener.port, mqtt.connect("", V5, keep_alive_s=0))
            said = read(connack)
            assert (said.receive_max, said.max_packet_size, said.topic_alias_max) == (1024, 256_000, 32)
            assert said.max_qos == mqtt5.QoS.EXACTLY_ONCE
            assert (said.shared_subscription_available, said.subscription_id_available) == (False, False)
            assert (said.wildcard_subscription_available, said.retain_available) == (True, True)
            assert (said.assigned_client_id or "").startswith("auto-")
            assert (said.server_keep_alive, said.session_expiry_interval, said.response_info) == (
                3600,
                None,
                None,
            )
            _, connack = await connacked(box.listener.port, mqtt.connect("mine", V5, keep_alive_s=3600))
            assert (read(connack).assigned_client_id, read(connack).server_keep_alive) == (None, None)

    run(test())


def test_a_keep_alive_that_was_shortened_is_kept_to() -> None:
    """Silence is measured by what the client was told."""

    async def test() -> None:
        async with bench(max_keep_alive="10s") as box:
            client = await box.client(version=V5, keep_alive_s=60)
            box.seconds += 14.9
            box.listener.sweep()
            assert box.listener.connected == 1
            box.seconds += 0.2
            box.listener.sweep()
            assert [p.code for p in await client.closed()] == [0x8D]
            assert [e.keep_alive_s for e in box.events if isinstance(e, Connect)] == [10]

    run(test())


def test_a_topic_alias_stands_for_its_topic_on_its_connection() -> None:
    """Set and used in one packet after the other, set anew, beside plain messages, at each QoS."""

    async def test() -> None:
        async with bench() as box:
            client = await box.client(version=V5)
            client.send(
                mqtt.publish("a/1", b"1", 1, V5, properties=alias(1)), mqtt.publish("", b"2", 2, V5, properties=alias(1)),
                mqtt.publish("a/2", b"3", 3, V5, properties=alias(32)), mqtt.publish("a/3", b"4", 4, V5),
                mqtt.publish("", b"5", 5, V5, qos=2, properties=alias(32) + USER),
                mqtt.publish("a/4", b"6", 0, V5, properties=alias(1)),
            )  # fmt: skip
            client.send(mqtt.publish("", b"7", 0, V5, properties=alias(1)))
            await box.delivered(messages=7)
            assert box.topics == [b"a/1", b"a/1", b"a/2", b"a/3", b"a/2", b"a/4", b"a/4"]

    run(test())


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (mqtt.publish("a", b"", 1, V5, properties=alias(0)), 0x94),
        (mqtt.publish("a", b"", 1, V5, properties=alias(33)), 0x94),
        (mqtt.publish("", b"", 1, V5, properties=alias(2)), 0x82),
        (mqtt.publish("", b"", 1, V5), 0x90),
        (mqtt.publish("a", b"", 1, V5, properties=alias(1) + alias(1)), 0x82),
        (mqtt.publish("a" * 600, b"", 1, V5, properties=alias(1)), 0x97),
    ],
    ids=[
        "0",
        "too large",
        "stands for nothing",
        "no topic and no alias",
        "twice",
        "a topic that is too long to keep",
    ],
)
def test_a_wrong_topic_alias_ends_the_connection(packet: bytes, code: int) -> None:
    """With the reason; what came before is taken."""

    async def test() -> None:
        async with bench() as box:
            client = await box.client(version=V5)
            client.send(mqtt.publish("a", b"", 9, V5, properties=alias(1)), packet)
            (last,) = await client.closed()
            assert (last.kind, last.code) == (DISCONNECT, code)
            await box.delivered(messages=1, events=2)
            assert len(box.topics) == 1

    run(test())


def test_a_topic_alias_does_not_outlive_its_connection() -> None:
    """The session does; the next connection begins without aliases."""

    async def test() -> None:
        async with bench() as box:
            client = await box.client(version=V5, clean=False, properties=expiry(3600))
            client.send(mqtt.publish("a", b"", 1, V5, properties=alias(1)))
            await box.delivered(messages=1)
            client.drop()
            await box.ended("c")
            client = await box.client(version=V5, clean=False, properties=expiry(3600))
            client.send(mqtt.publish("", b"", 2, V5, properties=alias(1)))
            assert [p.code for p in await client.closed()] == [0x82]

    run(test())


def test_far_more_in_flight_than_allowed_ends_the_connection() -> None:
    """More than twice our Receive Maximum, at QoS 1 or 2; a little more is held back, and QoS 0 has no such limit."""

    async def test() -> None:
        async with bench(in_flight=10) as box:
            client = await box.client(version=V5)
            client.send(b"".join(mqtt.publish(TOPIC, b"", n, V5) for n in range(1, 20)))
            client.send(b"".join(mqtt.publish(TOPIC, b"", 0, V5) for n in range(30)))

            def all_there() -> bool:
                box.commit()
                return len(box.topics) == 49

            await until_async(all_there)
            await client.take(19)
            for n in range(1, 22):  # one by one, none released
                client.send(mqtt.publish(TOPIC, b"", n, V5, qos=2))
                await box.delivered(messages=49 + n)
                box.commit()
            said = await client.closed()
            assert [p.kind for p in said] == [PUBREC] * 20 + [DISCONNECT]
            assert said[-1].code == 0x93
            client = await box.client(version=V5)
            client.send(b"".join(mqtt.publish(TOPIC, b"", n, V5) for n in range(1, 22)))
            assert [p.code for p in await client.closed() if p.kind == DISCONNECT] == [0x93]
            old = await box.client("old")
            old.send(b"".join(mqtt.publish(TOPIC, b"", n) for n in range(1, 31)))  # 3.1.1 has no such thing
            before = box.listener.counts.acknowledgements

            def acknowledged() -> bool:
                box.commit()
                return box.listener.counts.acknowledgements == before + 30

            await until_async(acknowledged)
            assert len(await old.take(30)) == 30

    run(test())


def test_released_messages_are_in_flight_no_more() -> None:
    """A client that keeps to our Receive Maximum may go on for ever."""

    async def test() -> None:
        async with bench(in_flight=2) as box:
            client = await box.client(version=V5)
            for n in range(1, 30):
                client.send(mqtt.publish(TOPIC, b"", n, V5, qos=2))
                await box.delivered(messages=n)
                box.commit()
                assert [p.kind for p in await client.take(1)] == [PUBREC]
                client.send(mqtt.pubrel(n))
                await box.delivered(events=1 + n)
                box.commit()
                assert [p.kind for p in await client.take(1)] == [PUBCOMP]

    run(test())


def test_nothing_is_sent_that_is_longer_than_the_client_takes(tmp_path: Path) -> None:
    """Reasons for people are left out first, a SUBACK that is too long is not sent, a command is not either; and a client
    that takes next to nothing is turned away.
    """

    async def test() -> None:
        async with bench() as box:
            client = await box.client(version=V5, properties=packet_maximum(64))
            client.send(mqtt.subscribe(1, [("#", 0)] * 70, V5), mqtt.subscribe(2, [("#", 0)] * 50, V5))
            (suback,) = await client.take(1)
            assert suback.packet_id == 2
            box.filters["hw/s/d/cmd"] = [1]
            assert not box.listener.publish(b"hw/s/d/cmd", b"x" * 60)
            assert box.listener.publish(b"hw/s/d/cmd", b"x" * 49)
            assert len((await client.take(1))[0].body) == 62
            client.send(mqtt.publish("a/+" + "x" * 50, b"", 1, V5))
            (last,) = await client.closed()
            assert (last.code, last.body) == (0x90, b"\x90")
            client = await box.client(version=V5)
            client.send(mqtt.publish("a/+" + "x" * 50, b"", 1, V5))
            (last,) = await client.closed()
            assert b"PUBLISH to" in last.body
            for size, said in ((63, [(CONNACK, 0x95)]), (4, [])):
                refused = await Client.open(box.listener.port)
                refused.send(mqtt.connect("small", V5, properties=packet_maximum(size)))
                found = await refused.closed()
                assert [(p.kind, p.code) for p in found] == said
                assert all(len(p.body) + 2 <= size for p in found)

    run(test())


def test_user_properties_are_read_and_left_out() -> None:
    """On every packet that may have them; a malformed one ends the connection."""

    async def test() -> None:
        async with bench() as box:
            client = await box.client(
                version=V5, properties=USER * 3, will=("a/b", b"", 0, 0), will_properties=USER
            )
            for n in range(1, 200):
                own = b"\x26" + mqtt.text("n") + mqtt.text(str(n))
                client.send(mqtt.publish(TOPIC, b"%d" % n, n, V5, properties=own + USER * (n % 5)))
            client.send(mqtt.packet(0x62, b"\0\5\0" + mqtt.block(USER)))
            await box.delivered(messages=199, events=2)
            assert box.payloads == [b"%d" % n for n in range(1, 200)]
            assert box.topics == [TOPIC.encode()] * 199
            client.send(mqtt.publish(TOPIC, b"", 5, V5, properties=b"\x26" + mqtt.text("half")))
            assert [p.code for p in await client.closed()] == [0x81]

    run(test())


def test_disconnect_changes_the_expiry_of_the_session(tmp_path: Path) -> None:
    """To nothing: the session is gone; to more or less; a session that was to end with its connection gets none."""

    async def test() -> None:
        async with served(tmp_path) as box:

            async def leave(client: Client, properties: bytes) -> list[int]:
                client.send(mqtt.packet(0xE0, b"\0" + mqtt.block(properties)))
                return [p.code for p in await client.closed()]

            client = await box.client(version=V5, clean=False)
            assert await leave(client, expiry(0)) == []
            client = await box.client(version=V5, clean=False, present=False)
            assert await leave(client, expiry(60)) == []
            box.clock.advance(59)
            client = await box.client(version=V5, clean=False, present=True)
            assert await leave(client, expiry(60)) == []
            box.clock.advance(61)
            await box.client(version=V5, clean=True, present=False)
            client = await box.client(version=V5, clean=True)
            assert await leave(client, expiry(60)) == [0x82]

    run(test())


def test_a_disconnect_may_ask_for_the_will() -> None:
    """With the code 4, or an error of its own; with 0 it takes the will away."""

    async def test() -> None:
        async with bench() as box:
            for code, clean in ((0, True), (4, False), (0x81, False)):
                client = await box.client(version=V5, will=("a/b", b"bye", 2, 30))
                client.send(mqtt.packet(0xE0, bytes((code,))))
                assert await client.closed() == []
                ends = [event for event in box.events if isinstance(event, Disconnect)]
                assert ends[-1].clean is clean
            wills = [event.will for event in box.events if isinstance(event, Connect)]
            assert {(w.topic, w.payload, w.qos, w.delay_s) for w in wills if w} == {(b"a/b", b"bye", 2, 30)}

    run(test())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (mqtt.connect("c", V5, will=("a/#", b"", 0, 0)), None),
        (mqtt.connect("c", V5, will=("", b"", 0, 0)), None),
        (mqtt.connect("c", V5, will=("a", b"x" * 4096, 0, 0)), 0x97),
        (mqtt.connect("c", V5, properties=b"\x15" + mqtt.text("SCRAM-SHA-1")), 0x8C),
    ],
    ids=["a will to a wildcard", "a will to nobody", "a long will", "an authentication exchange"],
)
def test_who_cannot_be_let_in_is_turned_away(data: bytes, code: int | None) -> None:
    """With the reason where a CONNACK may be sent; nothing of it is an event."""

    async def test() -> None:
        async with bench() as box:
            client = await Client.open(box.listener.port)
            client.send(data)
            assert [p.code for p in await client.closed()] == ([] if code is None else [code])
            assert box.events == []

    run(test())


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (mqtt.packet(0x62, b"\0\1\x10"), 0x81),
        (mqtt.packet(0x62, b"\0\0"), 0x82),
        (mqtt.packet(0x60, b"\0\1"), 0x81),
        (mqtt.packet(0x62, b"\0\1\0" + mqtt.block(alias(1))), 0x81),
        (mqtt.packet(0xF0, b""), 0x81),
        (mqtt.packet(0x50, b"\0\1"), 0x81),
        (mqtt.publish("a", b"", 1, V5, qos=3), 0x81),
        (mqtt.subscribe(1, [("$share/g/a", 4)], V5), 0x82),
        (mqtt.subscribe(1, [("a", 0xC0)], V5), 0x81),
        (mqtt.packet(0xE0, b"\1"), 0x81),
    ],
    ids=[
        "PUBREL with a code that is none", "PUBREL of 0", "PUBREL with the wrong flags", "PUBREL with an alias", "AUTH",
        "PUBREC", "QoS 3", "No Local on a shared filter", "reserved options", "DISCONNECT with a code that is none",
    ],
)  # fmt: skip
def test_what_mqtt_5_does_not_allow_ends_the_connection(packet: bytes, code: int) -> None:
    """With a DISCONNECT that says why; nothing of it reaches the agent but the end."""

    async def test() -> None:
        async with bench() as box:
            client = await box.client(version=V5)
            client.send(packet)
            (last,) = await client.closed()
            assert (last.kind, last.code) == (DISCONNECT, code)
            await box.delivered(events=2)
            assert [type(event) for event in box.events] == [Connect, Disconnect]

    run(test())


def test_properties_that_mean_nothing_here_are_taken() -> None:
    """A client may announce its own Receive Maximum and aliases, ask for response information and for no reasons, and
    subscribe with options: none of it changes what it gets.
    """

    async def test() -> None:
        async with bench() as box:
            announced = b"\x21\0\1" + b"\x22\0\5" + b"\x19\1" + b"\x17\0"
            client = await box.client(version=V5, properties=announced)
            message = b"\x01\1\x02\0\0\0\5\x03" + mqtt.text("json") + b"\x08" + mqtt.text("r")
            client.send(mqtt.publish(TOPIC, b"1", 1, V5, properties=message, retain=True))
            client.send(mqtt.subscribe(2, [("hw/s1/d1/cmd", 0x2D)], V5), PINGREQ)
            assert [p.kind for p in await client.take(1)] == [PINGRESP]
            await box.delivered(messages=1, events=2)
            box.commit()
            assert [p.kind for p in await client.take(2)] == [PUBACK, mqtt.SUBACK]
            client.send(BYE)
            assert await client.closed() == []

    run(test())
