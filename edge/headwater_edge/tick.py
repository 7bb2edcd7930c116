"""One tick's input as columns: all that the step depends on, and all that the journal row holds (R12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headwater_edge.events import Event
from headwater_edge.evicted import Former
from headwater_shared.clock import Now

Ints = NDArray[np.int64]


@dataclass(slots=True)
class Messages:
    """m messages in the order of arrival.

    Runs say whose they are: messages up to `run_end[i]`, from the run before, came over connection `run_connection[i]`.
    Bursts say when they were read: messages up to `burst_end[i]` at wall time `burst_arrived[i]`.
    """

    run_connection: Ints
    run_end: Ints
    burst_arrived: Ints
    burst_end: Ints
    packet_id: NDArray[np.uint16]
    flags: NDArray[np.uint8]
    readings: NDArray[np.int32]
    """How many readings each message brought; shape (m,)."""

    def __len__(self) -> int:
        return len(self.packet_id)


@dataclass(slots=True)
class Readings:
    """n readings, message by message, as sent: before any dedupe, clamp or restamp."""

    series: NDArray[np.int32]
    sent: Ints
    """Microseconds as the device sent them, `NO_TIME` where it sent none; `stamps.split` takes "so long ago" out."""
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.series)


@dataclass(slots=True)
class Tick:
    """The input of one step. `unreadable` holds (message, crc32 of its payload) of messages that became dead letters."""

    now: Now
    events: list[tuple[int, Event]]
    new_series: list[str]
    messages: Messages
    readings: Readings
    unreadable: list[tuple[int, int]] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    """Readings that had arrived within the dedupe horizon: a look-up in the journal said so (R2)."""
    beyond: list[int] = field(default_factory=list)
    """Readings that cannot be told from a resend of what arrived before the horizon (R4)."""
    arrival: bytes = b""
    """Where its readings may be looked up, see `arrivals`; beside the journal row, not in it."""
    numbers: list[int] = field(default_factory=list)
    """Of the new series; empty: the next ones, as if no series had ever been let go."""
    returned: list[Former] = field(default_factory=list)
    """Of the new series, those that were let go once (R4)."""


def with_new(names: Sequence[str], tick: Tick) -> list[str]:
    """Return the names of series by number, with those that a tick brings."""
    if not tick.numbers:
        return [*names, *tick.new_series]
    out = [*names, *[""] * max(0, max(tick.numbers) + 1 - len(names))]
    for number, name in zip(tick.numbers, tick.new_series, strict=True):
        out[number] = name
    return out


def no_messages() -> Messages:
    none = np.zeros(0, np.int64)
    return Messages(
        none, none, none, none, np.zeros(0, np.uint16), np.zeros(0, np.uint8), np.zeros(0, np.int32)
    )


def no_readings() -> Readings:
    return Readings(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.float64))


def quiet_tick(now: Now, *events: Event) -> Tick:
    """Make a tick without messages: events before everything, or nothing but the time."""
    return Tick(now, [(0, event) for event in events], [], no_messages(), no_readings())
