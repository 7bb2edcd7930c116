"""A line between devices and agent that can be cut in the middle of what it carries."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from headwater_appliance.ports import steady_port

_CHUNK = 1 << 13
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: the socket ends at once, and what it still held is gone."""


class Relay:
    """Forwards each connection to a port of the loopback, both ways. `port` is where devices connect."""

    def __init__(self, to: int) -> None:
        self.port = steady_port()
        self.connections = 0
        self._to = to
        self._cut = threading.Event()
        self._done = threading.Event()
        self._stop = False
        self._peers: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="relay")
        self._thread.start()

    def cut(self) -> None:
        """End every connection, wherever it is; of what was on the way half a chunk still arrives. New ones are let through."""
        self._done.clear()
        self._cut.set()
        assert self._done.wait(10)

    def close(self) -> None:
        self._stop = True
        self._thread.join()
        for each in (*self._peers, self._listener):
            each.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._stop:
            for key, _ in self._selector.select(0.02):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._peers:
                    self._carry(key.fileobj)
            if self._cut.is_set():
                self._cut.clear()
                self._end_all()
                self._done.set()

    def _accept(self) -> None:
        device, _ = self._listener.accept()
        try:
            agent = socket.create_connection(("127.0.0.1", self._to), timeout=5)
        except OSError:
            device.close()
            return
        self.connections += 1
        for one, other in ((device, agent), (agent, device)):
            one.settimeout(5)
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _carry(self, source: socket.socket) -> None:
        try:
            data = source.recv(_CHUNK)
            if data:
                self._peers[source].sendall(data)
                return
        except OSError:
            pass
        self._end(source)

    def _end_all(self) -> None:
        for source in list(self._peers):
            if source not in self._peers:
                continue
            with suppress(OSError):
                source.setblocking(False)
                data = source.recv(_CHUNK)
                self._peers[source].sendall(data[: len(data) // 2])  # in the middle of a packet
            self._end(source)

    def _end(self, source: socket.socket) -> None:
        other = self._peers.pop(source)
        del self._peers[other]
        for each in (source, other):
            self._selector.unregister(each)
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            each.close()


@contextmanager
def relay(to: int) -> Iterator[Relay]:
    """Run a relay; it is ended with the block."""
    made = Relay(to)
    try:
        yield made
    finally:
        made.close()
