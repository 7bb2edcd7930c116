"""The listener: devices connect here; it reads them in naps, hands bursts on, and acknowledges them after the commit."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from headwater_edge.acknowledgements import Owed
from headwater_edge.answers import connack, fits, publish
from headwater_edge.certificates import Certificates
from headwater_edge.connection import Connection, ListenerBurst
from headwater_edge.exchange import MOST_ALIASES
from headwater_edge.listener_counts import ListenerCounts, register
from headwater_edge.listener_settings import ListenerSettings, limits
from headwater_edge.protocol import QUOTA_EXCEEDED
from headwater_edge.sockets import Sockets
from headwater_edge.source import Burst
from headwater_edge.subscriptions import filters_for
from headwater_edge.tls import TlsConnection
from headwater_edge.users import Users
from headwater_shared.clock import Clock
from headwater_shared.crash import reached
from headwater_shared.errors import SettingsError, cannot_listen
from headwater_shared.logs import get_logger
from headwater_shared.settings import is_loopback, listen_address

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = get_logger()

_SPARE = 100
"""Sockets beyond `max_connections`, so that who is one too many can be told so, and a client can take over its own."""
_SWEEP_S = 1.0
"""Seconds between looks at keep alive and time-outs; the only timer of an idle listener, and none without connections."""


_GONE_S = 120
"""Seconds after which the kernel gives up a peer that answers nothing."""


class Listener:
    """A source (`headwater_edge.source.Source`) that devices connect to with MQTT 3.1.1 or 5, plain or over TLS; all of it on
    one event loop.

    An endpoint for publishers, not a broker: PUBLISH, a will, and SUBSCRIBE to commands for one's own devices. PUBACK,
    PUBREC, PUBCOMP, CONNACK, and SUBACK and UNSUBACK of what changed a session, go out in `acknowledge` alone (R5, R13);
    answers that promise nothing (PINGRESP, refusals) at once.

    Args:
        settings: where to listen, and the limits.
        users: who may come in; none: anyone, on loopback.
        clock: tells when a burst was read; keep alive and time-outs follow `monotonic` (seconds), which tests set.
        connections: numbers for connections, from 1 up, none twice in an epoch.
        deliver: takes a burst, which has messages or events; not before `start`, not after `close`.
        registry: where the listener's metrics are to be shown.
        connections_for: the connections whose sessions have one of some filters.
        qos_of: the QoS that one of them was granted for these.

    Raises:
        SettingsError: the settings do not make sense, or would let anyone in from outside.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        users: Users,
        clock: Clock,
        connections: Iterator[int],
        deliver: Callable[[Burst], None],
        *,
        registry: CollectorRegistry | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        connections_for: Callable[..., Sequence[int]] = lambda *_: (),
        qos_of: Callable[..., int] = lambda *_: 1,
    ) -> None:
        self._connections_for, self._qos_of = connections_for, qos_of
        self._limits = limits(settings)
        tls = settings.tls
        self._certificates = Certificates(tls, clock, monotonic) if tls.certificate else None
        self._by_san = tls.identity == "san"
        self._addresses: list[tuple[str, int, bool]] = []
        """Host, port, and whether it is for TLS."""
        if settings.plain:
            self._addresses.append((*listen_address(settings.host, settings.port, users=bool(users)), False))
        if self._certificates is not None:
            known = bool(users) or tls.clients == "required"
            self._addresses.append((*listen_address(tls.host, tls.port, users=known), True))
        if not self._addresses:
            raise SettingsError(
                "edge.listener.plain is off and there is no certificate for TLS: nobody could connect",
                hint="name edge.listener.tls.certificate, or set plain = true",
            )
        self._monotonic = monotonic
        self.sockets = self._sockets = Sockets(self._limits, users, clock, connections, deliver, monotonic)
        self._listening: dict[socket.socket, bool] = {}
        self._paused = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self.port = self.tls_port = 0
        """The ports that it got; 0 for one that is off."""
        if registry is not None:
            register(
                registry,
                self.counts,
                lambda: self.connected,
                lambda: len(self._sockets.door),
                lambda: self._certificates.ends_s if self._certificates is not None else None,
            )

    @property
    def counts(self) -> ListenerCounts:
        return self._sockets.counts

    @property
    def connected(self) -> int:
        """Clients that are connected."""
        return len(self._sockets.by_number)

    async def start(self) -> None:
        """Listen; from now on `port` and `tls_port` are those that it got.

        Raises:
            PortInUse: another program has the address.
            SettingsError: the address is none of this machine, or not for this user.
        """
        try:
            for host, port, secure in self._addresses:
                listening = _listen(host, port)
                self._listening[listening] = secure
                if secure:
                    self.tls_port = listening.getsockname()[1]
                else:
                    self.port = listening.getsockname()[1]
                    if not is_loopback(host):
                        log.warning(
                            "passwords and readings come in the clear",
                            host=host,
                            hint="set edge.listener.tls, and plain = false",
                        )
        except BaseException:
            for listening in self._listening:
                listening.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._accept_again()
        self._sockets.start(self._loop)

    def acknowledge(self, bursts: Sequence[Burst], sessions: Mapping[int, bool]) -> None:
        """Send what waited for the commit of these bursts, with one write a connection (see `Source`)."""
        sockets = self._sockets
        owed = Owed(sockets.by_number, lambda connection: self._let_in(connection, sessions))
        for burst in bursts:
            owed.add(cast("ListenerBurst", burst))
        now = self._monotonic()
        for connection in owed.answered:
            answer, connection.answer = connection.answer, b""
            connection.answered = now
            sockets.send(connection, answer)
            reached("acknowledge.between")
        sockets.counts.acknowledgements += owed.pubacks
        for connection in owed.relieved:
            if connection.held and not connection.gone and not sockets.in_flight.too_much(connection):
                sockets.read_on(connection)

    def _let_in(self, connection: Connection, sessions: Mapping[int, bool]) -> bytes:
        connection.connacked = True
        packet = connack(
            connection.v5,
            sessions[connection.number],
            assigned=connection.assigned,
            receive_maximum=self._limits.in_flight,
            max_packet=self._limits.max_packet,
            max_aliases=MOST_ALIASES,
            keep_alive_s=connection.server_keep_alive_s,
        )
        after, connection.after_connack = connection.after_connack, bytearray()
        return packet + after

    def refuse(self, connections: Iterable[int]) -> None:
        """End connections whose messages nobody can read while the dead letters are full (see `Source`)."""
        for number in connections:
            connection = self._sockets.by_number.get(number)
            if connection is not None:
                self._sockets.end(connection, "dead-letters-full", code=QUOTA_EXCEEDED)

    def publish(self, topic: bytes, payload: bytes) -> bool:
        """Send a message at QoS 0 to every connected client that subscribed to its topic; whether there was one."""
        reached = False
        for number in self._connections_for(*filters_for(topic.decode())):
            connection = self._hears(number, topic)
            if connection is None:
                continue
            packet = publish(connection.v5, topic, payload)
            if fits(packet, connection.packet_maximum):
                self._sockets.send(connection, packet)
                reached = True
        return reached

    def command(self, topic: bytes, payload: bytes, left_s: int, but: Container[int]) -> list[int]:
        """Send a command to every connected client that subscribed to its topic (see `Source`), at the QoS that it asked for."""
        filters, over = filters_for(topic.decode()), []
        for number in self._connections_for(*filters):
            connection = self._hears(number, topic)
            if connection is None or number in but:
                continue
            packet_id = 0
            if self._qos_of(number, *filters):
                packet_id = connection.outgoing.take()
                if not packet_id:
                    continue  # it has as many as it may
            packet = publish(connection.v5, topic, payload, packet_id, left_s)
            if fits(packet, connection.packet_maximum):
                self._sockets.send(connection, packet)
                over.append(number)
        return over

    def _hears(self, number: int, topic: bytes) -> Connection | None:
        """Return a connection that has subscribed to a topic, if it is there and may still have it."""
        connection = self._sockets.by_number.get(number)
        if connection is None or not connection.connacked:
            return None
        return connection if connection.grant is None or connection.grant.allows(topic) else None

    def hold(self) -> None:
        """Accept nobody, and take nothing at QoS 0: of that nobody is promised anything."""
        self._paused = True
        self._sockets.held_back.holding = True
        self._accept_none()

    def pause(self) -> None:
        """Take nothing in and accept nobody; what comes is read within bounds, what is acknowledged is written."""
        self._paused = True
        self._sockets.pause()
        self._accept_none()

    def resume(self) -> None:
        """Read and accept again."""
        self._paused = False
        self._sockets.resume()
        self._accept_again()

    async def close(self) -> None:
        """End all connections, let go of the address. What was not acknowledged comes again, to whoever listens then."""
        if self._loop is None:
            return
        self._accept_none()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._loop = self._sweeper = None
        for listening in self._listening:
            listening.close()
        self._sockets.stop()

    def _accept(self, listening: socket.socket, secure: bool) -> None:
        for _ in range(_SPARE):
            try:
                sock, address = listening.accept()
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    if self._sockets.door.make_room():
                        continue
                    self._accept_later(error)
                break
            full = len(self._sockets) >= self._limits.max_connections + _SPARE
            if full and not self._sockets.door.make_room():
                self.counts.refused["max-connections"] += 1
                sock.close()
            else:
                sock.setblocking(False)
                self._sockets.add(self._connection(sock, f"{address[0]}:{address[1]}", secure))
        self._sweep_later()

    def _connection(self, sock: socket.socket, address: str, secure: bool) -> Connection:
        now = self._monotonic()
        if not secure or self._certificates is None:
            return Connection(sock, address, now)
        context, flush = self._certificates.context(), self._flush
        return TlsConnection(sock, address, now, context, by_san=self._by_san, flush=flush)

    def _flush(self, connection: Connection) -> None:
        self._sockets.send(connection, b"")

    def _accept_later(self, error: OSError) -> None:
        """A connection that waits, and that there is no descriptor for, would wake the loop for ever."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        log.warning(
            "no connection can be accepted",
            error=error,
            hint=f"raise the limit of open files, which is {soft}",
        )
        assert self._loop is not None
        self._accept_none()
        self._loop.call_later(_SWEEP_S, self._accept_again)

    def _accept_none(self) -> None:
        if self._loop is not None:
            for listening in self._listening:
                self._loop.remove_reader(listening.fileno())

    def _accept_again(self) -> None:
        for listening, secure in self._listening.items():
            if self._loop is not None and not self._paused:
                self._loop.add_reader(listening.fileno(), partial(self._accept, listening, secure))

    def sweep(self) -> None:
        """End connections that were silent for too long; runs once a second while there are any."""
        self._sockets.sweep()

    def _sweep_later(self) -> None:
        if self._sweeper is None and self._loop is not None and len(self._sockets):
            self._sweeper = self._loop.call_later(_SWEEP_S, self._swept)

    def _swept(self) -> None:
        self._sweeper = None
        try:
            self.sweep()
        finally:
            self._sweep_later()


def _listen(host: str, port: int) -> socket.socket:
    """Listen on an address; accepted sockets inherit the options.

    Raises:
        PortInUse, SettingsError: it cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise cannot_listen(host, port, error) from error
    listening.setblocking(False)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # an acknowledgement waits for no other
    # Who vanished without a word is noticed in two minutes, whether or not we have something to say to it.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _GONE_S // 2)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _GONE_S // 8)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _GONE_S * 1000)
    return listening
