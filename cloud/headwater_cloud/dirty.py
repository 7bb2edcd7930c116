"""What of a shard is to be rolled up: levels and starts of which a window changed, until nothing of them changed for a while.

"For a while" is by the shard's clock. The state is small, and every engine keeps it as a piece.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

QUIET_US = 2_000_000
"""By the shard's clock: so long nothing of a level and start changed before it is rolled up,"""
LONGEST_US = 10_000_000
"""but no longer than this after its first change."""
MOST = 2_000
"""Levels and starts of one shard that may be dirty: what is more is rolled up at once, so that the state stays small (R24)."""
AT_ONCE = 500
"""Levels and starts of one shard that are rolled up for one batch, if no more must."""
_BYTES = 50  # of the state, for one level and start

Key = tuple[str, int]
"""Level and start."""


class Touched(msgspec.Struct, frozen=True, array_like=True):
    """When windows of a level and start changed that are not rolled up yet, by the shard's clock."""

    since_us: int
    last_us: int
    gone: list[str] = []
    """Series of rollups that windows were taken away from (R7): perhaps nothing is left of them."""


Dirty = dict[Key, Touched]
"""Of one shard."""


def mark(dirty: Dirty, key: Key, gone: Sequence[str], now_us: int) -> None:
    """Note that windows changed, and from which series of rollups some were taken away."""
    before = dirty.get(key) or Touched(now_us, now_us)
    dirty[key] = Touched(before.since_us, now_us, sorted({*before.gone, *gone}) if gone else before.gone)


def due(dirty: Dirty, now_us: int) -> list[Key]:
    """Return what is to be rolled up now, what waits longest first."""
    size = len(dirty) + sum(
        1 + len(name.encode()) // _BYTES for touched in dirty.values() for name in touched.gone
    )
    ready = [
        key
        for key, touched in dirty.items()
        if size > MOST or now_us - touched.last_us >= QUIET_US or now_us - touched.since_us >= LONGEST_US
    ]
    ready.sort(key=lambda key: (dirty[key].since_us, key))
    return ready[: max(AT_ONCE, size - MOST)]


def encoded(dirty: Dirty) -> bytes:
    """Encode as a piece of state."""
    return msgspec.msgpack.encode([(*key, touched) for key, touched in dirty.items()])


def decoded(body: bytes) -> Dirty:
    """Decode what `encoded` made."""
    rows = msgspec.msgpack.decode(body, type=list[tuple[str, int, Touched]])
    return {(level, start): touched for level, start, touched in rows}
