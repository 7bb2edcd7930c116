"""A connection over TLS: the same socket, with an engine of OpenSSL between it and what the listener reads and writes.

The engine works on memory (`ssl.MemoryBIO`), so the socket stays in the listener's own epoll and is read in naps; nothing
here waits. What epoll announces is bytes in the socket, not in the engine, and it announces them once. So a read takes all
out of the engine that can be deciphered, and `more` says that there may be bytes left in the socket.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from headwater_edge.connection import Connection
from headwater_edge.tls_faults import explained, no_identity, no_tls, went_away

_CHUNK = 65_536
"""Bytes read from a socket at once."""
_RECORD = 16_384
"""Bytes of what is in one record of TLS, at most."""
_HANDSHAKE = 22
"""The first byte of a client that speaks TLS."""


class TlsConnection(Connection):
    """A connection whose bytes are TLS.

    Args:
        context: of a server.
        by_san: whether the first alternative name of the client's certificate is its identity, not the common name.
        flush: has sent what the engine has to say of itself: `Sockets.send` with nothing.
    """

    __slots__ = ("_by_san", "_closed", "_engine", "_flush", "_incoming", "_outgoing", "_spoken")

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        now: float,
        context: ssl.SSLContext,
        *,
        by_san: bool,
        flush: Callable[[Connection], None],
    ) -> None:
        super().__init__(sock, address, now)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._engine = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._by_san = by_san
        self._flush = flush
        self._closed = False
        """The client has said that nothing more comes."""
        self._spoken = False
        self.shaking = True
        self.receive = self._receive

    def _receive(self, _asked: int) -> bytes:
        """Read the socket, and return all that could be deciphered; nothing at the end, as a socket's `recv`.

        Raises:
            BlockingIOError: nothing for us is there.
            HandshakeFailed: and never will be.
            OSError: the connection is broken.
        """
        while not self._closed:
            raw = self.sock.recv(_CHUNK)
            if not raw:
                if self.shaking and self._spoken:
                    raise went_away()
                return b""
            self.more = len(raw) == _CHUNK or self.hung_up  # then the end is still to be read
            if not self._spoken and raw[0] != _HANDSHAKE:
                raise no_tls(raw)
            self._spoken = True
            self._incoming.write(raw)
            data = self._deciphered() if self._shaken() else b""
            if self._outgoing.pending:  # its part of the handshake, or its answer to a change of keys
                self._flush(self)
            if self.gone:
                return b""
            if data:
                self.more |= self._closed  # then the next read tells
                return data
            if not self.more and not self._closed:
                raise BlockingIOError
        return b""

    def _shaken(self) -> bool:
        """Go on with the handshake, if it is not over; tell whether it is."""
        if not self.shaking:
            return True
        try:
            self._engine.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            if self._outgoing.pending:
                self._flush(self)  # the alert, which says why
            raise explained(error) from None
        try:
            certificate = self._engine.getpeercert()
        except ValueError:  # text in it that is none
            raise no_identity("readable names") from None
        if certificate:
            self.identity = _identity(certificate, by_san=self._by_san)
        self.shaking = False
        return True

    def _deciphered(self) -> bytes:
        engine, incoming = self._engine, self._incoming
        found = []
        try:
            while incoming.pending or engine.pending():
                data = engine.read(_RECORD)
                if not data:
                    self._closed = True
                    break
                found.append(data)
        except ssl.SSLWantReadError:  # half a record is kept in the engine
            pass
        return found[0] if len(found) == 1 else b"".join(found)

    def send(self, data: bytes) -> bool:
        """Write without waiting, as the plain one; what is left is enciphered already."""
        while data:
            data = data[self._engine.write(data) :]  # one record at a time
        return super().send(self._outgoing.read())

    def hang_up(self, last: bytes) -> None:
        """Say the last words, and that nothing more comes."""
        if not self.shaking:
            with suppress(OSError, ValueError):
                if last:
                    self._engine.write(last)
                self._engine.unwrap()  # says so, and wants to hear the same, which we do not wait for
        super().hang_up(self._outgoing.read())
        self.receive = self.sock.recv  # no cycle: the engine's memory goes with the connection


def _identity(certificate: Mapping[str, Any], *, by_san: bool) -> str:
    """Who the holder of a certificate is, from what `getpeercert` says of it.

    Raises:
        HandshakeFailed: it does not say, or says it twice.
    """
    if by_san:
        names: list[tuple[str, str]] = list(certificate.get("subjectAltName", ()))
        found = [name for kind, name in names if kind in {"DNS", "URI"}][:1]
    else:
        parts: list[tuple[tuple[str, str], ...]] = list(certificate.get("subject", ()))
        found = [value for part in parts for kind, value in part if kind == "commonName"]
    if len(found) != 1 or not 0 < len(found[0]) <= 256 or "\0" in found[0]:
        raise no_identity("alternative name" if by_san else "common name")
    return found[0]
