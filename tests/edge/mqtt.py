"""An MQTT client for tests of the listener: it sends the bytes that a test wants, and cuts what comes into packets."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from typing import ClassVar, NamedTuple, Self

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK = 2, 3, 4, 5, 6, 7, 9, 11
PINGRESP, DISCONNECT = 13, 14
V311, V5 = 4, 5
PINGREQ = b"\xc0\x00"
BYE = b"\xe0\x00"


class Packet(NamedTuple):
    """A packet as it came."""

    kind: int
    flags: int
    body: bytes

    @property
    def packet_id(self) -> int:
        return int.from_bytes(self.body[:2], "big")

    @property
    def code(self) -> int:
        """Reason code of an acknowledgement or a DISCONNECT, return code of a CONNACK."""
        at = {CONNACK: 1, DISCONNECT: 0}.get(self.kind, 2)
        return self.body[at] if len(self.body) > at else 0


def length(size: int) -> bytes:
    out = bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes((*out, size))


def packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + length(len(body)) + body


def text(said: str | bytes) -> bytes:
    raw = said.encode() if isinstance(said, str) else said
    return len(raw).to_bytes(2, "big") + raw


def block(properties: bytes) -> bytes:
    return length(len(properties)) + properties


def connect(
    client: str, version: int = V311, *, clean: bool = True, keep_alive_s: int = 60, properties: bytes = b"",
    will: tuple[str, bytes, int, int] | None = None, will_properties: bytes = b"",
) -> bytes:  # fmt: skip
    """CONNECT; `will` is topic, payload, QoS and delay."""
    flags = 0x02 if clean else 0
    rest = text(client)
    if will is not None:
        topic, payload, qos, delay_s = will
        flags |= 0x04 | qos << 3
        if version == V5:
            rest += block(b"\x18" + struct.pack(">I", delay_s) + will_properties)
        rest += text(topic) + text(payload)
    head = b"\x00\x04MQTT" + struct.pack(">BBH", version, flags, keep_alive_s)
    return packet(0x10, head + (block(properties) if version == V5 else b"") + rest)


def publish(
    topic: str | bytes, payload: bytes, packet_id: int = 0, version: int = V311, *, qos: int = -1,
    dup: bool = False, retain: bool = False, properties: bytes = b"",
) -> bytes:  # fmt: skip
    """PUBLISH, at QoS 1 if it has a packet id and nothing else is said."""
    if qos < 0:
        qos = 1 if packet_id else 0
    body = text(topic) + (packet_id.to_bytes(2, "big") if qos else b"")
    if version == V5:
        body += block(properties)
    return packet(0x30 | dup << 3 | qos << 1 | retain, body + payload)


def pubrel(packet_id: int) -> bytes:
    return packet(0x62, packet_id.to_bytes(2, "big"))


def subscribe(
    packet_id: int, filters: Iterable[tuple[str, int]], version: int = V311, properties: bytes = b""
) -> bytes:
    body = packet_id.to_bytes(2, "big") + (block(properties) if version == V5 else b"")
    return packet(0x82, body + b"".join(text(topic) + bytes((options,)) for topic, options in filters))


def unsubscribe(packet_id: int, filters: Iterable[str], version: int = V311) -> bytes:
    body = packet_id.to_bytes(2, "big") + (b"\x00" if version == V5 else b"")
    return packet(0xA2, body + b"".join(text(topic) for topic in filters))


def cut(data: bytes) -> tuple[list[Packet], bytes]:
    """Cut whole packets off; the rest comes back."""
    found, at = [], 0
    while at < len(data):
        size, shift, begin = 0, 0, at + 1
        while begin < len(data):
            size |= (data[begin] & 127) << shift
            shift += 7
            begin += 1
            if data[begin - 1] < 128:
                break
        else:
            break
        if begin + size > len(data):
            break
        found.append(Packet(data[at] >> 4, data[at] & 15, data[begin : begin + size]))
        at = begin + size
    return found, data[at:]


class Client:
    """One connection."""

    opened: ClassVar[list[Client]] = []
    """All, so that `on_sockets.run` can close what a test leaves open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened.append(self)
        self._reader = reader
        self.writer = writer
        self._packets: list[Packet] = []
        self._rest = b""

    @classmethod
    async def open(cls, port: int) -> Self:
        """Open a socket; nothing is said yet."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, *packets: bytes) -> None:
        self.writer.write(b"".join(packets))

    async def next(self) -> Packet | None:
        """Return the next packet; None if the other side has closed."""
        async with asyncio.timeout(10):
            while not self._packets:
                data = await self._more()
                if not data:
                    return None
                self._packets, self._rest = cut(self._rest + data)
        return self._packets.pop(0)

    async def take(self, count: int) -> list[Packet]:
        """Return the next packets, which must come."""
        found = []
        for _ in range(count):
            one = await self.next()
            assert one is not None, "the listener closed the connection"
            found.append(one)
        return found

    async def closed(self) -> list[Packet]:
        """Return all that is said before the end, which must come."""
        found = []
        while (one := await self.next()) is not None:
            found.append(one)
        return found

    async def _more(self) -> bytes:
        try:
            return await self._reader.read(65_536)
        except ConnectionResetError:
            return b""

    def drop(self) -> None:
        """Break the connection without a word."""
        self.writer.transport.abort()
