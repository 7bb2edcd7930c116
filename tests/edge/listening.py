"""A real listener on real sockets, on an event loop in a thread of its own; each burst counts as committed at once."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from prometheus_client import CollectorRegistry

from headwater_appliance import certs
from headwater_edge.events import Connect, Event
from headwater_edge.listener import Listener
from headwater_edge.listener_settings import ListenerSettings, TlsSettings
from headwater_edge.source import Burst
from headwater_edge.users import Users
from headwater_firmware_sim import packets
from headwater_firmware_sim.packets import V311, Ack, Connack, Incoming, Told
from headwater_shared.clock import SetClock
from tests.support import until

NOW = datetime(2026, 11, 25, tzinfo=UTC)


class Seconds:
    """A monotonic clock that tests move."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Messages(NamedTuple):
    """What was delivered."""

    readings: list[tuple[bytes, bytes]]
    events: list[Event]


class Listening:
    """The listener that runs, what it delivered and what it logged."""

    def __init__(
        self, listener: Listener, loop: asyncio.AbstractEventLoop, got: Messages, logged: list[Any]
    ) -> None:
        self.listener = listener
        self.got = got
        self.logged = logged
        self.acknowledging = True
        self._loop = loop

    @property
    def port(self) -> int:
        return self.listener.port

    @property
    def tls_port(self) -> int:
        return self.listener.tls_port

    def do(self, what: Callable[[], Any]) -> Any:
        """Do something on the listener's loop; return what came of it."""

        async def there() -> Any:
            return what()

        return asyncio.run_coroutine_threadsafe(there(), self._loop).result(10)

    def sweep(self) -> None:
        """Have the listener look at the time."""
        self.do(self.listener.sweep)

    def said(self, *words: str) -> dict[str, Any]:
        """Wait for the line of the log that holds these words, and return it."""

        def there() -> dict[str, Any] | None:
            for line in list(self.logged):
                text = f"{line} {getattr(line.get('error'), 'message', '')} {getattr(line.get('error'), 'hint', '')}"
                if all(word in text for word in words):
                    return dict(line)
            return None

        found = until(there, what=f"the log says {words}; it says {self.logged}")
        assert found is not None
        return found


@contextmanager
def listening(
    users: Users | None = None,
    *,
    monotonic: Callable[[], float] | None = None,
    tls: TlsSettings | None = None,
    registry: CollectorRegistry | None = None,
    **settings: Any,
) -> Iterator[Listening]:
    """Run a listener on free ports of the loopback."""
    got = Messages([], [])
    numbers = count(1)
    more: dict[str, Any] = {"monotonic": monotonic} if monotonic else {}
    wanted: dict[str, Any] = {"port": 0, "nap": "1ms", "tls": tls or TlsSettings()}
    made = ListenerSettings(**wanted | settings)
    found: list[Listening] = []

    def deliver(burst: Burst) -> None:
        got.readings.extend(zip(burst.topics, burst.payloads, strict=True))
        got.events.extend(event for _, event in burst.events)
        connects = {event.connection: False for _, event in burst.events if isinstance(event, Connect)}
        if found[0].acknowledging:
            loop.call_soon(listener.acknowledge, [burst], connects)

    with structlog.testing.capture_logs() as captured:
        users = Users() if users is None else users
        listener = Listener(made, users, SetClock(), numbers, deliver, registry=registry, **more)
        loop = asyncio.new_event_loop()
        failed: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: failed.append(context))
        found.append(Listening(listener, loop, got, captured))
        thread = threading.Thread(target=loop.run_forever, name="listener")
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(listener.start(), loop).result(10)
            yield found[0]
        finally:
            asyncio.run_coroutine_threadsafe(listener.close(), loop).result(10)
            users.close()
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()
        assert not failed


class Client:
    """An MQTT client of a few lines over any socket."""

    def __init__(
        self,
        sock: socket.socket,
        client: str = "c",
        *,
        version: int = V311,
        user: str = "",
        password: str = "",
        wait: bool = True,
    ) -> None:
        self.sock = sock
        self.version = version
        self._incoming = Incoming(version)
        self._packet_id = 0
        self.send(packets.connect(version, client, clean=True, keep_alive_s=60, user=user, password=password))
        self.connack = self.answer() if wait else None

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def publish(self, topic: str, payload: bytes) -> bytes:
        self._packet_id += 1
        return packets.publish(self.version, topic, payload, self._packet_id)

    def answer(self) -> Connack | Ack | Told | int:
        """Return the next packet."""
        while True:
            data = self.sock.recv(65_536)
            assert data, "the listener closed the connection"
            found = self._incoming.feed(data)
            if found:
                assert len(found) == 1
                return found[0]

    def acknowledged(self, topic: str = "hw/s/d/data/m", payload: bytes = b"1") -> bool:
        """Publish, and tell whether the PUBACK came, or the connection ended instead."""
        try:
            self.send(self.publish(topic, payload))
            found = self.answer()
        except (AssertionError, OSError):
            return False
        return isinstance(found, Ack) and found.packet_id == self._packet_id

    def end(self) -> bytes:
        """Return all bytes that still come until the listener ends the connection."""
        return until_closed(self.sock)


def until_closed(sock: socket.socket) -> bytes:
    """Return all that comes until the other side ends the connection."""
    found = b""
    try:
        while data := sock.recv(65_536):
            found += data
    except (ConnectionError, ssl.SSLError):
        pass
    return found


def dial(port: int, source: str = "127.0.0.1", *, receive_buffer: int = 0) -> socket.socket:
    """Connect from an address of the loopback; with a buffer of so many bytes, if it says so."""
    sock = socket.socket()
    sock.settimeout(10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock


class Made(NamedTuple):
    """Files of a small authority, and of what is wrong."""

    folder: Path
    ca: Path
    server: certs.Written
    device: certs.Written
    """Of north/pump-7."""
    stranger: certs.Written
    """A device of another authority."""
    other_ca: Path
    old_device: certs.Written
    """Ended years ago."""
    old_server: certs.Written

    def settings(self, **more: Any) -> TlsSettings:
        """Settings of a listener with the server's certificate."""
        usual: dict[str, Any] = {
            "port": 0,
            "certificate": str(self.server.certificate),
            "key": str(self.server.key),
            "ca": str(self.ca),
        }
        return TlsSettings(**usual | more)

    def client(self, own: certs.Written | None = None, ca: Path | None = None, **more: Any) -> ssl.SSLContext:
        """A client's context."""
        context = ssl.create_default_context(cafile=str(ca or self.ca))
        if own is not None:
            context.load_cert_chain(own.certificate, own.key)
        for name, value in more.items():
            setattr(context, name, value)
        return context


def make_certificates(folder: Path) -> Made:
    """Make them."""
    good, other, old = folder / "good", folder / "other", folder / "old"
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    ca = certs.make_authority(good, "Test CA", 7300, long_ago)
    other_ca = certs.make_authority(other, "Test CA", 3650, NOW)
    old.mkdir()
    for suffix in ("pem", "key"):
        (old / f"ca.{suffix}").write_bytes((good / f"ca.{suffix}").read_bytes())
    return Made(
        folder=folder,
        ca=ca.certificate,
        server=certs.make_server(good, ["localhost", "127.0.0.1"], 800, NOW),
        device=certs.make_device(good, "north/pump-7", 800, NOW),
        stranger=certs.make_device(other, "north/pump-7", 800, NOW),
        other_ca=other_ca.certificate,
        old_device=certs.make_device(old, "north/pump-7", 30, long_ago),
        old_server=certs.make_server(old, ["localhost", "127.0.0.1"], 30, long_ago),
    )
