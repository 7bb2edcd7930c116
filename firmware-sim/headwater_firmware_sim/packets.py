"""The few MQTT packets that a publishing device speaks, 3.1.1 and 5, as bytes: a light codec for many sockets.

Section numbers are those of the OASIS standards, which share them up to properties.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

CONNACK, PUBLISH, PUBACK, PUBREC, PUBCOMP, SUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 5, 7, 9, 13, 14
"""Types of packet that come in (2.1.2)."""

PINGREQ = b"\xc0\x00"

V311, V5 = 4, 5
"""Protocol levels (3.1.2.2)."""

_PROPERTY_SIZES = {
    1: 1,
    2: 4,
    17: 4,
    19: 2,
    23: 1,
    24: 4,
    25: 1,
    33: 2,
    34: 2,
    35: 2,
    36: 1,
    37: 1,
    39: 4,
    40: 1,
    41: 1,
    42: 1,
}
"""Bytes of the properties of fixed size (5: 2.2.2.2); the others are one string or binary, or two strings (38)."""
_SESSION_EXPIRY, _RECEIVE_MAXIMUM, _SERVER_KEEP_ALIVE = 17, 33, 19
_TWO_STRINGS = 38

_FOR_A_PERSON = {
    V311: {1: "protocol version", 2: "client id", 4: "user or password", 5: "not authorised"},
    V5: {0x84: "protocol version", 0x85: "client id", 0x86: "user or password", 0x87: "not authorised", 0x8A: "banned", 0x8C: "authentication"},
}  # fmt: skip


class Connack(NamedTuple):
    """The answer to CONNECT. `receive_maximum`: messages that may be in flight; `keep_alive_s` 0: as asked for."""

    session_present: bool
    code: int
    receive_maximum: int
    keep_alive_s: int


class Ack(NamedTuple):
    """A PUBACK, PUBREC or PUBCOMP: `reason` from 0x80 on means that the message was not taken (5: 3.4.2.1), but in a
    PUBCOMP only that the server does not know the id any more.
    """

    packet_id: int
    reason: int
    kind: int = PUBACK


class Told(NamedTuple):
    """A PUBLISH from the server, of what was subscribed to; `packet_id` 0: at QoS 0."""

    payload: bytes
    packet_id: int


class Malformed(Exception):
    """What came is not MQTT: nothing but ending the connection helps."""


def connect(
    version: int,
    client: str,
    *,
    clean: bool,
    keep_alive_s: int,
    user: str = "",
    password: str = "",
    expiry_s: int = 86_400,
) -> bytes:
    """Encode CONNECT (3.1). In 3.1.1 a session that is not clean lasts as long as the server likes; in 5 `expiry_s`."""
    flags = (0x80 if user else 0) | (0x40 if password else 0) | (0x02 if clean else 0)
    body = b"\x00\x04MQTT" + struct.pack(">BBH", version, flags, keep_alive_s)
    if version == V5:
        body += struct.pack(">BBI", 5, _SESSION_EXPIRY, expiry_s)
    for text in (client, *([user] if user else []), *([password] if password else [])):
        body += _text(text)
    return b"\x10" + _length(len(body)) + body


def publish(
    version: int, topic: str, payload: bytes, packet_id: int, *, dup: bool = False, qos: int = 1
) -> bytes:
    """Encode PUBLISH at QoS 1 or 2 (3.3)."""
    name = topic.encode()
    size = 4 + len(name) + len(payload) + (version == V5)
    properties = b"\x00" if version == V5 else b""
    head = bytes((0x30 | dup << 3 | qos << 1,))
    return b"".join(
        (head, _length(size), len(name).to_bytes(2), name, packet_id.to_bytes(2), properties, payload)
    )


def publish_once(version: int, topic: str, payload: bytes) -> bytes:
    """Encode PUBLISH at QoS 0 (3.3)."""
    rest = _text(topic) + (b"\x00" if version == V5 else b"") + payload
    return b"\x30" + _length(len(rest)) + rest


def puback(packet_id: int) -> bytes:
    """Encode PUBACK (3.4), the same in both."""
    return b"\x40\x02" + packet_id.to_bytes(2)


def subscribe(version: int, topic: str, packet_id: int) -> bytes:
    """Encode SUBSCRIBE to one topic at QoS 1 (3.8)."""
    rest = packet_id.to_bytes(2) + (b"\x00" if version == V5 else b"") + _text(topic) + b"\x01"
    return b"\x82" + _length(len(rest)) + rest


def pubrel(packet_id: int) -> bytes:
    """Encode PUBREL (3.6), the same in both."""
    return b"\x62\x02" + packet_id.to_bytes(2)


def disconnect(version: int) -> bytes:
    """Encode a normal DISCONNECT (3.14), the same in both; in 5 it leaves the session's expiry as it was."""
    return b"\xe0\x00"


