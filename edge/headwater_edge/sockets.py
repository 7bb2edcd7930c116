"""All sockets of the listener: read in one pass a nap, written to without waiting, ended when their time has come.

They are in an epoll of their own, which the event loop watches as one descriptor; edge-triggered, so that one which is
held back costs no system call.
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from collections.abc import Callable, Iterator

from headwater_edge.admission import Admission, NotAdmitted
from headwater_edge.answers import connack_refused, disconnect
from headwater_edge.connection import NOBODY, Connection, ListenerBurst, NotReading
from headwater_edge.control import UnsupportedVersion
from headwater_edge.events import Disconnect
from headwater_edge.exchange import Exchange
from headwater_edge.held_back import HeldBack, drop_qos_0
from headwater_edge.in_flight import InFlight
from headwater_edge.listener_counts import Complaints, ListenerCounts
from headwater_edge.listener_settings import Limits
from headwater_edge.naps import Naps
from headwater_edge.protocol import KEEP_ALIVE_TIMEOUT, SHUTTING_DOWN, BadPacket
from headwater_edge.source import QOS1, Burst
from headwater_shared.clock import Clock
from headwater_shared.errors import HeadwaterError

_CHUNK = 65_536
"""Bytes read at once: below the size from which malloc goes to the kernel for each."""
_FEW = 4_096
"""Bytes read from one that mostly has a message or two: so much comes from Python's own pools."""
_FULL = 8_000_000
"""Bytes of packets in one burst, after which the other sockets wait for the next nap."""
_ANNOUNCED = 1_000
"""Sockets announced by one call of epoll."""
_EVENTS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_OVER = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR

_WHY = {
    "taken-over": "another connection came with the same client id",
    "keep-alive": "nothing was heard for one and a half times the keep alive",
    "does-not-read": "it does not read its acknowledgements",
    "dead-letters-full": "its message cannot be read, and the dead letters are full",
}
"""What is logged of a connection that we ended, and an MQTT 5 client is told."""


