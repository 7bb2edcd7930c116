"""The watermark of each device: how far its event time has certainly come; it never goes back (R8)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater_edge.recent import NEVER
from headwater_shared.clock import SYNCHRONISED, Now

Ints = NDArray[np.int64]


class Watermarks:
    """Columns by device: `mark`, `newest` event time, and the monotonic time of the last reading, microseconds.

    A device that sends is `lateness` behind its newest reading. One that has been silent for `idle` moves on by
    monotonic time since its last reading, never by the wall clock, so that its windows close all the same.
    """

    def __init__(self, lateness_us: int, idle_us: int) -> None:
        self.lateness_us = lateness_us
        self.idle_us = idle_us
        self.mark: Ints = np.zeros(0, np.int64)
        self.newest: Ints = np.zeros(0, np.int64)
        self.heard: Ints = np.zeros(0, np.int64)
        self.by_us = np.zeros(0, np.bool_)
        """Devices whose last reading has its time from our clock."""

    def grow(self, devices: int, now: Now) -> None:
        more = devices - len(self.mark)
        if more > 0:
            self.mark = np.append(self.mark, np.full(more, NEVER))
            self.newest = np.append(self.newest, np.full(more, NEVER))
            self.heard = np.append(self.heard, np.full(more, now.mono_us))
            self.by_us = np.append(self.by_us, np.zeros(more, np.bool_))

    def let_go(self, kept: NDArray[np.bool_]) -> None:
        """Forget devices but those that are kept."""
        self.mark, self.newest = self.mark[kept], self.newest[kept]
        self.heard, self.by_us = self.heard[kept], self.by_us[kept]

    def hear(self, device: Ints, event: Ints, by_us: NDArray[np.bool_], now: Now) -> None:
        """Take up readings, each with its event time and whether that is from our clock; shape (n,) all."""
        np.maximum.at(self.newest, device, event)
        self.by_us[device] = by_us
        self.heard[device] = now.mono_us

    def advanced(self, now: Now) -> Ints:
        """Return what the marks are at `now`, without changing them."""
        silent = np.maximum(now.mono_us - self.heard, 0)
        known = self.newest > NEVER
        heard_to = self.newest - self.lateness_us + np.where(silent > self.idle_us, silent, 0)
        return np.where(known, np.maximum(self.mark, heard_to), self.mark)

    def advance(self, now: Now) -> Ints:
        self.mark = self.advanced(now)
        return self.mark

    def set_back(self, wall_us: int) -> bool:
        """Our clock was corrected backwards: devices that it put into the future are there no longer (R8). Tell if there are any."""
        ahead = self.by_us & (self.newest > wall_us)
        self.newest[ahead] = wall_us
        self.mark[ahead] = np.minimum(self.mark[ahead], wall_us - self.lateness_us)
        return bool(ahead.any())

    def start(self, before: Now | None, now: Now) -> None:
        """Carry on after a start: across a reboot monotonic time began anew, and only a believed clock bridges it."""
        if before is None or before.boot == now.boot:
            return
        self.heard += now.mono_us - before.mono_us - elapsed_us(before, now)


def elapsed_us(before: Now, now: Now) -> int:
    """Return the time between two looks at the clock: monotonic within a boot; across one only if both clocks are believed."""
    if before.boot == now.boot:
        return max(now.mono_us - before.mono_us, 0)
    return max(now.wall_us - before.wall_us, 0) if now.quality == before.quality == SYNCHRONISED else 0
