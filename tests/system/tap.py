"""A tap on the line between a broker and the agent: it forwards every byte, and keeps a ledger of what passed.

With a broker between, two things can go wrong, and only one is ours: the broker may lose what it told a device it had (its memory
is gone, its queue was full), or the agent may lose what it told the broker it had. The ledger of the fleet cannot tell them
apart, and a second subscriber is no witness either, for the broker may lose what is another's and keep what is ours. The line
between the two can: what the broker delivered is what was sent to us, and our acknowledgement is what must be counted. So the
tap writes a ledger as a fleet does (sent: a PUBLISH went to the agent; acknowledged: its PUBACK or PUBREC came from it), and the same audit
that judges a fleet judges the agent. What the fleet's ledger has as acknowledged and the tap never saw, the broker lost.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from headwater_appliance.ports import steady_port
from headwater_shared.digest import NO_TIME
from headwater_shared.ledger import Message, Reading
from headwater_shared.ledger_writer import Ledger

_CHUNK = 1 << 14


class _Use(NamedTuple):
    """The last use of a packet id: its bytes, and the message in the ledger."""

    topic: bytes
    payload: bytes
    device: int
    number: int


class Tap:
    """Forwards connections of one agent to one broker, one at a time. `port` is where the agent connects.

    `most` is how many messages it lets be on the way, unacknowledged: Mosquitto 2.0.11 does not keep to a Receive Maximum, and
    of what was delivered and not acknowledged an audit cannot say whether it must be counted.
    """

    def __init__(self, broker_port: int, ledger: Path, version: int = 5, most: int = 1 << 30) -> None:
        self._most = most
        self._waiting = 0
        self.port = steady_port()
        self.ledger = ledger
        self.delivered = 0
        """PUBLISHes that went to the agent, with those that came again."""
        self.again = 0
        """Of them, those that repeat one before, by MQTT's own rule (R3)."""
        self.acknowledged = 0
        self.connections = 0
        self.last = b"not yet known"
        """A payload to look out for."""
        self.last_acknowledged = False
        self._broker_port = broker_port
        self._v5 = version == 5
        self._book = Ledger(ledger)
        self._book.begin({"tap": self.port}, ())
        self._numbers: dict[int, int] = {}
        self._uses: dict[int, _Use] = {}
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="tap")
        self._thread.start()

    def close(self) -> None:
        """End it, and the ledger."""
        self._stop = True
        self._thread.join()
        self._listener.close()
        self._book.close()

    def _run(self) -> None:
        self._listener.settimeout(0.05)
        while not self._stop:
            try:
                agent, _ = self._listener.accept()
            except TimeoutError:
                continue
            try:
                broker = socket.create_connection(("127.0.0.1", self._broker_port), timeout=5)
            except OSError:
                agent.close()
                continue
            self.connections += 1
            self._waiting = 0
            with agent, broker:
                self._forward(agent, broker)

    def _forward(self, agent: socket.socket, broker: socket.socket) -> None:
        """Forward both ways until either side ends."""
        rests = {agent: b"", broker: b""}
        for each in rests:
            each.settimeout(30)
        while not self._stop:
            heard = [agent, broker] if self._waiting <= self._most else [agent]
            ready, _, _ = select.select(heard, [], [], 0.05)
            for source in ready:
                data = b""
                with suppress(OSError):
                    data = source.recv(_CHUNK)
                if not data:
                    return
                rests[source] = self._note(rests[source] + data, from_broker=source is broker)
                self._book.commit()  # before it goes on: what is delivered is in the ledger
                with suppress(OSError):  # the next read will say so
                    (agent if source is broker else broker).sendall(data)

    def _note(self, data: bytes, *, from_broker: bool) -> bytes:
        """Write down what whole packets mean; return the rest."""
        at = 0
        while (found := _whole(data, at)) is not None:
            begin, end = found
            kind = data[at] >> 4
            if kind == 3 and from_broker:
                self._publish(data[at], data[begin:end])
            elif kind in {4, 5} and not from_broker:  # PUBACK, PUBREC
                self._puback(int.from_bytes(data[begin : begin + 2]))
            elif kind == 2 and from_broker and not data[begin]:
                self._uses.clear()  # the session is new: ids mean nothing any more
            at = end
        return data[at:]

    def _publish(self, first: int, body: bytes) -> None:
        size = int.from_bytes(body[:2])
        topic, at = body[2 : 2 + size], 2 + size
        packet_id = 0
        if first & 0x06:
            packet_id, at = int.from_bytes(body[at : at + 2]), at + 2
        if self._v5:
            assert body[at] < 0x80
            at += 1 + body[at]
        payload = body[at:]
        if topic.startswith(b"hw-canary/"):
            return
        self.delivered += 1
        self._waiting += packet_id > 0
        last = self._uses.get(packet_id)
        if first & 0x08 and last is not None and (last.topic, last.payload) == (topic, payload):
            self.again += 1
            return
        _, site, device, _, *metric = topic.decode().split("/")
        index = self._book.device(site, device)
        number = self._numbers[index] = self._numbers.get(index, -1) + 1
        self._book.sent(Message(index, number, self._readings(payload, metric), topic.decode(), payload))
        if packet_id:
            self._uses[packet_id] = _Use(topic, payload, index, number)

    def _readings(self, payload: bytes, metric: list[str]) -> tuple[Reading, ...]:
        """Read what the fleet writes; nothing where it wrote what nobody can read."""
        try:
            said = msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ()
        if isinstance(said, float | int):
            return (Reading(self._book.metric(metric[0]), NO_TIME, float(said)),)
        values = said["values"] if "values" in said else {metric[0]: said["v"]}
        return tuple(Reading(self._book.metric(name), said["t"], float(v)) for name, v in values.items())

    def _puback(self, packet_id: int) -> None:
        use = self._uses[packet_id]
        self._book.acknowledged(use.device, use.number)
        self.acknowledged += 1
        self._waiting -= 1
        self.last_acknowledged |= use.payload == self.last


def _whole(data: bytes, at: int) -> tuple[int, int] | None:
    """Return where the body of the packet at `at` begins and ends, or None if it is not whole."""
    length = 0
    for place in range(4):
        where = at + 1 + place
        if where >= len(data):
            return None
        length |= (data[where] & 0x7F) << 7 * place
        if data[where] < 0x80:
            end = where + 1 + length
            return (where + 1, end) if end <= len(data) else None
    raise AssertionError("no length of MQTT")


@contextmanager
def tapped(broker_port: int, ledger: Path, version: int = 5, most: int = 1 << 30) -> Iterator[Tap]:
    """Run a tap; it is ended with the block."""
    made = Tap(broker_port, ledger, version, most)
    try:
        yield made
    finally:
        made.close()
