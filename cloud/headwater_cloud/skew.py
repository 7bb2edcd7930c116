"""How unevenly rows fall on shards: a site that is too busy for its worker shows here first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

_SPAN_S = 60.0


def ratio(rows: Mapping[int, int]) -> float:
    """Return the rows of the busiest shard against the mean of those that had any; 1 is even, 0: there were none."""
    return max(rows.values()) * len(rows) / sum(rows.values()) if rows else 0.0


class Skew:
    """Counts rows by shard, over this minute and the one before; read by another thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._before: Counter[int] = Counter()
        self._now: Counter[int] = Counter()
        self._began_s = monotonic()

    def add(self, shard: int, rows: int) -> None:
        self._turn()
        self._now[shard] += rows

    def value(self) -> float:
        """Return the ratio as of now."""
        self._turn()
        return ratio(self._before + self._now)

    def _turn(self) -> None:
        spans = int((self._monotonic() - self._began_s) / _SPAN_S)
        if spans:
            self._before = self._now if spans == 1 else Counter()
            self._now = Counter()
            self._began_s += spans * _SPAN_S
