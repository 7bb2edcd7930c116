"""Which time a reading belongs to: as its device sent it, clamped, or stamped by us; and what our own clock is worth (R8).

A stamp from the future is clamped to its arrival, and a reading without a time is stamped with it, but only by a clock
that is believed. While ours is not (a Pi without one of its own, before it has heard a time server), readings without a
time wait, as columns of the state: when the clock is set, they are stamped by the monotonic time that has passed since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_shared.clock import SYNCHRONISED, Now
from headwater_shared.digest import NO_TIME

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Marks = NDArray[np.uint8]

CLAMPED, HELD, RESTAMPED = 1, 2, 4
"""Marks of a reading, and flags of the parts that count it: its stamp lay in the future; stamped by a clock that was not
believed; stamped after the clock was set."""

_MOST = 100_000
"""Readings that wait at most; beyond, all of them are stamped with what the clock says."""
_APART_US = 60_000_000
"""An arrival that is so far from the tick that takes it in was stamped before the clock was set."""
STEP_US = 5_000_000
"""A clock that goes back by more than this against monotonic time was corrected."""


class Stamped(NamedTuple):
    """Readings with their event time, n of them in the order of arrival."""

    series: NDArray[np.int32]
    sent: Ints
    event: Ints
    value: Floats
    mark: Marks

    def take(self, at: NDArray[np.bool_]) -> Stamped:
        """Return the rows at a mask."""
        return Stamped(self.series[at], self.sent[at], self.event[at], self.value[at], self.mark[at])


class Waiting:
    """Readings that our clock must stamp, and that came while it was not believed; `mono` and `wall` tell of their arrival."""

    COLUMNS = ("series", "sent", "value", "mono", "wall")

    def __init__(self) -> None:
        self.series = np.zeros(0, np.int32)
        self.sent: Ints = np.zeros(0, np.int64)
        self.value: Floats = np.zeros(0)
        self.mono: Ints = np.zeros(0, np.int64)
        self.wall: Ints = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.series)

    def keep(self, rows: Stamped, now: Now) -> Stamped:
        """Take up those that must wait; return the others."""
        wait = rows.mark == HELD
        wall = rows.event[wait]
        mono = now.mono_us - (now.wall_us - wall)
        kept = rows.series[wait], rows.sent[wait], rows.value[wait], mono, wall
        for name, more in zip(self.COLUMNS, kept, strict=True):
            setattr(self, name, np.append(getattr(self, name), more))
        return rows.take(~wait)

    def release(self, before: Now | None, now: Now, wait_us: int, *, flush: bool) -> Stamped | None:
        """Let go of what waits, if there is a reason to: the clock is set, it took too long, a restart lost the count."""
        if not len(self):
            return None
        same_boot = before is not None and before.boot == now.boot
        if same_boot and now.quality == SYNCHRONISED:
            event, mark = now.wall_us - (now.mono_us - self.mono), RESTAMPED
        elif flush or not same_boot or len(self) > _MOST or now.mono_us - int(self.mono[0]) > wait_us:
            event, mark = self.wall, HELD
        else:
            return None
        n = len(self)
        out = Stamped(self.series, self.sent, event, self.value, np.full(n, mark, np.uint8))
        Waiting.__init__(self)
        return out

    def dump(self) -> dict[str, NDArray[np.generic]]:
        return {name: getattr(self, name).copy() for name in self.COLUMNS}

    def load(self, columns: dict[str, NDArray[np.generic]]) -> None:
        for name in self.COLUMNS:
            setattr(self, name, columns[name].copy())


def stamped(
    series: NDArray[np.int32],
    sent: Ints,
    value: Floats,
    arrived_of: Callable[[], Ints],
    now: Now,
    future_us: int,
    *,
    by_arrival: bool,
) -> Stamped:
    """Give readings their event time.

    Args:
        sent: as sent, `NO_TIME` where the device sent none.
        arrived_of: gives the wall time at which each was read, where it is needed.
        now: of the tick.
        future_us: how far ahead of our clock a device's may be.
        by_arrival: windows are over the time of arrival, whatever was sent.
    """
    mark = np.zeros(len(series), np.uint8)
    none = np.ones(len(series), np.bool_) if by_arrival else sent == NO_TIME
    believed = now.quality == SYNCHRONISED
    ahead = (sent > now.wall_us + future_us) & ~none if believed else np.zeros(len(series), np.bool_)
    if not none.any() and not ahead.any():
        return Stamped(series, sent, sent, value, mark)
    arrived = arrived_of()
    if believed:
        before = np.abs(now.wall_us - arrived) > _APART_US
        arrived = np.where(before, now.wall_us, arrived)
        mark[none & before] = RESTAMPED
        mark[ahead] = CLAMPED
    else:
        mark[none] = HELD
    return Stamped(series, sent, np.where(none | ahead, arrived, sent), value, mark)


def joined(one: Stamped | None, other: Stamped | None) -> Stamped | None:
    """Return the rows of both, those of the first before those of the other."""
    if one is None or other is None:
        return one or other
    return Stamped(
        np.concatenate([one.series, other.series]),
        np.concatenate([one.sent, other.sent]),
        np.concatenate([one.event, other.event]),
        np.concatenate([one.value, other.value]),
        np.concatenate([one.mark, other.mark]),
    )


def was_set_back(before: Now | None, now: Now) -> bool:
    """Tell whether our clock was corrected backwards between two ticks of one boot."""
    if before is None or before.boot != now.boot or not before.quality == now.quality == SYNCHRONISED:
        return False
    return now.wall_us - before.wall_us < now.mono_us - before.mono_us - STEP_US
