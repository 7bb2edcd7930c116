"""Connections whose clients are not in yet: how many there may be, for how long, whose password is being tried, who is told no.

One that has not said who it is costs memory and a descriptor, and nothing speaks for it. So there may be a thousand of them;
for one more, that one goes which has stood longest of those from the address that has most: a flood from one place ends its
own connections, not those of others.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from functools import partial

from headwater_edge.admission import Undecided
from headwater_edge.connection import Connection
from headwater_edge.guesses import network
from headwater_edge.listener_counts import Complaints, ListenerCounts
from headwater_edge.users import Users
from headwater_shared.errors import HeadwaterError

MOST = 1_000
"""Connections at the door, or a quarter of the files that the process may open, if that is less."""


class Door:
    """Who stands at the door of one listener; nothing here reads a socket.

    Args:
        hang_up: says last words, and ends a connection.
        decided: the CONNECT of a connection can be read again.
    """

    def __init__(
        self,
        unauthenticated_s: float,
        users: Users,
        counts: ListenerCounts,
        complaints: Complaints,
        hang_up: Callable[[Connection, bytes], None],
        decided: Callable[[Connection], None],
    ) -> None:
        self._unauthenticated_s = unauthenticated_s
        self._users = users
        self._counts = counts
        self._complaints = complaints
        self._hang_up = hang_up
        self._decided = decided
        self._by_network: dict[str, dict[Connection, None]] = {}
        """In the order in which they came."""
        self._count = 0
        self._most = min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._trying: dict[Connection, asyncio.Task[None]] = {}
        self._to_tell: dict[Connection, tuple[float, bytes]] = {}
        """Whom to say no to, when, and how."""

    def __len__(self) -> int:
        return self._count

    def enter(self, connection: Connection) -> None:
        """Somebody came; if there are too many, one has to go."""
        if self._count >= self._most:
            self.make_room()
        self._by_network.setdefault(network(connection.host), {})[connection] = None
        self._count += 1

    def leave(self, connection: Connection) -> None:
        """It was let in, or has ended; may be called twice."""
        where = network(connection.host)
        standing = self._by_network.get(where, {})
        if connection not in standing:
            return
        del standing[connection]
        if not standing:
            del self._by_network[where]
        self._count -= 1
        self._to_tell.pop(connection, None)
        self._trying.pop(connection, None)

    def make_room(self) -> bool:
        """End the one that has stood longest of the busiest address; tell whether there was one."""
        if not self._count:
            return False
        busiest = max(self._by_network.values(), key=len)
        error = HeadwaterError(
            f"{self._count} connections have not said who they are, {len(busiest)} of them from its address",
            hint="find out who opens connections there and says nothing",
        )
        self.refuse(next(iter(busiest)), "half-open", error, b"")
        return True

    def try_out(self, connection: Connection, undecided: Undecided) -> None:
        """Have a password tried; the connection is held until that is done."""
        connection.held = True
        task = asyncio.ensure_future(self._users.try_out(undecided.user, undecided.password, connection.host))
        self._trying[connection] = task
        task.add_done_callback(partial(self._tried, connection))

    def _tried(self, connection: Connection, task: asyncio.Task[None]) -> None:
        self._trying.pop(connection, None)
        if connection.gone or task.cancelled():
            return
        error = task.exception()
        if error is not None:
            said = HeadwaterError(f"its password cannot be tried: {error!r}", hint="is there memory left?")
            self.refuse(connection, "password-not-tried", said, b"")
            return
        connection.recheck = connection.unread = True
        self._decided(connection)

    def refuse(
        self, connection: Connection, reason: str, error: HeadwaterError, last: bytes, due: float = 0.0
    ) -> None:
        """Turn a client away with these last words, at once or, if `due` (monotonic seconds) is set, then."""
        self._counts.refused[reason] += 1
        self._complaints.say("client refused", error, reason, connection)
        if due:
            connection.held = connection.turned_away = True
            self._to_tell[connection] = (due, last)
        else:
            self._hang_up(connection, last)

    def sweep(self, now: float) -> None:
        """Tell those whose time has come; end those that have not said who they are in time."""
        for connection, (due, last) in list(self._to_tell.items()):
            if connection.hung_up or due <= now:
                self._hang_up(connection, last)
        for standing in list(self._by_network.values()):
            for connection in list(standing):  # in the order in which they came
                if now - connection.opened <= self._unauthenticated_s:
                    break
                if connection in self._trying or connection in self._to_tell:
                    continue
                what = "finished its TLS handshake" if connection.shaking else "sent a CONNECT"
                error = HeadwaterError(f"it has not {what} in time")
                self.refuse(connection, "unauthenticated", error, b"")

    def stop(self) -> None:
        """Nobody waits for a password any more."""
        for task in list(self._trying.values()):
            task.cancel()
