"""What one connection to a broker brought at once, and which acknowledgements it is owed."""

from __future__ import annotations

from dataclasses import dataclass, field

from headwater_edge.events import Release
from headwater_edge.source import Burst


@dataclass(slots=True)
class BrokerBurst(Burst):
    """A burst of one connection to a broker."""

    connection: int = 0
    skipped: list[tuple[int, int]] = field(default_factory=list)
    """(message index that it stands before, packet id) of messages that are no readings, and owed an acknowledgement."""
    owed: int = 0
    """Messages in it, the skipped ones too."""
    released: list[int] = field(default_factory=list)
    """Packet ids of the PUBRELs in it (QoS 2), in the order of arrival."""
    wire_bytes: int = 0

    def releases(self, connection: int, packet_ids: list[int]) -> None:
        """Take PUBRELs: an event, and PUBCOMPs that are owed once it is committed; in a row they are one event."""
        self.released += packet_ids
        before = len(self.topics)
        if self.events:
            at, last = self.events[-1]
            if at == before and isinstance(last, Release):
                last.packet_ids.extend(packet_ids)
                return
        self.events.append((before, Release(connection, list(packet_ids))))

    def acknowledgements(self) -> list[int]:
        """Return the packet ids to be acknowledged, in the order of arrival; 0 for none.

        The agent makes 0 of those that it does not take in.
        """
        if not self.skipped:
            return self.packet_ids
        ids: list[int] = []
        begin = 0
        for at, packet_id in self.skipped:
            ids += self.packet_ids[begin:at]
            ids.append(packet_id)
            begin = at
        return ids + self.packet_ids[begin:]
