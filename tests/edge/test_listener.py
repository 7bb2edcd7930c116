"""The listener on real sockets: sessions, keep alive, takeover, limits, and what waits for the commit (R5, R13, R18)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headwater_edge import held_back
from headwater_edge.events import Connect, Disconnect, Subscribe, Unsubscribe
from headwater_edge.listener_settings import ListenerSettings, limits
from headwater_edge.source import Burst
from headwater_shared.errors import SettingsError
from tests.edge import mqtt
from tests.edge.mqtt import (
    BYE,
    CONNACK,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    SUBACK,
    UNSUBACK,
    V5,
    V311,
    Client,
)
from tests.edge.on_sockets import Bench, bench, run, served
from tests.support import until_async

TOPIC = "hw/s1/d1/data/m"
VERSIONS = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])


def kinds(packets: list[mqtt.Packet]) -> list[int]:
    return [packet.kind for packet in packets]


@VERSIONS
def test_r05_an_acknowledgement_waits_for_the_commit(version: int) -> None:
    """Nothing is acknowledged before; then all of the commit is, in the order sent, and QoS 0 is not."""

    async def test() -> None:
        async with bench() as box:
            client = await box.client(version=version)
            for n in range(1, 4):
                client.send(mqtt.publish(TOPIC, b"%d" % n, n, version), mqtt.publish(TOPIC, b"0", 0, version))
            client.send(PINGREQ)
            await box.delivered(messages=6)
            assert kinds(await client.take(1)) == [PINGRESP]
            assert box.payloads == [b"1", b"0", b"2", b"0", b"3", b"0"]
            box.commit()
            client.send(BYE)
            assert [(p.kind, p.packet_id) for p in await client.closed()] == [(PUBACK, n) for n in (1, 2, 3)]

    run(test())


def test_r05_acknowledgements_die_with_the_connection_that_brought_the_message() -> None:
    """The connection is lost before the commit: the next one of the same client gets no PUBACK for what it did not send,
    and when it sends it again it gets its own, after the commit of that.
    """

    async def test() -> None:
        async with bench() as box:
            first = await box.client(clean=False)
            first.send(mqtt.publish(TOPIC, b"1", 1), mqtt.publish(TOPIC, b"2", 2))
            await box.delivered(messages=2)
            first.drop()
            await box.ended("c")
            second = await box.client(clean=False, keep_alive_s=30)
            second.send(PINGREQ)
            assert kinds(await second.take(1)) == [PINGRESP]
            second.send(mqtt.publish(TOPIC, b"2", 2, dup=True))
            await box.delivered(messages=3)
            box.commit()
            assert [(p.kind, p.packet_id) for p in await second.take(1)] == [(PUBACK, 2)]

    run(test())


@VERSIONS
def test_r13_answers_that_change_a_session_wait_for_the_commit(version: int) -> None:
    """CONNACK, SUBACK and UNSUBACK are not said before the event is on disk; a ping, and a refused filter, do not wait
    for it, but for the CONNACK.
    """

    async def test() -> None:
        async with bench() as box:
            client = await Client.open(box.listener.port)
            ours = "hw/s1/d1/cmd"
            client.send(
                mqtt.connect("c", version), mqtt.subscribe(1, [(ours, 1)], version), PINGREQ,
                mqtt.unsubscribe(2, [ours], version), mqtt.subscribe(3, [("other", 0)], version),
            )  # fmt: skip
            await box.delivered(events=3)
            assert [type(event) for event in box.events] == [Connect, Subscribe, Unsubscribe]
            reading = asyncio.ensure_future(client.take(1))
            (turn,) = {asyncio.ensure_future(asyncio.wait_for(asyncio.shield(reading), 0.05))}
            with pytest.raises(TimeoutError):
                await turn
            box.commit()
            assert kinds(await reading) == [CONNACK]
            assert sorted(kinds(await client.take(4))) == [SUBACK, SUBACK, UNSUBACK, PINGRESP]
            client.send(
                mqtt.subscribe(4, [(ours, 1)], version), mqtt.unsubscribe(5, [ours], version), PINGREQ
            )
            await box.delivered(events=5)
            assert kinds(await client.take(1)) == [PINGRESP]
            box.commit()
            assert [(p.kind, p.packet_id) for p in await client.take(2)] == [(SUBACK, 4), (UNSUBACK, 5)]

    run(test())


@VERSIONS
def test_r13_a_session_is_present_when_it_was_kept(tmp_path: Path, version: int) -> None:
    """Over a lost connection and a restart of the agent; not after a clean start."""

    async def test() -> None:
        for present in (False, True):
            async with served(tmp_path) as box:
                client = await box.client(version=version, clean=False, present=present)
                client.drop()
                client = await box.client(version=version, clean=False, present=True)
                client.send(BYE)
                assert await client.closed() == []
                await box.client(version=version, clean=False, present=True)
        async with served(tmp_path) as box:
            await box.client(version=version, clean=True, present=False)

    run(test())


@VERSIONS
def test_r13_a_will_reaches_the_windows(tmp_path: Path, version: int) -> None:
    """Broken off, a connection leaves a reading on the topic of its will; ended with a farewell it does not."""

    async def test() -> None:
        async with served(tmp_path) as box:
            for n, farewell in enumerate((False, True)):
                client = await box.client(version=version, will=(f"hw/s1/d1/data/w{n}", b"0", 1, 0))
                if farewell:
                    client.send(BYE)
                    assert await client.closed() == []
                else:
                    client.drop()
                    await until_async(lambda: box.accepted == 1, what="the will")
            client = await box.client(version=version)
            client.send(mqtt.publish("hw/s1/d1/data/x", b"1", 1, version))
            await client.take(1)
            assert await box.counted() == {"s1/d1/w0": 1, "s1/d1/x": 1}

    run(test())


def test_r09_retain_means_nothing_to_the_listener(tmp_path: Path) -> None:
    """A device marks what it measured as retained: it is a reading like all others, and nothing of it is kept for later."""

    async def test() -> None:
        async with served(tmp_path) as box:
            client = await box.client()
            for n, qos in enumerate((0, 1, 2)):
                client.send(mqtt.publish(f"{TOPIC}{n}", b"1", 7 if qos else 0, qos=qos, retain=True))
            await client.take(2)
            assert await box.counted() == {f"s1/d1/m{n}": 1 for n in range(3)}

    run(test())


@pytest.mark.parametrize("qos", [1, 2])
def test_r19_a_sender_with_one_in_flight_is_told_from_others(qos: int) -> None:
    """One that sends its next packet as soon as it has the answer to the last, a PUBREL too, waits for us; one that sends
    at its own pace, or several at once, does not.
    """

    async def test() -> None:
        async with bench() as box:
            client = await box.client()
            for n in range(1, 9):
                client.send(mqtt.publish(TOPIC, b"", n, qos=qos))
                await box.delivered(messages=n)
                box.commit()
                await client.take(1)
                if qos == 2:
                    client.send(mqtt.pubrel(n))
                    await box.delivered(events=1 + n)
                    box.commit()
                    await client.take(1)
            assert all(burst.waiting == burst.senders == 1 for burst in box.bursts[-2:])
            assert not any(burst.urgent for burst in box.bursts[-2:])
            box.seconds += 1.0  # its own pace
            client.send(mqtt.publish(TOPIC, b"", 20, qos=qos))
            await box.delivered(messages=9)
            assert box.bursts[-1].waiting == 0
            client.send(mqtt.publish(TOPIC, b"", 21, qos=qos))
            await box.delivered(messages=10)
            assert box.bursts[-1].waiting == 0

    run(test())


@VERSIONS
def test_a_client_takes_over_its_own_connection(version: int) -> None:
    """The older connection ends, is told so in MQTT 5, and is an event before the newer one's CONNECT."""

    async def test() -> None:
        async with bench(max_connections=1) as box:
            first = await box.client(version=version)
            await box.client(version=version)
            said = await first.closed()
            assert [(p.kind, p.code) for p in said] == ([(DISCONNECT, 0x8E)] if version == V5 else [])
            assert [type(event) for event in box.events] == [Connect, Disconnect, Connect]
            assert box.listener.connected == 1
            assert box.listener.counts.ended["taken-over"] == 1

    run(test())


