"""What a device keeps until it is acknowledged, as in its flash: the ledger is where it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headwater_firmware_sim.device import Device
from headwater_firmware_sim.misbehave import Step
from headwater_firmware_sim.orders import Orders
from headwater_shared.ledger import COPY, RESENT, Message, Reading
from headwater_shared.ledger_writer import Ledger

PACKET_IDS = 65_535


@dataclass(slots=True)
class Kept:
    """A message that was written to the ledger and is not acknowledged yet, as it goes over the wire."""

    message: Message
    topic: str
    payload: bytes

    @property
    def packet_id(self) -> int:
        """Follows from the number, so that a fleet that was killed sends it again under the same one."""
        return self.message.number % PACKET_IDS + 1


class Flash:
    """The messages of one device between ledger and acknowledgement, in order.

    What it adds to the ledger is not committed: the driver does that, once for all devices, before it sends.
    """

    def __init__(
        self,
        device: Device,
        book: Ledger,
        next_number: int = 0,
        unacknowledged: Sequence[Message] = (),
        orders: Orders | None = None,
    ) -> None:
        self._device = device
        self.orders = orders
        """What it was told to do, if it takes commands."""
        self._book = book
        self._index = book.device(device.site, device.name)
        self._next = next_number
        self._kept: dict[int, Kept] = {}
        self._unreleased: dict[int, None] = {}
        """At QoS 2: packet ids that are acknowledged and not complete, in that order."""
        for message in unacknowledged:
            self._keep(message)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def unused(self) -> bool:
        """Whether nothing was ever sent from it."""
        return not self._next

    @property
    def unreleased(self) -> list[int]:
        """Packet ids that are acknowledged and not complete: each wants a PUBREL."""
        return list(self._unreleased)

    @property
    def spare_id(self) -> int:
        """A packet id that no message has, nor will have soon."""
        number = self._next + PACKET_IDS // 2
        while (packet_id := number % PACKET_IDS + 1) in self._kept or packet_id in self._unreleased:
            number += 1
        return packet_id

    def suspect(self, count: int) -> None:
        """Take the ids of the last messages that are not kept for unreleased ones: the ledger does not tell.

        For a fleet that was killed. One PUBREL too many does no harm; an id that is used again before it is released
        would make its new message a repeat.
        """
        for number in range(max(0, self._next - count), self._next):
            packet_id = number % PACKET_IDS + 1
            if packet_id not in self._kept:
                self._unreleased[packet_id] = None

    def receive(self, packet_id: int) -> Kept | None:
        """Let go of a message that the server has, at QoS 2; its id stays in use until `complete`."""
        kept = self.acknowledge(packet_id)
        if kept is not None:
            self._unreleased[packet_id] = None
        return kept

    def complete(self, packet_id: int) -> bool:
        """Let go of a packet id; False if it was free."""
        return self._unreleased.pop(packet_id, 0) is None

    def kept(self) -> list[Kept]:
        """Return all that is not acknowledged, in the order first sent."""
        return list(self._kept.values())

    def take(self, step: Step) -> Kept:
        """Keep a message of the script, under a new number."""
        topic = self._device.topic if not step.readings else ""
        readings = self.orders.changed(step.readings) if self.orders is not None else step.readings
        return self._add(readings, topic, step.payload, step.flags)

    def acknowledge(self, packet_id: int) -> Kept | None:
        """Let go of an acknowledged message; None if none is kept under this packet id."""
        kept = self._kept.pop(packet_id, None)
        if kept is not None:
            self._book.acknowledged(self._index, kept.message.number)
        return kept

    def refuse(self, packet_id: int) -> Kept | None:
        """Let go of a message that the server does not take."""
        kept = self._kept.pop(packet_id, None)
        if kept is not None:
            self._book.refused(self._index, kept.message.number)
        return kept

    def renew(self) -> list[Kept]:
        """Make new messages of all that is kept: the session that knew the old ones is gone."""
        old = self.kept()
        self._kept.clear()
        self._unreleased.clear()
        for kept in old:
            _, number, readings, topic, payload, flags = kept.message
            copy = COPY if self._device.timed and readings else 0
            self._add(readings, topic, payload, (flags & COPY) | copy | RESENT)
            self._book.superseded(self._index, number)
        return self.kept()

    def reboot(self) -> None:
        """Give up the session and renew all that is kept; that is in the ledger on return."""
        self.renew()
        self._book.commit()

    def _add(self, readings: tuple[Reading, ...], topic: str, payload: bytes, flags: int) -> Kept:
        while (packet_id := self._next % PACKET_IDS + 1) in self._kept or packet_id in self._unreleased:
            self._next += 1  # an id is in use until it is acknowledged
        message = Message(self._index, self._next, readings, topic, payload, flags)
        self._next += 1
        self._book.sent(message)
        return self._keep(message)

    def _keep(self, message: Message) -> Kept:
        if message.readings:
            kept = Kept(message, *self._device.render(message.readings))
        else:
            kept = Kept(message, message.topic, message.payload)
        self._kept[kept.packet_id] = kept
        return kept
