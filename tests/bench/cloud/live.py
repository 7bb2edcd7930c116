"""1,000 readings a second as devices send them: 200 pumps of four sites, five values a message, each at its own moment of the second."""

from __future__ import annotations

import socket
import threading
import time

import numpy as np

from tests.bench.cloud.frames import METRICS, S
from tests.bench.load import CONNECT

DEVICES, SITES = 200, 4
RATE = DEVICES * len(METRICS)
_SLOT_S = 0.05


class Live(threading.Thread):
    """Sends until `stop`; how many readings it sent is in `sent`, all of them acknowledged at the end."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self.sent = 0
        chance = np.random.default_rng(9)
        self._levels = 20 + chance.normal(0, 2, (DEVICES, len(METRICS)))
        self._chance = chance
        self._topics = [b"hw/site-%d/pump-%03d/data" % (device % SITES, device) for device in range(DEVICES)]
        self._client = socket.create_connection(("127.0.0.1", port))
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.sendall(CONNECT % 777)
        assert self._client.recv(4)[0] == 0x20

    def run(self) -> None:
        messages = acknowledged = 0
        began = time.monotonic()
        while not self._over.wait(_SLOT_S):
            due = int((time.monotonic() - began) * DEVICES) - messages
            self._client.sendall(b"".join(self._message(messages + n) for n in range(due)))
            messages += due
            self.sent = messages * len(METRICS)
            while acknowledged < 4 * messages:
                acknowledged += len(self._client.recv(1 << 16))
        self._client.sendall(b"\xe0\x00")
        self._client.close()

    def stop(self) -> None:
        """Stop, and wait for the last acknowledgement."""
        self._over.set()
        self.join()

    def _message(self, number: int) -> bytes:
        device = number % DEVICES
        values = self._levels[device] * (1 + self._chance.normal(0, 0.01, len(METRICS)))
        named = b",".join(
            b'"%b":%.2f' % (name.encode(), value) for name, value in zip(METRICS, values, strict=True)
        )
        payload = b'{"t":%d,"values":{%b}}' % (int(time.time() * S), named)
        topic = self._topics[device]
        body = len(topic).to_bytes(2, "big") + topic + (number % 65_535 + 1).to_bytes(2, "big") + payload
        return b"\x32" + bytes((len(body) & 127 | 128, len(body) >> 7)) + body
