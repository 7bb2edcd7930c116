"""What devices send while the agent takes nothing in: it is read within bounds, so that their pings are answered (R18)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import accumulate

from headwater_edge.connection import ListenerBurst

_MOST = 16_000_000
"""Bytes of packets of all connections together; beyond them sockets are left to fill up."""


class HeldBack:
    """Bursts that were read and not handed on, in the order of arrival."""

    def __init__(self) -> None:
        self._bursts: deque[tuple[ListenerBurst, int]] = deque()
        self._bytes = 0
        self.pausing = False
        """Whether the agent takes nothing in."""
        self.holding = False
        """Whether nothing that it takes in will be acknowledged for long."""

    @property
    def stopped(self) -> bool:
        """Whether so much is kept that nothing more is read."""
        return self.pausing and self._bytes > _MOST

    def keep(self, burst: ListenerBurst, size: int) -> None:
        """Keep a burst; `size`: bytes of its packets."""
        self._bursts.append((burst, size))
        self._bytes += size

    def hand_on(self, deliver: Callable[[ListenerBurst], None]) -> None:
        """Deliver what was kept, until the agent has enough again."""
        while self._bursts and not self.pausing:
            burst, size = self._bursts.popleft()
            self._bytes -= size
            deliver(burst)


def drop_qos_0(burst: ListenerBurst, message: int, event: int, reply: int) -> int:
    """Take messages at QoS 0 out of a burst, from the message, event and reply on; return how many.

    Nobody is promised anything of them, and where nothing is acknowledged they would only take the room of others.
    """
    ids = burst.packet_ids[message:]
    if 0 not in ids:
        return 0
    kept = [message + at for at, packet_id in enumerate(ids) if packet_id]
    before = [0, *accumulate(bool(packet_id) for packet_id in ids)]
    burst.events[event:] = [(message + before[at - message], what) for at, what in burst.events[event:]]
    burst.replies[reply:] = [
        (message + before[at - message], whose, what) for at, whose, what in burst.replies[reply:]
    ]
    burst.topics[message:] = [burst.topics[at] for at in kept]
    burst.payloads[message:] = [burst.payloads[at] for at in kept]
    burst.packet_ids[message:] = [burst.packet_ids[at] for at in kept]
    burst.flags[message:] = [burst.flags[at] for at in kept]
    return len(ids) - len(kept)
