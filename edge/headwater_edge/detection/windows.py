"""Which windows are judged, and when: each of a series once, whole, in the order of their starts.

A window that a start sealed before its end waits for the part that the new epoch opens, and is judged with it (R1); revisions and late
parts are not judged again, so detectors learn what was so when the window closed (R31).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection.points import Ints, Points
from headwater_edge.recent import NEVER
from headwater_edge.ring import Panes, group_starts
from headwater_shared.aggregates import COLUMNS, Aggregates, merged_groups

_MOST = 1e300
"""A spread is no larger: squares of what is have no room in a float."""


@dataclass(slots=True)
class Judgeable:
    """Windows that are to be judged now, by row and start; shape (n,)."""

    row: Ints
    start: Ints
    aggregates: Aggregates

    def points(self, device: Ints, length_us: int) -> Points:
        """Return what detectors look at; `device` by row."""
        of = self.aggregates
        with np.errstate(over="ignore"):
            spread = np.minimum(np.sqrt(of.m2 / np.maximum(of.count, 1)), _MOST)
        return Points(
            self.row, device[self.row], self.start, of.mean.copy(), of.min.copy(), of.max.copy(), spread,
            of.count.copy(), length_us,
        )  # fmt: skip


class Windows:
    """What was judged last of each row, and what waits."""

    KEPT = ("last", "held", "words")

    def __init__(self, length_us: int) -> None:
        self.length_us = length_us
        self.last: Ints = np.zeros(0, np.int64)
        """Start of the window that was judged last."""
        self.held: Ints = np.zeros(0, np.int64)
        """Start of the window that waits; `NEVER` if none does."""
        self.words = np.zeros((0, len(COLUMNS)), np.int64)
        """Its aggregates."""

    def grow(self, rows: int) -> None:
        """Make room for so many rows."""
        more = rows - len(self.last)
        if more > 0:
            self.last = np.append(self.last, np.full(more, NEVER))
            self.held = np.append(self.held, np.full(more, NEVER))
            self.words = np.concatenate([self.words, np.zeros((more, len(COLUMNS)), np.int64)])

    def forget(self, rows: Ints) -> None:
        """Their series were let go."""
        self.last[rows] = self.held[rows] = NEVER
        self.words[rows] = 0

    def is_due(self, mark: Ints) -> bool:
        """Tell whether a window that waits is over by the watermark of each row."""
        return bool(((self.held > NEVER) & (self.held + self.length_us <= mark)).any())

    def take(self, row: Ints, panes: Panes, aggregates: Aggregates, mark: Ints, *, sealed: bool) -> Judgeable:
        """Take in what a tick closed.

        Args:
            row: of each pane, -1 where it is none of ours; shape (p,). Of one window there may be several.
            panes, aggregates: of these.
            mark: watermark by row.
            sealed: a start, or other settings, closed them, not their end.

        Returns:
            what is to be judged now, by row and start.
        """
        start = panes.start
        ours = (row >= 0) & (panes.revision == 0)
        ours[ours] = start[ours] > self.last[row[ours]]
        (at,) = np.nonzero(ours)
        (waiting,) = np.nonzero(self.held > NEVER)
        if not len(at) and not len(waiting):
            return Judgeable(at, at, Aggregates.empty(0))
        row = np.append(waiting, row[at])
        start = np.append(self.held[waiting], start[at])
        words = np.concatenate([self.words[waiting], aggregates.words[at]])
        closing = np.append(np.zeros(len(waiting), np.bool_), np.full(len(at), not sealed))
        order = np.lexsort((start, row))
        row, start = row[order], start[order]
        begin = group_starts(row, start)
        merged = merged_groups(Aggregates.of_words(words[order]), begin)
        closes = np.logical_or.reduceat(closing[order], begin)
        row, start = row[begin], start[begin]
        newest = np.append(row[1:] != row[:-1], True)
        waits = newest & ~closes & (start + self.length_us > mark[row])
        self.held[waiting] = NEVER
        self.held[row[waits]], self.words[row[waits]] = start[waits], merged.words[waits]
        row, start = row[~waits], start[~waits]
        np.maximum.at(self.last, row, start)
        return Judgeable(row, start, merged.take(~waits))

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return the columns for a snapshot."""
        return {name: getattr(self, name).copy() for name in self.KEPT}

    def load(self, columns: dict[str, NDArray[Any]]) -> None:
        """Take up the columns of a snapshot."""
        for name in self.KEPT:
            setattr(self, name, columns[name].copy())
