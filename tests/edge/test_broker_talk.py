"""The talk with a broker, byte by byte: what it may answer, what none should, and how a stream of bytes becomes bursts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge import broker_packets as packets
from headwater_edge.broker import Broker
from headwater_edge.broker_burst import BrokerBurst
from headwater_edge.broker_counts import BrokerCounts
from headwater_edge.broker_known import known_of
from headwater_edge.broker_retry import Retry
from headwater_edge.broker_settings import BrokerSettings, terms
from headwater_edge.broker_talk import Talk
from headwater_edge.events import Connect, Release, Subscribe
from headwater_edge.source import DUP, QOS1, QOS2, RETAIN, Burst
from headwater_shared.clock import SetClock
from tests.brokers import broker_settings, packet, scripted_broker
from tests.support import until_async

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LET_IN_311 = b"\x20\x02\x00\x00"


def let_in(**more: Any) -> bytes:
    return mqtt5.ConnAckPacket(**more).write()


def suback(*codes: int) -> bytes:
    return mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode(code) for code in codes]).write()


class Kept:
    """A broker client that talks to a script, and what it delivered."""

    def __init__(self, port: int, retry: Retry | None = None, **keys: Any) -> None:
        self.bursts: list[Burst] = []
        self.now = 0.0
        settings = broker_settings(port, **keys)
        self.broker = Broker(
            settings, "e1", "", SetClock(), count(1), self.bursts.append,
            monotonic=lambda: self.now + asyncio.get_running_loop().time(), retry=retry or Retry(0.05, 0.05),
        )  # fmt: skip
        self.counts = self.broker.counts


def against(
    script: Script, test: Callable[[Kept], Awaitable[None]], retry: Retry | None = None, **keys: Any
) -> None:
    """Run a client against a script, until the test has seen what it wants."""

    async def both() -> None:
        async with scripted_broker(script) as port:
            kept = Kept(port, retry, **keys)
            kept.broker.start()
            try:
                await test(kept)
            finally:
                await kept.broker.close()

    asyncio.run(both())


def saying(*answers: bytes) -> Script:
    """A script that reads a packet before each of its answers: CONNECT, SUBSCRIBE, ..."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await packet(reader)
            writer.write(answer)

    return script


def lost(reason: str, *words: str) -> Callable[[Kept], Awaitable[None]]:
    """See the connection lost for a reason, and what is said of it."""

    async def seen(kept: Kept) -> None:
        await until_async(lambda: kept.counts.lost[reason], what=f"lost: {reason}; so far {kept.counts}")
        for word in words:
            assert word in kept.counts.why

    return seen


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD).write(),
            "bad user name",
        ),
        (
            mqtt5.ConnAckPacket(
                reason_code=mqtt5.ConnAckReasonCode.SERVER_MOVED,
                server_reference="other.local",
                reason_str="gone",
            ).write(),
            "server moved (gone, server other.local)",
        ),
        (b"\x20\x02\x00\x01", "unsupported protocol version"),  # how a broker of 3.1.1 refuses MQTT 5
        (b"\x20\x02\x00\x05", "not authorized"),
        (b"\x20\x03\x00\xf3\x00", "reason code 0xf3"),
    ],
)
def test_a_refusal_is_said_in_words(answer: bytes, words: str) -> None:
    """The CONNACK's reason, its text and the server that it names; the client tries again later."""
    against(saying(answer), lost("refused", words))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nServer: something else\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"\x20\x02\x02\x00",  # flags that there are not
        b"\x20\x05\x00\x00\x02\x99\x00",  # a property that is none
        b"\x20\x08\x00\x00\x05\x1f\x00\x02\xff\xfe",  # a reason that is no text
        b"\x32\x06\x00\x01a\x00\x01x",  # a message before it let us in
        b"\x90\x04\x00\x01\x00\x00",
        b"\xff\xff\xff\xff\xff\xff",
        let_in() + b"\x90\x04\x00\x07\x00\x00",  # a SUBACK for nothing
        let_in() + b"\x60\x02\x00\x01",
        let_in() + b"\x32\x06\x00\x01a\x00\x00x",  # packet id 0
        let_in() + b"\x32\xff\xff\xff\x7f",  # longer than we take
    ],
)
def test_what_is_no_broker_ends_its_connection_and_nothing_else(answer: bytes) -> None:
    """Whatever comes: counted by a reason, said, and tried again later."""

    async def twice(kept: Kept) -> None:
        await until_async(lambda: kept.counts.lost.total() >= 2, what="two attempts")
        assert "closed" not in kept.counts.lost

    against(saying(answer), twice)


