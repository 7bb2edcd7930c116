"""Readings that break a limit and readings that end that, in turn: each stamped, and remembered by its stamp."""

from __future__ import annotations

import socket
import threading
import time

from tests.bench.load import CONNECT

_EVERY_S = 0.5


class Alarms(threading.Thread):
    """Sends them until `stop`, which returns when each was sent."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self._sent: dict[int, float] = {}
        self._client = socket.create_connection(("127.0.0.1", port))
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.sendall(CONNECT % 888)
        assert self._client.recv(4)[0] == 0x20

    def run(self) -> None:
        topic = b"hw/home/stove/data/temperature"
        number = 0
        while not self._over.wait(_EVERY_S):
            stamp = time.time_ns() // 1000
            number += 1
            payload = b'{"t":%d,"v":%d}' % (stamp, 95 if number % 2 else 20)
            body = len(topic).to_bytes(2, "big") + topic + number.to_bytes(2, "big") + payload
            self._sent[stamp] = time.monotonic()
            self._client.sendall(b"\x32" + bytes([len(body)]) + body)
            self._client.recv(4)
        self._client.close()

    def stop(self) -> dict[int, float]:
        """Stop; return when each was sent, by its stamp (us)."""
        self._over.set()
        self.join()
        return self._sent
