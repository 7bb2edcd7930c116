"""The one clock: wall and monotonic time as every part of Headwater reads them, and the one that tests set.

Event time, watermarks, times to live and rules follow this clock; commits, keep-alive and back-off stay real.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from headwater_shared.errors import SettingsError

SYNCHRONISED = 0
"""The wall clock is believed."""
HELD = 1
"""The wall clock is not believed yet (a Pi before it has heard a time server)."""

_NOT_BEFORE_US = 1_735_689_600_000_000  # 2025-01-01: no honest clock that runs this code stands before it
_TIMEX, _TIME_ERROR = 512, 5
"""Bytes that hold struct timex on every platform, and the state of a clock that is not synchronised."""


_TRIES, _CLOSE_NS = 20, 20_000


class Now(NamedTuple):
    """One look at the clock: all times in microseconds."""

    wall_us: int
    mono_us: int
    boot: str
    quality: int


class Clock(Protocol):
    """Whatever tells the time. `now` never blocks; `mono_us` never goes back within one boot."""

    def now(self) -> Now: ...


def boot_id() -> str:
    """Identify this boot of the machine: monotonic times compare only within one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


class RealClock:
    """The machine's own clock."""

    def __init__(self) -> None:
        self._boot = boot_id()

    def now(self) -> Now:
        wall = time.time_ns() // 1000
        return Now(wall, time.monotonic_ns() // 1000, self._boot, _quality(wall))


class NtpClock(RealClock):
    """The machine's own clock, believed only while the kernel says that a time server disciplines it.

    For a Pi without a clock of its own: after a boot its time is that of the last shutdown, and looks right.
    """

    def __init__(self, synchronised: Callable[[], bool] | None = None) -> None:
        super().__init__()
        self._synchronised = synchronised or kernel_synchronised

    def now(self) -> Now:
        found = super().now()
        return found if self._synchronised() else found._replace(quality=HELD)


def kernel_synchronised() -> bool:
    """Ask the kernel whether its clock is synchronised (adjtimex(2)); true where it cannot be asked."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return True
    return bool(adjtimex(ctypes.create_string_buffer(_TIMEX)) != _TIME_ERROR)


class ScaledClock:
    """A clock that runs `factor` times as fast from `origin_us` on; the same in every process that is told both."""

    def __init__(self, factor: float, origin_us: int) -> None:
        self._factor = factor
        self._origin_us = origin_us
        self._boot = boot_id()

    def now(self) -> Now:
        wall, mono = _together()
        scaled = self._origin_us + int((wall - self._origin_us) * self._factor)
        return Now(scaled, int(mono * self._factor), self._boot, _quality(wall))

    def wall_of(self, shown_us: int) -> int:
        return self._origin_us + int((shown_us - self._origin_us) / self._factor)


class SetClock:
    """A clock that stands still until it is moved: the tests' own."""

    def __init__(self, wall_us: int = 1_800_000_000_000_000) -> None:
        self.wall_us = wall_us
        self.mono_us = 1_000_000_000
        self.boot = "test-boot"
        self.quality = SYNCHRONISED

    def now(self) -> Now:
        return Now(self.wall_us, self.mono_us, self.boot, self.quality)

    def advance(self, seconds: float) -> None:
        """Move wall and monotonic time on together."""
        us = round(seconds * 1_000_000)
        self.wall_us += us
        self.mono_us += us


def _together() -> tuple[int, int]:
    """Read wall and monotonic time, microseconds, as close to each other as it gets.

    What lies between them is stretched by the factor: a few milliseconds without the processor would look like a clock that was set.
    """
    for _ in range(_TRIES):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if after - before < _CLOSE_NS:
            break
    return wall // 1000, (before + after) // 2000


def wall_of(clock: Clock, shown_us: int) -> int:
    """Return the machine's wall time at which a clock shows, showed or will show a time: undoes a scale (R24)."""
    return clock.wall_of(shown_us) if isinstance(clock, ScaledClock) else shown_us


def _quality(wall_us: int) -> int:
    return SYNCHRONISED if wall_us >= _NOT_BEFORE_US else HELD


def parse_clock(text: str) -> Clock:
    """Make the clock that a setting names: `real`, `ntp`, or `scaled:60@2026-11-24T00:00:00+00:00`.

    A scale without an origin begins now: right for one process, while several must be told the same origin.

    Raises:
        SettingsError: the text is neither.
    """
    if text == "real":
        return RealClock()
    if text == "ntp":
        return NtpClock()
    kind, _, rest = text.partition(":")
    factor, _, origin = rest.partition("@")
    try:
        if kind != "scaled" or not 0 < float(factor) < math.inf:
            raise ValueError
        origin_us = _iso_us(origin) if origin else time.time_ns() // 1000
    except ValueError:
        raise SettingsError(
            f"clock = {text!r} is no clock",
            hint='write clock = "real", clock = "ntp" or clock = "scaled:60" (sixty times as fast)',
        ) from None
    return ScaledClock(float(factor), origin_us)


def _iso_us(text: str) -> int:
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000_000)