def test_a_takeover_that_the_broker_names() -> None:
    """MQTT 5 has a word for it: the wait is near the cap at once, since each connect ends the other's."""
    taken = mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER).write()
    drawn: list[float] = []

    def uniform(least: float, most: float) -> float:
        drawn.append(most)
        return 0.01

    against(
        saying(let_in() + taken),
        lost("taken-over", "session taken over"),
        retry=Retry(0.02, 3.0, uniform=uniform),
    )
    assert drawn[0] == 3.0


def test_another_disconnect_of_the_broker_is_said_in_words() -> None:
    """Reason code and reason string."""
    busy = mqtt5.DisconnectPacket(
        reason_code=mqtt5.DisconnectReasonCode.SERVER_BUSY, reason_str="later"
    ).write()
    against(saying(let_in() + busy), lost("disconnect", "server busy (later)"))


def test_an_id_that_the_broker_gave_is_kept() -> None:
    """The next connect of this process comes under it, and so finds its session."""
    seen: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await packet(reader))[1])
        writer.write(let_in(assigned_client_id="given-7"))
        await packet(reader)
        writer.close()

    async def test(kept: Kept) -> None:
        await until_async(lambda: len(seen) >= 2, what="a second connect")
        assert b"headwater-e1-plant" in seen[0]
        assert b"given-7" in seen[1]

    against(script, test)


def test_the_brokers_keep_alive_rules() -> None:
    """It asks for a second where we offered 30: a ping comes within half of it."""
    seen: list[int] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(let_in(server_keep_alive=1))
        while True:
            first, _ = await packet(reader)
            seen.append(first >> 4)
            writer.write(b"\xd0\x00" if first == 0xC0 else suback(1) if first == 0x82 else b"")

    async def test(kept: Kept) -> None:
        await until_async(lambda: seen.count(12) >= 2, what="two pings")
        assert kept.counts.connected

    against(script, test, canary="0s", canary_timeout="1s")


def test_a_filter_that_is_refused_is_a_trouble_and_the_others_go_on() -> None:
    """The SUBACK's codes are read: what was granted is journaled, what was not is in the health answer."""

    async def test(kept: Kept) -> None:
        await until_async(lambda: kept.counts.refused, what="the refusal")
        assert kept.counts.troubles() == ["broker plant refuses b/#: not authorized"]
        (event,) = [
            event for burst in kept.bursts for _, event in burst.events if isinstance(event, Subscribe)
        ]
        assert event.filters == [("a/#", 1)]
        assert kept.counts.connected

    against(saying(let_in(), suback(1, 0x87, 0)), test, filters=("a/#", "b/#"))


def test_where_every_filter_is_refused_the_connection_is_of_no_use() -> None:
    """It is given up, and tried again later: the broker's access list may have changed."""
    against(saying(let_in(), suback(0x87, 0)), lost("filters-refused", "not authorized"))
    against(saying(LET_IN_311, b"\x90\x04\x00\x01\x80\x00"), lost("filters-refused"), version="3.1.1")


def test_where_the_canary_is_refused_it_is_not_waited_for() -> None:
    """Readings can be had all the same."""

    async def test(kept: Kept) -> None:
        await until_async(lambda: kept.counts.connected and len(kept.bursts) >= 2, what="subscribed")
        await until_async(
            lambda: kept.counts.lost.total() or asyncio.get_running_loop().time() > ends, what="time"
        )
        assert not kept.counts.lost

    ends = 0.0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal ends
        ends = asyncio.get_running_loop().time() + 0.5
        await saying(let_in(), suback(1, 0x87))(reader, writer)

    against(script, test, canary="50ms", canary_timeout="200ms")