def refusal(version: int, code: int) -> str:
    """Say what a person must change for a CONNACK's code; empty where trying again may help."""
    return _FOR_A_PERSON[version].get(code, "")


class Incoming:
    """Cuts packets out of what a socket brings."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._rest = b""

    def feed(self, data: bytes) -> list[Connack | Ack | Told | int]:
        """Take bytes in; return what is whole: CONNACKs, acknowledgements, messages, and the type of any other packet.

        Raises:
            Malformed: this is not MQTT from a server.
        """
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        found: list[Connack | Ack | Told | int] = []
        while end - at >= 2:
            size, body = data[at + 1], at + 2
            if size > 127:
                whole = _read_length(data, at + 1)
                if whole is None:
                    break
                size, body = whole
            if body + size > end:
                break
            found.append(self._packet(data[at], data[body : body + size]))
            at = body + size
        self._rest = data[at:]
        return found

    def _packet(self, first: int, body: bytes) -> Connack | Ack | Told | int:
        kind = first >> 4
        try:
            if kind in {PUBACK, PUBREC, PUBCOMP}:
                return Ack(_two(body, 0), body[2] if len(body) > 2 else 0, kind)
            if kind == PUBLISH:
                return self._told(first, body)
            if kind == CONNACK:
                properties = _properties(body, 2) if self._version == V5 else {}
                return Connack(
                    bool(body[0] & 1),
                    body[1],
                    properties.get(_RECEIVE_MAXIMUM, 65_535),
                    properties.get(_SERVER_KEEP_ALIVE, 0),
                )
        except IndexError:
            raise Malformed(f"a packet of type {kind} ends too early") from None
        if kind not in {SUBACK, PINGRESP, DISCONNECT}:
            raise Malformed(f"a packet of type {kind} from a server")
        return kind

    def _told(self, first: int, body: bytes) -> Told:
        at = 2 + _two(body, 0)
        packet_id = 0
        if first & 0x06:
            packet_id = _two(body, at)
            at += 2
        if self._version == V5:
            whole = _read_length(body, at)
            if whole is None:
                raise IndexError
            at = sum(whole)
        return Told(body[at:], packet_id)


def _properties(body: bytes, at: int) -> dict[int, int]:
    """Read the properties of fixed size as numbers; the others are passed over."""
    if at == len(body):
        return {}
    whole = _read_length(body, at)
    if whole is None:
        raise IndexError
    size, at = whole
    end = at + size
    found: dict[int, int] = {}
    while at < end:
        name = body[at]
        at += 1
        fixed = _PROPERTY_SIZES.get(name)
        if fixed is None:
            for _ in range(2 if name == _TWO_STRINGS else 1):
                at += 2 + _two(body, at)
            continue
        found[name] = int.from_bytes(body[at : at + fixed])
        at += fixed
    return found


def _two(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2) + raw


def _length(size: int) -> bytes:
    """Encode a remaining length: seven bits a byte (2.2.3)."""
    if size < 128:
        return bytes((size,))
    out = bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out)


def _read_length(data: bytes, at: int) -> tuple[int, int] | None:
    """Return a remaining length and where it ends; None if it is not whole yet."""
    size = 0
    for shift in range(4):
        if at + shift >= len(data):
            return None
        size |= (data[at + shift] & 127) << 7 * shift
        if data[at + shift] < 128:
            return size, at + shift + 1
    raise Malformed("a length of more than four bytes")
