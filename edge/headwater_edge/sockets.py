"""All sockets of the listener: read in one pass a nap, written to without waiting, ended when their time has come.

They are in an epoll of their own, which the event loop watches as one descriptor; edge-triggered, so that one which is
held back costs no system call.
"""

from __future__ import annotations

import asyncio
import select
import struct
from collections.abc import Callable, Iterator

from headwater_edge.admission import Admission, NotAdmitted, Undecided
from headwater_edge.connection import NOBODY, Connection, ListenerBurst, NotReading
from headwater_edge.door import Door
from headwater_edge.events import Disconnect
from headwater_edge.exchange import Exchange
from headwater_edge.held_back import HeldBack, drop_qos_0
from headwater_edge.in_flight import InFlight
from headwater_edge.listener_counts import Complaints, ListenerCounts
from headwater_edge.listener_settings import Limits
from headwater_edge.naps import Naps
from headwater_edge.patience import ENDINGS, Patience, last_words
from headwater_edge.protocol import SHUTTING_DOWN, BadPacket
from headwater_edge.source import QOS1, Burst
from headwater_edge.tls_faults import HandshakeFailed
from headwater_edge.users import Users
from headwater_shared.clock import Clock

_CHUNK = 65_536
"""Bytes read at once: below the size from which malloc goes to the kernel for each."""
_FEW = 4_096
"""Bytes read from one that mostly has a message or two: so much comes from Python's own pools."""
_FULL = 8_000_000
"""Bytes of packets in one burst, after which the other sockets wait for the next nap."""
_READS = 100
"""Reads of one socket in one pass: whoever never stops sending waits its turn."""
_HANDSHAKES = 10
"""Steps of TLS handshakes in one pass: each takes about a millisecond, ten on a small device."""
_ANNOUNCED = 1_000  # sockets announced by one call of epoll
_EVENTS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_OVER = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Sockets:
    """The connections of one listener. `by_number` has those whose client is connected."""

    def __init__(
        self,
        limits: Limits,
        users: Users,
        clock: Clock,
        numbers: Iterator[int],
        deliver: Callable[[Burst], None],
        monotonic: Callable[[], float],
    ) -> None:
        self.in_flight = InFlight(limits)
        self._clock = clock
        self._deliver = deliver
        self._monotonic = monotonic
        self.admission = Admission(users, limits.max_connections)
        self._exchange = Exchange(self, self.admission, limits, numbers)
        self.by_number = self._exchange.by_number
        self.counts = ListenerCounts()
        complaints = Complaints(monotonic)
        self.door = Door(
            limits.unauthenticated_s, users, self.counts, complaints, self._hang_up, self.read_on
        )
        self._patience = Patience(limits.packet_s, users, self.door, self.counts, complaints, self.end)
        self._epoll = select.epoll()
        self._by_fd: dict[int, Connection] = {}
        self._again: list[Connection] = []
        """To be read in the next pass, though epoll will not announce them again."""
        self._burst = ListenerBurst(0)
        self._taken = 0
        """Bytes in it."""
        self._handshakes = 0
        """Steps that this pass may take yet."""
        self._naps = Naps(limits.nap_s, self.read)
        self.held_back = HeldBack()

    def __len__(self) -> int:
        return len(self._by_fd)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._naps.start(loop, self._epoll.fileno())

    def stop(self) -> None:
        """End all connections; what is acknowledged from now on reaches nobody."""
        self._naps.stop()
        self.door.stop()
        for connection in list(self._by_fd.values()):
            self._hang_up(connection, last_words(connection, SHUTTING_DOWN, "the agent stops"))
        self._epoll.close()

    def add(self, connection: Connection) -> None:
        """Read a new connection's socket from now on."""
        fd = connection.sock.fileno()
        self._by_fd[fd] = connection
        self._epoll.register(fd, _EVENTS)
        self.counts.accepted += 1
        self.door.enter(connection)

    def read(self) -> bool:
        """One pass over all sockets that have something; delivers a burst if anything came of it, and says whether."""
        burst = self._burst
        burst.arrived_us = self._clock.now().wall_us
        now = self._monotonic()
        self._handshakes = _HANDSHAKES
        again, self._again = self._again, []
        for connection in again:
            connection.unread = False
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
                elif (
                    not found.number
                    or found.held
                    or found.rest
                    or self.held_back.pausing
                    or self._taken > _FULL
                ):
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
        if self.held_back.pausing:
            self.held_back.keep(burst, taken)
        else:
            self._deliver(burst)
        return True

    def _unusual(self, connection: Connection, event: int) -> None:
        if event & _OVER:
            connection.hung_up = True
        if event & select.EPOLLOUT:
            self.send(connection, b"")

    def _one(self, connection: Connection, burst: ListenerBurst, now: float) -> None:
        if connection.gone:
            return
        if connection.held or self.held_back.stopped:
            connection.unread = True
        elif self._taken > _FULL or (connection.shaking and not self._handshakes):
            self._later(connection)
        else:
            shook = connection.shaking
            self._handshakes -= shook
            self._receive(connection, burst, now)
            self.counts.handshakes += shook and not connection.shaking

    def _later(self, connection: Connection) -> None:
        """Read it in the next pass."""
        if not connection.unread:
            connection.unread = True
            self._again.append(connection)

    def _quickly(self, connection: Connection, burst: ListenerBurst, now: float) -> None:
        """Take one plain message from one read in one go: what many slow devices send; all else the usual way."""
        data = None
        try:
            data = connection.receive(_FEW)
            topic, packet_id, payload = self._exchange.known.only_one(data, connection.v5)
            if connection.more or not (connection.grant is None or topic in connection.grant.known):
                raise LookupError
        except (LookupError, struct.error):  # the end, not one, or not plain
            self._receive(connection, burst, now, data)
            return
        except OSError as error:
            self._unread(connection, error)
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
        connection.talk = 0
        if connection.recheck:
            connection.recheck = False
            data, connection.rest, asked = connection.rest, b"", 0
        for _ in range(_READS):
            if data is None:
                data = self._read(connection)
            if not data:
                if data is not None:
                    self.end(connection, "closed")
                return
            connection.seen = now
            empty = len(data) < asked and not connection.more and not connection.hung_up
            came = len(data)
            if connection.rest:
                data = connection.joined(data)
            fault = self._take(connection, data, burst, now) if data else None
            if connection.rest or connection.kept:
                self._patience.keep(connection, came, len(data), now, self._by_fd.values)
            if fault is not None:
                self._patience.turn_out(connection, fault, now)
            if empty or connection.gone:
                return
            if connection.held:
                connection.unread = True
                return
            data, asked = None, _CHUNK
        self._later(connection)

    def _read(self, connection: Connection) -> bytes | None:
        """Read its socket once; None if there is nothing, or never will be."""
        try:
            data = connection.receive(_CHUNK)
        except HandshakeFailed as error:
            self.door.refuse(connection, error.reason, error, b"")
        except OSError as error:
            self._unread(connection, error)
        else:
            self.counts.bytes += len(data)
            return data
        return None

    def _unread(self, connection: Connection, error: OSError) -> None:
        if not isinstance(error, BlockingIOError):
            self.end(connection, "broken")

    def _take(
        self, connection: Connection, data: bytes, burst: ListenerBurst, now: float
    ) -> BadPacket | NotAdmitted | None:
        """Take the packets in `data`, and book them; returns what ends the connection, if something does."""
        new = connection.number == NOBODY
        message, event, reply = len(burst.topics), len(burst.events), len(burst.replies)
        fault: BadPacket | NotAdmitted | None = None
        try:
            self._exchange.take(connection, data, burst)
        except (BadPacket, NotAdmitted) as error:
            fault = error
        except Undecided as undecided:
            connection.rest = data
            self.door.try_out(connection, undecided)
        if new and connection.number != NOBODY:
            self.door.leave(connection)
        size = len(data) - len(connection.rest)
        self._taken += size
        if self.held_back.pausing or self.held_back.holding:
            self.counts.dropped += drop_qos_0(burst, message, event, reply)
        self.in_flight.took(connection, burst, message, reply, size, now)
        return fault

    def read_on(self, connection: Connection) -> None:
        """It is held no longer."""
        connection.held = False
        connection.seen = connection.begun = self._monotonic()
        if connection.unread and not self.held_back.stopped:
            self._again.append(connection)
            self._naps.soon()

    def pause(self) -> None:
        """Hand nothing on; what comes is read within bounds, so that pings are answered (R18)."""
        self.held_back.pausing = True

    def resume(self) -> None:
        """Hand on what was held back, and read all again; silence while we did not listen counts against nobody."""
        self.held_back.pausing = self.held_back.holding = False
        self.held_back.hand_on(self._deliver)
        now = self._monotonic()
        for connection in self._by_fd.values():
            connection.opened = connection.seen = connection.begun = now
            if connection.unread and not connection.held:
                self._again.append(connection)
        self._naps.soon()

    def send(self, connection: Connection, data: bytes) -> None:
        """Write at once; what the socket does not take waits until it does. Ends the connection if it is broken."""
        try:
            waits = connection.send(data)
        except NotReading:
            self._patience.end_for(connection, "does-not-read")
            return
        except OSError:
            self.end(connection, "broken")
            return
        if waits != connection.watched:
            connection.watched = waits
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
        if code and not text and why in ENDINGS:
            text = ENDINGS[why].text
        self._hang_up(connection, last_words(connection, code, text or why) if code else b"")

    def sweep(self) -> None:
        """End those with whom patience is over."""
        self._patience.sweep(list(self.by_number.values()), self._monotonic())

    def _hang_up(self, connection: Connection, last: bytes) -> None:
        if connection.gone:
            return
        del self._by_fd[connection.sock.fileno()]
        self._patience.halves -= connection.kept
        connection.kept = 0
        if connection.number == NOBODY:
            self.door.leave(connection)
        self._exchange.forget(connection)
        connection.hang_up(last)
