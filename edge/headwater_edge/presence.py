"""Device status: which devices are online, silent or offline, from what is in the journal and nothing else (R12, R13).

A device belongs to the connection that it was last heard on. When that ends it is offline: after a will's own delay, or a
grace of the settings; one that is connected but says nothing is silent. What came through a broker or over HTTP has no
connection of its own: it is online while it is heard, silent when not, and offline where a topic says so (`DeviceSaid`).

A restart of the agent ends all connections, and not by the devices' doing: as with wills, each has one and a half times its
keep alive to come back, and nothing is said of those that do. Nor is the time in which no agent ran a device's silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_edge.device_settings import PresenceRules
from headwater_edge.events import Connect, DeviceSaid, Disconnect, Event
from headwater_edge.sessions import BROKERS
from headwater_edge.tick import Tick
from headwater_edge.wills import GRACE_US
from headwater_shared.clock import SYNCHRONISED, Now

Ints = NDArray[np.int64]

UNKNOWN, ONLINE, SILENT, OFFLINE = range(4)
STATUSES = ("", "online", "silent", "offline")
_NEVER_US = 2**62


class Reason:
    """Why a status changed, as numbers that a snapshot holds; their words in `REASONS`, in this order."""

    NONE, READING, CONNECT, SILENCE, FAREWELL, LOST, WILL, SAID = range(8)


REASONS = ("", "reading", "connected", "silence", "disconnected", "connection-lost", "will", "said")
"""What a record says; `said`: by an availability topic, or a birth or death of Sparkplug."""


class Change(NamedTuple):
    """A device's status after a tick, and what it was before it."""

    device: int
    status: int
    before: int
    before_us: int
    """Wall time since which it was that; 0 if it was nothing."""
    reason: int
    heard_us: int


class _Link(msgspec.Struct, array_like=True):
    """A live connection of a client; `will_delay_s` is -1 without a will."""

    client: str
    keep_alive_s: int
    will_delay_s: int
    expiry_s: int


class _Away(msgspec.Struct, array_like=True):
    """A client whose connection ended; devices with `via` == -number were heard on it."""

    number: int
    due_us: int
    reason: int