@VERSIONS
def test_silence_ends_a_connection_after_one_and_a_half_keep_alives(version: int) -> None:
    """Not before; a ping counts as life; without a keep alive there is no end, but MQTT 5 is told a longest one."""

    async def test() -> None:
        async with bench(max_keep_alive="0s") as box:
            client = await box.client(version=version, keep_alive_s=10)
            silent = await box.client("silent", version, keep_alive_s=0)
            for seconds in (14.9, 0.2):
                box.seconds += seconds
                box.listener.sweep()
                assert box.listener.connected == (2 if seconds == 14.9 else 1), seconds
                if seconds == 14.9:
                    client.send(PINGREQ)
                    assert kinds(await client.take(1)) == [PINGRESP]
                    box.seconds += 14.9
                    box.listener.sweep()
            said = await client.closed()
            assert [(p.kind, p.code) for p in said] == ([(DISCONNECT, 0x8D)] if version == V5 else [])
            box.seconds += 1_000_000
            box.listener.sweep()
            silent.send(PINGREQ)
            assert kinds(await silent.take(1)) == [PINGRESP]

    run(test())


def test_who_does_not_say_who_it_is_is_ended() -> None:
    """In time, whatever half a CONNECT it has sent; those that are connected stay."""

    async def test() -> None:
        async with bench(unauthenticated_time="5s") as box:
            steady = await box.client()
            half = await Client.open(box.listener.port)
            half.send(mqtt.connect("half")[:10])
            await until_async(lambda: len(box.listener._sockets) == 2)
            box.seconds += 5.1
            box.listener.sweep()
            assert await half.closed() == []
            assert box.listener.counts.refused == {"unauthenticated": 1}
            steady.send(PINGREQ)
            assert kinds(await steady.take(1)) == [PINGRESP]

    run(test())


