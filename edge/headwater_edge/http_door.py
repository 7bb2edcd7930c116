"""The door of HTTP push: connections are accepted, counted, and ended when their time has come."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from headwater_edge.http_answers import answer, headers_of, refused
from headwater_edge.http_connection import HttpConnection
from headwater_edge.http_counts import HttpCounts
from headwater_edge.http_exchange import no_room
from headwater_edge.http_request import NotTaken
from headwater_edge.http_settings import HttpLimits
from headwater_shared.errors import cannot_listen
from headwater_shared.logs import get_logger

if TYPE_CHECKING:
    from ssl import SSLContext

log = get_logger()

_SWEEP_S = 1.0
"""Seconds between looks at time-outs; no timer runs without connections."""
_ACCEPTED = 100
"""Connections accepted in one go."""


class Door:
    """The listening socket and the connections of one source.

    `make(address)` makes a connection, `now` is monotonic seconds.
    """

    def __init__(
        self,
        limits: HttpLimits,
        tls: SSLContext | None,
        counts: HttpCounts,
        make: Callable[[str], HttpConnection],
        now: Callable[[], float],
    ) -> None:
        self._limits = limits
        self._tls = tls
        self._counts = counts
        self._make = make
        self._now = now
        self._connections: set[HttpConnection] = set()
        self._arriving: set[asyncio.Task[None]] = set()
        """Connections that are not made yet: under TLS that takes as long as the client wants."""
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._connections) + len(self._arriving)

    def open(self, host: str, port: int) -> int:
        """Listen; return the port.

        Raises:
            PortInUse, SettingsError: see `cannot_listen`.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=1024)
        except OSError as error:
            raise cannot_listen(host, port, error) from error
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # accepted ones inherit it
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._accept)
        bound: int = self._socket.getsockname()[1]
        return bound

    def close(self) -> None:
        """End all connections, let go of the address; may be called twice."""
        if self._loop is None:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._loop = None
        self._socket.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in self._arriving:
            task.cancel()
        for connection in list(self._connections):
            connection.close()

    def lost(self, connection: HttpConnection) -> None:
        """It is over."""
        self._connections.discard(connection)

    def sweep(self) -> None:
        """End what is late; runs once a second while there are connections."""
        now = self._now()
        for connection in list(self._connections):
            late, waited = connection.late_since, now - connection.since
            if late is not None and now - late > self._limits.request_s:
                connection.give_up(_too_slow(self._limits.request_s))
            elif connection.stuck or connection.leaving:
                if waited > self._limits.request_s:
                    connection.abort()
            elif not connection.requests and late is None and waited > self._limits.idle_s:
                connection.close()

    def _accept(self) -> None:
        assert self._loop is not None
        for _ in range(_ACCEPTED):
            try:
                sock, address = self._socket.accept()
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    self._accept_later(error)
                break
            self._counts.accepted += 1
            if len(self) >= self._limits.max_connections:
                self._turn_away(sock)
                continue
            task = self._loop.create_task(self._connect(sock, f"{address[0]}:{address[1]}"))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)
        self._sweep_later()

    def _accept_later(self, error: OSError) -> None:
        """A connection that waits, and that there is no descriptor for, would wake the loop for ever."""
        log.warning("no connection can be accepted", error=error, hint="raise the limit of open files")
        assert self._loop is not None
        self._loop.remove_reader(self._socket.fileno())
        self._loop.call_later(_SWEEP_S, self._accept_again)

    def _accept_again(self) -> None:
        if self._loop is not None:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    async def _connect(self, sock: socket.socket, address: str) -> None:
        assert self._loop is not None
        limit = self._limits.request_s if self._tls is not None else None
        try:
            _, connection = await self._loop.connect_accepted_socket(
                lambda: self._make(address), sock, ssl=self._tls, ssl_handshake_timeout=limit
            )
        except asyncio.CancelledError:
            sock.close()
            raise
        except OSError:  # of TLS, too
            self._counts.refused["handshake"] += 1
            sock.close()
        else:
            if not connection.leaving:
                self._connections.add(connection)

    def _turn_away(self, sock: socket.socket) -> None:
        """Tell one too many so, if that can be done at once."""
        error = no_room("max-connections", f"{len(self)} connections are open")
        self._counts.refused[error.reason] += 1
        self._counts.answers[error.status] += 1
        sock.setblocking(False)
        try:
            if self._tls is None:
                sock.send(answer(error.status, refused(error), *headers_of(error), date=b"", closes=True))
                sock.shutdown(socket.SHUT_WR)
                sock.recv(
                    65_536
                )  # what is unread would make the kernel send a reset, which may overtake the answer
        except OSError:
            pass
        sock.close()

    def _sweep_later(self) -> None:
        if self._sweeper is None and self._loop is not None and len(self):
            self._sweeper = self._loop.call_later(_SWEEP_S, self._swept)

    def _swept(self) -> None:
        self._sweeper = None
        try:
            self.sweep()
        finally:
            self._sweep_later()


def _too_slow(seconds: float) -> NotTaken:
    return NotTaken(
        408, "too-slow", f"the request was not there within {seconds:g} s", hint="send it faster, or in parts", ends=True
    )  # fmt: skip
