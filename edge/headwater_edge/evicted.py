"""What outlives the eviction of a series: who it was, and when it was heard (R3, R4, R12)."""

from __future__ import annotations

import msgspec


class Former(msgspec.Struct, frozen=True, array_like=True):
    """A series that was let go. When it comes back it is journaled with the tick that brings it."""

    name: str
    serial: int
    """The how-manieth series of this file it is."""
    heard: list[int]
    """Its coverage: [begin, end, begin, end, ...] of event time as sent, rising."""
