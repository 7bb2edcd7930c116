"""The devices of a box: what the agent heard of each, what the cloud side has of it, and what is to be said of that."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from headwater_appliance.box import Box
from headwater_cloud import by_device
from headwater_cloud.history import History
from headwater_cloud.retention import length_us
from headwater_edge import places, words
from headwater_shared import registry
from headwater_shared.errors import Refused, StateError
from headwater_shared.registry import rank
from headwater_shared.settings import duration

SILENT_S = 60.0
"""A device from which no reading came for so long is silent, if nothing better is known of it."""

_SPAN_US = 300_000_000
_COARSE_US = 3_600_000_000
_WEEK_US = 168 * _COARSE_US


class Device(msgspec.Struct):
    """One device; times in microseconds, 0 where not known."""

    device: str
    """site/device."""
    heard_s: float | None = None
    """Seconds since the agent took in its last reading; None: no agent answers."""
    last_us: int = 0
    """Its latest event time."""
    series: int = 0
    per_s: float = 0.0
    """Readings a second in the windows of the last minutes; 0 if it is silent."""
    missing: int = 0
    """Windows of the finest level without a reading, in the last minutes, between others."""
    clock: str = ""
    """What is wrong with its times."""

    status: str = ""
    """online, silent or offline, as the agent said last; empty: it never said."""
    model: str = ""
    place: str = ""
    """By the registry."""

    @property
    def site(self) -> str:
        return self.device.partition("/")[0]

    def silent(self, now_us: int) -> bool:
        """Tell whether nothing comes from it: by its status, or else by when it was heard, or without an agent by its latest time."""
        if self.heard_s is not None and self.status:
            return self.status != "online"
        return self.silence_s(now_us) > SILENT_S

    def silence_s(self, now_us: int) -> float:
        """Return for how many seconds nothing came from it."""
        return self.heard_s if self.heard_s is not None else max(now_us - self.last_us, 0) / 1e6


def devices(box: Box, history: History | None, pattern: str = "*") -> list[Device]:
    """Return the devices (`site/device`) that match, by name.

    The agent says when it heard each, the cloud side's windows of the last five minutes how much came; either may be away.
    """
    found: dict[str, Device] = {}
    if history is not None:
        _from_history(found, history, pattern)
    for name, silent_s, newest_us, series, by_us in _from_agents(box):
        if not matches(name, pattern):
            continue
        one = found.setdefault(name, Device(name))
        one.heard_s, one.series = silent_s, max(one.series, series)
        one.last_us = max(one.last_us, newest_us)
        one.clock = one.clock or ("ours" if by_us else "")
    _from_registry(found, box, history)
    now_us = box.clock().now().wall_us
    for one in found.values():
        if one.silent(now_us):
            one.per_s = 0.0  # what its last windows held is over
    return [found[name] for name in sorted(found)]


def matches(name: str, pattern: str) -> bool:
    """Tell whether a device matches: `north` means all of that site."""
    return fnmatchcase(name, pattern if "/" in pattern or pattern == "*" else f"{pattern}/*")


def open_history(box: Box) -> History | None:
    """Open what the cloud side stored; None where there is nothing yet, or nothing that can be read."""
    try:
        return History(box.cloud_file)
    except (StateError, sqlite3.DatabaseError):
        return None


def _from_history(found: dict[str, Device], history: History, pattern: str) -> None:
    for name, series in by_device.all_devices(history).items():
        if matches(name, pattern):
            found[name] = Device(name, series=series)
    for said in history.devices():
        if said.device in found:
            found[said.device].status = said.status
    level = by_device.base_level(history)
    latest = None if level is None else by_device.latest_us(history, level)
    if level is None or latest is None:
        return
    length = duration(level.removesuffix("@arrival"))
    for of in by_device.recent(history, level, latest - _SPAN_US, latest + 1):
        if of.device not in found:
            continue
        one = found[of.device]
        span_s = max(latest + length - of.first_us, length) / 1e6
        one.last_us, one.missing, one.clock = of.last_us, of.missing, of.clock
        one.per_s = of.readings / span_s
    if any(not one.last_us for one in found.values()):
        _last_heard_long_ago(found, history)


def _from_registry(found: dict[str, Device], box: Box, history: History | None) -> None:
    """By the later word: the box's own file is ahead of the cloud side by a second, the bus may know of others' changes."""
    changes = history.registry() if history is not None else {}
    for change in registry.changes(box.data / registry.FILE):
        known = changes.get(change.device)
        if known is None or rank(known) < rank(change):
            changes[change.device] = change
    for name, one in found.items():
        if name in changes:
            one.model, one.place = changes[name].model, changes[name].place


def _last_heard_long_ago(found: dict[str, Device], history: History) -> None:
    """Of devices without a window in the last minutes find the latest event time, as far back as a week, in coarse windows."""
    coarse = [
        level for level in history.levels() if (length_us(level) or 0) >= _COARSE_US and "/" not in level
    ]
    latest = by_device.latest_us(history, coarse[-1]) if coarse else None
    if latest is None:
        return
    for of in by_device.recent(history, coarse[-1], latest - _WEEK_US, latest + 1):
        one = found.get(of.device)
        if one is not None and not one.last_us:
            one.last_us, one.clock = of.last_us, of.clock


def _from_agents(box: Box) -> Iterator[tuple[str, float, int, int, bool]]:
    for agent in box.agents:
        try:
            said: dict[str, Any] = words.say(agent / places.SOCKET, "devices", timeout_s=5)
        except Refused:
            continue
        columns = (said["device"], said["silent_s"], said["newest_us"], said["series"], said["by_us"])
        yield from zip(*columns, strict=True)
