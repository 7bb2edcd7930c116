"""The source interface: bursts of messages in, acknowledgements out after the commit."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from headwater_edge.events import Event, Release
from headwater_shared.logs import get_logger

log = get_logger()

if TYPE_CHECKING:
    from headwater_edge.decode import DeadLetter
    from headwater_edge.idempotency import Verdict

RETAIN, QOS1, QOS2, DUP = 0x1, 0x2, 0x4, 0x8
"""Bits of a message's flags: the low half of the PUBLISH's first byte."""
TWICE = 0x1000_0000
"""What makes of a packet id one of QoS 2: as a bit of the acknowledgement's first byte it makes PUBREC of PUBACK."""
REPLAY = 0x10
"""... and one of ours: a dead letter that a person has sent on its way again."""


@dataclass(slots=True)
class Burst:
    """What one nap brought from all connections of one source: message i is topics[i], payloads[i], ...

    The burst owns the acknowledgements: whoever holds it gives it back to its source's `acknowledge` after the commit
    of the tick that took it in, once, in the order of arrival; or never, and the messages come again.
    """

    arrived_us: int
    """Wall clock when the sockets were read."""
    topics: list[bytes] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    packet_ids: list[int] = field(default_factory=list)
    """0 at QoS 0; at QoS 2 `TWICE` may stand above it, for who writes the acknowledgements."""
    flags: list[int] = field(default_factory=list)
    runs: list[tuple[int, int]] = field(default_factory=list)
    """(connection, end): its messages go from the end of the run before up to `end`, in the order sent."""
    events: list[tuple[int, Event]] = field(default_factory=list)
    """(message index that it stands before, event), ascending."""
    size: int = 0
    """Bytes of topics and payloads."""
    waiting: int = 0
    """Connections that send one message at a time, each as soon as the one before was acknowledged (R19)."""
    whole: bool = False
    """Its runs are requests: all of one is taken, or nothing (R12)."""
    dead: Sequence[DeadLetter] = ()
    """Set by the agent: what of it could not be read, in the order of the messages."""
    verdicts: Mapping[int, Verdict] = field(default_factory=dict)
    """Set by the agent, before it gives the burst back: of requests whose idempotency key was known, by number."""
    unknown: frozenset[tuple[int, int]] = frozenset()
    """(connection, packet id) of every PUBREL in it that released nothing; the step finds out, `acknowledge` may look."""

    @property
    def urgent(self) -> bool:
        """Whether one of its events is to end the tick early; a PUBREL can wait like a message."""
        return any(type(event) is not Release for _, event in self.events)

    @property
    def senders(self) -> int:
        """Runs of messages, and of PUBRELs where all events are such."""
        return len(self.runs) + len(self.events)


class Source(Protocol):
    """A way in. It calls `deliver(burst)` on the event loop; calls of one source never overlap."""

    def acknowledge(self, bursts: Sequence[Burst], sessions: Mapping[int, bool]) -> None:
        """Send what waited for the commit: PUBACK, PUBREC, PUBCOMP, CONNACK, SUBACK, in each connection's order.

        Args:
            bursts: those that the committed tick took in, of this source.
            sessions: for each connection that connected in them, whether a session was present (R13).
        """

    def refuse(self, connections: Iterable[int]) -> None:
        """End connections: a message of theirs can be neither read nor kept. Nothing that they await is acknowledged."""

    def hold(self) -> None:
        """Hold back until `resume`: nothing will be acknowledged for long. Who is there is read, nobody else is let in (R18)."""

    def pause(self) -> None:
        """Stop reading: more than may wait in memory is unacknowledged."""

    def resume(self) -> None:
        """Read again."""

    def publish(self, topic: bytes, payload: bytes) -> bool:
        """Send a message at QoS 0 to whoever is there to hear it; tell whether anybody was.

        It is for requests to devices that may be lost, since they are made again: a Sparkplug node is asked for its births.
        """

    def command(self, topic: bytes, payload: bytes, left_s: int, but: Container[int]) -> list[int]:
        """Send a command at QoS 1 over each connection on which somebody may hear it, other than those of `but`.

        Args:
            left_s: seconds for which it is worth anything; whoever keeps it for a device (MQTT 5) lets go of it then.

        Returns:
            the numbers of the connections over which it went; the device's own answer comes as a message.
        """

    async def close(self) -> None:
        """End all connections, let go of the address."""


class WithoutClients:
    """The half of a source that brings what this process made itself: nobody is connected, and it brings little."""

    def refuse(self, connections: Iterable[int]) -> None:
        """Nobody is there to be turned out."""

    def command(self, topic: bytes, payload: bytes, left_s: int, but: Container[int]) -> list[int]:
        """Nobody listens here."""
        return []

    def publish(self, topic: bytes, payload: bytes) -> bool:
        """Nobody is there to hear it."""
        return False

    def hold(self) -> None:
        """See `pause`."""

    def pause(self) -> None:
        """What it brings does not wait."""

    def resume(self) -> None:
        """See `pause`."""

    async def close(self) -> None:
        """Nothing to let go of."""


def ask(source: Source, asks: Sequence[tuple[bytes, bytes]]) -> None:
    """Publish requests of the decoder on the source whose burst led to them."""
    for topic, payload in asks:
        if not source.publish(topic, payload):
            log.warning("nobody is there to hear a request", topic=topic.decode(errors="replace"))
