"""Idempotency keys: a request that comes again under its key is counted once, and its key is no other request's (R12)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater_edge.events import Keyed
from headwater_edge.tick import Tick
from headwater_edge.watermarks import elapsed_us
from headwater_shared.clock import Now

KEPT = 50_000
"""A key is remembered until so many other requests with a key came after it, at least."""
KEPT_US = 24 * 3600 * 1_000_000
"""... and not longer than twice this, for who counts their keys from 1 begins again some day."""

Words = NDArray[np.uint64]


class Verdict(enum.IntEnum):
    """What became of a request with a known key; one with a new key is taken and has none."""

    REPEATED = 1
    """It is counted already: acknowledge it again."""
    REFUSED = 2
    """Another request has this key: nothing of this one is taken."""


class Idempotency:
    """The content of each request by its key, in two generations: the older one goes when the younger is full or old.

    Both are hashes of 64 bits, so that a key costs little in the journal, in the snapshot and in memory. Time is counted
    in what passed while the clock was to be trusted: one that jumps from 1970 to today ages nothing (R8).
    """

    def __init__(self) -> None:
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._age_us = 0
        """Of the younger generation."""
        self._now: Now | None = None

    def judge(self, tick: Tick, verdicts: dict[int, Verdict]) -> NDArray[np.bool_]:
        """Tell which messages of a tick are of requests whose key is known, and remember the new keys.

        Args:
            verdicts: gets the verdict of each such request, by its number.

        Returns:
            shape (m,): messages that are not to be counted.
        """
        known = np.zeros(len(tick.messages), np.bool_)
        for begin, event in tick.events:
            if not isinstance(event, Keyed):
                continue
            self._grow_older(tick.now)
            content = self._young.get(event.key, self._old.get(event.key))
            if content is None:
                self._young[event.key] = event.content
                continue
            known[begin : begin + event.messages] = True
            verdicts[event.request] = Verdict.REPEATED if content == event.content else Verdict.REFUSED
        return known

    def _grow_older(self, now: Now) -> None:
        self._age_us += elapsed_us(self._now, now) if self._now else 0
        self._now = now
        if self._age_us >= 2 * KEPT_US:  # all that there was is older than KEPT_US
            self._young = {}
        if len(self._young) >= KEPT or self._age_us >= KEPT_US:
            self._old, self._young, self._age_us = self._young, {}, 0

    def dump(self) -> tuple[dict[str, Any], dict[str, Words]]:
        """Return a copy: scalars, and a column of keys and contents for each generation."""
        scalars = {"age_us": self._age_us, "now": list(self._now) if self._now else None}
        return scalars, {"young": _column(self._young), "old": _column(self._old)}

    def load(self, scalars: dict[str, Any], columns: dict[str, NDArray[Any]]) -> None:
        """Take a dump back; one of a version that knew no keys is empty."""
        self._age_us = scalars.get("age_us", 0)
        self._now = Now(*scalars["now"]) if scalars.get("now") else None
        none = np.zeros((0, 2), np.uint64)
        self._young = dict(columns.get("young", none).tolist())
        self._old = dict(columns.get("old", none).tolist())


def _column(generation: dict[int, int]) -> Words:
    n = len(generation)
    keys = np.fromiter(generation, np.uint64, n)
    return np.column_stack((keys, np.fromiter(generation.values(), np.uint64, n)))


def refused_messages(tick: Tick, verdicts: Mapping[int, Verdict]) -> list[int]:
    """Return the messages of a tick of which nothing was taken, since their key is another request's."""
    return [
        message
        for begin, event in tick.events
        if isinstance(event, Keyed) and verdicts.get(event.request) == Verdict.REFUSED
        for message in range(begin, begin + event.messages)
    ]
