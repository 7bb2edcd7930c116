"""Devices that keep to MQTT: what is not acknowledged they send again, with DUP in a session that lives on, as new in another."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from zlib import crc32

from headwater_edge.events import Connect, Disconnect, Event, Keyed, Release
from headwater_edge.sessions import BROKERS, NEVER
from headwater_edge.source import DUP, QOS1, QOS2, Burst
from tests.edge.feed import DAY, Reading

IDS = 3
"""Packet ids that a client has: so few that each is used again and again (R3)."""


@dataclass(eq=False)
class Said:
    """One message, however often it is sent. `good`: it can be read."""

    number: int
    topic: str
    readings: tuple[Reading, ...]
    qos: int
    good: bool = True

    @property
    def payload(self) -> bytes:
        """A list of objects, each with its time."""
        if not self.good:
            return b"{%d" % self.number
        each = [
            {name.rpartition("/")[2]: value} | ({} if time_us is None else {"t": time_us})
            for name, time_us, value in self.readings
        ]
        return json.dumps(each).encode()


@dataclass(eq=False)
class InFlight:
    """A message that is not acknowledged; `received`: at QoS 2, its PUBREC is here."""

    said: Said
    packet_id: int
    received: bool = False


@dataclass(slots=True, eq=False)
class SentBurst(Burst):
    """A burst that knows what was said in it: messages, PUBRELs (client, packet ids) and requests."""

    said: list[Said] = field(default_factory=list)
    clients: list[Client | None] = field(default_factory=list)
    """Of each message; None of one that was posted."""
    released: list[tuple[Client, int, int]] = field(default_factory=list)
    """(client, connection, packet id)."""
    connects: list[tuple[Client, int]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    tick: int = 0
    """The tick that took it in, once one did."""

    def put(
        self, client: Client | None, connection: int, said: Said, packet_id: int = 0, *, dup: bool = False
    ) -> None:
        """Add a message."""
        self.topics.append(said.topic.encode())
        self.payloads.append(said.payload)
        self.packet_ids.append(packet_id)
        self.flags.append((0, QOS1, QOS2)[said.qos] | (DUP if dup else 0))
        if self.runs and self.runs[-1][0] == connection:
            self.runs.pop()
        self.runs.append((connection, len(self.topics)))
        self.said.append(said)
        self.clients.append(client)

    def happen(self, event: Event) -> None:
        """Add an event that stands before the next message."""
        self.events.append((len(self.topics), event))


@dataclass(eq=False)
class Request:
    """A POST: all of its messages or nothing; under a key it counts once however often it comes (R12)."""

    said: list[Said]
    key: int
    under_way: bool = False


Packet = Callable[[SentBurst], None]


class Client:
    """One client with one session; a `clean` one begins a new one each time, though the agent keeps the old."""

    def __init__(self, name: str, devices: Sequence[str], *, clean: bool = False) -> None:
        self.name = name
        self.devices = devices
        self.clean = clean
        self.connection = 0
        self.connected = False
        """The CONNACK is here."""
        self.eager = self.as_new = False
        """How it sends again: before the CONNACK; under new packet ids where its session is gone."""
        self.in_flight: list[InFlight] = []
        self._queue: list[Packet] = []
        self._last_id = 0

    def say(self, said: Said) -> bool:
        """Take a message to be sent; False if it cannot be taken now."""
        if not self.connected:
            return False
        if said.qos == 0:
            self._queue.append(lambda burst: burst.put(self, self.connection, said))
            return True
        taken = {one.packet_id for one in self.in_flight}
        free = [n for n in ((self._last_id + i) % IDS + 1 for i in range(IDS)) if n not in taken]
        if not free:
            return False
        self._last_id = free[0]
        self.in_flight.append(InFlight(said, free[0]))
        self._publish(self.in_flight[-1], dup=False)
        return True

    def connect(self, number: int, *, eager: bool, as_new: bool) -> None:
        """Send CONNECT; `eager`: and what is in flight, without a wait for the CONNACK."""
        self.lose()
        self.connection, self.eager, self.as_new = number, eager, as_new
        if self.clean:
            self._last_id = 0
        expiry_s = 3600 if self.clean else NEVER
        event = Connect(number, self.name, "", self.clean, expiry_s)

        def packet(burst: SentBurst) -> None:
            burst.happen(event)
            burst.connects.append((self, number))

        self._queue.append(packet)
        if eager and not self.clean:
            self._again()

    def accepted(self, *, present: bool) -> None:
        """CONNACK is here; send again what was not acknowledged."""
        self.connected = True
        if self.eager and not self.clean:
            return
        if not present:
            self.in_flight = [one for one in self.in_flight if not one.received]
        if present or not self.as_new:
            self._again()
            return
        waiting, self.in_flight = self.in_flight, []
        for one in waiting:
            self.say(one.said)

    def _again(self) -> None:
        for one in self.in_flight:
            if one.received:
                self._release(one)
            else:
                self._publish(one, dup=True)

    def _publish(self, one: InFlight, *, dup: bool) -> None:
        self._queue.append(lambda burst: burst.put(self, self.connection, one.said, one.packet_id, dup=dup))

    def _release(self, one: InFlight) -> None:
        def packet(burst: SentBurst) -> None:
            burst.happen(Release(self.connection, [one.packet_id]))
            burst.released.append((self, self.connection, one.packet_id))

        self._queue.append(packet)

    def acknowledged(self, said: Said) -> None:
        """PUBACK or PUBREC."""
        for one in [one for one in self.in_flight if one.said is said and not one.received]:
            if said.qos == 1:
                self.in_flight.remove(one)
            else:
                one.received = True
                self._release(one)

    def completed(self, packet_id: int) -> None:
        """PUBCOMP."""
        self.in_flight = [one for one in self.in_flight if one.packet_id != packet_id or not one.received]

    def lose(self) -> None:
        """The connection is over, and what is under way on it."""
        self.connection, self.connected = 0, False
        self._queue.clear()

    def flow(self, burst: SentBurst) -> None:
        """Put what waits into a burst."""
        queue, self._queue = self._queue, []
        for packet in queue:
            packet(burst)


class Fleet:
    """All that sends: a device with a session that stays, one that begins anew each time, a broker, and one that posts."""

    def __init__(self, *, by_meaning: bool) -> None:
        self.by_meaning = by_meaning
        self.clients = (
            Client("kept", ("s1/d1", "s1/d2")),
            Client("clean", ("s2/d3",), clean=by_meaning),  # by transport nobody can tell what it sends again
            Client(BROKERS + "b1", ("s1/d4", "s2/d5")),
        )
        self.poster = ("s3/d6",)
        self.requests: list[Request] = []
        self.said: list[Said] = []
        """What was really sent, or waits for it."""
        self._messages = count(1)
        self._numbers = count(1)
        self._newest: dict[str, int] = {}
        self._timed: set[Reading] = set()

    def number(self) -> int:
        """Return a number for a connection or a request."""
        return next(self._numbers)

    def message(
        self, device: str, what: Sequence[tuple[int, int, float, bool]], qos: int, *, good: bool
    ) -> Said:
        """Make a message: of each reading its metric, microseconds after the device's newest one, value, and whether it is timed."""
        number = next(self._messages)
        readings: dict[Reading, None] = {}
        for metric, offset_us, value, timed in what:
            name = f"{device}/{('temp', 'flow')[metric]}"
            if timed:
                newest = self._newest.get(device, DAY)
                if not self.by_meaning and (name, newest + offset_us, value) in self._timed:
                    value += number / 64  # noqa: PLW2901 - of equal messages under one id nobody can tell (R3)
                self._timed.add((name, newest + offset_us, value))
                readings[name, newest + offset_us, value] = None
                self._newest[device] = max(newest, newest + offset_us)
            elif not any(time_us is None for _, time_us, _ in readings):  # its value tells it from all others
                readings[name, None, number / 64] = None
        return Said(number, f"hw/{device}/data", tuple(readings) if good else (), qos, good)

    def again(self, old: Said, readings: tuple[Reading, ...] | None = None) -> Said:
        """The same readings, or others of the same device, in a new message."""
        return Said(next(self._messages), old.topic, readings or old.readings, max(1, old.qos))

    def send(self, client: Client, said: Said) -> None:
        """Let a client send a message, if it can now."""
        if client.say(said):
            self.said.append(said)

    def post(self, said: list[Said]) -> None:
        """Take a request to be sent."""
        self.said += said
        self.requests.append(Request(said, crc32(b"%d" % said[0].number)))

    def flow(self, burst: SentBurst, clients: Sequence[Client]) -> None:
        """Put all that these have to send, and the requests that are not under way, into a burst."""
        for client in clients:
            client.flow(burst)
        for request in self.requests:
            if not request.under_way:
                request.under_way = True
                number = self.number()
                burst.happen(Keyed(number, request.key, request.key + 1, len(request.said)))
                for said in request.said:
                    burst.put(None, number, said)
                burst.requests.append(request)

    def cut(self, client: Client, burst: SentBurst, *, noticed: bool) -> None:
        """A client's connection is lost; the agent may notice."""
        if noticed and client.connection:
            burst.happen(Disconnect(client.connection, clean=False))
        client.lose()

    def lose_all(self) -> None:
        """Every connection is lost, with what is under way on it."""
        for client in self.clients:
            client.lose()
        for request in self.requests:
            request.under_way = False

    @property
    def waits(self) -> bool:
        """Whether anything is not acknowledged."""
        return bool(self.requests) or any(client.in_flight for client in self.clients)
