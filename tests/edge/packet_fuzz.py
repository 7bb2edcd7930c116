"""A fuzzer of packets: mutated sessions of both versions against the listener and the step, without loop, disk or TCP.

Sockets are pairs; a turn sends, reads, steps and commits by hand, so a seed gives the same run each time. What must hold
is checked against the bytes that each client sent, cut by a reader of the tests' own.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Callable
from itertools import count

from headwater_edge import journal
from headwater_edge.connection import Connection
from headwater_edge.decode import Decode
from headwater_edge.gather import Gather
from headwater_edge.listener import Listener
from headwater_edge.listener_settings import ListenerSettings
from headwater_edge.source import Burst
from headwater_edge.state import State
from headwater_edge.step import step
from headwater_edge.topics import SeriesIndex
from headwater_edge.users import Users
from headwater_shared.clock import SetClock
from tests.edge import mqtt
from tests.edge.feed import step_settings_of
from tests.edge.mqtt import (
    CONNACK,
    DISCONNECT,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    UNSUBACK,
    V5,
    V311,
    Packet,
    block,
    text,
)  # fmt: skip

_AT_ONCE = 12
"""Connections at a time."""
_TOPICS = (
    "hw/s1/d1/data/m", "hw/s1/d1/data", "hw/s1/d2/data/x", "a", "", "hw/+/d/data", "$SYS/x", "hw/s1/d\u00e9/data/m", "t" * 600,
)  # fmt: skip
_FILTERS = ("hw/s1/d1/cmd", "hw/s1/d2/cmd", "spBv1.0/g/NCMD/n/#", "#", "+/+", "$share/g/a", "", "a/#b")
_PAYLOADS = (
    b"1",
    b'{"t":1795000000000000,"v":2.5}',
    b'{"values":{"a":1}}',
    b"",
    b"\xff\xfe",
    b"[" * 50,
    b"x" * 300,
)

Answer = tuple[int, int]
"""Kind and packet id of an acknowledgement."""


class Fuzzed:
    """One client: what it sent, what it was told."""

    def __init__(self, sock: socket.socket, version: int) -> None:
        self.sock = sock
        self.version = version
        self.sent = bytearray()
        self.unsent = b""
        self.answers: list[Answer] = []
        self.connacked = False
        self.over = False
        self._rest = b""

    def write(self) -> None:
        """Write what the socket takes."""
        try:
            done = self.sock.send(self.unsent) if self.unsent else 0
        except BlockingIOError:
            return
        except OSError:
            self.over = True
            return
        self.sent += self.unsent[:done]
        self.unsent = self.unsent[done:]

    def read(self) -> None:
        """Take in what came; it must be what a server says."""
        data = b""
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while chunk := self.sock.recv(65_536):
                data += chunk
            self.over = True
        packets, self._rest = mqtt.cut(self._rest + data)
        for packet in packets:
            self._take(packet)

    def _take(self, packet: Packet) -> None:
        if packet.kind == CONNACK:
            assert not self.connacked, "a second CONNACK"
            self.connacked = packet.code == 0
            return
        assert self.connacked, f"{packet} before the CONNACK"
        if packet.kind in {PUBACK, PUBREC, PUBCOMP}:
            assert len(packet.body) == 2 or (packet.kind == PUBCOMP and packet.body[2:] == b"\x92")
            self.answers.append((packet.kind, packet.packet_id))
        else:
            assert packet.kind in {SUBACK, UNSUBACK, PINGRESP, DISCONNECT, PUBLISH}, packet

    def owed(self) -> list[Answer]:
        """What the bytes sent ask for, packet by packet, by a reader that knows nothing of the listener's."""
        found: list[Answer] = []
        for kind, flags, body in mqtt.cut(bytes(self.sent))[0]:
            qos = flags >> 1 & 3
            if kind == PUBREL:
                found.append((PUBCOMP, int.from_bytes(body[:2], "big")))
            elif kind == PUBLISH and qos:
                after = 2 + int.from_bytes(body[:2], "big")
                packet_id = int.from_bytes(body[after : after + 2], "big")
                found.append((PUBACK if qos == 1 else PUBREC, packet_id))
        return found

    def check(self) -> None:
        """Each acknowledgement answers something that was sent on this connection, in that order."""
        owed = self.owed()[: len(self.answers)]
        assert self.answers == owed, f"{self.answers} is not the beginning of what was asked for, {owed}"


