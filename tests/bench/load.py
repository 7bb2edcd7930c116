"""The load: raw sockets with many messages in flight, paced, counting acknowledgements; light, for it shares the machine.

`python -m tests.bench.load PORT CONNECTIONS RATE SECONDS [IN_FLIGHT [VALUES [CA]]]`, with so many readings a message, prints `connected`,
and one JSON object at the end. With CA, the file of the server's authority, it speaks TLS 1.3.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import sys
import time
from collections import deque

import msgspec

CONNECT = b"\x10\x18\x00\x04MQTT\x04\x02\x00\x3c\x00\x0cbench-%06d"
SERIES = 1000
MANY = 100
"""From so many connections on each is a device of its own, and they send one after the other, evenly spread over time."""
_LENGTHS = [bytes((n,)) if n < 128 else bytes((n & 127 | 128, n >> 7)) for n in range(16_384)]
"""A remaining length as MQTT writes it."""


class Found(msgspec.Struct):
    """What the load saw."""

    sent: int
    acknowledged: int
    seconds: float
    rate: float
    """Acknowledged a second."""
    p50_ms: float
    p99_ms: float
    """Of the time from a write to the acknowledgement of its last message."""
    held: bool
    """All was acknowledged, and the rate was kept."""
    gap_ms: float = 0.0
    """The longest time in which nobody got an acknowledgement, from the first to the end of the sending."""


class _Client:
    """One connection and its series; messages are cut from a template, for the load must not outweigh the server."""

    def __init__(
        self, port: int, number: int, topics: list[bytes], values: int, tls: ssl.SSLContext | None
    ) -> None:
        self.values = values
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.secure = tls is not None
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self.sock.sendall(CONNECT % number)
        self.topics = topics
        self.sent = self.acknowledged = 0
        self.rest = b""
        self.half = 0
        self.writes: deque[tuple[int, float]] = deque()

    def connected(self) -> None:
        """Wait for the CONNACK: all clients have asked before the first waits."""
        assert self.sock.recv(4)[0] == 0x20
        self.sock.setblocking(False)

    def messages(self, count: int, stamp_us: int) -> bytes:
        out = []
        topics, n, sent = self.topics, len(self.topics), self.sent
        for _ in range(count):
            topic = topics[sent % n]
            value = (sent * 7919) % 9973
            if self.values == 1:
                payload = b'{"t":%d,"v":%d.%02d}' % (stamp_us + sent, 20 + value // 400, value % 100)
            else:
                more = b",".join(
                    [b'"m%d":%d.%02d' % (m, 20 + value // 400 + m, value % 100) for m in range(self.values)]
                )
                payload = b'{"t":%d,"values":{%b}}' % (stamp_us + sent, more)
            out.append(
                b"\x32%b\x00%c%b%b%b"
                % (
                    _LENGTHS[4 + len(topic) + len(payload)],
                    len(topic),
                    topic,
                    (sent % 65_535 + 1).to_bytes(2, "big"),
                    payload,
                )
            )
            sent += 1
        self.sent = sent
        return b"".join(out)

    def write(self, data: bytes) -> None:
        self.rest += data
        with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
            self.rest = self.rest[self.sock.send(self.rest) :]

    def read(self, now: float, delays: list[float]) -> None:
        got = 0
        try:
            got = len(self.sock.recv(1 << 18))
            while self.secure:  # epoll does not announce what is in the engine already
                more = len(self.sock.recv(1 << 14))
                assert more, "the server closed the connection"
                got += more
        except (BlockingIOError, ssl.SSLWantReadError):
            if not got:
                return
        assert got, "the server closed the connection"
        got += self.half
        self.acknowledged += got // 4
        self.half = got % 4
        while self.writes and self.writes[0][0] <= self.acknowledged:
            delays.append(now - self.writes.popleft()[1])


class Load:
    """Connected clients, and what they wait for."""

    def __init__(self, port: int, connections: int, in_flight: int, values: int = 1, ca: str = "") -> None:
        tls = None
        if ca:
            tls = ssl.create_default_context(cafile=ca)
            tls.minimum_version = ssl.TLSVersion.TLSv1_3
        if values == 1:
            topics = [b"hw/site-%d/dev-%03d/data/m%d" % (i % 4, i // 5, i % 5) for i in range(SERIES)]
        else:
            topics = [b"hw/site-%d/dev-%03d/data" % (i % 4, i) for i in range(SERIES // values)]
        self.clients = [
            _Client(port, i, topics[i::connections] or [topics[i % len(topics)]], values, tls)
            for i in range(connections)
        ]
        for client in self.clients:
            client.connected()
        self.in_flight = in_flight
        self.delays: list[float] = []
        self.gap = 0.0
        self._heard_at = 0.0
        self._turn = 0
        self._poll = select.epoll()
        self._by_fd = {client.sock.fileno(): client for client in self.clients}
        for fd in self._by_fd:
            self._poll.register(fd, select.EPOLLIN)

    def write(self, due: float, stamp_us: int) -> None:
        """Let each client have sent its share of `due` messages, as far as its window allows."""
        if len(self.clients) >= MANY:
            self._in_turn(int(due), stamp_us)
            return
        share = due / len(self.clients)
        for at, client in enumerate(self.clients):
            wanted = int(share + at / len(self.clients)) - client.sent  # not in step with each other
            count = min(wanted, self.in_flight - (client.sent - client.acknowledged))
            if count > 0:
                client.write(client.messages(count, stamp_us))
                client.writes.append((client.sent, time.monotonic()))
            elif client.rest:
                client.write(b"")

    def _in_turn(self, due: int, stamp_us: int) -> None:
        """One message of one client after the other: many devices do not send at the same moment."""
        while self._turn < due:
            client = self.clients[self._turn % len(self.clients)]
            self._turn += 1
            client.write(client.messages(1, stamp_us))
            client.writes.append((client.sent, time.monotonic()))

    def read(self, until: float) -> None:
        """Take acknowledgements until then, once at least."""
        while True:
            for fd, _ in self._poll.poll(max(0.0, until - time.monotonic())):
                now = time.monotonic()
                self._by_fd[fd].read(now, self.delays)
                if self._heard_at:
                    self.gap = max(self.gap, now - self._heard_at)
                self._heard_at = now
            if time.monotonic() >= until:
                return

    @property
    def sent(self) -> int:
        return sum(client.sent for client in self.clients)

    @property
    def acknowledged(self) -> int:
        return sum(client.acknowledged for client in self.clients)

    def close(self) -> None:
        for client in self.clients:
            client.sock.sendall(b"\xe0\x00")
            client.sock.close()


def run(
    port: int,
    connections: int,
    rate: float,
    seconds: float,
    in_flight: int = 256,
    values: int = 1,
    ca: str = "",
) -> Found:
    """Send `rate` messages a second over so many connections, then wait for what is unacknowledged."""
    load = Load(port, connections, in_flight, values, ca)
    print("connected", flush=True)
    slot = 0.01 if connections < MANY else 0.002
    began, stamp_us, turn = time.monotonic(), time.time_ns() // 1000, 0
    while (now := time.monotonic()) < began + seconds:
        turn += 1
        load.write(turn * slot * rate, stamp_us + int((now - began) * 1e6))
        load.read(began + turn * slot)
    gap = load.gap
    took, on_time = time.monotonic() - began, load.acknowledged
    deadline = time.monotonic() + 10
    while load.acknowledged < load.sent and time.monotonic() < deadline:
        load.write(0, 0)
        load.read(time.monotonic() + 0.02)
    load.close()
    delays = sorted(load.delays)
    return Found(
        load.sent,
        load.acknowledged,
        took,
        on_time / took,
        delays[len(delays) // 2] * 1e3,
        delays[int(len(delays) * 0.99)] * 1e3,
        held=load.acknowledged == load.sent and load.sent >= 0.99 * rate * seconds,
        gap_ms=gap * 1e3,
    )


if __name__ == "__main__":
    port_, connections_, rate_, seconds_, *more = sys.argv[1:]
    found = run(
        int(port_),
        int(connections_),
        float(rate_),
        float(seconds_),
        int((more or ["256"])[0]),
        int((more[1:] or ["1"])[0]),
        "".join(more[2:]),
    )
    print(json.dumps(msgspec.to_builtins(found)))