@VERSIONS
def test_more_clients_than_allowed_are_told_so(version: int) -> None:
    """With a CONNACK that says it, in both versions; the place of one that left is free."""

    async def test() -> None:
        async with bench(max_connections=1) as box:
            first = await box.client("first", version)
            second = await Client.open(box.listener.port)
            second.send(mqtt.connect("second", version))
            (refused,) = await second.closed()
            assert (refused.kind, refused.code) == (CONNACK, 0x97 if version == V5 else 3)
            first.send(BYE)
            await first.closed()
            await box.client("second", version)

    run(test())


@VERSIONS
def test_a_packet_longer_than_allowed_ends_its_connection(version: int) -> None:
    """As soon as its length is read; what came before it is taken; one of just the allowed length is."""

    async def test() -> None:
        async with bench(max_packet="1KB") as box:
            client = await box.client(version=version)
            room = 1000 - len(mqtt.publish(TOPIC, b"", 1, version)) - 1  # a length of two bytes
            client.send(
                mqtt.publish(TOPIC, b"x" * room, 1, version),
                mqtt.publish(TOPIC, b"x" * (room + 1), 2, version),
            )
            await box.delivered(messages=1)
            box.commit()
            said = await client.closed()
            assert [(p.kind, p.code) for p in said] in (
                [(PUBACK, 0)], [], [(DISCONNECT, 0x95)], [(PUBACK, 0), (DISCONNECT, 0x95)],
            )  # fmt: skip
            assert box.listener.counts.malformed == {"too-large": 1}
            assert [len(payload) for payload in box.payloads] == [room]

    run(test())


