"""MQTT sessions: which outlive their connections, and so give packet ids their meaning (R3, R13)."""

from __future__ import annotations

import msgspec

from headwater_edge.events import Connect, Disconnect, Event, Subscribe, Unsubscribe, WillsPublished
from headwater_edge.subscriptions import is_command, matches
from headwater_edge.wills import Wills
from headwater_shared.clock import SYNCHRONISED, Now

NEVER = 0xFFFFFFFF
"""The session expiry that means: it does not expire."""

BROKERS = "\0broker/"
"""How the sessions are called that the agent has with brokers: no device can be, for MQTT forbids U+0000 in a client id."""

KEPT = 50_000
"""Sessions of absent clients beyond so many are forgotten, the longest absent first."""


class Session(msgspec.Struct):
    """One client's session; `number` is new whenever a session begins, `connection` 0 while it is away.

    `left_us`: monotonic time at which it went away.
    """

    number: int
    connection: int
    expiry_s: int
    left_us: int
    filters: dict[str, int]


class Sessions:
    """All sessions by client, the live connections, and the wills. Pure state: monotonic time comes with the events.

    Not the wall clock: a Pi that boots in 1970 and then hears a time server would end all sessions at once.
    """

    def __init__(self) -> None:
        self.wills = Wills()
        self.by_client: dict[str, Session] = {}
        self.clients: dict[int, str] = {}
        self.numbers: dict[int, int] = {}
        """Connection to session number, also of connections that ended in this tick."""
        self.next_number = 1
        self.ended = 0
        """Sessions that ended since their packet ids were last forgotten."""
        self._gone: list[int] = []
        self._subscribers: dict[str, dict[str, None]] = {}
        """By filter: the clients whose sessions have it, in the order in which they came; made from the sessions."""
        self._readers: dict[str, None] = {}
        """Filters of these that are for what is put out: alerts, egress."""

    def take(self, event: Event, now_us: int) -> bool | None:
        """Apply an event; for a Connect, return whether a session was present."""
        match event:
            case Connect():
                return self._connect(event, now_us)
            case Disconnect():
                self._disconnect(event, now_us)
            case Subscribe():
                client = self.clients[event.connection]
                self.by_client[client].filters.update(event.filters)
                for topic, _ in event.filters:
                    self._subscribe(client, topic)
            case Unsubscribe():
                client = self.clients[event.connection]
                for topic in event.filters:
                    self._unsubscribe(client, topic)
                    self.by_client[client].filters.pop(topic, None)
            case WillsPublished():
                self.wills.published(event.numbers)
            case _:
                pass
        return None

    def start(self, before: Now | None, now: Now) -> None:
        """All connections of the epoch before are gone.

        Across a reboot monotonic time began anew, and only a believed clock tells how long we were away.
        """
        shift_us = 0
        if before is not None and before.boot != now.boot:
            away = now.wall_us - before.wall_us if now.quality == before.quality == SYNCHRONISED else 0
            shift_us = now.mono_us - before.mono_us - max(away, 0)
        for session in self.by_client.values():
            session.left_us += shift_us
        self.wills.start(shift_us, now.mono_us)
        for connection in list(self.clients):
            self._disconnect(Disconnect(connection, clean=False), now.mono_us)
        self.numbers.clear()
        self._gone.clear()

    def end_tick(self) -> None:
        """Forget the connections that ended: no message of theirs can follow."""
        for connection in self._gone:
            self.numbers.pop(connection, None)
        self._gone.clear()

    def live_numbers(self) -> list[int]:
        return [session.number for session in self.by_client.values()]

    def connections_for(self, *filters: str) -> list[int]:
        """Return the live connections whose sessions have one of the filters, each once."""
        clients = {client: None for one in filters for client in self._subscribers.get(one, ())}
        found = (self.by_client[client].connection for client in clients)
        return [connection for connection in found if connection]

    def wants(self, topic: str) -> bool:
        """Tell whether some session, its client there or away, has a filter."""
        return topic in self._subscribers

    def qos_of(self, connection: int, *filters: str) -> int:
        """Return the QoS that a live connection was granted for a topic that these filters match."""
        granted = self.by_client[self.clients[connection]].filters
        return max(granted.get(one, 0) for one in filters)

    def readers_of(self, topic: str) -> list[int]:
        """Return the live connections that subscribed to what is put out on a topic, each once."""
        return self.connections_for(*(one for one in self._readers if matches(one, topic)))

    @property
    def readers(self) -> int:
        """Filters that sessions have for what is put out."""
        return len(self._readers)

    def filters_of(self, client: str) -> dict[str, int] | None:
        """Return what a client subscribed to in its session; None if it has none."""
        session = self.by_client.get(client)
        return None if session is None else dict(session.filters)

    def of_brokers(self) -> list[int]:
        """Return the numbers of the sessions with brokers."""
        return [session.number for client, session in self.by_client.items() if client.startswith(BROKERS)]

    def _connect(self, event: Connect, now_us: int) -> bool:
        old = self.by_client.get(event.client)
        if old is not None and old.connection:  # taken over; the listener has ended the other
            self._disconnect(Disconnect(old.connection, clean=False), now_us)
            old = self.by_client.get(event.client)
        present = old is not None and not event.clean and not _expired(old, now_us)
        if old is None or not present:
            if old is not None:
                self._end(event.client)
            old = Session(self.next_number, 0, 0, 0, {})
            self.next_number += 1
        self.wills.connected(event)
        self.by_client.pop(event.client, None)
        self.by_client[event.client] = old  # at the end: the order is that of the last connect
        old.connection, old.expiry_s = event.connection, event.expiry_s
        self.clients[event.connection] = event.client
        self.numbers[event.connection] = old.number
        if len(self.by_client) > KEPT:
            self._forget_one()
        return present

    def _disconnect(self, event: Disconnect, now_us: int) -> None:
        client = self.clients.pop(event.connection, None)
        if client is None:
            return
        self._gone.append(event.connection)
        session = self.by_client[client]
        session.connection, session.left_us = 0, now_us
        if event.expiry_s >= 0:
            session.expiry_s = event.expiry_s
        self.wills.ended(event.connection, clean=event.clean, expiry_s=session.expiry_s, now_us=now_us)
        if session.expiry_s == 0:
            self._end(client)

    def _end(self, client: str) -> None:
        for topic in self.by_client.pop(client).filters:
            self._unsubscribe(client, topic)
        self.ended += 1

    def _subscribe(self, client: str, topic: str) -> None:
        self._subscribers.setdefault(topic, {})[client] = None
        if not is_command(topic):
            self._readers[topic] = None

    def _unsubscribe(self, client: str, topic: str) -> None:
        clients = self._subscribers.get(topic, {})
        clients.pop(client, None)
        if not clients:
            self._subscribers.pop(topic, None)
            self._readers.pop(topic, None)

    def _forget_one(self) -> None:
        for client, session in self.by_client.items():
            if not session.connection:
                self._end(client)
                self.wills.session_ended(client)
                return

    def dump(self) -> dict[str, object]:
        return {
            "by_client": {client: msgspec.structs.astuple(s) for client, s in self.by_client.items()},
            "clients": self.clients,
            "numbers": self.numbers,
            "next_number": self.next_number,
            "ended": self.ended,
            "wills": self.wills.dump(),
        }

    def load(self, dumped: dict[str, object]) -> None:
        by_client = msgspec.convert(dumped["by_client"], dict[str, tuple[int, int, int, int, dict[str, int]]])
        self.by_client = {client: Session(*fields) for client, fields in by_client.items()}
        self.clients = msgspec.convert(dumped["clients"], dict[int, str])
        self.numbers = msgspec.convert(dumped["numbers"], dict[int, int])
        self.next_number = msgspec.convert(dumped["next_number"], int)
        self.ended = msgspec.convert(dumped["ended"], int)
        if "wills" in dumped:  # not in a snapshot of before there were any
            self.wills.load(msgspec.convert(dumped["wills"], dict[str, object]))
        for client, session in self.by_client.items():
            for topic in session.filters:
                self._subscribe(client, topic)


def _expired(session: Session, now_us: int) -> bool:
    return session.expiry_s != NEVER and now_us - session.left_us > session.expiry_s * 1_000_000
