"""How much of its disk the agent takes, how much is left, and how hard that presses: room, high, full."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from headwater_edge.ballast import Ballast, free_at
from headwater_edge.disk_settings import DiskLimits
from headwater_edge.store import WAL_BYTES, read_store

_BACK = 0.97
"""Share of the quota that must be left before the agent goes on, so that it does not stop and go by the second."""
_BEFORE = 0.9
"""... and of the high mark before there is room again."""

_WORK = 4_000_000
"""Bytes of journal and outbox that an agent can hold under any quota."""

_TO_GO_ON = 1_000_000
"""Bytes that must be free beside the ballast before it is taken again; and what the write-ahead log has yet to grow."""


class Space(NamedTuple):
    """Bytes, at one moment."""

    used: int
    """Of the file, without its free pages."""
    unused: int
    """Free pages of the file."""
    log: int
    """The write-ahead log as it lies on the disk."""
    snapshot: int
    """What the next snapshot will take."""
    ballast: int
    """What the ballast holds."""
    free: int
    """Of the disk, for whoever wants it."""

    @property
    def wanted_ballast(self) -> int:
        """As large as the write-ahead log and two snapshots (R17)."""
        return WAL_BYTES + 2 * self.snapshot

    @property
    def taken(self) -> int:
        """What counts against the quota: what is there, and what a tick may need at any time."""
        return self.used + max(self.log, WAL_BYTES) + self.snapshot + self.wanted_ballast


class Gauge:
    """Measures; used by one thread at a time."""

    def __init__(self, path: Path, ballast: Ballast) -> None:
        self._path = path
        self._ballast = ballast
        self._reader = read_store(path)

    def close(self) -> None:
        self._reader.close()

    def look(self, snapshot: int) -> Space:
        """Measure; `snapshot`: bytes of the last one."""
        (pages,) = self._reader.execute("PRAGMA page_count").fetchone()
        (unused,) = self._reader.execute("PRAGMA freelist_count").fetchone()
        (page,) = self._reader.execute("PRAGMA page_size").fetchone()
        try:
            log = self._path.with_name(self._path.name + "-wal").stat().st_size
        except FileNotFoundError:
            log = 0
        return Space(
            (pages - unused) * page, unused * page, log, snapshot, self._ballast.size, free_at(self._path)
        )

    def take_ballast(self, space: Space, limits: DiskLimits) -> bool:
        """Hold as much as there should be, if the disk has room for it besides what is left to others."""
        if space.wanted_ballast <= space.ballast:
            return True
        if lacking(space, limits):
            return False
        return self._ballast.take(space.wanted_ballast)


def lacking(space: Space, limits: DiskLimits) -> int:
    """Return how many bytes more must be free before the ballast can be taken, and work go on beside it."""
    left = max(limits.free, WAL_BYTES - space.log, _TO_GO_ON)
    return max(0, space.wanted_ballast - space.ballast + left - space.free)


def fitting(limits: DiskLimits, snapshot: int) -> DiskLimits:
    """Return limits under which an agent can work at all: what is always there (two snapshots, the next one, a ballast of two,
    two write-ahead logs) must not be what holds it back, for no waiting would help.
    """
    least = 2 * WAL_BYTES + 6 * snapshot + _WORK
    return limits._replace(quota=max(limits.quota, least), high=max(limits.high, least - _WORK // 2))


def why_hold(space: Space, limits: DiskLimits, *, holding: bool) -> str:
    """Say why nothing more may be taken in, or nothing. While it is so, more than the limit itself must be free again."""
    quota = int(limits.quota * _BACK) if holding else limits.quota
    if space.taken > quota:
        return f"the quota of {limits.quota:,} bytes is reached"
    floor = limits.free + limits.free // 20 if holding else limits.free
    if space.free < floor:
        return f"less than {limits.free:,} bytes are free on the disk"
    return ""


def is_high(space: Space, limits: DiskLimits, *, high: bool) -> bool:
    """Tell whether the agent must make room."""
    return space.taken > (int(limits.high * _BEFORE) if high else limits.high)