def test_a_client_that_outruns_the_disk_is_not_read() -> None:
    """Beyond `in_flight` messages, or `in_flight_bytes`, what it sends stays in its socket until some are on disk; others
    are read as if nothing was.
    """

    async def test() -> None:
        for limit in ({"in_flight": 10}, {"in_flight_bytes": "1KB"}):
            async with bench(**limit) as box:
                client, other = await box.client("fast"), await box.client("other")
                for n in range(1, 12):
                    client.send(mqtt.publish(TOPIC, b"x" * 100, n))
                    await box.delivered(messages=min(n, 11))
                    if _held(box):
                        break
                client.send(mqtt.publish(TOPIC, b"more", 100), PINGREQ)
                other.send(mqtt.publish(TOPIC, b"other", 1), PINGREQ)
                await other.take(1)
                assert b"other" in box.payloads
                assert b"more" not in box.payloads
                box.commit()
                await until_async(lambda: b"more" in box.payloads)
                assert not _held(box)

    run(test())


def _held(box: Bench) -> int:
    return sum(connection.held for connection in box.listener._sockets.by_number.values())


def test_r18_who_is_there_is_read_while_the_agent_holds_back() -> None:
    """QoS 1 and 2 are handed on, so that limit rules see them, QoS 0 is dropped and counted, pings are answered, and nobody else is
    let in; afterwards they are.
    """

    async def test() -> None:
        async with bench() as box:
            client = await box.client()
            box.listener.hold()
            client.send(mqtt.publish(TOPIC, b"1", 1), mqtt.publish(TOPIC, b"x"), PINGREQ)
            assert kinds(await client.take(1)) == [PINGRESP]
            await box.delivered(messages=1)
            assert box.payloads == [b"1"]
            assert box.listener.counts.dropped == 1
            late = await mqtt.Client.open(box.listener.port)
            late.send(mqtt.connect("late"))
            client.send(PINGREQ)
            assert kinds(await client.take(1)) == [PINGRESP]
            assert box.listener.counts.accepted == 1
            box.listener.resume()
            await until_async(lambda: box.listener.counts.accepted == 2)
            client.send(mqtt.publish(TOPIC, b"y"))
            await box.delivered(messages=2)
            assert box.listener.counts.dropped == 1

    run(test())


def test_r18_while_holding_back_devices_are_read_and_pings_are_answered() -> None:
    """The agent takes nothing in: pings are answered, nothing is delivered or acknowledged, QoS 0 is dropped and counted,
    silence ends a connection as ever; afterwards all of QoS 1 and 2 is there, in the order sent.
    """

    async def test() -> None:
        async with bench() as box:
            client = await box.client(keep_alive_s=10)
            silent = await box.client("silent", keep_alive_s=10)
            box.listener.pause()
            for n in range(1, 6):
                client.send(
                    mqtt.publish(TOPIC, b"%d" % n, n), mqtt.publish(TOPIC, b"x"), mqtt.pubrel(60 + n),
                    mqtt.publish(TOPIC, b"%d" % -n, 20 + n, qos=2), PINGREQ,
                )  # fmt: skip
                assert kinds(await client.take(1)) == [PINGRESP]
            assert box.topics == []
            box.seconds += 14.0
            client.send(PINGREQ)
            assert kinds(await client.take(1)) == [PINGRESP]
            box.seconds += 2.0
            box.listener.sweep()
            assert await silent.closed() == []
            assert box.listener.counts.dropped == 5
            box.listener.resume()
            await box.delivered(messages=10)
            assert box.payloads == [b"%d" % sign for n in range(1, 6) for sign in (n, -n)]
            assert box.released() == [61, 62, 63, 64, 65]
            box.commit()
            found = [(p.kind, p.packet_id) for p in await client.take(15)]
            expected = [(PUBACK, n) for n in range(1, 6)] + [(mqtt.PUBREC, 20 + n) for n in range(1, 6)]
            assert [f for f in found if f[0] != mqtt.PUBCOMP] == [
                expected[i] for n in range(5) for i in (n, n + 5)
            ]
            assert [f[1] for f in found if f[0] == mqtt.PUBCOMP] == [61, 62, 63, 64, 65]

    run(test())


