"""The light MQTT codec, against a codec that others wrote, and against bytes that nobody should send."""

from __future__ import annotations

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_firmware_sim import packets
from headwater_firmware_sim.packets import V5, V311, Ack, Connack, Incoming, Malformed, Told

PUBACKS = b"".join(b"\x40\x02" + n.to_bytes(2) for n in (1, 2, 65_535))
CONNACK5 = b"\x20\x10\x01\x00\x0d\x21\x00\x14\x13\x00\x3c\x12\x00\x02id\x24\x01"


def test_the_answers_of_a_server_are_read() -> None:
    """CONNACK and the acknowledgements of both versions, and PINGRESP."""
    assert Incoming(V311).feed(b"\x20\x02\x01\x00" + PUBACKS + b"\xd0\x00") == [
        Connack(session_present=True, code=0, receive_maximum=65_535, keep_alive_s=0),
        Ack(1, 0),
        Ack(2, 0),
        Ack(65_535, 0),
        packets.PINGRESP,
    ]
    assert Incoming(V5).feed(CONNACK5 + b"\x40\x04\x00\x07\x97\x00" + b"\x40\x03\x00\x08\x10") == [
        Connack(session_present=True, code=0, receive_maximum=20, keep_alive_s=60),
        Ack(7, 0x97),
        Ack(8, 0x10),
    ]
    assert Incoming(V5).feed(b"\x50\x02\x00\x07\x70\x03\x00\x08\x92") == [
        Ack(7, 0, packets.PUBREC),
        Ack(8, 0x92, packets.PUBCOMP),
    ]


@given(st.lists(st.integers(1, 40), max_size=20))
def test_packets_may_come_in_any_pieces(cuts: list[int]) -> None:
    """However TCP cuts a stream, the same packets come out."""
    stream = CONNACK5 + PUBACKS * 5
    whole = Incoming(V5).feed(stream)
    reader = Incoming(V5)
    pieces: list[Connack | Ack | Told | int] = []
    for cut in cuts:
        pieces += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert pieces + reader.feed(stream) == whole


@given(st.binary(max_size=200), st.sampled_from([V311, V5]))
def test_bytes_that_are_not_mqtt_end_the_connection(data: bytes, version: int) -> None:
    """Whatever comes is read, awaited or `Malformed`, and nothing else is raised."""
    try:
        Incoming(version).feed(data)
    except Malformed:
        return


def test_a_length_without_an_end_is_malformed() -> None:
    """A remaining length has four bytes at most."""
    with pytest.raises(Malformed):
        Incoming(V311).feed(b"\x40\xff\xff\xff\xff\x01")


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("dup", [False, True])
@pytest.mark.parametrize("size", [0, 10, 120, 127, 128, 20_000])
def test_a_publish_is_what_another_codec_reads(size: int, dup: bool, qos: int) -> None:
    """Lengths of one, two and three bytes, DUP, packet id and QoS, as the codec `mqtt5` understands them."""
    raw = packets.publish(V5, "hw/s/d/data", b"x" * size, 4711, dup=dup, qos=qos)
    packet, used = mqtt5.read(memoryview(raw))
    assert used == len(raw)
    assert isinstance(packet, mqtt5.PublishPacket)
    assert (packet.topic, bytes(packet.payload), packet.packet_id) == ("hw/s/d/data", b"x" * size, 4711)
    assert (packet.qos, packet.duplicate, packet.retain) == (qos, dup, False)
    without_properties = packets.publish(V311, "hw/s/d/data", b"x" * size, 4711, dup=dup)
    assert without_properties[-size or len(without_properties) :] == b"x" * size


def test_a_pubrel_is_what_another_codec_reads() -> None:
    """Its packet id, and no reason."""
    packet, _ = mqtt5.read(memoryview(packets.pubrel(4711)))
    assert isinstance(packet, mqtt5.PubRelPacket)
    assert (packet.packet_id, packet.reason_code) == (4711, mqtt5.PubRelReasonCode.SUCCESS)


def test_a_connect_is_what_another_codec_reads() -> None:
    """Client, session, keep alive, user and password, and in MQTT 5 how long the session lives."""
    raw = packets.connect(V5, "pump-1", clean=False, keep_alive_s=30, user="u", password="p")
    packet, _ = mqtt5.read(memoryview(raw))
    assert isinstance(packet, mqtt5.ConnectPacket)
    assert (packet.client_id, packet.clean_start, packet.keep_alive) == ("pump-1", False, 30)
    assert (packet.username, bytes(packet.password or b"")) == ("u", b"p")
    assert packet.session_expiry_interval == 86_400
