"""Messages at QoS 1 that we send on one connection: their packet ids, and how many may be on the way (Receive Maximum)."""

from __future__ import annotations

_MOST = 100
"""That may be on the way unanswered, however many the other side would take."""
_LAST = 65_535


class Outgoing:
    """Packet ids from `first` on; ids below it are for what else is sent."""

    __slots__ = ("_first", "_last", "_waiting", "most")

    def __init__(self, first: int = 1) -> None:
        self._first = first
        self._last = first - 1
        self._waiting: set[int] = set()
        self.most = _MOST

    def take(self) -> int:
        """Return a packet id for one more message, 0 if it has to wait until others are answered."""
        if len(self._waiting) >= self.most:
            return 0
        while True:
            self._last = self._last + 1 if self._last < _LAST else self._first
            if self._last not in self._waiting:
                self._waiting.add(self._last)
                return self._last

    def answered(self, packet_id: int) -> bool:
        """A PUBACK came; False if nothing waited for it."""
        if packet_id not in self._waiting:
            return False
        self._waiting.discard(packet_id)
        return True

    def allow(self, receive_maximum: int) -> None:
        """The other side takes so many at once; 0: it did not say."""
        self.most = min(receive_maximum, _MOST) or _MOST
