"""The listener: devices connect here; it reads them in naps, hands bursts on, and acknowledges them after the commit."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from headwater_edge.acknowledgements import Owed
from headwater_edge.admission import Admission
from headwater_edge.answers import connack, fits, publish
from headwater_edge.connection import Connection, ListenerBurst
from headwater_edge.exchange import MOST_ALIASES
from headwater_edge.listener_counts import ListenerCounts, register
from headwater_edge.listener_settings import ListenerSettings, limits
from headwater_edge.protocol import QUOTA_EXCEEDED
from headwater_edge.sockets import Sockets
from headwater_edge.source import Burst
from headwater_edge.subscriptions import filters_for
from headwater_shared.clock import Clock
from headwater_shared.errors import cannot_listen
from headwater_shared.logs import get_logger
from headwater_shared.settings import listen_address

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = get_logger()

_SPARE = 100
"""Sockets beyond `max_connections`, so that who is one too many can be told so, and a client can take over its own."""
_SWEEP_S = 1.0
"""Seconds between looks at keep alive and time-outs; the only timer of an idle listener, and none without connections."""


class Listener:
    """A source (`headwater_edge.source.Source`) that devices connect to with MQTT 3.1.1 or 5; all of it on one event loop.

    An endpoint for publishers, not a broker: PUBLISH, a will, and SUBSCRIBE to commands for one's own devices. PUBACK,
    PUBREC, PUBCOMP, CONNACK, and SUBACK and UNSUBACK of what changed a session, go out in `acknowledge` alone (R5, R13);
    answers that promise nothing (PINGRESP, refusals) at once.

    Args:
        settings: where to listen, and the limits.
        users: passwords in plain text by user name; none: anyone, on loopback.
        clock: tells when a burst was read; keep alive and time-outs follow `monotonic` (seconds), which tests set.
        connections: numbers for connections, from 1 up, none twice in an epoch.
        deliver: takes a burst, which has messages or events; not before `start`, not after `close`.
        registry: where the listener's metrics are to be shown.
        connections_for: the connections whose sessions have one of some filters.

    Raises:
        SettingsError: the settings do not make sense, or would let anyone in from outside.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        users: Mapping[str, str],
        clock: Clock,
        connections: Iterator[int],
        deliver: Callable[[Burst], None],
        *,
        registry: CollectorRegistry | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        connections_for: Callable[..., Sequence[int]] = lambda *_: (),
    ) -> None:
        self._connections_for = connections_for
        self._limits = limits(settings)
        self._address = listen_address(settings.host, settings.port, users=bool(users))
        self._monotonic = monotonic
        admission = Admission(users, self._limits.max_connections)
        self._sockets = Sockets(self._limits, admission, clock, connections, deliver, monotonic)
        self._paused = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self.port = settings.port
        if registry is not None:
            register(registry, self.counts, lambda: self.connected)

    @property
    def counts(self) -> ListenerCounts:
        return self._sockets.counts

    @property
    def connected(self) -> int:
        """Clients that are connected."""
        return len(self._sockets.by_number)

    async def start(self) -> None:
        """Listen; from now on `port` is the one that it got.

        Raises:
            PortInUse: another program has the address.
            SettingsError: the address is none of this machine, or not for this user.
        """
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=1024)
        except OSError as error:
            raise cannot_listen(host, port, error) from error
        self._socket.setblocking(False)
        # Accepted sockets inherit both: an acknowledgement waits for no other, and who vanished is noticed some day.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.port = self._socket.getsockname()[1]
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._accept)
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
        after, connection.after_connack = connection.after_connack, b""
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
            connection = self._sockets.by_number.get(number)
            if connection is None or not connection.connacked:
                continue
            packet = publish(connection.v5, topic, payload)
            if fits(packet, connection.packet_maximum):
                self._sockets.send(connection, packet)
                reached = True
        return reached

    def pause(self) -> None:
        """Take nothing in and accept nobody; what comes is read within bounds, what is acknowledged is written."""
        self._paused = True
        self._sockets.pause()
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())

    def resume(self) -> None:
        """Read and accept again."""
        self._paused = False
        self._sockets.resume()
        self._accept_again()

    async def close(self) -> None:
        """End all connections, let go of the address. What was not acknowledged comes again, to whoever listens then."""
        if self._loop is None:
            return
        self._loop.remove_reader(self._socket.fileno())
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._loop = self._sweeper = None
        self._socket.close()
        self._sockets.stop()

    def _accept(self) -> None:
        for _ in range(_SPARE):
            try:
                sock, address = self._socket.accept()
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    self._accept_later(error)
                break
            if len(self._sockets) >= self._limits.max_connections + _SPARE:
                self.counts.refused["max-connections"] += 1
                sock.close()
            else:
                self._sockets.add(sock, f"{address[0]}:{address[1]}")
        self._sweep_later()

    def _accept_later(self, error: OSError) -> None:
        """A connection that waits, and that there is no descriptor for, would wake the loop for ever."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        log.warning(
            "no connection can be accepted",
            error=error,
            hint=f"raise the limit of open files, which is {soft}",
        )
        assert self._loop is not None
        self._loop.remove_reader(self._socket.fileno())
        self._loop.call_later(_SWEEP_S, self._accept_again)

    def _accept_again(self) -> None:
        if self._loop is not None and not self._paused:
            self._loop.add_reader(self._socket.fileno(), self._accept)

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