def test_a_broker_that_does_not_answer_connect() -> None:
    """The connection is open and silent: given up after a while, and the error says so."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)

    async def test(kept: Kept) -> None:
        await until_async(lambda: kept.broker._talk is not None, what="asked")
        kept.now += 21.0
        await lost("no-answer")(kept)

    against(script, test, keep_alive="1s")


def test_a_message_above_what_we_take_says_which_setting(caplog: pytest.LogCaptureFixture) -> None:
    """The broker was told our maximum, and sends more."""
    against(saying(let_in() + b"\x32\x80\x89\x7a" + bytes(70_000)), lost("too-large", "1000000 are allowed"))


# The stream of bytes, without sockets.


def talk(number: int = 1) -> Talk:
    settings = BrokerSettings(name="plant", host="h", filters=("hw/#",))
    limits = terms(settings)
    return Talk(
        settings, limits, "e1", "id", known=known_of(settings, limits), send=lambda _: None, numbers=count(number),
        remembered=dict, counts=BrokerCounts("plant"), now=0.0,
    )  # fmt: skip


def let_into() -> Talk:
    made = talk()
    made.take(let_in(session_present=True), BrokerBurst(0), 0.0)
    return made


def message(n: int, flags: int = QOS1, topic: bytes = b"hw/s/d/data/m", payload: bytes = b"1") -> bytes:
    """A PUBLISH of MQTT 5."""
    packet_id = n.to_bytes(2, "big") if flags & (QOS1 | QOS2) else b""
    body = len(topic).to_bytes(2, "big") + topic + packet_id + b"\0" + payload
    size = bytes((len(body),)) if len(body) < 128 else bytes((len(body) & 127 | 128, len(body) >> 7))
    return bytes((0x30 | flags,)) + size + body


Written = tuple[int, int, bytes, bytes]
"""What `message` takes: packet id, flags, topic, payload."""

READINGS = st.tuples(
    st.integers(1, 9),
    st.sampled_from((QOS1, QOS1, QOS1 | DUP, QOS1 | RETAIN, 0, RETAIN)),
    st.sampled_from((b"hw/a", b"hw/" + b"x" * 200)),
    st.binary(max_size=300),
)
CANARIES = st.tuples(
    st.just(0), st.just(0), st.sampled_from((b"hw-canary/e1", b"hw-canary/other")), st.just(b"")
)
MESSAGES = st.lists(st.one_of(READINGS, CANARIES), max_size=12)


def taken(chunks: Sequence[bytes]) -> tuple[list[tuple[bytes, bytes, int, int]], list[int]]:
    """Return the messages and the acknowledgements owed of a stream that came in pieces, a burst each."""
    made = let_into()
    messages: list[tuple[bytes, bytes, int, int]] = []
    acks: list[int] = []
    for chunk in chunks:
        burst = BrokerBurst(0)
        made.take(chunk, burst, 1.0)
        made.finish(burst, 1.0)
        messages += zip(burst.topics, burst.payloads, burst.packet_ids, burst.flags, strict=True)
        acks += [ack for ack in burst.acknowledgements() if ack]
        made.acknowledged(burst)
    assert made.waiting_messages == made.waiting_bytes == 0
    return messages, acks


@given(MESSAGES, st.data())
def test_r09_any_stream_in_any_pieces_gives_the_same_readings(
    messages: list[Written], data: st.DataObject
) -> None:
    """What is a reading is delivered, what is retained or a canary is not; every packet id is owed its acknowledgement."""
    whole = b"".join(message(*each) for each in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    wanted = [
        (topic, payload, number if flags & QOS1 else 0, flags)
        for number, flags, topic, payload in messages
        if not flags & RETAIN and not topic.startswith(b"hw-canary/")
    ]
    assert taken(pieces) == (wanted, [number for number, flags, *_ in messages if flags & QOS1])


def test_r13_events_stand_before_the_messages_that_came_after_them() -> None:
    """Also where skipped messages stand between: the index is that of the message that follows."""
    made = let_into()
    burst = BrokerBurst(0)
    stream = message(1, QOS1 | RETAIN) + message(2) + suback(1, 0) + message(3)
    made.take(stream, burst, 0.0)
    made.finish(burst, 0.0)
    assert [(at, type(event)) for at, event in burst.events] == [(1, Subscribe)]
    assert burst.packet_ids == [2, 3]
    assert burst.acknowledgements() == [1, 2, 3]


def test_r13_the_connect_stands_before_what_the_session_held() -> None:
    """A broker sends what it held in one go with the CONNACK."""
    made = talk(5)
    burst = BrokerBurst(0)
    made.take(let_in(session_present=True) + message(1), burst, 0.0)
    made.finish(burst, 0.0)
    ((at, event),) = burst.events
    assert isinstance(event, Connect)
    assert (at, event.connection, event.clean) == (0, 5, False)
    assert burst.runs == [(5, 1)]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_r03_at_qos_2_a_pubcomp_waits_for_the_commit_of_its_pubrel(version: str) -> None:
    """PUBREC after the commit of the message, PUBCOMP after that of the PUBREL, whose reason code and length do not matter;
    of an id that the step did not know, a PUBCOMP in MQTT 5 says so.
    """
    v5 = version == "5"
    publish = message(7, QOS2) if v5 else b"\x34\x12\x00\x0dhw/s/d/data/m\x00\x071"
    pubrels = b"\x62\x02\x00\x07" + (b"\x62\x03\x00\x08\x92" if v5 else b"\x62\x02\x00\x08")
    granted = suback(2, 0) if v5 else b"\x90\x04\x00\x01\x02\x00"
    seen: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(let_in() if v5 else LET_IN_311, granted)(reader, writer)
        for said, answers in ((publish, 1), (pubrels, 2)):
            writer.write(said)
            for _ in range(answers):
                first, body = await packet(reader)
                seen.append(bytes((first,)) + body)

    async def test(kept: Kept) -> None:
        def acknowledge(burst: Burst) -> None:
            burst.unknown = frozenset({(1, 8)})
            kept.broker.acknowledge([burst], {})

        burst = await until_async(
            lambda: next((b for b in kept.bursts if b.topics), None), what="the message"
        )
        assert burst is not None
        assert not seen
        acknowledge(burst)

        def released() -> Burst | None:
            found = (b for b in kept.bursts if b.events and isinstance(b.events[0][1], Release))
            return next(found, None)

        burst = await until_async(released, what="the PUBRELs")
        assert burst is not None
        assert burst.events == [(0, Release(1, [7, 8]))]
        assert seen == [b"\x50\x00\x07"]
        acknowledge(burst)
        await until_async(lambda: len(seen) == 3, what="the PUBCOMPs")
        assert seen[1:] == [b"\x70\x00\x07", b"\x70\x00\x08\x92" if v5 else b"\x70\x00\x08"]

    against(script, test, qos=2, version=version)


@pytest.mark.parametrize("v5", [True, False])
def test_what_we_write_is_what_the_standard_says(v5: bool) -> None:
    """CONNECT and SUBSCRIBE, read back by the codec; Retain Handling 2, no clean start, the limits that were set (R9)."""
    written = packets.connect(
        v5,
        "id",
        user="u",
        password="p",
        keep_alive_s=30,
        expiry_s=604_800,
        receive_maximum=8000,
        max_packet=1_000_000,
    )
    asked = packets.subscribe(v5, 1, [("hw/#", 1)])
    if not v5:
        assert written == b"\x10\x14\x00\x04MQTT\x04\xc0\x00\x1e\x00\x02id\x00\x01u\x00\x01p"
        assert asked == b"\x82\x09\x00\x01\x00\x04hw/#\x01"
        assert packets.unsubscribe(v5, 2, ["a"]) == b"\xa2\x05\x00\x02\x00\x01a"
        return
    connect, _ = mqtt5.read(memoryview(written))
    assert isinstance(connect, mqtt5.ConnectPacket)
    assert (connect.client_id, connect.username, connect.password) == ("id", "u", b"p")
    assert (connect.clean_start, connect.keep_alive, connect.session_expiry_interval) == (False, 30, 604_800)
    assert (connect.receive_max, connect.max_packet_size) == (8000, 1_000_000)
    subscribe, _ = mqtt5.read(memoryview(asked))
    assert isinstance(subscribe, mqtt5.SubscribePacket)
    (wanted,) = subscribe.topic_filters
    assert (wanted.pattern, wanted.max_qos) == ("hw/#", 1)
    assert wanted.retain_handling is mqtt5.RetainHandling.SEND_NEVER
    assert not wanted.retain_as_published
