"""Ticks for the tests of the step: messages in plain tuples become the columns that a source and decode would make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headwater_edge.device_settings import DeviceSettings
from headwater_edge.events import Connect, Event, SeriesEvicted
from headwater_edge.settings import EdgeSettings, StepSettings, WindowSettings, step_settings
from headwater_edge.source import DUP, QOS1
from headwater_edge.tick import Messages, Readings, Tick
from headwater_edge.window_settings import SomeWindows
from headwater_shared.clock import Now
from headwater_shared.digest import NO_TIME

S = 1_000_000
"""A second in microseconds."""

DAY = 1_800_000_000 * S
"""An event time to count from: a full hour, and so the start of a window of every level."""

Reading = tuple[str, int | None, float]
"""Series, time as sent in microseconds or None, value."""


@dataclass(frozen=True)
class Message:
    """One PUBLISH: what it says, over which connection, under which packet id (0: QoS 0)."""

    readings: tuple[Reading, ...] = ()
    connection: int = 1
    packet_id: int = 0
    dup: bool = False
    crc: int | None = None
    """Of its payload, if it (or a part of it) cannot be read."""

    @property
    def flags(self) -> int:
        return (QOS1 if self.packet_id else 0) | (DUP if self.dup else 0)


@dataclass
class Feed:
    """Makes ticks; numbers series in the order of first sight, as `SeriesIndex` does."""

    names: list[str] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)
    _fresh: list[int] = field(default_factory=list)

    def let_go(self, *names: str) -> SeriesEvicted:
        """Forget series, as the agent's index does; return what tells a step so."""
        numbers = sorted(self._numbers.pop(name) for name in names)
        for number in numbers:
            self.names[number] = ""
        return SeriesEvicted(numbers)

    def tick(
        self, now: Now, messages: Iterable[Message] = (), *events: Event, arrived_us: int | None = None
    ) -> Tick:
        """Make a tick of one burst: the events come before its messages, which were read at `arrived_us`."""
        kept = list(messages)
        known, self._fresh = len(self.names), []
        series, sent, value, each = [], [], [], []
        for message in kept:
            each.append(len(message.readings))
            for name, time_us, number in message.readings:
                series.append(self._number(name))
                sent.append(NO_TIME if time_us is None else time_us)
                value.append(number)
        return Tick(
            now,
            [(0, event) for event in events],
            [self.names[number] for number in self._fresh],
            _messages(kept, each, now.wall_us if arrived_us is None else arrived_us),
            Readings(np.array(series, np.int32), np.array(sent, np.int64), np.array(value, np.float64) + 0.0),
            [(at, message.crc) for at, message in enumerate(kept) if message.crc is not None],
            numbers=self._fresh if any(number < known for number in self._fresh) else [],
        )

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            if "" in self.names:
                number = self.names.index("")
                self.names[number] = name
            else:
                number = len(self.names)
                self.names.append(name)
            self._numbers[name] = number
            self._fresh.append(number)
        return self._numbers[name]


def _messages(kept: list[Message], each: list[int], arrived_us: int) -> Messages:
    runs: list[tuple[int, int]] = []
    for at, message in enumerate(kept, 1):
        if runs and runs[-1][0] == message.connection:
            runs.pop()
        runs.append((message.connection, at))
    columns = np.array(runs, np.int64).reshape(-1, 2)
    bursts = [arrived_us] if kept else []
    return Messages(
        np.ascontiguousarray(columns[:, 0]),
        np.ascontiguousarray(columns[:, 1]),
        np.array(bursts, np.int64),
        np.array([len(kept)] if kept else [], np.int64),
        np.array([message.packet_id for message in kept], np.uint16),
        np.array([message.flags for message in kept], np.uint8),
        np.array(each, np.int32),
    )


def step_settings_of(*tables: SomeWindows, devices: bool = False, **windows: Any) -> StepSettings:
    """Settings of a step with some of [edge.windows] changed, and with tables of [[edge.window]].

    Devices may be ahead of the test's clock as far as they like, and nothing waits for it. Their status is said only if asked
    for: tests count rows.
    """
    windows = {"future": "3650d", "clock_wait": "0s"} | windows
    made = WindowSettings(**windows)
    status = DeviceSettings(status=devices)
    return step_settings(EdgeSettings(name="a1", windows=made, window=tables, devices=status))


def hopping(length: str, hop: str, series: str = "*") -> SomeWindows:
    return SomeWindows(series=series, kind="hopping", length=length, hop=hop)


def session(gap: str, series: str = "*") -> SomeWindows:
    return SomeWindows(series=series, kind="session", gap=gap)


def connect(connection: int, client: str, *, clean: bool = False, expiry_s: int = 3600) -> Connect:
    """The event of a client that was let in."""
    return Connect(connection, client, "", clean, expiry_s)
