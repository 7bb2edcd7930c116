"""The socket to a broker, plain or under TLS: opened without blocking the loop, read in naps, written to without waiting.

Under TLS, too, it is the socket below that is not read between naps (R19): nothing takes bytes from it but `receive`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress

UNSENT = 16_000_000
"""Bytes that a broker may leave unread: as many acknowledgements as there can ever be, and what others publish."""


class Link:
    """An open socket. Its errors are OSErrors, those of TLS too."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, unsendable: Callable[[OSError], None]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._unsendable = unsendable
        self._unsent = b""
        self._under_tls = isinstance(sock, ssl.SSLSocket)
        self.fd = sock.fileno()

    def receive(self, size: int) -> bytes:
        """Return what is there, at most about `size` bytes; less means that there is no more. b"": the broker has closed.

        Raises:
            BlockingIOError: nothing is there.
            OSError: the connection is broken.
        """
        if not self._under_tls:
            return self._sock.recv(size)
        chunks: list[bytes] = []
        have = 0
        while have < size:  # TLS gives a record at a time, 16 KB at most
            try:
                chunk = self._sock.recv(size)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not chunks:
                    raise BlockingIOError from None
                break
            if not chunk:
                break  # found again by the next call
            chunks.append(chunk)
            have += len(chunk)
        return b"".join(chunks)

    def send(self, data: bytes) -> None:
        """Write at once; what the socket does not take is written as soon as it does.

        Raises:
            OSError: the connection is broken, or the broker does not read.
        """
        if self._unsent:
            self._unsent += data
            if len(self._unsent) > UNSENT:
                raise BrokenPipeError("the broker does not read")
            return
        self._unsent = data[self._sent(data) :]
        if self._unsent:
            self._loop.add_writer(self.fd, self._send_on)

    def _sent(self, data: bytes) -> int:
        try:
            return self._sock.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0

    def _send_on(self) -> None:
        try:
            self._unsent = self._unsent[self._sent(self._unsent) :]
        except OSError as error:
            self._loop.remove_writer(self.fd)
            self._unsendable(error)
            return
        if not self._unsent:
            self._loop.remove_writer(self.fd)

    def close(self, last: bytes = b"") -> None:
        """Say the last words, if they can be said at once, and close."""
        self._loop.remove_writer(self.fd)
        with suppress(OSError):
            if last and not self._unsent:
                self._sock.send(last)
            self._sock.shutdown(socket.SHUT_WR)
            self._sock.recv(
                65_536
            )  # unread bytes would make the kernel send a reset, which may overtake the last words
        self._sock.close()


async def open_link(
    host: str, port: int, context: ssl.SSLContext | None, unsendable: Callable[[OSError], None]
) -> Link:
    """Connect to the first address of a host that lets us; `context` if there is to be TLS.

    Raises:
        OSError: none does, or the certificates do not suit.
    """
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    sock = await _connected(loop, addresses)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
            await _shake_hands(loop, sock)
    except BaseException:
        sock.close()
        raise
    return Link(loop, sock, unsendable)


async def _connected(
    loop: asyncio.AbstractEventLoop, addresses: Sequence[tuple[object, ...]]
) -> socket.socket:
    failed: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)  # type: ignore[arg-type]
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)  # type: ignore[arg-type]
        except OSError as error:
            sock.close()
            failed = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failed


async def _shake_hands(loop: asyncio.AbstractEventLoop, sock: ssl.SSLSocket) -> None:
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            await _once(loop.add_reader, loop.remove_reader, sock.fileno())
        except ssl.SSLWantWriteError:
            await _once(loop.add_writer, loop.remove_writer, sock.fileno())
        except ssl.SSLError:
            raise
        except OSError as error:  # a server that does not speak TLS mostly hangs up
            raise ssl.SSLError(error.errno, f"TLS handshake: {error.strerror}") from error
        else:
            return


async def _once(
    add: Callable[[int, Callable[[], None]], None], remove: Callable[[int], bool], fd: int
) -> None:
    """Wait until the descriptor is ready."""
    ready = asyncio.Event()
    add(fd, ready.set)
    try:
        await ready.wait()
    finally:
        remove(fd)
