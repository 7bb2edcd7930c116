"""An MQTT client of a few lines over a real, blocking socket: it sends exactly the bytes that a test wants."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from headwater_firmware_sim import packets
from headwater_firmware_sim.packets import V311, Ack, Connack, Incoming, Told


class Wire:
    """One client. `acknowledged` holds the packet ids in the order in which their PUBACKs came."""

    def __init__(self, port: int, client: str, *, version: int = V311, timeout_s: float = 20.0) -> None:
        """Connect, and wait for the CONNACK."""
        self.version = version
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._incoming = Incoming(version)
        self.acknowledged: list[int] = []
        self._next = 0
        self.sock.sendall(packets.connect(version, client, clean=True, keep_alive_s=60))
        found: list[Connack | Ack | Told | int] = []
        while not found:
            found = self._incoming.feed(self._receive())
        assert isinstance(found[0], Connack)
        self.connack = found[0]

    def publish(self, topic: str | bytes, payload: bytes) -> bytes:
        """Return a PUBLISH at QoS 1 under the next packet id."""
        self._next = self._next % 65_535 + 1
        name = topic if isinstance(topic, bytes) else topic.encode()
        # The codec takes topics as text; some tests need ones that are none.
        placeholder = "x" * len(name)
        whole = packets.publish(self.version, placeholder, payload, self._next)
        return whole.replace(placeholder.encode(), name, 1)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read_acknowledgements(self, until: int) -> None:
        """Read until so many PUBACKs have come in all; each must say that the message is taken."""
        while len(self.acknowledged) < until:
            for packet in self._incoming.feed(self._receive()):
                assert isinstance(packet, Ack)
                assert packet.reason < 0x80
                self.acknowledged.append(packet.packet_id)

    def close(self) -> None:
        self.sock.close()

    def _receive(self) -> bytes:
        data = self.sock.recv(65_536)
        assert data, "the server closed the connection"
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
