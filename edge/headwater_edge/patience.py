"""How long the listener is patient with its clients: what a connection is ended for, what is logged, what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from headwater_edge.admission import NotAdmitted, NotGranted
from headwater_edge.answers import connack_refused, disconnect
from headwater_edge.connection import Connection
from headwater_edge.control import UnsupportedVersion
from headwater_edge.door import Door
from headwater_edge.listener_counts import Complaints, ListenerCounts
from headwater_edge.protocol import (
    BY_A_PERSON,
    KEEP_ALIVE_TIMEOUT,
    NOT_ALLOWED,
    QUOTA_EXCEEDED,
    RATE,
    BadPacket,
)
from headwater_edge.users import Users
from headwater_shared.errors import HeadwaterError

_HALVES = 64_000_000
"""Bytes of packets whose ends have not come, of all connections."""


class Ending(NamedTuple):
    """Why we end a connection: what is logged and an MQTT 5 client is told, and what somebody can do about it."""

    text: str
    code: int = 0
    hint: str = ""


ENDINGS = {
    "taken-over": Ending("another connection came with the same client id"),
    "keep-alive": Ending("nothing was heard for one and a half times the keep alive", KEEP_ALIVE_TIMEOUT),
    "does-not-read": Ending("it does not read its acknowledgements"),
    "dead-letters-full": Ending(
        "its message cannot be read, and the dead letters are full",
        QUOTA_EXCEEDED,
        "replay or purge them: headwater-edge dead-letters list",
    ),
    "slow": Ending(
        "a packet was not whole in time", RATE, "is its network that slow? raise edge.listener.packet_time"
    ),
    "huge": Ending(
        "halves of packets fill the memory, and its is the largest",
        QUOTA_EXCEEDED,
        "lower edge.listener.max_packet, and find out who sends half packets",
    ),
    "revoked": Ending("its user was removed, or has a new password", BY_A_PERSON),
    "users-set": Ending("there are users now, and it has not said who it is", NOT_ALLOWED),
}


def overdue(connection: Connection, now: float, packet_s: float) -> str:
    """Return what a client that is in has to be ended for at `now` (monotonic seconds); nothing if it may stay.

    Silence while we do not read it counts for nothing.
    """
    if connection.held or connection.unread:
        connection.seen = connection.begun = now
        return ""
    if connection.rest and now - connection.begun > packet_s:
        return "slow"
    if 0 < 1.5 * connection.keep_alive_s < now - connection.seen:
        if not connection.has_bytes():
            return "keep-alive"
        connection.seen = now  # it is we who are late
    return ""


def last_words(connection: Connection, code: int, why: str) -> bytes:
    """What a client is told as its connection ends: only MQTT 5 has a DISCONNECT from the server, and only after the CONNACK."""
    if not connection.v5 or not connection.connacked:
        return b""
    return disconnect(code, why, connection.packet_maximum)


class End(Protocol):
    """Ends a connection; `code` and `text` are what an MQTT 5 client is told."""

    def __call__(self, connection: Connection, why: str, *, code: int = 0, text: str = "") -> None: ...


class Patience:
    """What all connections of one listener may do, and for how long."""

    def __init__(
        self,
        packet_s: float,
        users: Users,
        door: Door,
        counts: ListenerCounts,
        complaints: Complaints,
        end: End,
    ) -> None:
        self._packet_s = packet_s
        self._users = users
        self._users_seen = users.generation
        self._door = door
        self._counts = counts
        self._complaints = complaints
        self._end = end
        self.halves = 0
        """Bytes of packets whose ends have not come."""

    def sweep(self, connections: Iterable[Connection], now: float) -> None:
        """End those that have not said who they are in time, that nothing was heard of for too long, that send too slowly,
        or whose users were taken away; `connections` are those that are in.
        """
        self._door.sweep(now)
        self._users.refresh()
        changed = self._users.generation != self._users_seen
        self._users_seen = self._users.generation
        for connection in connections:
            why = self._lost_its_user(connection) if changed else ""
            why = why or overdue(connection, now, self._packet_s)
            if why:
                self.end_for(connection, why)

    def _lost_its_user(self, connection: Connection) -> str:
        grant = connection.grant
        if grant is None:
            return "users-set" if self._users else ""
        if not self._users.stands(grant):
            return "revoked"
        connection.grant = self._users.grant(grant.user)
        return ""

    def keep(
        self,
        connection: Connection,
        came: int,
        taken: int,
        now: float,
        others: Callable[[], Iterable[Connection]],
    ) -> None:
        """It has the beginning of a packet (see `Connection.keep`); if all of them are too much, the largest goes."""
        self.halves += connection.keep(came, taken, now)
        if self.halves > _HALVES:
            self.end_for(max(others(), key=lambda one: one.kept), "huge")

    def end_for(self, connection: Connection, why: str) -> None:
        """End a connection, and say so."""
        ending = ENDINGS[why]
        error = HeadwaterError(ending.text, hint=ending.hint)
        self._complaints.say("connection ended", error, why, connection)
        self._end(connection, why, code=ending.code)

    def turn_out(self, connection: Connection, fault: BadPacket | NotAdmitted, now: float) -> None:
        """End a connection for what it sent."""
        if isinstance(fault, NotAdmitted):
            last = connack_refused(connection.v5, fault.code, fault.message, connection.packet_maximum)
            due = now + fault.wait_s if fault.wait_s else 0.0
            self._door.refuse(connection, fault.reason, fault, last, due)
        elif isinstance(fault, UnsupportedVersion):
            last = connack_refused(fault.v5, fault.code, fault.message, connection.packet_maximum)
            self._door.refuse(connection, fault.reason, fault, last)
        else:
            self._complaints.say("connection ended", fault, fault.reason, connection)
            if isinstance(fault, NotGranted):
                self._end(connection, fault.reason, code=fault.code, text=fault.message)
                return
            self._counts.malformed[fault.reason] += 1
            self._end(connection, "malformed", code=fault.code, text=fault.message)