class Presence:
    """Columns by device: `status`, `reason`, `via`, and when it was heard (monotonic and wall). Pure state."""

    COLUMNS = ("status", "since", "reason", "via", "heard", "heard_wall")

    def __init__(self, rules: PresenceRules) -> None:
        self.rules = rules
        self.status = np.zeros(0, np.int8)
        self.since: Ints = np.zeros(0, np.int64)
        """Wall time at which the status was said."""
        self.reason = np.zeros(0, np.int8)
        self.via: Ints = np.zeros(0, np.int64)
        """The connection that a device was last heard on; below 0: a client that is away; 0: none of its own."""
        self.heard: Ints = np.zeros(0, np.int64)
        self.heard_wall: Ints = np.zeros(0, np.int64)
        self.links: dict[int, _Link] = {}
        self.away: dict[str, _Away] = {}
        self.next_number = 1
        self._names: list[str] = []
        self._numbers: Mapping[str, int] = {}
        self._patience: Ints = np.zeros(0, np.int64)
        """Silence after which a device is silent; microseconds."""
        self._due_us = _NEVER_US

    def grow(self, numbers: Mapping[str, int], now: Now) -> None:
        """Make room for all devices; those known before come first."""
        self._numbers = numbers
        more = len(numbers) - len(self.status)
        if more > 0:
            self.status = np.append(self.status, np.zeros(more, np.int8))
            self.since = np.append(self.since, np.zeros(more, np.int64))
            self.reason = np.append(self.reason, np.zeros(more, np.int8))
            self.via = np.append(self.via, np.zeros(more, np.int64))
            self.heard = np.append(self.heard, np.full(more, now.mono_us))
            self.heard_wall = np.append(self.heard_wall, np.full(more, now.wall_us))
        if len(numbers) > len(self._names):
            fresh = list(numbers)[len(self._names) :]
            self._names += fresh
            self._patience = np.append(self._patience, [self._patience_of(name) for name in fresh])

    def let_go(self, kept: NDArray[np.bool_], numbers: Mapping[str, int]) -> None:
        """Forget devices but those that are kept, whose numbers are these from now on."""
        for name in self.COLUMNS:
            setattr(self, name, getattr(self, name)[kept])
        self._patience = self._patience[kept]
        self._names, self._numbers = list(numbers), numbers

    def waits(self) -> NDArray[np.bool_]:
        """Tell of each device whether it is connected, or its silence is still to be told."""
        there = [number for number, link in self.links.items() if not link.client.startswith(BROKERS)]
        due = [-one.number for one in self.away.values() if one.due_us < _NEVER_US]
        waits: NDArray[np.bool_] = np.isin(self.via, [*there, *due])
        waits |= (self.status == ONLINE) & (self._patience < _NEVER_US)
        return waits

    def configure(self, rules: PresenceRules) -> None:
        """Take up other settings; switched on anew, the status of every device is said when it is heard."""
        if rules.on and not self.rules.on:
            self.status[:] = UNKNOWN
            self.since[:] = 0
        self.rules = rules
        self._patience = np.array([self._patience_of(name) for name in self._names], np.int64)

    def _patience_of(self, device: str) -> int:
        for pattern, silent_us in self.rules.silent.items():
            if fnmatchcase(device, pattern):
                return silent_us or _NEVER_US
        return self.rules.silent_us or _NEVER_US

    def start(self, before: Now | None, now: Now) -> None:
        """All connections are gone with the agent that had them: each client has its keep alive (x1.5) to come back."""
        shift_us = 0
        if before is not None and before.boot != now.boot:
            gone = now.wall_us - before.wall_us if now.quality == before.quality == SYNCHRONISED else 0
            shift_us = now.mono_us - before.mono_us - max(gone, 0)
        for waiting in self.away.values():
            if waiting.due_us < _NEVER_US:
                waiting.due_us += shift_us
        for connection, link in self.links.items():
            grace_us = link.keep_alive_s * 1_500_000 or GRACE_US
            grace_us += max(self.rules.offline_us, link.will_delay_s * 1_000_000)
            self._leave(connection, link.client, now.mono_us + grace_us, Reason.LOST)
        self.links.clear()
        self.via[self.via > 0] = 0  # numbers of connections begin anew
        self.heard[:] = now.mono_us
        self._look_ahead()

    def step(self, tick: Tick, device_of: Ints) -> list[Change]:
        """Take a tick's readings, connections and words about devices; return what is another status after it.

        Args:
            device_of: the device of each series.
        """
        before = self.status.copy()
        self._hear(tick, device_of)
        for at, event in tick.events:
            self._take(at, event, tick, device_of)
        self._ripen(tick.now.mono_us)
        if not self.rules.on:
            return []
        (changed,) = np.nonzero((self.status != before) & (self.status != UNKNOWN))
        since = self.since[changed].tolist()
        self.since[changed] = tick.now.wall_us
        return [
            Change(
                device,
                int(self.status[device]),
                int(before[device]),
                before_us,
                int(self.reason[device]),
                int(self.heard_wall[device]),
            )
            for device, before_us in zip(changed.tolist(), since, strict=True)
        ]

    def is_due(self, now: Now) -> bool:
        """Whether time alone makes a device silent or offline."""
        return now.mono_us >= self._due_us or bool(self._quiet(now.mono_us).any())

    def counts(self) -> dict[str, int]:
        """Return how many devices are online, silent and offline."""
        found = np.bincount(self.status, minlength=4).tolist()
        return {"online": found[ONLINE], "silent": found[SILENT], "offline": found[OFFLINE]}

    def named(self, status: int, most: int) -> list[str]:
        """Return devices of a status, the longest unheard first."""
        devices = np.flatnonzero(self.status == status)
        order = np.argsort(self.heard_wall[devices], kind="stable")[:most]
        return [self._names[device] for device in devices[order].tolist()]

    def _hear(self, tick: Tick, device_of: Ints) -> None:
        """Readings are signs of life, duplicates too; a will and a dead letter that is taken again (connection 0) are none."""
        if not len(tick.readings):
            return
        device = device_of[tick.readings.series]
        connection = np.repeat(_connections(tick), tick.messages.readings)
        if not connection.all():
            device, connection = device[connection > 0], connection[connection > 0]
        self.via[device] = connection
        self.heard[device] = tick.now.mono_us
        self.heard_wall[device] = tick.now.wall_us
        turned = device[self.status[device] != ONLINE]
        self.status[turned] = ONLINE
        self.reason[turned] = Reason.READING

    def _take(self, at: int, event: Event, tick: Tick, device_of: Ints) -> None:
        match event:
            case Connect():
                delay_s = event.will.delay_s if event.will is not None else -1
                link = _Link(event.client, event.keep_alive_s, delay_s, event.expiry_s)
                self.links[event.connection] = link
                waiting = self.away.pop(event.client, None)
                if waiting is not None:
                    self._back(waiting.number, event.connection, tick.now)
            case Disconnect():
                link_ = self.links.pop(event.connection, None)
                if link_ is not None:
                    self._end(event, link_, tick.now.mono_us)
            case DeviceSaid():
                device = self._numbers.get(event.device)
                if device is not None and not self._heard_after(device, at, tick, device_of):
                    self.status[device] = ONLINE if event.online else OFFLINE
                    self.reason[device] = Reason.SAID
                    if event.online:
                        self.heard[device] = tick.now.mono_us
            case _:
                pass

    def _back(self, number: int, connection: int, now: Now) -> None:
        """A client came back: so did the devices that were heard on its last connection, and on no other since."""
        devices = self.via == -number
        self.via[devices] = connection
        returned = devices & (self.status == OFFLINE)
        self.status[returned] = ONLINE
        self.reason[returned] = Reason.CONNECT
        self.heard[devices] = now.mono_us

    def _end(self, event: Disconnect, link: _Link, now_us: int) -> None:
        if event.clean:
            due_us, reason = now_us + self.rules.offline_us, Reason.FAREWELL
        elif link.will_delay_s >= 0:
            expiry_s = event.expiry_s if event.expiry_s >= 0 else link.expiry_s
            due_us, reason = now_us + min(link.will_delay_s, expiry_s) * 1_000_000, Reason.WILL
        else:
            due_us, reason = now_us + self.rules.offline_us, Reason.LOST
        self._leave(event.connection, link.client, due_us, reason)

    def _leave(self, connection: int, client: str, due_us: int, reason: int) -> None:
        devices = self.via == connection
        if not devices.any():
            return
        if client.startswith(BROKERS):  # its devices are where they were
            self.via[devices] = 0
            return
        self.via[devices] = -self.next_number
        self.away[client] = _Away(self.next_number, due_us, reason)
        self.next_number += 1
        self._due_us = min(self._due_us, due_us)
        if len(self.away) > 2 * len(self.status) + 64:  # whose devices are with others by now
            used = set(np.unique(-self.via[self.via < 0]).tolist())
            self.away = {name: one for name, one in self.away.items() if one.number in used}

    def _ripen(self, now_us: int) -> None:
        quiet = self._quiet(now_us)
        if quiet.any():
            self.status[quiet] = SILENT
            self.reason[quiet] = Reason.SILENCE
        if now_us < self._due_us:
            return
        for waiting in self.away.values():
            if waiting.due_us <= now_us:
                waiting.due_us = _NEVER_US
                gone = (self.via == -waiting.number) & (self.status != OFFLINE)
                self.status[gone] = OFFLINE
                self.reason[gone] = waiting.reason
        self._look_ahead()

    def _quiet(self, now_us: int) -> NDArray[np.bool_]:
        quiet: NDArray[np.bool_] = (self.status == ONLINE) & (now_us - self.heard >= self._patience)
        return quiet

    def _heard_after(self, device: int, at: int, tick: Tick, device_of: Ints) -> bool:
        """Whether a message behind the one at `at` brought a reading of the device itself."""
        messages = tick.messages
        spoken = np.flatnonzero(_connections(tick) > 0)
        if not len(spoken) or spoken[-1] <= at:
            return False
        message = np.repeat(np.arange(len(messages)), messages.readings)
        own = message[device_of[tick.readings.series] == device]
        return bool(np.isin(own[own > at], spoken).any())

    def _look_ahead(self) -> None:
        self._due_us = min((waiting.due_us for waiting in self.away.values()), default=_NEVER_US)

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what a snapshot holds: plain values, and columns."""
        plain = {"links": self.links, "away": self.away, "next": self.next_number}
        return plain, {name: getattr(self, name).copy() for name in self.COLUMNS}

    def load(self, plain: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `dump` gave; `grow` comes after."""
        self.links = msgspec.convert(plain["links"], dict[int, _Link], strict=False)
        self.away = msgspec.convert(plain["away"], dict[str, _Away])
        self.next_number = msgspec.convert(plain["next"], int)
        for name in self.COLUMNS:
            setattr(self, name, columns[name].copy())
        self._look_ahead()


def _connections(tick: Tick) -> Ints:
    """Return the connection of each message."""
    ends = tick.messages.run_end
    return np.repeat(tick.messages.run_connection, np.diff(ends, prepend=0))
