"""An MQTT server for publishers that does what a test tells it: acknowledges late, hangs up, forgets sessions."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

ACK, IGNORE, HANG_UP = "ack", "ignore", "hang up"


class Connected(NamedTuple):
    """A CONNECT."""

    client: str
    clean: bool
    version: int
    user: str
    password: str


class Published(NamedTuple):
    """A PUBLISH at QoS 1."""

    client: str
    connection: int
    packet_id: int
    dup: bool
    topic: str
    payload: bytes


class Sink:
    """What it was sent, and how it answers; change the answers at any time."""

    def __init__(self) -> None:
        self.port = 0
        self.connects: list[Connected] = []
        self.published: list[Published] = []
        self.answer: Callable[[Published], str] = lambda _: ACK
        self.session: Callable[[Connected], bool] = self._known
        self.code = 0
        """Of the CONNACK."""
        self.receive_maximum = 0
        """In a CONNACK of MQTT 5, if set."""
        self.unanswered = 0
        self.most_unanswered = 0
        self.ack_every = 1
        """PUBACKs are kept back until so many are owed."""
        self._clients: set[str] = set()

    def _known(self, connect: Connected) -> bool:
        return connect.client in self._clients and not connect.clean

    def connected(self, connect: Connected) -> bytes:
        present = self.session(connect)
        self._clients.add(connect.client)
        self.connects.append(connect)
        properties = b""
        if connect.version == 5:
            maximum = struct.pack(">BH", 33, self.receive_maximum) if self.receive_maximum else b""
            properties = bytes((len(maximum) + 9,)) + b"\x1f\x00\x06reason" + maximum
        body = bytes((present, self.code)) + properties
        return bytes((0x20, len(body))) + body


@contextmanager
def sink() -> Iterator[Sink]:
    """Run a sink on a free port of the loopback."""
    told = Sink()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            _serve(told, self.request)

    socketserver.ThreadingTCPServer.allow_reuse_address = True
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _serve(told: Sink, wire: Any) -> None:
    client, version, owed = "", 4, b""
    number = 0
    told.unanswered = 0
    try:
        for first, body in _packets(wire):
            if first >> 4 == 1:
                connect = _connect(body)
                client, version = connect.client, connect.version
                number = len(told.connects)
                wire.sendall(told.connected(connect))
            elif first >> 4 == 3:
                publish = _publish(client, number, version, first, body)
                told.published.append(publish)
                told.unanswered += 1
                told.most_unanswered = max(told.most_unanswered, told.unanswered)
                how = told.answer(publish)
                if how == HANG_UP:
                    return
                if how == ACK:
                    owed += b"\x40\x02" + publish.packet_id.to_bytes(2)
                if len(owed) >= 4 * told.ack_every:
                    told.unanswered -= len(owed) // 4
                    wire.sendall(owed)
                    owed = b""
            elif first >> 4 == 12:
                wire.sendall(b"\xd0\x00")
    except OSError:
        return


def _packets(wire: Any) -> Iterator[tuple[int, bytes]]:
    rest = b""
    while data := wire.recv(65_536):
        rest += data
        while len(rest) >= 2:
            size, at, shift = 0, 1, 0
            while at < len(rest):
                size |= (rest[at] & 127) << shift
                at, shift = at + 1, shift + 7
                if rest[at - 1] < 128:
                    break
            else:
                break
            if len(rest) < at + size:
                break
            yield rest[0], rest[at : at + size]
            rest = rest[at + size :]


def _connect(body: bytes) -> Connected:
    version, flags = body[6], body[7]
    at = 10 + (1 + body[10] if version == 5 else 0)
    texts = []
    while at < len(body):
        size = int.from_bytes(body[at : at + 2])
        texts.append(body[at + 2 : at + 2 + size].decode())
        at += 2 + size
    client, user, password = [*texts, "", ""][:3]
    return Connected(client, bool(flags & 2), version, user, password)


def _publish(client: str, connection: int, version: int, first: int, body: bytes) -> Published:
    end = 2 + int.from_bytes(body[:2])
    payload = end + 2 + (1 + body[end + 2] if version == 5 else 0)
    packet_id = int.from_bytes(body[end : end + 2])
    return Published(client, connection, packet_id, bool(first & 8), body[2:end].decode(), body[payload:])
