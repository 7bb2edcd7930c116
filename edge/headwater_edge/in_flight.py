"""What of each connection waits for the disk: how much may, and who sends one message at a time (R18, R19)."""

from __future__ import annotations

from headwater_edge.connection import HABIT, Connection, ListenerBurst
from headwater_edge.listener_settings import Limits


class InFlight:
    """Books messages on connections as they are read; `Owed` books them off."""

    def __init__(self, limits: Limits) -> None:
        self._messages, self._bytes = limits.in_flight, limits.in_flight_bytes
        self._at_once_s = 1.5 * limits.nap_s

    def book(self, connection: Connection, burst: ListenerBurst, begin: int, size: int, now: float) -> None:
        """Messages from `begin` on are of this connection, and wait; `size`: bytes of their packets."""
        end = len(burst.topics)
        burst.runs.append((connection.number, end))
        burst.sizes.append(size)
        if burst.packet_ids[-1]:
            self.look_for_habit(connection, burst, now)
        else:  # at QoS 0 nobody waits
            connection.one_by_one = 0
        connection.waiting_messages += end - begin
        connection.waiting_bytes += size
        if connection.waiting_messages > self._messages or connection.waiting_bytes > self._bytes:
            connection.held = True

    def took(
        self, connection: Connection, burst: ListenerBurst, message: int, reply: int, size: int, now: float
    ) -> None:
        """Messages and replies from these on are of this connection; where there is no message, a PUBREL may be a habit."""
        if len(burst.topics) > message:
            self.book(connection, burst, message, size, now)
        elif len(burst.replies) > reply:
            self.look_for_habit(connection, burst, now)

    def look_for_habit(self, connection: Connection, burst: ListenerBurst, now: float) -> None:
        """Whether it sends one packet at a time, each as soon as the one before was acknowledged."""
        if connection.waiting_messages or now - connection.answered > self._at_once_s:
            connection.one_by_one = 0
        else:
            connection.one_by_one += 1
            burst.waiting += connection.one_by_one >= HABIT

    def too_much(self, connection: Connection) -> bool:
        """Whether so much waits for the disk that the connection is not read.

        A client that keeps to our Receive Maximum never gets there by the number of messages, so its pings are answered.
        """
        return connection.waiting_messages > self._messages or connection.waiting_bytes > self._bytes
