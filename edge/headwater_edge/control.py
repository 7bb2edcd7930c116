"""Reads the control packets of clients, MQTT 3.1.1 and 5: CONNECT, SUBSCRIBE, UNSUBSCRIBE, PUBREL, DISCONNECT.

One reader for both, since they differ by the property blocks. Our own, because the codec `mqtt5` (which writes our answers) panics
on text that is no UTF-8, with a stack trace on stderr, before anyone has said who they are; and lets pass packet id 0, U+0000,
reserved bits and empty subscriptions. The tests compare the two on what both should read.
"""

from __future__ import annotations

from typing import NamedTuple

from headwater_edge.events import WillMessage
from headwater_edge.properties import (
    AUTH_METHOD,
    OF_CONNECT,
    OF_DISCONNECT,
    OF_PUBREL,
    OF_SUBSCRIBE,
    OF_UNSUBSCRIBE,
    OF_WILL,
    PACKET_MAXIMUM,
    RECEIVE_MAXIMUM,
    SESSION_EXPIRY,
    SUBSCRIPTION_ID,
    WILL_DELAY,
    read_properties,
)
from headwater_edge.protocol import (
    PROTOCOL_ERROR,
    TOPIC_INVALID,
    UNKNOWN_ID,
    UNSUPPORTED_VERSION,
    BadPacket,
    Fields,
)

FOREVER = 0xFFFFFFFF
"""Seconds of a session expiry that means: the session does not expire."""


class ConnectRequest(NamedTuple):
    """A CONNECT. `packet_maximum`: bytes of the longest packet that the client takes; `receive_maximum`: commands that it takes at
    once; 0 if it did not say.
    """

    v5: bool
    client: str
    clean: bool
    keep_alive_s: int
    expiry_s: int
    user: str | None
    password: bytes | None
    will: WillMessage | None
    authentication: bool
    packet_maximum: int
    receive_maximum: int


class SubscribeRequest(NamedTuple):
    """A SUBSCRIBE: filters with the QoS asked for; `with_id` if they were to be given a subscription identifier.

    The other options of MQTT 5 (No Local, Retain) mean nothing here: what a client publishes goes to no client, and
    nothing is retained.
    """

    packet_id: int
    filters: list[tuple[str, int]]
    with_id: bool


class UnsubscribeRequest(NamedTuple):
    """An UNSUBSCRIBE."""

    packet_id: int
    filters: list[str]


class DisconnectNotice(NamedTuple):
    """A DISCONNECT: `clean` if the will is to be dropped, `expiry_s` as changed by it, or -1."""

    clean: bool
    expiry_s: int


class UnsupportedVersion(BadPacket):
    """A CONNECT of a version that we do not speak; its CONNACK is written as 5 if `v5`, else as 3.1.1."""

    def __init__(self, name: bytes, level: int) -> None:
        spoken = {b"MQIsdp": "MQTT 3.1"}.get(name, f"protocol {name[:20]!r} level {level}")
        bridge = "set try_private false in the broker's bridge" if level & 0x80 else ""
        hint = bridge or "let the device speak MQTT 3.1.1 or 5"
        message = f"it speaks {spoken}"
        super().__init__(message, reason="version", code=UNSUPPORTED_VERSION, hint=hint)
        self.v5 = 5 < level < 0x80


def read_connect(data: bytes, at: int, end: int) -> ConnectRequest:
    """Read the body of a CONNECT.

    Raises:
        UnsupportedVersion: it is one of another version.
        BadPacket: it is malformed.
    """
    fields = Fields("CONNECT", data, at, end)
    name, level = fields.binary(), fields.number(1)
    if name != b"MQTT" or level not in (4, 5):
        raise UnsupportedVersion(name, level)
    v5 = level == 5
    flags, keep_alive = fields.number(1), fields.number(2)
    _check_flags(flags, v5)
    found = read_properties(fields, OF_CONNECT) if v5 else {}
    client = fields.text()
    will = _read_will(fields, v5, flags >> 3 & 3) if flags & 0x04 else None
    user = fields.text() if flags & 0x80 else None
    password = fields.binary() if flags & 0x40 else None
    fields.done()
    clean = bool(flags & 0x02)
    return ConnectRequest(
        v5=v5,
        client=client,
        clean=clean,
        keep_alive_s=keep_alive,
        expiry_s=found.get(SESSION_EXPIRY, 0) if v5 else 0 if clean else FOREVER,
        user=user,
        password=password,
        will=will,
        authentication=AUTH_METHOD in found,
        packet_maximum=found.get(PACKET_MAXIMUM, 0),
        receive_maximum=found.get(RECEIVE_MAXIMUM, 0),
    )


