"""From committed bursts to the bytes that each connection is owed, in the order in which it asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headwater_edge.answers import pubcomps
from headwater_edge.connection import Connection, ListenerBurst, Reply
from headwater_edge.publishes import pubacks

Connack = Callable[[Connection], bytes]


class Owed:
    """What some bursts owe. Connections that ended get nothing: their acknowledgements died with them (R5)."""

    def __init__(self, connections: Mapping[int, Connection], connack: Connack) -> None:
        self._connections = connections
        self._connack = connack
        self.answered: list[Connection] = []
        """Each once; `answer` holds what it is to be sent."""
        self.relieved: list[Connection] = []
        """Held ones that less waits for now; an entry for each run."""
        self.pubacks = 0
        """And PUBRECs."""

    def add(self, burst: ListenerBurst) -> None:
        """Take in a committed burst: its answers, and what waits for the disk goes off the books."""
        if burst.replies or 0 in burst.packet_ids:
            self._with_replies(burst)
            begin = 0
            for (number, end), size in zip(burst.runs, burst.sizes, strict=True):
                connection = self._connections.get(number)
                if connection is not None:
                    self._book_off(connection, end - begin, size)
                begin = end
        else:
            self._plain(burst)

    def _book_off(self, connection: Connection, messages: int, size: int) -> None:
        connection.waiting_messages -= messages
        connection.waiting_bytes -= size
        if connection.held:
            self.relieved.append(connection)

    def _plain(self, burst: ListenerBurst) -> None:
        """PUBACKs of the whole burst at once, and a slice of them for each run: one loop, for there may be many."""
        all_acks = pubacks(burst.packet_ids)
        find, answered = self._connections.get, self.answered
        begin = 0
        for (number, end), size in zip(burst.runs, burst.sizes, strict=True):
            connection = find(number)
            if connection is not None:
                acks = all_acks[4 * begin : 4 * end]
                if connection.answer:
                    connection.answer += acks
                else:
                    connection.answer = acks
                    answered.append(connection)
                connection.waiting_messages -= end - begin
                connection.waiting_bytes -= size
                if connection.held:
                    self.relieved.append(connection)
                self.pubacks += end - begin
            begin = end

    def _with_replies(self, burst: ListenerBurst) -> None:
        """The same where other packets stand between the messages: a run is cut where one does."""
        replies = iter(burst.replies)
        reply = next(replies, None)
        begin = 0
        for number, end in burst.runs:
            while reply is not None and reply[0] < end:
                self._acks(number, burst.packet_ids[begin : reply[0]])
                self._reply(reply, burst.unknown)
                begin = reply[0]
                reply = next(replies, None)
            self._acks(number, burst.packet_ids[begin:end])
            begin = end
        while reply is not None:
            self._reply(reply, burst.unknown)
            reply = next(replies, None)

    def _acks(self, number: int, packet_ids: list[int]) -> None:
        connection = self._connections.get(number)
        if connection is not None and packet_ids:
            acks = pubacks(packet_ids)
            self.pubacks += len(acks) >> 2
            self._answer(connection, acks)

    def _reply(self, reply: Reply, unknown: frozenset[tuple[int, int]]) -> None:
        _, connection, packet = reply
        if connection.gone:
            return
        if packet is None:
            self._answer(connection, self._connack(connection))
        elif isinstance(packet, bytes):
            self._answer(connection, packet)
        else:
            number = connection.number
            not_known = {one for one in packet if (number, one) in unknown} if unknown else ()
            connection.releasing -= len(packet)
            self._answer(connection, pubcomps(connection.v5, packet, not_known))

    def _answer(self, connection: Connection, packets: bytes) -> None:
        if connection.answer:
            connection.answer += packets
        elif packets:
            connection.answer = packets
            self.answered.append(connection)
