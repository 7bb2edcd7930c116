"""Availability topics: a message that says of a device that it is there or gone, as a will at a broker does; no readings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from headwater_edge.events import DeviceSaid
from headwater_edge.format_settings import FormatSettings
from headwater_edge.patterns import Where
from headwater_edge.source import REPLAY, Burst
from headwater_edge.taking import Taking

_HERE = frozenset({"online", "on", "true", "1", "yes", "connected", "available", "alive", "up", "ready"})
_GONE = frozenset(
    {"offline", "off", "false", "0", "no", "disconnected", "unavailable", "dead", "down", "lost", "sleeping"}
)
_KEYS = ("state", "status", "online", "value")
"""Of an object that says it: Zigbee2MQTT writes {"state": "online"}."""
_LONGEST = 1_000


class AvailabilityPlace:
    """A topic that speaks of one device, `site/device`."""

    __slots__ = ("codec", "device")

    def __init__(self, codec: Availability, device: str) -> None:
        self.codec = codec
        self.device = device


class Availability:
    """Reads the availability topics of one `[[edge.format]]`."""

    def __init__(self, settings: FormatSettings) -> None:
        self._settings = settings

    def place(self, where: Where) -> AvailabilityPlace:
        """Make the place of a topic."""
        site = where.site or self._settings.site
        return AvailabilityPlace(self, f"{site}/{where.device or self._settings.device}")

    def take(
        self, burst: Burst, which: Sequence[int], places: Sequence[AvailabilityPlace], taking: Taking
    ) -> None:
        """Take what messages say; one that says neither, or is of another time, is counted as skipped."""
        for message in which:
            online = said_online(burst.payloads[message])
            if online is None or (burst.flags and burst.flags[message] & REPLAY):
                taking.skipped += 1
            else:
                taking.said.append((message, DeviceSaid(places[message].device, online)))
            taking.took()


def said_online(payload: bytes) -> bool | None:
    """Return whether a payload says that a device is there (True) or gone; None if it says neither."""
    if len(payload) > _LONGEST:
        return None
    text: Any = payload.decode(errors="replace").strip()
    try:
        found: Any = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = text
    if isinstance(found, dict):
        found = next((found[key] for key in _KEYS if key in found), "")
    word = str(found).lower()
    return True if word in _HERE else False if word in _GONE else None