def _read_will(fields: Fields, v5: bool, qos: int) -> WillMessage:
    delay: int = read_properties(fields, OF_WILL).get(WILL_DELAY, 0) if v5 else 0
    topic = fields.text()
    if not topic or "+" in topic or "#" in topic:
        raise BadPacket(f"a will for the topic {topic[:80]!r}", reason="topic-wildcard", code=TOPIC_INVALID)
    return WillMessage(topic.encode(), fields.binary(), qos, delay)


def _check_flags(flags: int, v5: bool) -> None:
    will_bits = flags & 0x38  # QoS and retain of the will
    password_alone = flags & 0xC0 == 0x40
    if (
        flags & 0x01
        or (will_bits and not flags & 0x04)
        or flags & 0x18 == 0x18
        or (password_alone and not v5)
    ):
        raise BadPacket(f"CONNECT with the flags 0x{flags:02x}", reason="connect-flags")


def read_subscribe(data: bytes, at: int, end: int, v5: bool) -> SubscribeRequest:
    """Read the body of a SUBSCRIBE.

    Raises:
        BadPacket: it is malformed, or names no filter.
    """
    fields = Fields("SUBSCRIBE", data, at, end)
    packet_id = fields.packet_id()
    found = read_properties(fields, OF_SUBSCRIBE) if v5 else {}
    filters: list[tuple[str, int]] = []
    while fields.left():
        topic, options = fields.text(), fields.number(1)
        reserved = 0xC0 if v5 else 0xFC
        if options & reserved or options & 3 == 3 or options & 0x30 == 0x30:
            raise BadPacket(f"SUBSCRIBE with the options 0x{options:02x}", reason="subscribe-options")
        if options & 4 and topic.startswith("$share/"):
            message = "a shared subscription with No Local"
            raise BadPacket(message, reason="subscribe-options", code=PROTOCOL_ERROR)
        filters.append((topic, options & 3))
    _at_least_one("SUBSCRIBE", filters)
    return SubscribeRequest(packet_id, filters, SUBSCRIPTION_ID in found)


def read_unsubscribe(data: bytes, at: int, end: int, v5: bool) -> UnsubscribeRequest:
    """Read the body of an UNSUBSCRIBE.

    Raises:
        BadPacket: it is malformed, or names no filter.
    """
    fields = Fields("UNSUBSCRIBE", data, at, end)
    packet_id = fields.packet_id()
    if v5:
        read_properties(fields, OF_UNSUBSCRIBE)
    filters: list[str] = []
    while fields.left():
        filters.append(fields.text())
    _at_least_one("UNSUBSCRIBE", filters)
    return UnsubscribeRequest(packet_id, filters)


def _at_least_one(packet: str, filters: list[tuple[str, int]] | list[str]) -> None:
    if not filters:
        raise BadPacket(f"{packet} without a filter", reason="no-filter", code=PROTOCOL_ERROR)


def read_pubrel(data: bytes, at: int, end: int, v5: bool) -> int:
    """Read the body of a PUBREL; returns its packet id.

    Raises:
        BadPacket: it is malformed.
    """
    fields = Fields("PUBREL", data, at, end)
    packet_id = fields.packet_id()
    code = fields.number(1) if v5 and fields.left() else 0
    if v5 and fields.left():
        read_properties(fields, OF_PUBREL)
    fields.done()
    if code not in (0, UNKNOWN_ID):
        raise BadPacket(f"PUBREL with the reason code 0x{code:02x}", reason="pubrel-code")
    return packet_id


def read_puback(data: bytes, at: int, end: int) -> int:
    """Read the body of a PUBACK; returns its packet id. What it says beside, in MQTT 5, changes nothing.

    Raises:
        BadPacket: it is malformed.
    """
    return Fields("PUBACK", data, at, end).packet_id()


def read_disconnect(data: bytes, at: int, end: int, v5: bool, expiry_s: int) -> DisconnectNotice:
    """Read the body of a DISCONNECT of a session that had the expiry `expiry_s`.

    Raises:
        BadPacket: it is malformed, or gives an expiry to a session that had none.
    """
    fields = Fields("DISCONNECT", data, at, end)
    code = fields.number(1) if v5 and fields.left() else 0
    found = read_properties(fields, OF_DISCONNECT) if v5 and fields.left() else {}
    fields.done()
    if code not in (0, 4) and code < 0x80:
        raise BadPacket(f"DISCONNECT with the reason code 0x{code:02x}", reason="disconnect-code")
    changed: int = found.get(SESSION_EXPIRY, -1)
    if changed > 0 and not expiry_s:
        message = "DISCONNECT gives an expiry to a session that was to end with it"
        raise BadPacket(message, reason="expiry", code=PROTOCOL_ERROR)
    return DisconnectNotice(code == 0, changed)
