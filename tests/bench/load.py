"""The load: raw sockets with many messages in flight, paced, counting acknowledgements; light, for it shares the machine.

`python -m tests.bench.load PORT CONNECTIONS RATE SECONDS [IN_FLIGHT]` prints one JSON object at the end.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import deque

import msgspec

CONNECT = b"\x10\x18\x00\x04MQTT\x04\x02\x00\x3c\x00\x0cbench-%06d"
SERIES = 1000


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


class _Client:
    """One connection and its series; messages are cut from a template, for the load must not outweigh the server."""

    def __init__(self, port: int, number: int, topics: list[bytes]) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(CONNECT % number)
        assert self.sock.recv(4)[0] == 0x20
        self.sock.setblocking(False)
        self.topics = topics
        self.sent = self.acknowledged = 0
        self.rest = b""
        self.half = 0
        self.writes: deque[tuple[int, float]] = deque()

    def messages(self, count: int, stamp_us: int) -> bytes:
        out = []
        topics, n, sent = self.topics, len(self.topics), self.sent
        for _ in range(count):
            topic = topics[sent % n]
            value = (sent * 7919) % 9973
            payload = b'{"t":%d,"v":%d.%02d}' % (stamp_us + sent, 20 + value // 400, value % 100)
            out.append(
                b"\x32%c\x00%c%b%b%b"
                % (
                    4 + len(topic) + len(payload),
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
        try:
            self.rest = self.rest[self.sock.send(self.rest) :]
        except BlockingIOError:
            pass

    def read(self, now: float, delays: list[float]) -> None:
        try:
            got = len(self.sock.recv(1 << 18))
        except BlockingIOError:
            return
        assert got, "the server closed the connection"
        got += self.half
        self.acknowledged += got // 4
        self.half = got % 4
        while self.writes and self.writes[0][0] <= self.acknowledged:
            delays.append(now - self.writes.popleft()[1])


def run(port: int, connections: int, rate: float, seconds: float, in_flight: int = 256) -> Found:
    """Send `rate` messages a second over so many connections, then wait for what is unacknowledged."""
    topics = [b"hw/site-%d/dev-%03d/data/m%d" % (i % 4, i // 5, i % 5) for i in range(SERIES)]
    clients = [
        _Client(port, i, topics[i::connections] or topics[i % SERIES : i % SERIES + 1])
        for i in range(connections)
    ]
    poll = select.epoll()
    by_fd = {client.sock.fileno(): client for client in clients}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    delays: list[float] = []
    slot = 0.01 if connections < 100 else 0.02
    each = rate * slot / connections
    began = time.monotonic()
    stamp_us = time.time_ns() // 1000
    turn = 0
    while (now := time.monotonic()) < began + seconds:
        turn += 1
        for at, client in enumerate(clients):
            due = (
                int(turn * each + at / connections) - client.sent
            )  # spread over the connections, not in step
            room = in_flight - (client.sent - client.acknowledged)
            count = min(due, room)
            if count > 0:
                client.write(client.messages(count, stamp_us + int((now - began) * 1e6)))
                client.writes.append((client.sent, now))
            elif client.rest:
                client.write(b"")
        until = began + turn * slot
        while (left := until - time.monotonic()) > 0:
            for fd, _ in poll.poll(left):
                by_fd[fd].read(time.monotonic(), delays)
        for fd, _ in poll.poll(0):
            by_fd[fd].read(time.monotonic(), delays)
    sent = sum_sent(clients)
    took = time.monotonic() - began
    on_time = sum(client.acknowledged for client in clients)
    deadline = time.monotonic() + 10
    while sum(client.acknowledged for client in clients) < sent and time.monotonic() < deadline:
        for client in clients:
            client.write(b"")
        for fd, _ in poll.poll(0.05):
            by_fd[fd].read(time.monotonic(), delays)
    for client in clients:
        client.sock.sendall(b"\xe0\x00")
        client.sock.close()
    acknowledged = sum(client.acknowledged for client in clients)
    delays.sort()
    return Found(
        sent,
        acknowledged,
        took,
        on_time / took,
        delays[len(delays) // 2] * 1e3,
        delays[int(len(delays) * 0.99)] * 1e3,
        held=acknowledged == sent and sent >= 0.99 * rate * seconds,
    )


def sum_sent(clients: list[_Client]) -> int:
    return sum(client.sent for client in clients)


if __name__ == "__main__":
    port_, connections_, rate_, seconds_, *more = sys.argv[1:]
    found = run(int(port_), int(connections_), float(rate_), float(seconds_), *(int(m) for m in more))
    print(json.dumps(msgspec.to_builtins(found)))
