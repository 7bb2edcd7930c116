"""Coalescing over the file: rows of the outbox that were never given out are read, and written anew with less in them (R22).

A row keeps its seq and its place; one of which nothing is left is an empty frame. Its hash stays that of what the step put
out, with that of the body of now behind it.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_edge.coalesce import Gatherer, Keys, Plan, Targets, plan
from headwater_edge.events import Coalesced
from headwater_edge.rows import body_hash
from headwater_edge.store import WINDOWS, Rewrite, read_store
from headwater_edge.ungiven import Span
from headwater_shared import frame
from headwater_shared.frame import Frame
from headwater_shared.parts import COARSENED, Parts
from headwater_shared.squeeze import squeezed

Mask = NDArray[np.bool_]

_PARTS = 100_000
"""Parts whose keys are looked at together: 9 MB. Twice as many where one coarser window and its parts are more."""
_MOST_PARTS = 1_600_000
_HASH = 8


class Found(NamedTuple):
    """What one commit is to do."""

    event: Coalesced
    rewrites: list[Rewrite]


class Coalescing:
    """Goes through the outbox from the oldest row on, once for each level that is coalesced to; used by one thread at a time."""

    def __init__(self, path: Path, targets: Sequence[Targets]) -> None:
        self._reader: sqlite3.Connection = read_store(path)
        self._targets = targets
        self._after = [0] * len(targets)
        """Of each target, the row up to which everything was looked at."""
        self._parts = _PARTS

    def close(self) -> None:
        self._reader.close()

    def follow(self, targets: Sequence[Targets]) -> None:
        """Look for what may go to other levels, from the oldest row on."""
        self._targets, self._after = targets, [0] * len(targets)

    def find(self, spans: Sequence[Span]) -> Found | None:
        """Look for something that may go, the finest level first; None if there is nothing by now.

        Args:
            spans: of rows that were never given out, and will not be until what is found is committed.
        """
        for at, target in enumerate(self._targets):
            for span in spans:
                found = self._in_span(at, target, span)
                if found is not None:
                    return found
        return None

    def _in_span(self, at: int, target: Targets, span: Span) -> Found | None:
        """Look at a span for one target, as many parts at a time as are looked at together."""
        while True:
            numbers, keys, whole = self._read(max(span[0], self._after[at]), span[1])
            if not numbers:
                return None
            planned = plan(keys, target)
            before = self._after[at]
            self._after[at] = max(before, self._looked_at(numbers, keys, target, planned))
            if planned.drop.any():
                return self._rewritten(target, numbers, keys, planned)
            if whole:
                return None
            if self._after[at] == before:
                if self._parts >= _MOST_PARTS:
                    self._after[at] = numbers[-1]
                self._parts *= 2

    def _read(self, after: int, to: int) -> tuple[list[int], Keys, bool]:
        """Read the keys of frames; tell whether these are all."""
        numbers: list[int] = []
        gatherer = Gatherer()
        cursor = self._reader.execute(
            "SELECT n, body FROM outbox WHERE n > ? AND n <= ? AND lane = ? ORDER BY n", (after, to, WINDOWS)
        )
        try:
            for n, body in cursor:
                if gatherer.parts > self._parts:
                    return numbers, gatherer.keys(), False
                gatherer.add(len(numbers), _decoded(body))
                numbers.append(n)
        finally:
            cursor.close()  # what a reader sees, no checkpoint can pass
        return numbers, gatherer.keys(), True

    def _looked_at(self, numbers: list[int], keys: Keys, target: Targets, planned: Plan) -> int:
        """Return the last row before those whose coarser windows may still come."""
        start, waits = keys.columns["start"], planned.waits
        if not waits.any():
            return numbers[-1]
        length, series = target.to.length_us, keys.columns["series"]
        newest = np.full(len(keys.names), np.iinfo(np.int64).min)
        np.maximum.at(newest, series, start)
        recent = waits & (start // length >= newest[series] // length - 2)
        if not recent.any():
            return numbers[-1]
        return numbers[int(keys.columns["frame"][recent].min())] - 1

    def _rewritten(self, target: Targets, numbers: list[int], keys: Keys, planned: Plan) -> Found:
        of = keys.columns["frame"]
        touched = np.unique(of[planned.drop | planned.mark]).tolist()
        rewrites = []
        for at in touched:
            begin, end = np.searchsorted(of, [at, at + 1])
            hashed, body = self._reader.execute(
                "SELECT hash, body FROM outbox WHERE n = ?", (numbers[at],)
            ).fetchone()
            thinner = frame.encode(_thinned(_decoded(body), planned.drop[begin:end], planned.mark[begin:end]))
            rewrites.append(Rewrite(numbers[at], hashed[:_HASH] + body_hash(thinner), squeezed(thinner)))
        event = Coalesced(target.to.name, len(rewrites), int(planned.drop.sum()), planned.windows)
        return Found(event, rewrites)


def _decoded(body: bytes) -> Frame:
    return frame.decode(zlib.decompress(body))


def _thinned(whole: Frame, drop: Mask, mark: Mask) -> Frame:
    """Return a frame without some parts and with marks on others; it has its identity still."""
    parts = whole.parts
    if not len(parts):
        return whole
    parts.flags[mark] |= COARSENED
    left = parts.take(~drop)
    if not len(left):
        left = Parts.empty()
    used, left.series = np.unique(left.series, return_inverse=True)
    left.names = [parts.names[i] for i in used.tolist()]
    return Frame(whole.agent, whole.epoch, whole.shard, whole.seq, whole.tick, whole.predecessor, left)