class Sockets:
    """The connections of one listener. `by_number` has those whose client is connected."""

    def __init__(
        self,
        limits: Limits,
        admission: Admission,
        clock: Clock,
        numbers: Iterator[int],
        deliver: Callable[[Burst], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._limits = limits
        self.in_flight = InFlight(limits)
        self._clock = clock
        self._deliver = deliver
        self._monotonic = monotonic
        self._exchange = Exchange(self, admission, limits, numbers)
        self.by_number = self._exchange.by_number
        self.counts = ListenerCounts()
        self._complaints = Complaints(monotonic)
        self._epoll = select.epoll()
        self._by_fd: dict[int, Connection] = {}
        self._again: list[Connection] = []
        """To be read in the next pass, though epoll will not announce them again."""
        self._burst = ListenerBurst(0)
        self._taken = 0
        """Bytes in it."""
        self._naps = Naps(limits.nap_s, self.read)
        self._paused = False
        self._held_back = HeldBack()

    def __len__(self) -> int:
        return len(self._by_fd)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._naps.start(loop, self._epoll.fileno())

    def stop(self) -> None:
        """End all connections; what is acknowledged from now on reaches nobody."""
        self._naps.stop()
        for connection in list(self._by_fd.values()):
            self._hang_up(connection, _last_words(connection, SHUTTING_DOWN, "the agent stops"))
        self._epoll.close()

    def add(self, sock: socket.socket, address: str) -> None:
        """Read a new connection's socket from now on."""
        sock.setblocking(False)
        self._by_fd[sock.fileno()] = Connection(sock, address, self._monotonic())
        self._epoll.register(sock.fileno(), _EVENTS)
        self.counts.accepted += 1

    def read(self) -> bool:
        """One pass over all sockets that have something; delivers a burst if anything came of it, and says whether."""
        burst = self._burst
        burst.arrived_us = self._clock.now().wall_us
        now = self._monotonic()
        again, self._again = self._again, []
        for connection in again:
            self._one(connection, burst, now)
        while True:
            announced = self._epoll.poll(0, _ANNOUNCED)
            for fd, event in announced:
                found = self._by_fd.get(fd)
                if found is None:  # ended earlier in this pass
                    continue
                if event != select.EPOLLIN:
                    self._unusual(found, event)
                    self._one(found, burst, now)
                elif not found.number or found.held or found.rest or self._paused or self._taken > _FULL:
                    self._one(found, burst, now)
                else:
                    self._quickly(found, burst, now)
            if len(announced) < _ANNOUNCED:
                break
        return self._hand_on()

    def _hand_on(self) -> bool:
        burst = self._burst
        if not burst.topics and not burst.events:
            return bool(self._again)
        taken, self._taken = self._taken, 0
        self._burst = ListenerBurst(0)
        burst.size = sum(map(len, burst.topics)) + sum(map(len, burst.payloads))
        self.counts.messages += len(burst.topics)
        if self._paused:
            self._held_back.keep(burst, taken)
        else:
            self._deliver(burst)
        return True

    def _unusual(self, connection: Connection, event: int) -> None:
        if event & _OVER:
            connection.hung_up = True
        if event & select.EPOLLOUT:
            self.send(connection, b"")

    def _one(self, connection: Connection, burst: ListenerBurst, now: float) -> None:
        if connection.held or self._stopped:
            connection.unread = True
        elif self._taken > _FULL:
            connection.unread = True
            self._again.append(connection)
        elif not connection.gone:
            self._receive(connection, burst, now)

    def _quickly(self, connection: Connection, burst: ListenerBurst, now: float) -> None:
        """Take one plain message from one read in one go: what many slow devices send; all else the usual way."""
        data = None
        try:
            data = connection.receive(_FEW)
            topic, packet_id, payload = self._exchange.known.only_one(data, connection.v5)
        except (OSError, LookupError, struct.error):  # nothing there, not one, or not plain
            self._receive(connection, burst, now, data)
            return
        burst.topics.append(topic)
        burst.payloads.append(payload)
        burst.packet_ids.append(packet_id)
        burst.flags.append(QOS1)
        connection.seen = now
        self.counts.bytes += len(data)
        self._taken += len(data)
        self.in_flight.book(connection, burst, len(burst.topics) - 1, len(data), now)

    def _receive(
        self, connection: Connection, burst: ListenerBurst, now: float, data: bytes | None = None
    ) -> None:
        """Read until the socket is empty or enough waits for the disk; each read that brings messages is one run.

        `data`: what a read of `_FEW` bytes brought already, if anything.
        """
        asked = _CHUNK if data is None else _FEW
        connection.unread = False
        while True:
            try:
                if data is None:
                    data = connection.receive(_CHUNK)
            except BlockingIOError:
                return
            except OSError:
                self.end(connection, "broken")
                return
            if not data:
                self.end(connection, "closed")
                return
            connection.seen = now
            self.counts.bytes += len(data)
            empty = len(data) < asked and not connection.hung_up
            self._take(connection, burst, data, now)
            if empty or connection.gone:
                return
            if connection.held:
                connection.unread = True
                return
            data, asked = None, _CHUNK

    def _take(self, connection: Connection, burst: ListenerBurst, data: bytes, now: float) -> None:
        """Take what a read brought into the burst; a fault in it ends the connection."""
        if connection.rest:
            data = connection.rest + data
            connection.rest = b""
        message, event, reply = len(burst.topics), len(burst.events), len(burst.replies)
        fault: BadPacket | NotAdmitted | None = None
        try:
            self._exchange.take(connection, data, burst)
        except (BadPacket, NotAdmitted) as error:
            fault = error
        size = len(data) - len(connection.rest)
        self._taken += size
        if self._paused:
            self.counts.dropped += drop_qos_0(burst, message, event, reply)
        if len(burst.topics) > message:
            self.in_flight.book(connection, burst, message, size, now)
        elif len(burst.replies) > reply:
            self.in_flight.look_for_habit(connection, burst, now)
        if fault is not None:
            self._turn_out(connection, fault)

    def read_on(self, connection: Connection) -> None:
        """It is held no longer."""
        connection.held = False
        connection.seen = self._monotonic()
        if connection.unread and not self._stopped:
            self._again.append(connection)
            self._naps.soon()

    @property
    def _stopped(self) -> bool:
        """Whether nothing is read."""
        return self._paused and self._held_back.full

    def pause(self) -> None:
        """Hand nothing on; what comes is read within bounds, so that pings are answered (R18)."""
        self._paused = True

    def resume(self) -> None:
        """Hand on what was held back, and read all again; silence while we did not listen counts against nobody."""
        self._paused = False
        self._held_back.hand_on(self._deliver, lambda: self._paused)
        now = self._monotonic()
        for connection in self._by_fd.values():
            connection.opened = connection.seen = now
            if connection.unread and not connection.held:
                self._again.append(connection)
        self._naps.soon()

    def send(self, connection: Connection, data: bytes) -> None:
        """Write at once; what the socket does not take waits until it does. Ends the connection if it is broken."""
        waited = bool(connection.unsent)
        try:
            waits = connection.send(data)
        except NotReading:
            self._say(connection, "does-not-read")
            self.end(connection, "does-not-read")
            return
        except OSError:
            self.end(connection, "broken")
            return
        if waits != waited:
            self._epoll.modify(connection.sock.fileno(), _EVENTS | (select.EPOLLOUT if waits else 0))

    def end(
        self,
        connection: Connection,
        why: str,
        *,
        clean: bool = False,
        expiry_s: int = -1,
        code: int = 0,
        text: str = "",
    ) -> None:
        """End a connection; if its client was connected, that is an event of the burst that is gathered."""
        if connection.gone:
            return
        if connection.number != NOBODY:
            self.counts.ended[why] += 1
            event = Disconnect(connection.number, clean, expiry_s)
            self._burst.events.append((len(self._burst.topics), event))
            self._naps.soon()
        self._hang_up(connection, _last_words(connection, code, text or _WHY.get(why, why)) if code else b"")

    def sweep(self) -> None:
        """End connections that have not said who they are in time, and those that nothing was heard of for too long."""
        now = self._monotonic()
        for connection in list(self._by_fd.values()):
            if connection.number == NOBODY:
                if now - connection.opened > self._limits.unauthenticated_s:
                    error = HeadwaterError("it has not sent a CONNECT in time", hint="")
                    self._refuse(connection, "unauthenticated", error, b"")
            elif connection.held or connection.unread:
                connection.seen = now
            elif 0 < 1.5 * connection.keep_alive_s < now - connection.seen:
                if connection.has_bytes():  # it is we who are late
                    connection.seen = now
                else:
                    self._say(connection, "keep-alive")
                    self.end(connection, "keep-alive", code=KEEP_ALIVE_TIMEOUT)

    def _turn_out(self, connection: Connection, fault: BadPacket | NotAdmitted) -> None:
        if isinstance(fault, BadPacket) and not isinstance(fault, UnsupportedVersion):
            self.counts.malformed[fault.reason] += 1
            self._complaints.say("connection ended", fault, fault.reason, connection)
            self.end(connection, "malformed", code=fault.code, text=fault.message)
            return
        v5 = fault.v5 if isinstance(fault, UnsupportedVersion) else connection.v5
        self._refuse(
            connection,
            fault.reason,
            fault,
            connack_refused(v5, fault.code, fault.message, connection.packet_maximum),
        )

    def _refuse(self, connection: Connection, reason: str, error: HeadwaterError, last: bytes) -> None:
        self.counts.refused[reason] += 1
        self._complaints.say("client refused", error, reason, connection)
        self._hang_up(connection, last)

    def _say(self, connection: Connection, why: str) -> None:
        self._complaints.say("connection ended", HeadwaterError(_WHY[why]), why, connection)

    def _hang_up(self, connection: Connection, last: bytes) -> None:
        del self._by_fd[connection.sock.fileno()]
        self._exchange.forget(connection)
        connection.hang_up(last)


def _last_words(connection: Connection, code: int, why: str) -> bytes:
    """Only MQTT 5 has a DISCONNECT from the server, and only after the CONNACK."""
    if not connection.v5 or not connection.connacked:
        return b""
    return disconnect(code, why, connection.packet_maximum)