class Fuzz:
    """The listener, the step behind it, and those who send nonsense."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.packets = 0
        self.acknowledged = 0
        self.connections = 0
        self.seconds = 0.0
        self._clock = SetClock()
        self._delivered: list[Burst] = []
        self.state = State(step_settings_of())
        self._decode = Decode(SeriesIndex(self.state.names, 1_000))
        settings = ListenerSettings(
            max_packet="4KB", in_flight=50, in_flight_bytes="16KB", max_connections=_AT_ONCE - 1
        )
        self.listener = Listener(
            settings, Users(), self._clock, count(1), self._delivered.append, monotonic=lambda: self.seconds,
            connections_for=self.state.sessions.connections_for,
        )  # fmt: skip
        self._clients: list[Fuzzed] = []
        self._owed_after_commit: dict[int, int] = {}

    def run(self, packets: int) -> None:
        """Send so many packets, and end all connections."""
        while self.packets < packets:
            self.turn()
        self.listener.resume()
        for client in self._clients:
            client.sock.close()
            client.over = True
        for _ in range(200):
            self._commit()

    def turn(self) -> None:
        """Send, read, now and then commit."""
        chance = self.chance
        while len(self._clients) < _AT_ONCE:
            self._open()
        for client in self._clients:
            if not client.unsent and chance.random() < 0.7:
                client.unsent = self._some(client)
            cut = (
                chance.randrange(1, len(client.unsent) + 1)
                if client.unsent and chance.random() < 0.2
                else None
            )
            whole, client.unsent = client.unsent, client.unsent[:cut]
            client.write()
            client.unsent += whole[cut:] if cut else b""
        self.listener._sockets.read()
        for client in self._clients:
            before = len(client.answers)
            client.read()
            assert len(client.answers) == before, "an acknowledgement before the commit"
        if chance.random() < 0.7:
            self._commit()
        if chance.random() < 0.02:
            self.listener.pause() if chance.random() < 0.5 else self.listener.resume()
        if chance.random() < 0.02:
            self.seconds += chance.choice((1, 20, 100))
            self._clock.advance(10)
            self.listener.sweep()
        if chance.random() < 0.05:
            self.listener.publish(b"hw/s1/d1/cmd", b"x" * chance.choice((1, 100)))
        for client in [client for client in self._clients if client.over]:
            self._end(client)

    def _commit(self) -> None:
        """Step what was delivered, as a journal row read back; then acknowledge it."""
        self.listener._sockets.read()
        bursts = self._delivered[:]
        self._delivered.clear()
        gather = Gather()
        for burst in bursts:
            gather.add(burst, self._decode.burst(burst) if burst.topics else None)
        tick, _ = gather.tick(self._clock.now(), self._decode.index.take_fresh())
        row = journal.encode(tick)
        output = step(self.state, journal.decode(row))
        for burst in bursts:
            burst.unknown = output.unknown
        self.listener.acknowledge(bursts, output.sessions)
        for client in self._clients:
            if not client.over:
                client.read()
                client.check()

    def _open(self) -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        version = self.chance.choice((V311, V5))
        ours.setblocking(False)
        self.listener._sockets.add(Connection(ours, "fuzz:1", self.seconds))
        client = Fuzzed(theirs, version)
        client.unsent = self._mutated(self._connect(version), 0.1)
        self._clients.append(client)
        self.connections += 1

    def _end(self, client: Fuzzed) -> None:
        client.check()
        self.acknowledged += len(client.answers)
        client.sock.close()
        self._clients.remove(client)

    def _some(self, client: Fuzzed) -> bytes:
        """A few packets, of which some are broken."""
        makers = self._makers
        out = [
            self._mutated(self.chance.choice(makers)(self, client.version), 0.03)
            for _ in range(self.chance.randint(1, 6))
        ]
        return b"".join(out)

    def _connect(self, version: int) -> bytes:
        chance = self.chance
        properties = b""
        for one in (
            b"\x11" + struct.pack(">I", chance.choice((0, 60, 0xFFFFFFFF))),
            b"\x27\0\0\1\0",
            b"\x21\0\5",
            b"\x26\0\1a\0\1b",
        ):
            properties += one if chance.random() < 0.3 else b""
        will = None
        if chance.random() < 0.3:
            will = (
                chance.choice(_TOPICS[:4]),
                chance.choice(_PAYLOADS),
                chance.randrange(3),
                chance.choice((0, 5, 10**6)),
            )
        name = f"c{chance.randrange(20)}" if chance.random() < 0.9 else ""
        return mqtt.connect(
            name, version, clean=chance.random() < 0.5, keep_alive_s=chance.choice((0, 10, 60)), properties=properties, will=will,
        )  # fmt: skip

    def _publish(self, version: int) -> bytes:
        chance = self.chance
        qos = chance.choice((0, 1, 1, 1, 2, 2))
        properties = b""
        topic = chance.choice(_TOPICS[:3]) if chance.random() < 0.99 else chance.choice(_TOPICS)
        if version == V5 and chance.random() < 0.3:
            properties = b"\x23" + struct.pack(">H", chance.choice((1, 2, 32)))
            topic = "" if chance.random() < 0.1 else topic
        if chance.random() < 0.1:
            properties += chance.choice((b"\x26\0\1a\0\1b", b"\x01\1", b"\x02\0\0\0\1", b"\x09\0\2xx"))
        return mqtt.publish(
            topic, chance.choice(_PAYLOADS), chance.randrange(1, 30) if qos else 0, version, qos=qos,
            dup=qos > 0 and chance.random() < 0.2, retain=chance.random() < 0.1, properties=properties,
        )  # fmt: skip

    def _burst(self, version: int) -> bytes:
        return b"".join(self._publish(version) for _ in range(self.chance.randrange(20)))

    def _pubrel(self, version: int) -> bytes:
        body = self.chance.randrange(1, 30).to_bytes(2, "big")
        if version == V5 and self.chance.random() < 0.2:
            body += self.chance.choice((b"\0", b"\x92", b"\0" + block(b"\x1f" + text("why"))))
        return mqtt.packet(0x62, body)

    def _subscribe(self, version: int) -> bytes:
        filters = [
            (self.chance.choice(_FILTERS), self.chance.randrange(3)) for _ in range(self.chance.randint(1, 4))
        ]
        return mqtt.subscribe(self.chance.randrange(1, 30), filters, version)

    def _unsubscribe(self, version: int) -> bytes:
        return mqtt.unsubscribe(self.chance.randrange(1, 30), [self.chance.choice(_FILTERS)], version)

    def _other(self, version: int) -> bytes:
        """A ping, mostly; or what ends a connection, or should not come."""
        if self.chance.random() < 0.9:
            return mqtt.PINGREQ
        goodbye = mqtt.packet(
            0xE0,
            self.chance.choice((b"", b"\0", b"\4", b"\0" + block(b"\x11\0\0\0\5"))) if version == V5 else b"",
        )
        kinds = [
            mqtt.packet(first, b"\0\1") for first in (0x40, 0x50, 0x70, 0x20, 0x90, 0xB0, 0xD0, 0xF0, 0x00)
        ]
        return self.chance.choice([goodbye, goodbye, self._connect(version), *kinds])

    _makers: tuple[Callable[[Fuzz, int], bytes], ...] = (
        _publish, _publish, _publish, _burst, _pubrel, _pubrel, _subscribe, _unsubscribe, _other,
    )  # fmt: skip

    def _mutated(self, whole: bytes, share: float) -> bytes:
        """Return the packet, in so large a share of cases with bytes changed, left out, doubled or put in."""
        chance = self.chance
        self.packets += 1
        if chance.random() >= share or not whole:
            return whole
        out = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            at = min(chance.choice((0, 1, 2, chance.randrange(len(out) + 1))), max(0, len(out) - 1))
            match chance.randrange(7):
                case 0 if out:
                    out[at] ^= 1 << chance.randrange(8)
                case 1:
                    del out[at : at + chance.randint(1, 4)]
                case 2:
                    out[at:at] = out[at : at + chance.randint(1, 30)]
                case 3:
                    out[at:at] = chance.randbytes(chance.randint(1, 5))
                case 4 if out:
                    out[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
                case 5:
                    del out[at:]
                case _:
                    out[at:at] = self._publish(chance.choice((V311, V5)))
        return bytes(out)