def test_r18_reading_goes_on_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many bytes of all connections, or of one, nothing is read; then nothing is lost either."""
    monkeypatch.setattr(held_back, "_MOST", 2_000)

    async def test() -> None:
        async with bench(in_flight_bytes="1KB") as box:
            clients = [await box.client(f"c{n}") for n in range(4)]
            box.listener.pause()
            for client in clients:
                client.send(*(mqtt.publish(TOPIC, b"x" * 100, n) for n in range(1, 9)))
            await until_async(lambda: box.listener._sockets.held_back.stopped)
            await until_async(lambda: box.listener.counts.messages == 32)
            for client in clients:
                client.send(*(mqtt.publish(TOPIC, b"x" * 100, n) for n in range(9, 31)))
                await client.writer.drain()
            await until_async(lambda: all(c.unread for c in box.listener._sockets.by_number.values()))
            assert box.listener.counts.messages == 32
            assert box.topics == []
            box.listener.resume()

            def all_there() -> bool:
                box.commit()
                return len(box.topics) == 120

            await until_async(all_there)

    run(test())


def test_r18_an_agent_that_has_enough_again_gets_no_more(tmp_path: Path) -> None:
    """While what was held back is handed on the agent may pause again: the rest waits for the next time."""

    async def test() -> None:
        async with bench() as box:
            client = await box.client()
            box.listener.pause()
            for n in range(1, 4):
                client.send(mqtt.publish(TOPIC, b"%d" % n, n), PINGREQ)
                await client.take(1)
            deliver = box.listener._sockets._deliver

            def once(burst: Burst) -> None:
                deliver(burst)
                box.listener.pause()

            box.listener._sockets._deliver = once
            for n in range(1, 4):
                assert len(box.topics) == n - 1
                box.listener.resume()
                assert len(box.topics) == n

    run(test())


def test_a_client_that_does_not_read_is_ended() -> None:
    """A megabyte beyond what its socket takes: its connection ends, and others are served as before."""

    async def test() -> None:
        async with bench() as box:
            client, other = await box.client(), await box.client("other")
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            box.filters["hw/s/d/cmd"] = [1]
            for _ in range(200):
                if not box.listener.publish(b"hw/s/d/cmd", b"x" * 100_000):
                    break
            assert box.listener.counts.ended["does-not-read"] == 1
            assert box.listener.connected == 1
            other.send(PINGREQ)
            assert kinds(await other.take(1)) == [PINGRESP]

    run(test())


@VERSIONS
def test_only_the_commands_of_ones_own_devices_can_be_subscribed_to(version: int) -> None:
    """Each filter has its own answer; a refused one leaves the session as it is; Sparkplug's commands are granted below
    one node.
    """
    granted = (
        "hw/s1/d1/cmd", "spBv1.0/g/NCMD/n", "spBv1.0/g/NCMD/n/#", "spBv1.0/g/DCMD/n/d", "spBv1.0/g/DCMD/n/#",
        "spBv1.0/g/DCMD/n/+",
    )  # fmt: skip
    refused = {
        "hw/s1/d1/data": 0x87, "hw/+/d1/cmd": 0x8F, "#": 0x8F, "hw/s1/d1/cmd/#": 0x8F, "spBv1.0/+/NCMD/n": 0x8F,
        "spBv1.0/#": 0x8F, "spBv1.0/g/NDATA/n": 0x87, "$share/g/hw/s1/d1/cmd": 0x9E, "$SYS/#": 0x8F, "spBv1x0/g/NCMD/n": 0x87,
    }  # fmt: skip

    async def test() -> None:
        async with bench() as box:
            client = await box.client(version=version)
            filters = [(topic, 2) for topic in (*granted, *refused)]
            client.send(mqtt.subscribe(7, filters, version))
            await box.delivered(events=2)
            box.commit()
            (suback,) = await client.take(1)
            codes = list(suback.body[2 + (version == V5) :])
            assert codes[: len(granted)] == [1] * len(granted)
            wanted = list(refused.values()) if version == V5 else [0x80] * len(refused)
            assert codes[len(granted) :] == wanted
            (subscribed,) = [event for event in box.events if isinstance(event, Subscribe)]
            assert [topic for topic, _ in subscribed.filters] == list(granted)
            client.send(mqtt.subscribe(8, [("#", 0)], version), PINGREQ)
            assert kinds(await client.take(2)) == [SUBACK, PINGRESP]

    run(test())


def test_filters_are_bounded() -> None:
    """A connection is granted a thousand: they are in the journal and in every snapshot."""

    async def test() -> None:
        async with bench() as box:
            client = await box.client()
            client.send(mqtt.subscribe(1, [(f"hw/s/d{n}/cmd", 0) for n in range(999)]))
            await box.delivered(events=2)
            box.commit()
            await client.take(1)
            client.send(mqtt.subscribe(2, [("hw/s/a/cmd", 0), ("hw/s/b/cmd", 0)]))
            (suback,) = await client.take(1)
            assert suback.body[2:] == b"\x80\x80"

    run(test())


@VERSIONS
def test_what_is_published_to_a_topic_reaches_who_subscribed_to_it(tmp_path: Path, version: int) -> None:
    """At QoS 0 to the clients that are connected, by the session of before, too; to nobody else."""

    async def test() -> None:
        async with served(tmp_path) as box:
            node = await box.client("node", version, clean=False)
            other = await box.client("other", version)
            node.send(mqtt.subscribe(1, [("spBv1.0/g/NCMD/n/#", 1), ("spBv1.0/g/DCMD/n/+", 0)], version))
            await node.take(1)
            publish = box.listener.publish
            assert publish(b"spBv1.0/g/NCMD/n", b"rebirth")
            assert publish(b"spBv1.0/g/DCMD/n/d", b"x" * 200)
            assert not publish(b"spBv1.0/g/NCMD/m", b"")
            assert not publish(b"spBv1.0/g/DCMD/n", b"")
            packets = await node.take(2)
            nothing = b"\0" if version == V5 else b""
            assert [(p.kind, p.flags, p.body) for p in packets] == [
                (mqtt.PUBLISH, 0, b"\0\x10spBv1.0/g/NCMD/n" + nothing + b"rebirth"),
                (mqtt.PUBLISH, 0, b"\0\x12spBv1.0/g/DCMD/n/d" + nothing + b"x" * 200),
            ]
            node.drop()
            await until_async(lambda: not publish(b"spBv1.0/g/NCMD/n", b""))
            again = await box.client("node", version, clean=False, present=True)
            assert publish(b"spBv1.0/g/NCMD/n", b"again")
            (packet,) = await again.take(1)
            assert packet.body.endswith(b"again")
            again.send(mqtt.unsubscribe(2, ["spBv1.0/g/NCMD/n/#"], version))
            await again.take(1)
            assert not publish(b"spBv1.0/g/NCMD/n", b"")
            other.send(PINGREQ)
            assert kinds(await other.take(1)) == [PINGRESP]

    run(test())


def test_limits_that_make_no_sense_are_refused() -> None:
    """With a hint that says what to write."""
    for wrong in (
        {"max_keep_alive": "19h"},
        {"max_keep_alive": "500ms"},
        {"max_packet": "10"},
        {"nap": "2s"},
    ):
        with pytest.raises(SettingsError, match=r"write"):
            limits(ListenerSettings(**wrong))  # type: ignore[arg-type]
