"""The packets of an MQTT client, besides PUBLISH and its answers: what it writes, and what a broker writes to it.

MQTT 5 is written by the codec `mqtt5`, 3.1.1 by hand. Both are read here, as `control` does for the listener and for its reason: the
codec panics on text that is no UTF-8, and one broken broker must not end the agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mqtt5

from headwater_edge.properties import (
    ASSIGNED_ID,
    OF_BROKERS_DISCONNECT,
    OF_CONNACK,
    OF_SUBACK,
    PACKET_MAXIMUM,
    REASON,
    RECEIVE_MAXIMUM,
    SERVER_KEEP_ALIVE,
    SERVER_REFERENCE,
    read_properties,
)
from headwater_edge.protocol import CONNECT, SUBSCRIBE, UNSUBSCRIBE, BadPacket, Fields, as_packet

PINGREQ = b"\xc0\x00"
GOODBYE = b"\xe0\x00"
"""DISCONNECT, the same in both versions; the session stays as it is."""

LONGEST = 268_435_460
"""Bytes of the longest packet that there can be (2.1.4)."""

_PASSWORD, _USER = 0x40, 0x80
_TEXTS = {
    0x00: "no reason",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x84: "unsupported protocol version",
    0x85: "client id not valid",
    0x86: "bad user name or password",
    0x87: "not authorized",
    0x88: "server unavailable",
    0x89: "server busy",
    0x8A: "banned",
    0x8B: "server shutting down",
    0x8D: "keep alive timeout",
    0x8E: "session taken over",
    0x8F: "topic filter not valid",
    0x93: "receive maximum exceeded",
    0x95: "packet too large",
    0x96: "message rate too high",
    0x97: "quota exceeded",
    0x98: "administrative action",
    0x9C: "use another server",
    0x9D: "server moved",
    0x9E: "shared subscriptions not supported",
    0x9F: "connection rate exceeded",
    0xA0: "maximum connect time",
    0xA2: "wildcards not supported",
}
_OF_311 = {1: 0x84, 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87}
"""Return code of a CONNACK of 3.1.1: reason code of 5."""
TAKEN_OVER = 0x8E
HINTS = {
    0x84: 'set version = "3.1.1" for this broker',
    0x85: "set client_id to one that the broker takes",
    0x86: "compare user and password with the broker's",
    0x87: "let the broker's access list allow it to this user",
    0x8A: "ask who runs the broker",
    0x95: "raise max_packet, or let the broker send less at once",
    0x9C: "set host to the server that it names",
    0x9D: "set host to the server that it names",
    TAKEN_OVER: "two agents of one name? Give each a name of its own, or set client_id",
}
"""What a person should do about a reason code, where something can be done."""


class Connack(NamedTuple):
    """The answer to CONNECT; `code` is one of MQTT 5 (0: let in), the limits are 0 where the broker named none."""

    session_present: bool
    code: int
    why: str
    assigned: str
    keep_alive_s: int
    """-1: as asked for; 0: none is wanted."""
    max_packet: int
    receive_maximum: int


class Suback(NamedTuple):
    """The answer to SUBSCRIBE or UNSUBSCRIBE: a code for each filter, from 0x80 on a refusal; none in a 3.1.1 UNSUBACK."""

    packet_id: int
    codes: list[int]


def connect(
    v5: bool,
    client: str,
    *,
    user: str,
    password: str,
    keep_alive_s: int,
    expiry_s: int,
    receive_maximum: int,
    max_packet: int,
) -> bytes:
    """Ask to be let in to the session that is there. 3.1.1 knows no expiry and no limits."""
    if v5:
        packet = mqtt5.ConnectPacket(
            client,
            username=user or None,
            password=password.encode() if password else None,
            clean_start=False,
            keep_alive=keep_alive_s,
            session_expiry_interval=expiry_s,
            receive_max=receive_maximum,
            max_packet_size=max_packet,
        )
        return packet.write()
    flags = (_USER if user else 0) | (
        _PASSWORD if user and password else 0
    )  # 3.1.1: no password without a user
    words = [client, *([user] if user else []), *([password] if flags & _PASSWORD else [])]
    head = b"\x00\x04MQTT\x04" + bytes((flags,)) + keep_alive_s.to_bytes(2, "big")
    return as_packet(CONNECT << 4, head + b"".join(_text(word) for word in words))


def subscribe(v5: bool, packet_id: int, filters: Sequence[tuple[str, int]]) -> bytes:
    """Ask for topics with their QoS; with MQTT 5 without the retained messages (Retain Handling 2, R9)."""
    if v5:
        wanted = [
            mqtt5.TopicFilter(
                topic,
                max_qos=mqtt5.QoS(qos),
                retain_as_published=False,  # a message that is flagged is one that the broker had kept
                retain_handling=mqtt5.RetainHandling.SEND_NEVER,
            )
            for topic, qos in filters
        ]
        return mqtt5.SubscribePacket(packet_id, wanted).write()
    body = b"".join(_text(topic) + bytes((qos,)) for topic, qos in filters)
    return as_packet(SUBSCRIBE << 4 | 2, packet_id.to_bytes(2, "big") + body)


def unsubscribe(v5: bool, packet_id: int, filters: Sequence[str]) -> bytes:
    """Give up topics."""
    if v5:
        return mqtt5.UnsubscribePacket(packet_id, list(filters)).write()
    return as_packet(UNSUBSCRIBE << 4 | 2, packet_id.to_bytes(2, "big") + b"".join(map(_text, filters)))


def read_connack(data: bytes, at: int, end: int, v5: bool) -> Connack:
    """Read the body of a CONNACK; one of 3.1.1 is read where 5 was asked for, too: an old broker refuses so.

    Raises:
        BadPacket: it is malformed.
    """
    fields = Fields("CONNACK", data, at, end)
    flags, code = fields.number(1), fields.number(1)
    if flags > 1:
        raise BadPacket(f"CONNACK with the flags 0x{flags:02x}", reason="connack-flags")
    found = read_properties(fields, OF_CONNACK) if v5 and fields.left() else {}
    fields.done()
    code = _OF_311.get(code, code)
    return Connack(
        bool(flags),
        code,
        _why(code, found.get(REASON, ""), found.get(SERVER_REFERENCE, "")),
        found.get(ASSIGNED_ID, ""),
        found.get(SERVER_KEEP_ALIVE, -1),
        found.get(PACKET_MAXIMUM, 0),
        found.get(RECEIVE_MAXIMUM, 0),
    )


def read_suback(name: str, data: bytes, at: int, end: int, v5: bool) -> Suback:
    """Read the body of a SUBACK or UNSUBACK, whichever `name` says.

    Raises:
        BadPacket: it is malformed.
    """
    fields = Fields(name, data, at, end)
    packet_id = fields.packet_id()
    if v5:
        read_properties(fields, OF_SUBACK)
    return Suback(packet_id, list(data[fields.at : end]))


def read_disconnect(data: bytes, at: int, end: int) -> tuple[int, str]:
    """Read the body of a broker's DISCONNECT (MQTT 5 only): reason code, and what it means.

    Raises:
        BadPacket: it is malformed.
    """
    fields = Fields("DISCONNECT", data, at, end)
    code = fields.number(1) if fields.left() else 0
    found = read_properties(fields, OF_BROKERS_DISCONNECT) if fields.left() else {}
    fields.done()
    return code, _why(code, found.get(REASON, ""), found.get(SERVER_REFERENCE, ""))


def meaning(code: int) -> str:
    """Say a reason code in words."""
    return _TEXTS.get(code, f"reason code 0x{code:02x}")


def _why(code: int, said: str, server: str) -> str:
    more = ", ".join(word for word in (said, f"server {server}" if server else "") if word)
    return f"{meaning(code)} ({more})" if more else meaning(code)


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


def packet_size(data: bytes) -> int:
    """Return how long the packet is whose beginning this is, header included; 0 if too little of it is here to know."""
    length = 0
    for at in range(1, min(len(data), 5)):
        length |= (data[at] & 0x7F) << 7 * (at - 1)
        if data[at] < 0x80:
            return at + 1 + length
    return 0
