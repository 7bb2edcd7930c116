"""The words of MQTT that every module of the listener shares: packet types, reason codes, and the fields of a packet."""

from __future__ import annotations

from headwater_shared.errors import Refused

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = 8, 9, 10, 11, 12, 13, 14, 15
"""Packet types: the upper half of the first byte."""

# Reason codes of MQTT 5, section 2.4; `answers` maps those of a CONNACK to 3.1.1.
MALFORMED, PROTOCOL_ERROR = 0x81, 0x82
UNSUPPORTED_VERSION, CLIENT_ID_INVALID, NOT_AUTHORIZED, SERVER_UNAVAILABLE = 0x84, 0x85, 0x86, 0x88
SHUTTING_DOWN, BAD_AUTHENTICATION_METHOD, KEEP_ALIVE_TIMEOUT, TAKEN_OVER = 0x8B, 0x8C, 0x8D, 0x8E
TOPIC_INVALID, UNKNOWN_ID, OVER_RECEIVE_MAXIMUM, ALIAS_INVALID = 0x90, 0x92, 0x93, 0x94
TOO_LARGE, QUOTA_EXCEEDED = 0x95, 0x97
"""NOT_AUTHORIZED is "bad user name or password" (0x86)."""
NOT_ALLOWED, RATE, CONNECTION_RATE, BY_A_PERSON = 0x87, 0x96, 0x9F, 0x98
"""What it may not speak for; a packet sent too slowly ("message rate"); too many tries; a person took its user away."""

FILTER_REFUSED, FILTER_WILDCARD, FILTER_TOO_MANY, FILTER_SHARED, FILTER_WITH_ID = 0x87, 0x8F, 0x97, 0x9E, 0xA1
"""Reason codes of one filter in a SUBACK. A wildcard is "well formed, but not allowed": some are."""


class BadPacket(Refused):
    """A client sent what MQTT, or this listener, does not allow: its connection ends, all others go on.

    `reason` is the short word that it is counted by, `code` the reason code that an MQTT 5 client is told.
    """

    def __init__(self, message: str, *, reason: str, code: int = MALFORMED, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.code = code


def as_packet(first: int, rest: bytes) -> bytes:
    """Write a packet: its first byte, the length of the rest, and that."""
    size, length = len(rest), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes((first, *length)) + rest


def body(data: bytes, at: int, max_packet: int) -> tuple[int, int] | None:
    """Find the packet that begins at `at`: (begin, end) of what follows its fixed header, or None if it is not all there.

    Raises:
        BadPacket: its length is not written as MQTT writes lengths, or is above `max_packet` (bytes, header included).
    """
    length = shift = 0
    begin = at + 1
    while begin < len(data):
        byte = data[begin]
        begin += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            end = begin + length
            if end - at > max_packet:
                raise BadPacket(
                    f"a packet of {end - at} bytes, {max_packet} are allowed",
                    reason="too-large",
                    code=TOO_LARGE,
                    hint="raise edge.listener.max_packet",
                )
            return (begin, end) if end <= len(data) else None
        shift += 7
        if shift == 28:
            raise BadPacket("a packet length of more than four bytes", reason="length")
    return None


class Fields:
    """The fields of one packet, taken from the front of `data[at:end]`; `packet` names it in messages.

    Raises (every method):
        BadPacket: the field does not fit into what is left, or is not what its type says.
    """

    __slots__ = ("at", "data", "end", "packet")

    def __init__(self, packet: str, data: bytes, at: int, end: int) -> None:
        self.packet = packet
        self.data = data
        self.at = at
        self.end = end

    def left(self) -> int:
        return self.end - self.at

    def take(self, count: int) -> int:
        """Step over `count` bytes; returns where they begin."""
        begin = self.at
        self.at = begin + count
        if self.at > self.end:
            raise BadPacket(f"{self.packet} ends inside a field", reason="truncated")
        return begin

    def number(self, width: int) -> int:
        """An unsigned integer of `width` bytes, big-endian."""
        begin = self.take(width)
        return int.from_bytes(self.data[begin : self.at], "big")

    def varint(self) -> int:
        """A variable byte integer in as few bytes as it needs."""
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    break
                return value
        raise BadPacket(f"{self.packet} holds a length that is none", reason="length")

    def binary(self) -> bytes:
        """Bytes with their length before them."""
        length = self.number(2)
        begin = self.take(length)
        return self.data[begin : self.at]

    def text(self) -> str:
        """UTF-8 without U+0000, with its length in bytes before it."""
        return text(self.packet, self.binary())

    def done(self) -> None:
        """Nothing may be left."""
        if self.at != self.end:
            raise BadPacket(f"{self.packet} goes on after its end", reason="trailing-bytes")

    def packet_id(self) -> int:
        value = self.number(2)
        if not value:
            raise BadPacket(f"{self.packet} with the packet id 0", reason="packet-id-0", code=PROTOCOL_ERROR)
        return value


def text(packet: str, raw: bytes) -> str:
    """Decode a string of MQTT: UTF-8 (no surrogates) without U+0000.

    Raises:
        BadPacket: it is none.
    """
    try:
        decoded = raw.decode()
    except UnicodeDecodeError:
        raise BadPacket(f"{packet} holds text that is no UTF-8", reason="not-utf8") from None
    if "\0" in decoded:
        raise BadPacket(f"{packet} holds text with U+0000", reason="nul-in-text")
    return decoded
